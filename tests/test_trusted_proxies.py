"""The list of proxies, and the addresses that are on it."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from sealwire import ConfigurationError, HandshakeFailed, Limits
from sealwire.admission import Admission
from sealwire.proxy_header_reader import take_header, too_slow
from sealwire.trusted_proxies import Proxies
from support.service import Deployment


@pytest.mark.parametrize(
    ("entry", "address", "listed"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "::1", False),
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("2001:db8::/32", "2001:db8:1::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("fe80::/64", "fe80::1%eth0", True),
        ("0.0.0.0/0", "203.0.113.7", True),
        ("0.0.0.0/0", "::1", False),
        ("::/0", "::1", True),
    ],
)
def test_entries(entry: str, address: str, listed: bool) -> None:
    rest = (0, 0) if ":" in address else ()
    assert Proxies(["192.0.2.1", entry]).header((address, 4711, *rest)).expected is listed


def test_none() -> None:
    """An empty list believes nobody, and no list asks nothing."""
    assert not Proxies([]).header(("127.0.0.1", 1)).expected


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ("127.0.0.1", "proxy_protocol must be a list"),
        (5, "proxy_protocol must be a list"),
        ([5], "as strings"),
        (["fe80::1%eth0"], "without zones"),
        (["10.0.0.1/8"], "'10.0.0.1/8' is not an address or network; write '10.0.0.0/8' for the network"),
        (["proxy.example"], "'proxy.example' is not an address or network; write it like '127.0.0.1'"),
        ([" 127.0.0.1"], "is not an address"),
        (["127.0.0.1:443"], "is not an address"),
        ([""], "'' is not an address"),
    ],
)
def test_no_entries(entries: Any, text: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Proxies(entries)
    assert text in str(error.value)


def test_the_header_says_nothing_of_the_client() -> None:
    """Behind a proxy, too, a connection whose client is silent gives way sooner than one that has begun."""
    admission = Admission(Limits())
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        slots = []
        for first in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN\r\n\x16"):
            stack.enter_context(socket.create_connection(listener.getsockname())).sendall(first)
            sock, address = listener.accept()
            stack.enter_context(sock)
            slots.append(admission.acquire(sock, header=Proxies(["127.0.0.1"]).header(address)))
            select.select([sock], [], [], 20)
            assert take_header(sock, slots[-1], address) == address
        assert [slot.is_silent for slot in slots] == [True, False]


def test_a_client_that_is_no_proxy() -> None:
    """Says nothing of headers, which it does not have to send, if it is silent, or goes without a word."""
    admission = Admission(Limits())
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        sock, address = listener.accept()
        slot = admission.acquire(sock, header=Proxies([]).header(address))
        with sock:
            assert take_header(sock, slot, address) is None
            assert "PROXY" not in str(too_slow(slot))
            client.close()
            select.select([sock], [], [], 20)
            with pytest.raises(HandshakeFailed, match="before its first byte"):
                take_header(sock, slot, address)


def test_in_a_security(deployment: Deployment) -> None:
    with pytest.raises(ConfigurationError, match="proxy_protocol"):
        deployment.server_security(proxy_protocol=["nobody"])
    assert deployment.server_security().proxies is None
