"""UDP over DTLS: bad links, strangers, peers that move, bounds, and OpenSSL's own client."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from sealwire import (
    ConfigurationError,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    PayloadTooLarge,
    PeerNotAllowed,
    RemoteError,
    TransportError,
)
from sealwire.dtls import AsyncUDPClient, SynchronousUDPClient, ThreadingUDPServer, UDPServer
from support.relay import bad_link
from support.service import Deployment, eventually
from support.udp import ADDRESS, client, running

pytestmark = pytest.mark.usefixtures("clean")

SERVERS = [UDPServer, ThreadingUDPServer]


def echo(message: Any) -> Any:
    return message


class Counting:
    """A handler that counts each message."""

    def __init__(self) -> None:
        self.seen: Counter[Any] = Counter()

    def __call__(self, message: Any) -> Any:
        self.seen[message] += 1
        return message


@pytest.mark.parametrize("server_class", SERVERS)
def test_requests(deployment: Deployment, server_class: type[UDPServer]) -> None:
    server = server_class(ADDRESS, echo, deployment.server_security())
    with running(server) as port, client(deployment, port) as one:
        for value in (0, {}, None, "x" * 1000, b"y" * 1100):
            assert one.send_request(value) == value
        with pytest.raises(PayloadTooLarge, match="over TCP"):
            one.send_request(bytes(1200))
        assert one.peer is not None
        assert "localhost" in one.peer.dns
        assert repr(one) == f"<SynchronousUDPClient 127.0.0.1:{port}, open>"
        assert server.endpoint.peers == 1
        one.close()
        eventually(lambda: server.endpoint.peers == 0)
        one.connect()


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


def test_many_at_once_on_a_bad_link(deployment: Deployment) -> None:
    handler = Counting()

    async def main(port: int) -> None:
        security = deployment.security("client")
        async with AsyncUDPClient("127.0.0.1", port, timeout=30, wait=60, security=security) as one:
            replies = await asyncio.gather(*(one.send_request(n, idempotent=True) for n in range(200)))
            assert replies == list(range(200))
            assert repr(one).endswith("open>")
            assert one.peer is not None
        assert one.peer is None

    with (
        running(ThreadingUDPServer(ADDRESS, handler, deployment.server_security())) as port,
        bad_link(port, lose=0.05, hold=0.04) as link,
    ):
        asyncio.run(main(link.port))
    assert set(handler.seen) == set(range(200))


def test_who_is_cancelled_leaves_the_others_alone(deployment: Deployment) -> None:
    go = threading.Event()

    def held(message: Any) -> Any:
        if message == "held":
            go.wait(20)
        return message

    async def main(port: int) -> None:
        async with AsyncUDPClient("127.0.0.1", port, security=deployment.security("client")) as one:
            await one.connect()
            waiting = asyncio.create_task(one.send_request("held"))
            assert await one.send_request("first") == "first"
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            go.set()
            assert await one.send_request("other") == "other"

    with running(ThreadingUDPServer(ADDRESS, held, deployment.server_security())) as port:
        asyncio.run(main(port))


def test_a_peer_that_changes_its_address(deployment: Deployment) -> None:
    """It is a stranger there, and shakes hands anew."""
    server = UDPServer(ADDRESS, echo, deployment.server_security(limits={"idle_timeout": 2.0}))
    with (
        running(server) as port,
        bad_link(port, lose=0, repeat=0, hold=0) as link,
        client(deployment, link.port) as one,
    ):
        assert one.send_request(1) == 1
        link.move()
        with pytest.raises(DeadlineExceeded):
            one.send_request(2, wait=0.3)
        assert one.send_request(3) == 3
        assert server.endpoint.peers == 2
        # What it was before is forgotten when it has been idle.
        eventually(lambda: server.endpoint.peers == 1 if one.send_request(4) else 0, timeout=10)


def test_a_server_that_begins_anew(deployment: Deployment) -> None:
    with running(UDPServer(ADDRESS, echo, deployment.server_security())) as port:
        one = client(deployment, port, wait=0.5)
        assert one.send_request(1) == 1
        address = ("127.0.0.1", port)
    with one:
        with pytest.raises(TransportError):
            one.send_request(2)
        with running(UDPServer(address, echo, deployment.server_security())):
            assert one.send_request(3) == 3


def test_strangers_without_a_cookie(deployment: Deployment) -> None:
    """Nothing is kept of an address that does not answer one, however many there are."""
    server = UDPServer(ADDRESS, echo, deployment.server_security())
    with running(server) as port, bad_link(port, lose=0, repeat=0, hold=0) as link, ExitStack() as stack:
        hellos: list[bytes] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spy:
            spy.bind(ADDRESS)
            spy.settimeout(5)
            with pytest.raises((DeadlineExceeded, TransportError)):
                client(deployment, spy.getsockname()[1], timeout=0.1).connect()
            hellos.append(spy.recv(4096))
        for _ in range(100):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.settimeout(5)
            sock.sendto(hellos[0], ("127.0.0.1", port))
            answer = sock.recv(4096)
            assert len(answer) < len(hellos[0])  # no amplifier
            sock.sendto(b"nonsense", ("127.0.0.1", port))
            sock.sendto(hellos[0][:20], ("127.0.0.1", port))
        assert server.endpoint.peers == 0
        with client(deployment, link.port) as one:
            assert one.send_request(1) == 1


def test_bounds(deployment: Deployment) -> None:
    security = deployment.server_security(limits={"max_connections": 2, "max_in_flight": 1})
    with running(UDPServer(ADDRESS, echo, security)) as port, ExitStack() as stack:
        for number in range(2):
            assert stack.enter_context(client(deployment, port)).send_request(number) == number
        with client(deployment, port, timeout=0.5) as third, pytest.raises(HandshakeRejected, match="overloaded"):
            third.connect()


def test_too_much_at_once(deployment: Deployment) -> None:
    go = threading.Event()

    def held(message: Any) -> Any:
        go.wait(20)
        return message

    async def main(port: int) -> None:
        async with AsyncUDPClient("127.0.0.1", port, security=deployment.security("client")) as one:
            await one.connect()
            first = asyncio.create_task(one.send_request(1))
            await asyncio.sleep(0)
            with pytest.raises(RemoteError) as overloaded:
                await one.send_request(2)
            assert overloaded.value.code == 21
            go.set()
            assert await first == 1

    security = deployment.server_security(limits={"max_in_flight": 1})
    with running(ThreadingUDPServer(ADDRESS, held, security)) as port:
        asyncio.run(main(port))


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
        eventually(lambda: server.endpoint.peers == 2)
        go.set()
        assert asking.result(20) == "in time"
        holding.join()


def test_idle_peers_expire(deployment: Deployment) -> None:
    server = UDPServer(ADDRESS, echo, deployment.server_security(limits={"idle_timeout": 0.2}))
    with running(server) as port, client(deployment, port) as one:
        assert one.send_request(1) == 1
        eventually(lambda: server.endpoint.peers == 0)
        assert one.send_request(2) == 2


def test_drain(deployment: Deployment) -> None:
    go, entered = threading.Event(), threading.Event()

    def held(message: Any) -> Any:
        entered.set()
        go.wait(20)
        return message

    replies: list[Any] = []
    server = ThreadingUDPServer(ADDRESS, held, deployment.server_security())
    with running(server) as port, client(deployment, port) as one:
        asking = threading.Thread(target=lambda: replies.append(one.send_request("held")))
        asking.start()
        assert entered.wait(10)
        leaving = threading.Thread(target=server.shutdown)
        leaving.start()
        assert leaving.is_alive()
        go.set()
        leaving.join(20)
        asking.join(20)
        assert replies == ["held"]


def test_handle_request(deployment: Deployment) -> None:
    with UDPServer(ADDRESS, echo, deployment.server_security()) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        with client(deployment, server.server_address[1]) as one:
            assert one.send_request(1) == 1
            serving.join(20)
            assert not serving.is_alive()
            assert server.reload()


@pytest.mark.parametrize("kind", ["synchronous", "asyncio"])
def test_who_the_server_is(deployment: Deployment, kind: str) -> None:
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
    with pytest.raises(TransportError, match="see whether the server runs"):
        ask("127.0.0.1", port)
    with pytest.raises(TransportError, match="cannot be found"):
        ask("nowhere.invalid", port)


def test_wrong_arguments(deployment: Deployment) -> None:
    security = deployment.server_security()
    for client_class in (SynchronousUDPClient, AsyncUDPClient):
        with pytest.raises(ConfigurationError, match="port"):
            client_class("localhost", 0, security=security)
        with pytest.raises(ConfigurationError, match="a client needs"):
            client_class("localhost", 1, security=None)
    with pytest.raises(ConfigurationError, match="needs a Security"):
        UDPServer(ADDRESS, echo, None)  # type: ignore[arg-type]  # wrong, as the test wants it
    with pytest.raises(ConfigurationError, match="workers"):
        ThreadingUDPServer(ADDRESS, echo, security, workers=0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(ADDRESS)
        with pytest.raises(TransportError, match="cannot listen"):
            UDPServer(taken.getsockname(), echo, security)


def test_without_pyopenssl() -> None:
    script = "import sys; sys.modules['OpenSSL'] = None\nimport sealwire.dtls"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'sealwire[dtls]'" in done.stderr


OPENSSL = shutil.which("openssl")


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("certificate", [True, False])
def test_openssls_client(deployment: Deployment, caplog: pytest.LogCaptureFixture, certificate: bool) -> None:
    """Cookie, DTLS 1.2, mutual certificates, ALPN, extended master secret; without a certificate, nothing."""
    assert OPENSSL is not None
    caplog.set_level(logging.INFO, "sealwire")
    server = UDPServer(ADDRESS, echo, deployment.server_security())
    cert, key = deployment.files["client"]
    own = ["-cert", str(cert), "-key", str(key)] if certificate else []
    with running(server) as port:
        process = subprocess.Popen(
            [OPENSSL, "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port}", "-CAfile", str(deployment.ca),
             "-verify_return_error", "-alpn", "sealwire/1", "-mtu", "1232", *own],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            try:
                if certificate:
                    said = ""
                    for line in process.stdout:
                        said += line
                        if "Extended master secret" in line:
                            break
                    assert "Extended master secret: yes" in said
                    assert "Protocol  : DTLSv1.2" in said
                    assert "ALPN protocol: sealwire/1" in said
                    assert "Verification: OK" in said
                    assert server.endpoint.peers == 1
                else:
                    eventually(lambda: "refused: DTLS failed" in caplog.text)
                    eventually(lambda: server.endpoint.peers == 0)
            finally:
                process.kill()
        with client(deployment, port) as one:
            assert one.send_request(1) == 1
