"""The configuration file is replaced under a server and a client that go on."""

from __future__ import annotations

import os

import pytest

from conformance.combinations import Caller
from conformance.conftest import Case
from conformance.given import SERVICE
from conformance.handlers import Order
from sealwire import ConnectionClosed, HandshakeRejected, PeerNotAllowed, RemoteError, Security, TransportError
from support.service import eventually

HERE = f"uid:{os.getuid()}"
ELSEWHERE = "uid:4000000000"
TYPES = 'service = "orders"\n[allowlist]\ntypes = [{}]'
ORDER = '"conformance.handlers:Order"'


def ends_with(error: type[TransportError], client: Caller) -> bool:
    try:
        client.request(1)
    except (error, ConnectionClosed) as failed:
        return isinstance(failed, error)
    return False


def is_served(refusal: type[TransportError], client: Caller) -> bool:
    """Some servers have several processes, which do not take a configuration at the same moment."""
    try:
        return bool(client.request(2) == 2)
    except (refusal, ConnectionClosed):
        return False


def test_a_peer_is_taken_off_the_list_of_a_server(case: Case) -> None:
    """Its connection ends, it is refused, and it is served again when it is back on the list."""
    side = case.ends.server
    side.configure(TYPES.format(ORDER), peers=["dns:client.example", HERE])
    with case.start(configured=True) as running:
        client = case.client(running)
        assert client.request(1) == 1
        side.configure(TYPES.format(ORDER), peers=["dns:other.example", ELSEWHERE])
        eventually(lambda: ends_with(HandshakeRejected, client), timeout=10)
        side.configure(TYPES.format(ORDER), peers=["dns:client.example", HERE])
        eventually(lambda: is_served(HandshakeRejected, client), timeout=10)


def test_a_silent_peer_is_taken_off_the_list_of_a_server(case: Case) -> None:
    """No event is needed: the place of a connection at rest is free for another one."""
    side = case.ends.server
    side.configure(f"{TYPES.format(ORDER)}", peers=["dns:client.example", HERE])
    with case.start(configured=True) as running:
        client = case.client(running)
        assert client.request(1) == 1
        side.configure(TYPES.format(ORDER), peers=["dns:other.example", ELSEWHERE])
        if case.ends.local:
            return  # every process here has the same user
        other = case.client(running, side=case.other_side("other", "other.example"))
        eventually(lambda: is_served(HandshakeRejected, other), timeout=10)


def test_a_server_is_taken_off_the_list_of_a_client(case: Case) -> None:
    with case.start() as running:
        side = case.ends.client
        service = f'service = "{SERVICE}"'
        side.configure(service, peers=["dns:localhost", HERE])
        security = Security.from_toml(side.path("sealwire.toml"))
        client = case.client_kind.make(running.address, security, timeout=10, wait=10)
        case._stack.callback(client.close)
        assert client.request(1) == 1
        side.configure(service, peers=["dns:other.example", ELSEWHERE])
        eventually(lambda: ends_with(PeerNotAllowed, client), timeout=10)
        side.configure(service, peers=["dns:localhost", HERE])
        eventually(lambda: is_served(PeerNotAllowed, client), timeout=10)


def test_the_allowlist_changes(case: Case) -> None:
    """Clients change to a new connection, without losing a request, and the new list is in force on that one."""
    side = case.ends.server
    peers = ["dns:client.example", HERE]
    side.configure(TYPES.format(""), peers=peers)
    with case.start(configured=True) as running:
        client = case.client(running)

        def is_accepted() -> bool:
            assert client.request(1) == 1, "plain data always is"
            try:
                return bool(client.request(Order("nail", 3)) == Order("nail", 3))
            except RemoteError:
                return False

        assert not is_accepted()
        side.configure(TYPES.format(ORDER), peers=peers)
        eventually(is_accepted, timeout=10)
        side.configure(TYPES.format(""), peers=peers)
        eventually(lambda: not is_accepted(), timeout=10)


@pytest.mark.parametrize("what", ["syntax", "unknown key", "no peers", "missing file", "unreadable"])
def test_what_cannot_be_used_is_not_taken(case: Case, what: str) -> None:
    """Not even the part of it that is right: the connection goes on, and new ones are accepted."""
    side = case.ends.server
    side.configure(TYPES.format(ORDER), peers=["dns:client.example", HERE])
    good = side.path("sealwire.toml").read_text()
    with case.start(configured=True) as running:
        client = case.client(running)
        assert client.request(1) == 1
        bad = good.replace("client.example", "other.example").replace(HERE, ELSEWHERE)
        bad = {
            "syntax": bad.replace("service =", "service"),
            "unknown key": f"color = 5\n{bad}",
            "no peers": bad.replace("peers =", "names ="),
            "missing file": bad.replace('"keyring"', '"nowhere"'),
            "unreadable": bad,
        }[what]
        if what == "unreadable":
            side.path("sealwire.toml").unlink()
        else:
            side.write(**{"sealwire.toml": bad.encode()})
        for number in range(20):
            assert client.request(number) == number
        client.close()
        assert case.client(running).request(2) == 2
        side.write(
            **{"sealwire.toml": good.replace("client.example", "other.example").replace(HERE, ELSEWHERE).encode()}
        )
        late = case.client(running)
        eventually(lambda: ends_with(HandshakeRejected, late), timeout=10)
