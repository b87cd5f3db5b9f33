"""Certificates, trust, revocation and keys, changed under servers and clients that go on: real files, real sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from reference.peer import RefServer, close, do
from sealwire import (
    AsyncTCPClient,
    ConfigurationError,
    ForkingTCPServer,
    Keyring,
    SynchronousTCPClient,
    TCPServer,
    ThreadingTCPServer,
)
from sealwire.errors import ConnectionClosed, HandshakeFailed, HandshakeRejected
from sealwire.pki.authority import Issuer, create_ca
from sealwire.trust import reloading
from support.aio import served_by
from support.service import descriptors, eventually, nothing_left, running
from support.sides import SECRETS, Side, revocation_list


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


class Clock:
    """The time by which the lives of keys and certificates are judged: it stands until a test moves it."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def now(self, _: Any) -> datetime:
        return self.moment


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("session.terms", "session.validity"):
        monkeypatch.setattr(f"sealwire.{module}.datetime", clock)
    return clock


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
    """Return True if a new connection is refused."""
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


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_a_security_that_is_older_than_the_server(pair: Pair, kind: str) -> None:
    """The first connection is made with what the files hold now."""
    security = pair.server.security(peers=["dns:client.example"], limits={"reload_interval": 60.0})
    after = pair.server.leaf(pair.ca)
    with served_by(kind, pair.answer, security) as port, pair.connect(port) as client:
        assert shown(client) == after


def test_an_old_connection_lives_on(pair: Pair) -> None:
    with running(pair.serve()) as port, pair.connect(port) as old, pair.connect(port) as new:
        assert old.send_request(1) == 1
        fingerprint = pair.server.leaf(pair.ca)
        soon(new, fingerprint)
        assert old.send_request(2) == 2
        assert old.peer is not None
        assert old.peer.fingerprint != fingerprint


def test_a_clients_new_certificate(pair: Pair) -> None:
    """The client leaves the connection made with the old one, so that revoking that costs no reply."""
    pair.server.revoke(pair.ca)
    serial = pair.client.security().credentials.identity.serial
    with running(pair.serve(crl=True)) as port, pair.connect(port) as client:
        assert client.send_request(0) == 0
        channel = client._channel
        assert channel is not None
        pair.client.leaf(pair.ca)
        assert eventually(lambda: client.send_request(1) == 1 and client._channel is not channel)
        pair.server.revoke(pair.ca, serial)
        asking = Asking(client)
        asking.for_seconds(0.3)
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
def test_files_are_checked_while_no_client_is_connected(pair: Pair, cls: type[TCPServer]) -> None:
    server = pair.serve(cls)
    with running(server):
        pair.server.keys("k1", "k2")
        eventually(lambda: len(server.security.keys) == 2)


@pytest.mark.parametrize("cls", [TCPServer, ThreadingTCPServer, ForkingTCPServer])
def test_a_revoked_client(pair: Pair, cls: type[TCPServer]) -> None:
    """Its live connection is closed, without a request on it; new ones are refused."""
    pair.server.revoke(pair.ca)
    serial = pair.client.security().credentials.identity.serial
    with running(pair.serve(cls, crl=True)) as port, pair.connect(port) as client:
        assert client.send_request(1) == 1
        channel = client._channel
        assert channel is not None
        pair.server.revoke(pair.ca, serial)
        assert eventually(lambda: not channel.usable())
        with pytest.raises(HandshakeFailed, match="revoked"):
            client.send_request(2)


def test_revoked_with_a_pending_reply(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """CLOSE 3 at once, and the reply is dropped (docs/protocol.md, section 5)."""
    caplog.set_level("INFO", "sealwire.rotation")
    pair = Pair(tmp_path)
    pair.server.revoke(pair.ca)
    serial = pair.client.security().credentials.identity.serial
    started, go_on = threading.Event(), threading.Event()

    def slow(message: Any) -> Any:
        started.set()
        assert go_on.wait(10)
        return message

    pair.answer = slow
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
        eventually(lambda: "generation 2 in service" in caplog.text)
        threading.Event().wait(0.2)  # more than the interval in which a connection is checked
        go_on.set()
        thread.join(10)
    assert [error.code for error in failed] == [3]


class TestRevokedInTheMiddle:
    """A stream lasts for as long as its client likes, and is looked at all the same."""

    @pytest.mark.parametrize("cls", [ThreadingTCPServer, ForkingTCPServer])
    @pytest.mark.parametrize("way", ["down", "up"])
    def test_of_parts(self, pair: Pair, cls: type[TCPServer], way: str) -> None:
        pair.server.revoke(pair.ca)
        serial = pair.client.security().credentials.identity.serial

        def parts() -> Iterator[int]:
            yield 0
            pair.server.revoke(pair.ca, serial)
            while True:
                yield 1

        pair.answer = endless
        with running(pair.serve(cls, crl=True)) as port, pair.connect(port) as client:
            if way == "up":
                with pytest.raises(ConnectionClosed) as caught:
                    client.send_parts(parts())
            else:
                stream = client.stream(None)
                next(stream)
                pair.server.revoke(pair.ca, serial)
                with pytest.raises(ConnectionClosed) as caught:
                    list(stream)
            assert caught.value.code == 3

    def test_while_the_server_waits_for_credit(self, pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
        pair.server.revoke(pair.ca)
        serial = pair.client.security().credentials.identity.serial
        pair.answer = endless
        limits = {"part_window": 5000}
        with running(pair.serve(crl=True)) as port, pair.connect(port, limits=limits) as client:
            stream = client.stream(None)
            next(stream)
            pair.server.revoke(pair.ca, serial)
            eventually(lambda: "revoked" in caplog.text and "ended" in caplog.text)
            with pytest.raises(ConnectionClosed) as caught:
                for _ in stream:
                    pass
            assert caught.value.code == 3


def endless(message: Any) -> Any:
    """Take parts for ever, or make parts for ever."""
    return sum(message) if hasattr(message, "__next__") else (bytes(1000) for _ in count())


def test_a_revoked_server(pair: Pair) -> None:
    pair.client.revoke(pair.ca)
    serial = pair.server.security(peers=["dns:x.example"]).credentials.identity.serial
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


@pytest.mark.parametrize("kind", ["one", "several", "asyncio"])
def test_closed_for_the_key_and_another_one_is_in_the_file(pair: Pair, kind: str) -> None:
    """The file changed while the request was under way; so it is sent again, under the new key."""

    def rotate(connection: Any, frame: Any) -> None:
        pair.client.keys("k2")
        threading.Event().wait(0.1)  # more than an interval

    async def ask(port: int) -> Any:
        async with AsyncTCPClient("localhost", port, security=pair.client.security()) as client:
            return await asyncio.gather(*map(client.send_request, "ab"))

    files = {name: str(pair.server.path(name)) for name in ("cert", "key", "ca")}
    keys = {name: SECRETS[name] for name in ("k1", "k2")}
    with RefServer(**files, keys=keys, script=[{1: do(rotate, close(3, 0))}]) as server:
        if kind == "asyncio":
            assert asyncio.run(ask(server.port)) == ["a", "b"]
            return
        with pair.connect(server.port) as client:
            if kind == "several":
                assert list(client.send_requests("ab")) == ["a", "b"]
            else:
                assert client.send_request("a") == "a"


def test_a_list_that_expires_says_so(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.server.revoke(pair.ca)
    server = pair.serve(crl=True)
    with running(server) as port, pair.connect(port) as client:
        assert client.send_request(1) == 1

        def taken() -> bool:
            # OpenSSL has a clock of its own, so that this list must really expire: but not before it has been read.
            pair.server.revoke(pair.ca, end=timedelta(seconds=2))
            return server.reload()

        eventually(taken)
        eventually(lambda: refused(client), timeout=20)
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


HOUR = timedelta(hours=1)
LIVES = {"k1": (-HOUR, HOUR), "k2": (0.5 * HOUR, 24 * HOUR)}


class Asking:
    """A client that asks again and again, and must be answered each time. ``sent``: how often it has asked."""

    def __init__(self, client: SynchronousTCPClient) -> None:
        self.client = client
        self.sent = 0

    def once(self) -> bool:
        self.sent += 1
        return bool(self.client.send_request(self.sent) == self.sent)

    def for_seconds(self, seconds: float) -> None:
        """Long enough for both ends to look at their files."""
        end = monotonic() + seconds
        while monotonic() < end:
            assert self.once()


class TestKeys:
    def test_overlap(self, pair: Pair) -> None:
        """Distributed first, to the server; then signed with; then the old one is gone."""
        server = pair.serve()
        with running(server) as port, pair.connect(port) as client:
            for step in (
                lambda: pair.server.keys("k1", "k2"),
                lambda: pair.client.keys("k1", "k2"),
                lambda: pair.server.keys("k2"),
                lambda: pair.client.keys("k2"),
            ):
                step()
                assert client.security.reload()
                assert server.reload()
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

    def test_the_server_does_not_look_whenever_a_peer_wishes(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        server = pair.serve(limits={"reload_interval": 3600})
        looks, look = [], Keyring.look

        def counted(ring: Keyring, interval: float, seconds: float) -> None:
            looks.append(1)
            look(ring, interval, seconds)

        monkeypatch.setattr(Keyring, "look", counted)
        monkeypatch.setattr(reloading, "LOOK_INTERVAL", 3600)
        pair.client.keys("k3")
        with running(server) as port, pair.connect(port) as client:
            for _ in range(3):
                with pytest.raises(HandshakeRejected):
                    client.send_request(1)
        assert len(looks) == 1 + 3  # the server's, and the client's after each refusal

    def test_the_caller_sees_nothing_of_a_key_that_ends(self, pair: Pair, clock: Clock) -> None:
        pair.server.keys("k1", "k2", **LIVES)
        pair.client.keys("k1", "k2", **LIVES)
        with running(pair.serve()) as port, pair.connect(port) as client, pair.connect(port) as idle:
            assert idle.send_request("x") == "x"
            first = idle._channel
            asking = Asking(client)
            asking.for_seconds(0.2)
            before = client._channel
            clock.moment += 0.75 * HOUR  # the other key is valid now, too
            assert eventually(lambda: asking.once() and client._channel is not before)
            clock.moment += 0.25 * HOUR - timedelta(seconds=10)
            asking.for_seconds(0.2)
            clock.moment += timedelta(minutes=1)
            asking.for_seconds(0.2)
            assert pair.answered == asking.sent + 1  # each once, and none again
            assert first is not None
            assert eventually(lambda: not first.usable())
            assert idle.send_request("y") == "y"

    def test_an_end_that_is_set_later(self, pair: Pair, clock: Clock) -> None:
        """The client leaves the old key before it ends, and that it is taken out right then costs no reply."""
        server = pair.serve()
        with running(server) as port, pair.connect(port) as client:
            asking = Asking(client)
            assert asking.once()
            first = client._channel
            pair.server.keys("k1", "k2", **LIVES)
            assert server.reload()
            pair.client.keys("k1", "k2", **LIVES)
            clock.moment += HOUR - timedelta(seconds=10)
            assert eventually(lambda: asking.once() and client._channel is not first)
            pair.server.keys("k2")
            pair.client.keys("k2")
            asking.for_seconds(0.5)
            assert pair.answered == asking.sent

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


def test_an_expired_client_may_finish(pair: Pair, clock: Clock) -> None:
    """Requests in progress are finished, then comes CLOSE 3."""
    pair.client.leaf(pair.ca, days=1)
    identity = pair.client.security().credentials.identity
    assert identity is not None
    clock.moment = identity.not_after - timedelta(seconds=10)  # so soon that the client does not leave before
    with running(pair.serve(limits={"idle_timeout": 60.0})) as port, pair.connect(port) as client:
        assert client.send_request(1) == 1
        channel = client._channel
        assert channel is not None
        assert channel.usable()
        clock.moment += timedelta(seconds=20)
        eventually(lambda: not channel.usable(), timeout=10)
        pair.client.leaf(pair.ca)
        client.security.reload()
        assert client.send_request(2) == 2


def test_a_connection_ends_with_age(pair: Pair) -> None:
    """The caller sees nothing of it."""
    limits = {"max_connection_age": 0.5}
    with running(pair.serve(limits=limits)) as port, pair.connect(port) as client:
        asking = Asking(client)
        channels = set()
        end = monotonic() + 20
        while len(channels) <= 3:
            assert monotonic() < end
            assert asking.once()
            channels.add(client._channel)
        assert pair.answered == asking.sent


def test_no_descriptors_are_left_behind(pair: Pair) -> None:
    with running(pair.serve()) as port, pair.connect(port) as client:
        client.connect()
        before = len(descriptors())
        for _ in range(20):
            pair.server.leaf(pair.ca)
            client.security.reload()
            with suppress(ConfigurationError):
                shown(client)
        # Connections that were left close in threads of their own.
        eventually(lambda: len(descriptors()) <= before + 2)
