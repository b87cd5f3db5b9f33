"""The synchronous client on UDP: bad links, servers that are busy or begin again, threads and forks."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from sealwire import (
    DeadlineExceeded,
    HandshakeFailed,
    PeerNotAllowed,
    RemoteError,
    TransportError,
)
from sealwire.dtls import AsyncUDPClient, SynchronousUDPClient, ThreadingUDPServer, UDPServer
from sealwire.dtls.association import Association
from sealwire.dtls.client_association import ClientAssociation
from sealwire.dtls.server_association import ServerAssociation
from support.relay import Relay, bad_link
from support.service import Deployment, eventually
from support.udp import ADDRESS, Counting, Held, client, echo, forked, running

pytestmark = pytest.mark.usefixtures("clean")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bad_link(deployment: Deployment, seed: int) -> None:
    """Handshakes come about, replies are their requests', and no message is delivered twice."""
    handler = Counting()
    with (
        running(ThreadingUDPServer(ADDRESS, handler, deployment.server_security())) as port,
        bad_link(port, seed=seed, lose=0.08, hold=0.04) as link,
        client(deployment, link.port, timeout=30) as one,
    ):
        answered = 0
        for number in range(25):
            try:
                assert one.send_request(number, wait=0.3) == number
                answered += 1
            except DeadlineExceeded:
                # Without a reply the client makes a new association.
                assert one.peer is None
        assert 10 <= answered <= 25
        assert link.lost > 1
    assert set(handler.seen.values()) == {1}


def test_an_idempotent_request_gets_through(deployment: Deployment) -> None:
    handler = Counting()
    with (
        running(UDPServer(ADDRESS, handler, deployment.server_security())) as port,
        bad_link(port, lose=0.2, hold=0.04) as link,
        client(deployment, link.port, timeout=60, wait=30) as one,
    ):
        for number in range(8):
            assert one.send_request(number, idempotent=True) == number
    assert set(handler.seen) == set(range(8))
    assert max(handler.seen.values()) > 1


def test_a_server_that_begins_again(deployment: Deployment) -> None:
    with running(UDPServer(ADDRESS, echo, deployment.server_security())) as port:
        one = client(deployment, port, wait=5)
        assert one.send_request(1) == 1
        address = ("127.0.0.1", port)
    with one:
        with pytest.raises(TransportError):
            one.send_request(2)
        with running(UDPServer(address, echo, deployment.server_security())):
            assert one.send_request(3) == 3


def test_a_ping(deployment: Deployment) -> None:
    with (
        running(UDPServer(ADDRESS, echo, deployment.server_security())) as port,
        bad_link(port, lose=0, hold=0) as link,
        client(deployment, link.port, wait=0.3) as one,
    ):
        assert 0 < one.ping() < 10
        peer = one.peer
        assert peer is not None
        link.passing = False
        with pytest.raises(DeadlineExceeded, match="nothing came from") as late:
            one.ping()
        assert late.value.sent
        assert one.peer is None, "a late answer would be taken for that to the next PING"
        link.passing = True
        assert 0 < one.ping() < 10
        assert one.send_request(1) == 1
        assert one.peer == peer


def test_a_ping_to_a_server_that_is_gone_begins_again(deployment: Deployment) -> None:
    with running(UDPServer(ADDRESS, echo, deployment.server_security())) as port:
        one = client(deployment, port, timeout=2)
        one.ping()
    with one:
        with pytest.raises(TransportError):
            one.ping()
        with running(UDPServer(("127.0.0.1", port), echo, deployment.server_security())):
            assert 0 < one.ping() < 10


def ask(kind: str, deployment: Deployment, port: int, message: Any, **times: float) -> Any:
    security = deployment.security("client")
    if kind == "synchronous":
        with SynchronousUDPClient("127.0.0.1", port, security=security, **times) as one:
            return one.send_request(message)

    async def main() -> Any:
        async with AsyncUDPClient("127.0.0.1", port, security=security, **times) as two:
            return await two.send_request(message)

    return asyncio.run(main())


class Deaf(Relay):
    """Hears no more of the first client after some datagrams, like a server that has made room for others."""

    def __init__(self, server: int, after: int) -> None:
        super().__init__(server, seed=1, lose=0, repeat=0, hold=0)
        self._after = after
        self.clients: dict[Any, int] = {}

    def _pass(self, data: bytes, through: socket.socket, to: tuple[str, int] | None) -> None:
        client = through.getsockname() if to is None else None
        if client is not None:
            self.clients[client] = self.clients.get(client, 0) + 1
        self.passing = client is None or client != next(iter(self.clients)) or self.clients[client] <= self._after
        super()._pass(data, through, to)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["synchronous", "asyncio"])
def test_a_handshake_that_goes_on_no_more(
    deployment: Deployment, kind: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client begins again, within ``timeout``."""
    monkeypatch.setattr("sealwire.dtls.client.PATIENCE", 0.1)
    monkeypatch.setattr("sealwire.dtls.aio.PATIENCE", 0.1)
    monkeypatch.setattr("sealwire.dtls.client_association._HELLO_PATIENCE", 0.1)
    with running(ThreadingUDPServer(ADDRESS, echo, deployment.server_security())) as port:
        relay = Deaf(port, after)
        relay.start()
        try:
            assert ask(kind, deployment, relay.port, "x", timeout=20, wait=20) == "x"
            assert len(relay.clients) > 1
        finally:
            relay.stop()


@pytest.mark.parametrize("kind", ["synchronous", "asyncio"])
def test_no_server(deployment: Deployment, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins again until ``timeout`` is over, and says so."""
    monkeypatch.setattr("sealwire.dtls.client.PATIENCE", 0.1)
    monkeypatch.setattr("sealwire.dtls.aio.PATIENCE", 0.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(DeadlineExceeded, match="in time"):
            ask(kind, deployment, silent.getsockname()[1], "x", timeout=1)


@pytest.mark.parametrize("kind", ["synchronous", "asyncio"])
def test_an_idempotent_request_waits_for_a_busy_server(deployment: Deployment, kind: str) -> None:
    """FAULT 21 says that no handler has seen it: it is sent again, and fails with that if its time is over."""
    go, entered = threading.Event(), threading.Event()

    def held(message: Any) -> Any:
        if message == "held":
            entered.set()
            go.wait(20)
        return message

    def ask(port: int, message: Any, wait: float) -> Any:
        security = deployment.security("client")
        if kind == "synchronous":
            with SynchronousUDPClient("127.0.0.1", port, security=security) as one:
                return one.send_request(message, wait=wait, idempotent=True)

        async def main() -> Any:
            async with AsyncUDPClient("127.0.0.1", port, security=security) as two:
                return await two.send_request(message, wait=wait, idempotent=True)

        return asyncio.run(main())

    security = deployment.server_security(limits={"max_in_flight_total": 1})
    server = ThreadingUDPServer(ADDRESS, held, security)
    with running(server) as port, client(deployment, port) as other, ThreadPoolExecutor() as executor:
        holding = threading.Thread(target=other.send_request, args=("held",))
        holding.start()
        assert entered.wait(10)
        with pytest.raises(RemoteError) as overloaded:
            ask(port, "too late", 0.6)
        assert overloaded.value.code == 21
        asking = executor.submit(ask, port, "in time", 10)
        eventually(lambda: server.demultiplexer.peers == 2)
        go.set()
        assert asking.result(20) == "in time"
        holding.join()


@pytest.mark.parametrize("kind", ["synchronous", "asyncio"])
def test_the_servers_identity(deployment: Deployment, kind: str) -> None:
    def ask(host: str, port: int, **options: Any) -> None:
        security = deployment.security("client", **options)
        if kind == "synchronous":
            with SynchronousUDPClient(host, port, 5, 5, security=security) as one:
                one.connect()
            return

        async def main() -> None:
            async with AsyncUDPClient(host, port, 5, 5, security=security) as two:
                await two.connect()

        asyncio.run(main())

    with running(UDPServer(ADDRESS, echo, deployment.server_security())) as port:
        ask("127.0.0.1", port)
        ask("localhost", port)
        with pytest.raises(PeerNotAllowed):
            ask("127.0.0.1", port, peers=["dns:other.example"])
    server = UDPServer(ADDRESS, echo, deployment.security("other client", peers=["dns:client.example"]))
    with running(server) as port, pytest.raises(HandshakeFailed, match="hostname mismatch"):
        ask("127.0.0.1", port)
    with pytest.raises(TransportError, match=r"Connection refused; check that the server runs"):
        ask("127.0.0.1", port)
    with pytest.raises(TransportError, match="cannot be found"):
        ask("nowhere.invalid", port)


def test_another_threads_request_is_waited_for_no_longer_than_wait(deployment: Deployment) -> None:
    held = Held()
    server = ThreadingUDPServer(ADDRESS, held, deployment.server_security())
    with running(server) as port, client(deployment, port) as one:
        thread = threading.Thread(target=one.send_request, args=["held"])
        thread.start()
        assert held.entered.acquire(timeout=10)
        with pytest.raises(DeadlineExceeded, match="other threads' requests"):
            one.send_request(2, wait=0.2)
        held.go.set()
        thread.join(10)
        assert one.send_request(3) == 3


def test_fork(deployment: Deployment) -> None:
    """A child has an association of its own: two that go on with the same one would use the same nonces."""
    server = UDPServer(ADDRESS, echo, deployment.server_security())
    with running(server) as port, client(deployment, port, wait=3) as one:
        assert one.send_request("before") == "before"

        def in_child() -> bool:
            good = one.send_request("child") == "child" and server.demultiplexer.peers == 1
            one.close()
            return good

        assert forked(in_child) == 0
        assert one.send_request("after") == "after"
        assert forked(lambda: one.close() is None) == 0
        assert one.send_request("after") == "after"


@pytest.mark.parametrize("kind", ["synchronous", "asyncio"])
def test_a_server_that_floods(deployment: Deployment, kind: str) -> None:
    """The client's time is over when it is, whatever comes until then."""
    over = threading.Event()

    def flood() -> None:
        _, address = flooding.recvfrom(2000)
        while not over.is_set():
            for datagram in (b"\x16\xfe\xfd" + bytes(60), b"\x17\xfe\xfd\0\1" + bytes(60), b"x"):
                with suppress(OSError):
                    flooding.sendto(datagram, address)

    def connect(port: int) -> None:
        if kind == "synchronous":
            with client(deployment, port, timeout=0.5) as one:
                one.connect()
            return

        async def main() -> None:
            async with AsyncUDPClient("127.0.0.1", port, timeout=0.5, security=deployment.security("client")) as two:
                await two.connect()

        asyncio.run(main())

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooding:
        flooding.bind(ADDRESS)
        thread = threading.Thread(target=flood)
        thread.start()
        port = flooding.getsockname()[1]
        try:
            with pytest.raises(DeadlineExceeded):
                connect(port)
        finally:
            over.set()
            thread.join(20)


class TestMemory:
    """The memory of an association is freed when it has ended, without the garbage collector."""

    def test_both_ends(self, deployment: Deployment) -> None:
        def respond(message: Any) -> Any:
            if message == "fail":
                raise ValueError
            return message

        server = ThreadingUDPServer(ADDRESS, respond, deployment.server_security())
        with running(server) as port, without_garbage_collection():
            with client(deployment, port) as one:
                with pytest.raises(RemoteError):
                    one.send_request("fail")
                with pytest.raises(DeadlineExceeded):
                    one.send_request(b"", wait=1e-9)
            with client(deployment, port, peers=["dns:other.example"]) as one, pytest.raises(PeerNotAllowed):
                one.connect()
            one = client(deployment, port)
            one.connect()
            server.shutdown()
            eventually(lambda: not associations(ServerAssociation))
            server.server_close()
            with pytest.raises(TransportError):
                one.send_request(1)
            one.close()
            assert associations(ClientAssociation) == 0

    def test_asyncio(self, deployment: Deployment) -> None:
        async def main(port: int) -> None:
            async with AsyncUDPClient("127.0.0.1", port, security=deployment.security("client")) as one:
                assert await one.send_request(1) == 1
            other = deployment.security("client", peers=["dns:other.example"])
            async with AsyncUDPClient("127.0.0.1", port, security=other) as one:
                with pytest.raises(PeerNotAllowed):
                    await one.connect()

        with running(UDPServer(ADDRESS, echo, deployment.server_security())) as port, without_garbage_collection():
            asyncio.run(main(port))
            assert associations(ClientAssociation) == 0
            eventually(lambda: not associations(ServerAssociation))


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Of new objects; those that there are by now are none of this test's, and not looked at."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def associations(kind: type[Association]) -> int:
    return sum(type(each) is kind for each in gc.get_objects())  # and ask no object for its class
