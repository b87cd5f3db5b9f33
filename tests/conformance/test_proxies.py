"""Servers behind a proxy: the address that its PROXY header tells, and what is refused."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.combinations import NATS, SERVERS, TCP, UDP, UNIX, Server
from conformance.conftest import Case, Ends
from conformance.given import Given
from sealwire import ConfigurationError, SealwireError
from support.nats import shared_nats
from support.proxy import proxy
from support.service import eventually, nothing_left

pytestmark = pytest.mark.pairs(lambda server, client: server.transport is TCP and client.name == "SynchronousTCPClient")

HERE = ["127.0.0.1"]
ELSEWHERE = ["192.0.2.0/24", "::1"]
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def line(host: str = "203.0.113.7", port: int = 4711) -> bytes:
    return f"PROXY TCP4 {host} 192.0.2.1 {port} 443\r\n".encode()


def binary(command: int, family: int = 0, block: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
TOLD = {
    "v1": (line(), "203.0.113.7"),
    "v2": (binary(0x21, 0x21, V6 + V6 + struct.pack("!HH", 4711, 443)), "2001:db8::7"),
    "largest": (
        binary(0x21, 0x11, bytes((203, 0, 113, 7)) * 2 + bytes(4) + b"\xee\x01\xf9" + bytes(505)),
        "203.0.113.7",
    ),
    "LOCAL": (binary(0x20), "127.0.0.1"),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
}
"""Headers, and the client's address."""


def host_of(case: Case, port: int) -> Any:
    client = case.client(SimpleNamespace(address=("127.0.0.1", port)))  # all that is used
    try:
        return client.request(["address"])
    finally:
        client.close()


def connect(running: Any, *pieces: bytes) -> socket.socket:
    made = socket.create_connection(running.address)
    made.settimeout(20)
    for piece in pieces:
        made.sendall(piece)
    return made


def ends(connection: socket.socket) -> bool:
    """The server ends it, and says nothing."""
    with connection:
        try:
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.mark.parametrize("comes", ["whole", "byte by byte", "glued"])
def test_the_address(case: Case, comes: str) -> None:
    """However the header comes, also in one packet with TLS's first bytes."""
    pieces, glued = int(comes == "byte by byte"), comes == "glued"
    with case.start(proxies=HERE) as running:
        for first, host in TOLD.values():
            with proxy(running.address, first, pieces=pieces, glued=glued) as front:
                assert host_of(case, front.port)[0] == host


def test_a_source_that_is_not_listed(case: Case) -> None:
    """Is served under its own address, and no header of its is believed."""
    with case.start(proxies=ELSEWHERE) as running:
        for first, _ in TOLD.values():
            assert ends(connect(running, first))
        with proxy(running.address, b"") as front:
            assert host_of(case, front.port)[0] == "127.0.0.1"


def test_no_proxies(case: Case) -> None:
    with case.start() as running:
        assert ends(connect(running, line()))
        assert host_of(case, running.address[1])[0] == "127.0.0.1"


BAD = {
    "no header": bytes.fromhex("160301"),
    "none at all": b"",
    "malformed": line().replace(b"TCP4 ", b"TCP4  "),
    "too large": binary(0x21, 0x11, bytes(521)),
    "half": line()[:-1],
}


@pytest.mark.parametrize("what", BAD)
def test_refused(case: Case, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """It ends without an answer, at the latest when the time for the handshake is over; others are served."""
    slow = what in ("none at all", "half")
    with case.start(proxies=HERE, limits={"handshake_timeout": 0.5 if slow else 20.0}) as running:
        connection = connect(running, BAD[what])
        if not case.server.one_at_a_time:
            with proxy(running.address, line()) as front:
                assert host_of(case, front.port)[0] == "203.0.113.7"
        assert ends(connection)
        with proxy(running.address, line()) as front:
            assert host_of(case, front.port)[0] == "203.0.113.7"
    if case.server.in_this_process:
        assert re.search(r"refused: .*PROXY header", caplog.text)


def test_it_goes_before_its_header(case: Case) -> None:
    """One after the other, whole or in half, as health checks do."""
    with case.start(proxies=HERE) as running:
        for first in (b"", line()[:20], line(), binary(0x20), binary(0x20)[:14]):
            connect(running, first).close()
        with proxy(running.address, line()) as front:
            assert host_of(case, front.port)[0] == "203.0.113.7"


def test_the_share_of_an_address(case: Case) -> None:
    """Of those that have not authenticated, by the address that the proxy tells, and none for the proxy's own."""
    if case.server.one_at_a_time or case.server.several:
        pytest.skip("the bound is another one: a connection at a time, or that of each worker")
    with case.start(proxies=HERE, limits={"max_handshakes_per_source": 2}) as running, ExitStack() as stack:
        silent = [stack.enter_context(connect(running)) for _ in range(4)]
        kept = [stack.enter_context(connect(running, line("198.51.100.1"), b"\x16")) for _ in range(2)]
        for connection in kept:
            connection.settimeout(0.05)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        # Within the grace of the two, the third is turned away.
        assert ends(connect(running, line("198.51.100.1", 1), b"\x16"))
        for host in ("198.51.100.2", "203.0.113.7"):
            with proxy(running.address, line(host)) as front:
                assert host_of(case, front.port)[0] == host
        for connection in silent:
            connection.settimeout(0.05)
            with pytest.raises(TimeoutError):
                connection.recv(1)


def test_the_log(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Has the client's address, not the proxy's: of what a handler refuses, and of a handshake."""
    if not case.server.in_this_process:
        pytest.skip("its log is written elsewhere")
    caplog.set_level("INFO", "sealwire.server")
    with case.start(proxies=HERE) as running:
        with proxy(running.address, line()) as front:
            client = case.client(SimpleNamespace(address=("127.0.0.1", front.port)))
            with pytest.raises(SealwireError):
                client.request(["refuse", "no more"])
            client.close()
        eventually(lambda: re.search(r"203\.0\.113\.7:4711 \(dns:client.*\): refused with fault", caplog.text))
        assert ends(connect(running, line("198.51.100.1", 815), b"what is this?"))
        eventually(lambda: "198.51.100.1:815: refused: " in caplog.text)
        assert "127.0.0.1" not in caplog.text


def test_after_a_reload(case: Case) -> None:
    """The list is the configuration's of the moment; a connection that stands goes on."""
    side = case.ends.server
    text = 'service = "orders"\nproxy_protocol = {}'
    peers = ["dns:client.example"]
    side.configure(text.format(ELSEWHERE), peers=peers)

    def is_believed() -> bool:
        with proxy(running.address, line()) as front:
            try:
                return bool(host_of(case, front.port)[0] == "203.0.113.7")
            except SealwireError:
                return False

    with case.start(configured=True) as running:
        client = case.client(running)
        assert client.request(1) == 1
        side.configure(text.format(HERE), peers=peers)
        if case.server.one_at_a_time:
            client.close()
        eventually(is_believed, timeout=20)
        assert case.server.one_at_a_time or client.request(2) == 2


@pytest.mark.parametrize("server", [each for each in SERVERS if each.transport is not TCP], ids=str)
@pytest.mark.parametrize("configured", [False, True])
def test_other_carriers(server: Server, new_ends: Callable[[Server], Ends], configured: bool) -> None:
    """They say so, when the server is made."""
    if not server.in_this_process:
        pytest.skip("its error is raised elsewhere")
    if server.transport is NATS:
        shared_nats()
    ends = new_ends(server)
    peers = ["dns:client.example", "uid:0"]
    ends.server.configure(f'service = "orders"\nproxy_protocol = {HERE}', peers=peers)
    given = Given(ends.server.directory, ends.address, proxies=HERE, configured=configured)
    name = {UDP: "UDP", UNIX: "Unix socket", NATS: "NATS"}[server.transport]
    with nothing_left(), pytest.raises(ConfigurationError, match=f"proxy_protocol: .*{name}"), server.start(given):
        pass
