"""Certificates, trust, revocation and keys, changed under servers and clients that go on: real files, real sockets."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from sealwire import (
    ConfigurationError,
    ForkingTCPServer,
    SynchronousTCPClient,
    TCPServer,
    ThreadingTCPServer,
)
from sealwire.errors import ConnectionClosed, HandshakeFailed, HandshakeRejected
from sealwire.tls.issue import Issuer, create_ca
from support.service import descriptors, eventually, nothing_left, running
from support.sides import Side, revocation_list


class Pair:
    """A server and a client, each with its files."""

    def __init__(self, directory: Path) -> None:
        self.ca = create_ca("first")
        self.server = Side(directory / "server", "localhost", "127.0.0.1")
        self.client = Side(directory / "client", "client.example")
        for side in (self.server, self.client):
            side.leaf(self.ca)
            side.trust(self.ca)
            side.keys("k1")
        self.answered = 0

    def answer(self, message: Any) -> Any:
        self.answered += 1
        return message

    def serve(self, cls: type[TCPServer] = ThreadingTCPServer, **options: Any) -> TCPServer:
        return cls(("127.0.0.1", 0), self.answer, self.server.security(peers=["dns:client.example"], **options))

    def connect(self, port: int, **options: Any) -> SynchronousTCPClient:
        return SynchronousTCPClient("localhost", port, 5, 5, security=self.client.security(**options))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with nothing_left():
        yield Pair(tmp_path)


def shown(client: SynchronousTCPClient) -> str:
    """The fingerprint that the server shows to a new connection."""
    client.close()
    client.connect()
    assert client.peer is not None
    return client.peer.fingerprint


def refused(client: SynchronousTCPClient) -> bool:
    """Whether a new connection is refused."""
    client.close()
    try:
        client.connect()
    except (HandshakeFailed, HandshakeRejected):
        return True
    return False


def soon(client: SynchronousTCPClient, fingerprint: str) -> None:
    eventually(lambda: shown(client) == fingerprint)


@pytest.mark.parametrize("cls", [ThreadingTCPServer, TCPServer, ForkingTCPServer])
def test_a_new_certificate_for_new_connections(pair: Pair, cls: type[TCPServer]) -> None:
    with running(pair.serve(cls)) as port, pair.connect(port) as client:
        before = shown(client)
        for _ in range(3):
            after = pair.server.leaf(pair.ca)
            assert after != before
            soon(client, after)
            assert client.send_request("x") == "x"
            before = after


def test_an_old_connection_lives_on(pair: Pair) -> None:
    with running(pair.serve()) as port, pair.connect(port) as old, pair.connect(port) as new:
        assert old.send_request(1) == 1
        fingerprint = pair.server.leaf(pair.ca)
        soon(new, fingerprint)
        assert old.send_request(2) == 2
        assert old.peer is not None
        assert old.peer.fingerprint != fingerprint


def test_a_clients_new_certificate(pair: Pair) -> None:
    """Taken for its next connection: the old one has been revoked at the server."""
    pair.server.revoke(pair.ca)
    serial = pair.client.security().credentials.identity.serial  # type: ignore[union-attr]  # it has one
    with running(pair.serve(crl=True)) as port, pair.connect(port) as client:
        assert client.send_request(1) == 1
        pair.client.leaf(pair.ca)
        pair.server.revoke(pair.ca, serial)
        # The connection is closed under it; it takes the new certificate, and the caller sees nothing of that.
        for number in range(40):
            assert client.send_request(number) == number
            threading.Event().wait(0.01)
        assert client.security.credentials.status().generation == 2


def test_either_end_first(pair: Pair) -> None:
    """Old and new CA overlap; then the old one is gone. In either order, with a request after each step."""
    new = create_ca("second")
    for first, other in ((pair.server, pair.client), (pair.client, pair.server)):
        server = pair.serve()
        with running(server) as port, pair.connect(port) as client:

            def works(server: TCPServer = server, client: SynchronousTCPClient = client, port: int = port) -> None:
                assert server.reload()
                assert client.security.reload()
                client.close()
                assert client.send_request("x") == "x"
                with pair.connect(port) as another:
                    assert another.send_request("y") == "y"

            old = pair.ca
            for side in (first, other):
                side.trust(old, new)
                works()
            for side in (first, other):
                side.leaf(new)
                works()
            for side in (first, other):
                side.trust(new)
                works()
        stranger = Side(pair.server.directory.parent / f"stranger{id(first)}", "client.example")
        stranger.leaf(old)
        stranger.trust(old, new)
        stranger.keys("k1")
        with (
            running(pair.serve()) as port,
            SynchronousTCPClient("localhost", port, 5, 5, security=stranger.security()) as client,
            pytest.raises(HandshakeFailed),
        ):
            client.connect()
        pair.ca, new = new, create_ca(f"another {id(first)}")


BAD = {
    "another key": lambda pair: {"key": pair.ca.issue("localhost", "127.0.0.1").key_pem},
    "another CA's leaf": lambda _: leaf_of(create_ca("foreign"), "localhost", "127.0.0.1"),
    "another name": lambda pair: leaf_of(pair.ca, "other.example"),
    "one name less": lambda pair: leaf_of(pair.ca, "localhost"),
    "for clients only": lambda pair: leaf_of(pair.ca, "localhost", "127.0.0.1", profile="client"),
    "expired": lambda pair: leaf_of(
        pair.ca, "localhost", "127.0.0.1", days=1, not_before=datetime.now(UTC) - timedelta(days=3)
    ),
    "not yet valid": lambda pair: leaf_of(
        pair.ca, "localhost", "127.0.0.1", days=1, not_before=datetime.now(UTC) + timedelta(days=3)
    ),
    "garbage": lambda _: {"cert": os.urandom(1000)},
    "nothing": lambda _: {"key": b""},
    "half": lambda pair: {"cert": pair.server.path("cert").read_bytes()[:200]},
    "a leaf for a CA": lambda pair: {"ca": b"-----BEGIN CERTIFICATE-----\n"},
    "no list of the CA": lambda _: {"crl": revocation_list(create_ca("foreign"))},
    "an expired list": lambda pair: {"crl": revocation_list(pair.ca, start=timedelta(days=-3), end=timedelta(days=-1))},
    "a forged list": lambda pair: {"crl": forged(pair)},
    "no keyring": lambda _: {"keyring": b"[[key]]\nid = 1\n"},
}


def leaf_of(ca: Issuer, *names: str, **options: Any) -> dict[str, bytes]:
    issued = ca.issue(*names, **({"profile": "peer"} | options))
    return {"cert": issued.cert_pem, "key": issued.key_pem}


def forged(pair: Pair) -> bytes:
    return revocation_list(Issuer(pair.ca.certificate, create_ca("first").private_key))


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_bad_leaves_the_old_in_service(pair: Pair, bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sealwire.rotation")
    pair.server.revoke(pair.ca)
    server = pair.serve(crl=True)
    with running(server) as port, pair.connect(port) as client:
        before = shown(client)
        good = {path.name: path.read_bytes() for path in pair.server.directory.iterdir()}
        pair.server.write(**bad(pair))
        assert not server.reload()
        for _ in range(3):
            assert shown(client) == before
            assert client.send_request("x") == "x"
        (reason,) = server.security.status().refusals
        assert str(pair.server.directory) in reason
        assert reason in caplog.text
        assert "PRIVATE" not in caplog.text
        # And what is good again is taken without more ado.
        pair.server.write(**good)
        assert server.reload()
        after = pair.server.leaf(pair.ca)
        soon(client, after)
        assert server.security.status().refusals == []


def test_deleted_files(pair: Pair) -> None:
    with running(pair.serve()) as port, pair.connect(port) as client:
        shutil.rmtree(pair.server.directory)
        assert client.send_request(1) == 1
        assert not refused(client)
        pair.server.directory.mkdir()
        fingerprint = pair.server.leaf(pair.ca)
        pair.server.trust(pair.ca)
        pair.server.keys("k1")
        soon(client, fingerprint)


@pytest.mark.parametrize("cls", [ThreadingTCPServer, TCPServer, ForkingTCPServer])
def test_a_revoked_client(pair: Pair, cls: type[TCPServer]) -> None:
    """Its live connection is closed, without a request on it; new ones are refused."""
    pair.server.revoke(pair.ca)
    serial = pair.client.security().credentials.identity.serial  # type: ignore[union-attr]  # it has one
    with running(pair.serve(cls, crl=True)) as port, pair.connect(port) as client:
        assert client.send_request(1) == 1
        channel = client._channel
        assert channel is not None
        pair.server.revoke(pair.ca, serial)
        assert eventually(lambda: not channel.usable())
        with pytest.raises(HandshakeFailed, match="revoked"):
            client.send_request(2)


def test_revoked_with_a_reply_in_hand(tmp_path: Path) -> None:
    """CLOSE 3 at once, and the reply is dropped (docs/protocol.md, section 5)."""
    pair = Pair(tmp_path)
    pair.server.revoke(pair.ca)
    serial = pair.client.security().credentials.identity.serial  # type: ignore[union-attr]  # it has one
    started, go_on = threading.Event(), threading.Event()

    def slow(message: Any) -> Any:
        started.set()
        assert go_on.wait(10)
        return message

    pair.answer = slow  # type: ignore[method-assign]  # what the server calls
    failed: list[ConnectionClosed] = []
    with running(pair.serve(crl=True)) as port, pair.connect(port) as client:

        def ask() -> None:
            try:
                client.send_request(1)
            except ConnectionClosed as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert started.wait(10)
        pair.server.revoke(pair.ca, serial)
        deadline = monotonic() + 0.2
        while monotonic() < deadline:  # more than an interval
            threading.Event().wait(0.05)
        go_on.set()
        thread.join(10)
    assert [error.code for error in failed] == [3]


def test_a_revoked_server(pair: Pair) -> None:
    pair.client.revoke(pair.ca)
    serial = pair.server.security(peers=["dns:x.example"]).credentials.identity.serial  # type: ignore[union-attr]  # it has one
    with running(pair.serve()) as port, pair.connect(port, crl=True) as client:
        assert client.send_request(1) == 1
        pair.client.revoke(pair.ca, serial)
        client.security.reload()
        eventually(lambda: not client._channel or not client._channel.usable())
        with pytest.raises(HandshakeFailed, match="revoked"):
            client.send_request(2)
        fingerprint = pair.server.leaf(pair.ca)
        eventually(lambda: not refused(client))
        assert shown(client) == fingerprint


def test_a_list_that_expires_says_so(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.server.revoke(pair.ca, end=timedelta(seconds=2))
    with running(pair.serve(crl=True)) as port, pair.connect(port) as client:
        assert client.send_request(1) == 1
        eventually(lambda: refused(client), timeout=10)
        assert eventually(lambda: f"{pair.server.path('crl')} is out of date" in caplog.text)
        pair.server.revoke(pair.ca)
        eventually(lambda: not refused(client))


def test_a_client_of_a_ca_without_a_list(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    other = create_ca("second")
    pair.server.revoke(pair.ca)
    pair.server.trust(pair.ca, other)
    pair.client.leaf(other)
    with running(pair.serve(crl=True)) as port, pair.connect(port) as client:
        assert refused(client)
        assert eventually(lambda: "has no revocation list of the CA that issued it" in caplog.text)


class TestKeys:
    def test_overlap(self, pair: Pair) -> None:
        """Distributed first, to the server; then signed with; then the old one is gone."""
        with running(pair.serve()) as port, pair.connect(port) as client:
            for step in (
                lambda: pair.server.keys("k1", "k2"),
                lambda: pair.client.keys("k1", "k2"),
                lambda: pair.server.keys("k2"),
                lambda: pair.client.keys("k2"),
            ):
                step()
                client.security.reload()
                threading.Event().wait(0.1)
                client.close()
                assert client.send_request("x") == "x"

    def test_revoked_at_once(self, pair: Pair) -> None:
        with running(pair.serve()) as port, pair.connect(port) as client:
            assert client.send_request(1) == 1
            channel = client._channel
            assert channel is not None
            pair.server.keys("k2")
            assert eventually(lambda: not channel.usable())
            with pytest.raises(HandshakeRejected):
                client.send_request(2)
            pair.client.keys("k2")
            client.security.reload()
            assert client.send_request(3) == 3

    def test_the_caller_sees_nothing_of_a_key_that_ends(self, pair: Pair) -> None:
        second = timedelta(seconds=1)
        lives = {"k1": (-second, second), "k2": (second / 2, 60 * second)}
        pair.server.keys("k1", "k2", **lives)
        pair.client.keys("k1", "k2", **lives)
        end = monotonic() + 2
        with running(pair.serve()) as port, pair.connect(port) as client, pair.connect(port) as idle:
            assert idle.send_request("x") == "x"
            first = idle._channel
            sent = 0
            while monotonic() < end:
                assert client.send_request(sent) == sent
                sent += 1
            assert pair.answered == sent + 1  # each once, and none again
            assert first is not None
            assert eventually(lambda: not first.usable())
            assert idle.send_request("y") == "y"

    def test_an_end_that_is_set_later(self, pair: Pair) -> None:
        """The client leaves the old key before it ends, and that it is taken out right then costs no reply."""
        second = timedelta(seconds=1)
        with running(pair.serve()) as port, pair.connect(port) as client:
            assert client.send_request(0) == 0
            first = client._channel
            lives = {"k1": (-second, 1.5 * second), "k2": (0.3 * second, 60 * second)}
            for side in (pair.server, pair.client):
                side.keys("k1", "k2", **lives)
            end = monotonic() + 1.2
            sent = 1
            while monotonic() < end:
                assert client.send_request(sent) == sent
                sent += 1
            assert client._channel is not first
            pair.server.keys("k2")
            pair.client.keys("k2")
            end = monotonic() + 0.5
            while monotonic() < end:
                assert client.send_request(sent) == sent
                sent += 1
            assert pair.answered == sent

    def test_a_clock_that_is_ahead(self, pair: Pair) -> None:
        """A client signs with a key that by the server's clock is not valid yet."""
        later = {"k2": (timedelta(seconds=20), timedelta(days=1))}
        pair.server.keys("k1", "k2", **later)
        pair.client.keys("k2")
        with running(pair.serve()) as port, pair.connect(port) as client:
            assert client.send_request("x") == "x"
        pair.server.keys("k1", "k2", k2=(timedelta(minutes=5), timedelta(days=1)))
        with running(pair.serve()) as port, pair.connect(port) as client:
            assert refused(client)


def test_an_expired_client_is_let_finish(pair: Pair) -> None:
    """What is in hand is finished, then CLOSE 3."""
    now = datetime.now(UTC)
    pair.client.leaf(pair.ca, days=1, not_before=now - timedelta(days=1) + timedelta(seconds=2))
    with running(pair.serve()) as port, pair.connect(port) as client:
        assert client.send_request(1) == 1
        channel = client._channel
        assert channel is not None
        eventually(lambda: not channel.usable(), timeout=10)
        pair.client.leaf(pair.ca)
        client.security.reload()
        assert client.send_request(2) == 2


def test_a_connection_ends_with_age(pair: Pair) -> None:
    """The caller sees nothing of it."""
    limits = {"max_connection_age": 0.2}
    with running(pair.serve(limits=limits)) as port, pair.connect(port) as client:
        client.send_request("x")
        channels = set()
        end = monotonic() + 1.0
        sent = 1
        while monotonic() < end:
            assert client.send_request(sent) == sent
            channels.add(client._channel)
            sent += 1
        assert len(channels) > 3
        assert pair.answered == sent


def test_no_descriptors_are_left_behind(pair: Pair) -> None:
    with running(pair.serve()) as port, pair.connect(port) as client:
        client.connect()
        before = len(descriptors())
        for _ in range(20):
            pair.server.leaf(pair.ca)
            client.security.reload()
            with suppress(ConfigurationError):
                shown(client)
        assert len(descriptors()) <= before + 2
