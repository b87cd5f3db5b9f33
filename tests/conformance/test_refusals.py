"""Refusals: each side says why, and no other connection notices."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from conformance.combinations import Running
from conformance.conftest import Case
from conformance.handlers import Order, Secret
from sealwire import (
    Codec,
    DeadlineExceeded,
    DecodeError,
    EncodeError,
    HandshakeFailed,
    HandshakeRejected,
    Key,
    Keyring,
    PeerNotAllowed,
    RemoteError,
    Security,
    TypeNotAllowed,
)
from sealwire.codec import RawCodec
from sealwire.pki.authority import create_ca
from sealwire.trust.credentials import Credentials
from support.service import eventually
from support.sides import Side

Shared = tuple[Case, Running]


def good_client_is_served(case: Case, running: Running) -> None:
    client = case.client(running)
    assert client.request("good") == "good"
    client.close()


def changed(security: Security, **parts: Any) -> Security:
    """The same, but for some parts."""
    same = {
        "credentials": security.credentials, "keys": security.keys, "peers": security.peers,
        "service": security.service, "codec": security.codec, "limits": security.limits,
    }  # fmt: skip
    return Security(**same | parts)


def stranger(case: Case) -> Side:
    """With a certificate of another CA."""
    side = case.other_side("stranger", "client.example")
    side.leaf(create_ca("stranger's"))
    return side


def server_only(case: Case) -> Side:
    """With a certificate that is not for clients."""
    side = case.other_side("server only", "client.example")
    issued = case.ends.ca.issue("client.example", profile="server")
    side.write(key=issued.key_pem, cert=issued.cert_pem)
    return side


CERTIFICATES: list[tuple[Callable[[Case], Side], str]] = [
    (stranger, "unknown CA"),
    (server_only, "it is not meant for this use"),
]


@pytest.mark.certificates
@pytest.mark.parametrize(("made", "why"), CERTIFICATES, ids=["stranger", "server only"])
def test_certificate_not_acceptable(
    shared: Shared, made: Callable[[Case], Side], why: str, request: pytest.FixtureRequest
) -> None:
    case, running = shared
    side = made(renamed(case, request))
    with pytest.MonkeyPatch.context() as careless:
        careless.setattr(Credentials, "check_role", lambda *_: None)  # the client refuses one of them itself
        with pytest.raises(HandshakeFailed, match=f"refused this client's certificate: {why}"):
            case.client(running, side=side).request("x")
    good_client_is_served(case, running)


class renamed:  # noqa: N801 - reads as a function
    """The case, whose new sides have names of their own."""

    def __init__(self, case: Case, request: pytest.FixtureRequest) -> None:
        self.ends = case.ends
        self._case = case
        self._prefix = f"{abs(hash(request.node.nodeid)):x} "

    def other_side(self, name: str, *names: str) -> Side:
        return self._case.other_side(self._prefix + name, *names)


@pytest.mark.certificates
def test_no_certificate(shared: Shared) -> None:
    case, running = shared
    side = case.ends.client
    security = Security.from_files(
        ca=side.path("ca"), keyring=side.path("keyring"), service="orders", peers=["dns:localhost"]
    )
    client = case.client_kind.make(running.address, security, timeout=10, wait=10)
    with pytest.raises(HandshakeFailed, match=r"requires a certificate"):
        client.request("x")
    client.close()
    good_client_is_served(case, running)


@pytest.mark.certificates
def test_not_on_the_list(shared: Shared, request: pytest.FixtureRequest) -> None:
    case, running = shared
    other = renamed(case, request).other_side("other", "other.example")
    with pytest.raises(HandshakeRejected, match="not authorised") as rejected:
        case.client(running, side=other).request("x")
    assert rejected.value.code == 3
    good_client_is_served(case, running)


def test_server_not_on_the_clients_list(shared: Shared) -> None:
    case, running = shared
    other = f"uid:{os.getuid() + 1}" if case.server.transport.local else "dns:other.example"
    with pytest.raises(PeerNotAllowed):
        case.client(running, peers=[other]).request("x")
    good_client_is_served(case, running)


@pytest.mark.certificates
def test_server_of_another_ca(shared: Shared, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> None:
    """Each end says whose certificate was refused, and why."""
    case, running = shared
    wary = renamed(case, request).other_side("wary", "client.example")
    wary.trust(create_ca("another"))
    with pytest.raises(HandshakeFailed, match="not acceptable"):
        case.client(running, side=wary).request("x")
    if case.server.in_this_process:
        eventually(lambda: "the client refused this server's certificate: unknown CA" in caplog.text)
    good_client_is_served(case, running)


KEYS = {
    "unknown id": Key("k9", b"\1" * 32),
    "wrong secret": Key("k1", b"another secret of the same id...."),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_key(shared: Shared, key: Key) -> None:
    case, running = shared
    security = changed(case.ends.security(), keys=Keyring([key]))
    client = case.client_kind.make(running.address, security, timeout=10, wait=10)
    with pytest.raises(HandshakeRejected, match="not authorised"):
        client.request("x")
    client.close()
    good_client_is_served(case, running)


def test_another_service(shared: Shared) -> None:
    case, running = shared
    with pytest.raises(HandshakeRejected, match="not authorised"):
        case.client(running, service="billing").request("x")
    good_client_is_served(case, running)


def test_another_codec(shared: Shared) -> None:
    case, running = shared
    security = changed(case.ends.security(), codec=RawCodec())
    client = case.client_kind.make(running.address, security, timeout=10, wait=10)
    with pytest.raises(HandshakeRejected, match="another codec") as rejected:
        client.request(b"x")
    assert rejected.value.code == 2
    client.close()
    good_client_is_served(case, running)


def test_types(shared: Shared) -> None:
    case, running = shared
    client = case.client(running)
    with pytest.raises(RemoteError) as refused:
        client.request(Secret("x"))
    assert refused.value.code == 17
    with pytest.raises(EncodeError):
        client.request(object())
    with pytest.raises(RemoteError) as failed:  # what the handler returns is not on its own list
        client.request(["secret"])
    assert failed.value.code == 19
    assert client.request(1) == 1


def test_a_type_that_one_side_does_not_allow_is_named(shared: Shared, caplog: pytest.LogCaptureFixture) -> None:
    """To the client by the name that it sent; in the receiver's log or error with the peer, and what to write."""
    case, running = shared
    client = case.client(running)
    name = f"{Secret.__module__}:Secret"
    with pytest.raises(RemoteError) as told:
        client.request(Secret("x"))
    assert told.value.text == f"the payload has a type that is not on the server's allowlist: {name}"
    client.close()
    in_this_process = "Forking" not in case.server.name and "Prefork" not in case.server.name
    assert in_this_process <= any(
        name in line and f'types = ["{name}"]' in line and str(client_identity(case)) in line
        for line in caplog.messages
    )
    narrow = case.client_kind.make(running.address, changed(case.ends.security(), codec=Codec()), timeout=10, wait=10)
    order = f"{Order.__module__}:Order"
    with pytest.raises(TypeNotAllowed) as refused:
        narrow.request(["order"])
    assert refused.value.name == order
    assert f'types = ["{order}"]' in str(refused.value)
    where = f"localhost:{running.address[1]}" if isinstance(running.address, tuple) else running.address
    assert f"(in a reply of {where}" in str(refused.value)
    narrow.close()


def client_identity(case: Case) -> str:
    return f"uid:{os.getuid()}" if case.server.transport.local else "dns:client.example"


def test_reply_that_the_client_does_not_allow(shared: Shared) -> None:
    case, running = shared
    security = changed(case.ends.security(), codec=Codec())
    with pytest.raises(EncodeError):
        case.client_kind.make(running.address, security, timeout=10, wait=10).request(Secret("x"))
    narrow = Codec(limits=case.ends.security(limits={"max_string": 1000}).limits)
    client = case.client_kind.make(running.address, changed(security, codec=narrow), timeout=10, wait=10)
    with pytest.raises(DecodeError):
        client.request(["zeros", 1100])
    assert client.request(1) == 1
    client.close()


def test_handler_that_fails(shared: Shared) -> None:
    case, running = shared
    client = case.client(running)
    for message in (["fail"], ["object"]):
        with pytest.raises(RemoteError, match="the handler failed") as failed:
            client.request(message)
        assert failed.value.code == 19
        assert "words" not in str(failed.value)
        assert client.request(1) == 1


def test_time_is_over(case: Case) -> None:
    fifo, log = case.ends.directory / "fifo", case.ends.directory / "log"
    os.mkfifo(fifo)
    with case.start() as running:
        client = case.client(running)
        assert client.request(0) == 0  # connected, so that the next one reaches its handler
        with pytest.raises(DeadlineExceeded):
            client.request(["hold", str(log), str(fifo)], wait=0.4)
        with open(fifo, "w"):
            pass
        client.close()
        assert case.client(running).request(1) == 1
