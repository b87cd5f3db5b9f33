"""The servers on UDP: strangers, peers that move, bounds, ends, and OpenSSL's own client."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import sealwire.contention
from sealwire import (
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeRejected,
    PayloadTooLarge,
    RemoteError,
    RequestHandler,
    TransportError,
    encode,
    recv_msg,
    send_msg,
)
from sealwire.dtls import AsyncUDPClient, SynchronousUDPClient, ThreadingUDPServer, UDPServer
from sealwire.dtls.records import client_random
from sealwire.dtls.server import arrival_time
from sealwire.pki.authority import create_ca
from support.relay import bad_link
from support.service import Deployment, eventually
from support.sides import Side
from support.udp import ADDRESS, Held, client, echo, forked, passed, running

pytestmark = pytest.mark.usefixtures("clean")

SERVERS = [UDPServer, ThreadingUDPServer]
OPENSSL = shutil.which("openssl")


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
        assert server.demultiplexer.peers == 1
        one.close()
        eventually(lambda: server.demultiplexer.peers == 0)
        one.connect()


def test_a_peer_that_changes_its_address(deployment: Deployment) -> None:
    """It is a stranger there, and begins another handshake."""
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
        assert server.demultiplexer.peers == 2
        # What it was before is forgotten when it has been idle.
        eventually(lambda: server.demultiplexer.peers == 1 if one.send_request(4) else 0, timeout=10)


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
        assert server.demultiplexer.peers == 0
        with client(deployment, link.port) as one:
            assert one.send_request(1) == 1


def test_bounds(deployment: Deployment) -> None:
    go, entered = threading.Event(), threading.Semaphore(0)

    def held(message: Any) -> Any:
        entered.release()
        go.wait(20)
        return message

    security = deployment.server_security(limits={"max_connections": 2, "max_in_flight": 1})
    with running(ThreadingUDPServer(ADDRESS, held, security)) as port, ExitStack() as stack:
        asking = [
            threading.Thread(target=stack.enter_context(client(deployment, port)).send_request, args=(number,))
            for number in range(2)
        ]
        for each in asking:
            each.start()
        for _ in asking:
            assert entered.acquire(timeout=20)
        with client(deployment, port, timeout=1.5) as third, pytest.raises(HandshakeRejected, match="overloaded"):
            third.connect()
        go.set()
        for each in asking:
            each.join(20)


def test_clients_that_were_interrupted_leave_room_for_others(deployment: Deployment) -> None:
    """One that is interrupted cannot say that its association is over, and begins another at its next request."""
    security = deployment.server_security(limits={"max_connections": 2, "idle_timeout": 600.0})
    server = UDPServer(ADDRESS, echo, security)
    with running(server) as port, ExitStack() as stack:
        for number in range(6):
            one = client(deployment, port, timeout=5)
            stack.callback(one.close)
            assert one.send_request(number) == number
            one._channel.abandon()  # what an interrupt does, without its luck
        assert server.demultiplexer.peers == 2


def test_idle_peers_expire(deployment: Deployment) -> None:
    server = UDPServer(ADDRESS, echo, deployment.server_security(limits={"idle_timeout": 0.2}))
    with running(server) as port, client(deployment, port) as one:
        assert one.send_request(1) == 1
        eventually(lambda: server.demultiplexer.peers == 0)
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


def unread(port: int) -> int:
    """The bytes of datagrams that wait in the kernel for the server at this port of 127.0.0.1."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == f"0100007F:{port:04X}":
            return int(fields[4].partition(":")[2], 16)
    raise AssertionError("no such socket")


def test_an_interrupted_handler_leaves_no_other_request_without_an_answer(deployment: Deployment) -> None:
    held = Held()

    def respond(message: Any) -> Any:
        held(message)
        if message == "interrupt":
            raise KeyboardInterrupt
        return message

    def serve() -> None:
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()

    with UDPServer(ADDRESS, respond, deployment.server_security()) as server, ThreadPoolExecutor() as executor:
        serving = executor.submit(serve)
        port = server.server_address[1]
        with client(deployment, port) as one, client(deployment, port) as two, client(deployment, port) as three:
            for each in (one, two, three):
                assert each.send_request("first") == "first"
                assert held.entered.acquire(timeout=10)
            replies = [executor.submit(one.send_request, "held")]
            assert held.entered.acquire(timeout=10)
            for each, message in ((two, "interrupt"), (three, "after")):
                before = unread(port)
                replies.append(executor.submit(each.send_request, message))
                eventually(lambda before=before: unread(port) > before)
            held.go.set()
            assert replies[0].result(20) == "held"
            with pytest.raises(RemoteError, match="handler failed"):
                replies[1].result(20)
            assert replies[2].result(20) == "after"
        serving.result(20)
        assert server.demultiplexer.in_progress == 0


def test_closing_waits_for_handlers(deployment: Deployment) -> None:
    """handle_request ends when the first of two requests is answered; closing the server waits for the other."""
    held = Held()
    with ThreadingUDPServer(ADDRESS, held, deployment.server_security()) as server, ThreadPoolExecutor() as executor:
        port = server.server_address[1]
        serving = executor.submit(server.handle_request)
        with client(deployment, port) as one, client(deployment, port) as two:
            slow = executor.submit(one.send_request, "held")
            assert held.entered.acquire(timeout=10)
            assert two.send_request("quick") == "quick"
            serving.result(20)
            closing = executor.submit(server.server_close)
            eventually(lambda: server.demultiplexer.peers == 1)
            held.go.set()
            assert slow.result(20) == "held"
            closing.result(20)


class TestFork:
    """A child goes on with none of the parent's associations: two processes would use the same nonces."""

    def test_closing_in_a_child_tells_the_parents_clients_nothing(self, deployment: Deployment) -> None:
        server = ThreadingUDPServer(ADDRESS, echo, deployment.server_security())
        with (
            running(server) as port,
            bad_link(port, lose=0, repeat=0, hold=0) as link,
            client(deployment, link.port) as one,
        ):
            assert one.send_request(1) == 1
            said = len(link.heard)
            assert forked(lambda: server.shutdown() is None and server.server_close() is None) == 0
            assert one.send_request(2) == 2
            assert len(link.heard) == said + 1

    @pytest.mark.parametrize("server_class", SERVERS)
    def test_a_child_that_serves(self, deployment: Deployment, server_class: type[UDPServer]) -> None:
        def respond(message: Any) -> Any:
            if message == "stop":
                server.shutdown()
            return os.getpid()

        server = server_class(ADDRESS, respond, deployment.server_security())
        with server, ThreadPoolExecutor() as executor, client(deployment, server.server_address[1]) as one:
            serving = executor.submit(server.handle_request)
            assert one.send_request(1) == os.getpid()
            serving.result(20)
            child = executor.submit(forked, lambda: server.serve_forever() is None)
            with pytest.raises(DeadlineExceeded):
                one.send_request(2, wait=0.3)
            assert one.send_request("stop") != os.getpid()
            assert child.result(20) == 0

    def test_a_handler_that_forks(self, deployment: Deployment) -> None:
        """The child's handler returns, too, and its reply is not sent."""
        children = []

        class Forking(RequestHandler):
            def handle(self) -> None:
                message = recv_msg(self.request)
                children.append(forked(lambda: send_msg(self.request, encode("the child's")) is None))
                send_msg(self.request, message)

        server = UDPServer(ADDRESS, Forking, deployment.server_security())
        with running(server) as port, client(deployment, port) as one:
            for number in range(3):
                assert one.send_request(number) == number
        assert children == [0, 0, 0]


def test_wrong_arguments(deployment: Deployment) -> None:
    security = deployment.server_security()
    for client_class in (SynchronousUDPClient, AsyncUDPClient):
        with pytest.raises(ConfigurationError, match="port"):
            client_class("localhost", 0, security=security)
        with pytest.raises(ConfigurationError, match="a client needs"):
            client_class("localhost", 1, security=None)
    with pytest.raises(ConfigurationError, match="needs a Security"):
        UDPServer(ADDRESS, echo, None)
    with pytest.raises(ConfigurationError, match="workers"):
        ThreadingUDPServer(ADDRESS, echo, security, workers=0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(ADDRESS)
        with pytest.raises(TransportError, match="cannot listen"):
            UDPServer(taken.getsockname(), echo, security)


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
                    assert server.demultiplexer.peers == 1
                else:
                    eventually(lambda: "refused: DTLS failed" in caplog.text)
                    eventually(lambda: server.demultiplexer.peers == 0)
            finally:
                process.kill()
        with client(deployment, port) as one:
            assert one.send_request(1) == 1


def test_a_client_that_asks_nothing_at_first(deployment: Deployment) -> None:
    """Once its handshake is complete the idle limit counts, as on TCP."""
    limits = {"handshake_timeout": 1.0, "idle_timeout": 30.0}
    server = UDPServer(ADDRESS, echo, deployment.server_security(limits=limits))
    with running(server) as port, client(deployment, port) as one:
        one.connect()
        passed(1.3)
        assert one.send_request(1, wait=2) == 1


def test_a_cookie_that_was_seen_ends_no_association(deployment: Deployment) -> None:
    """A ClientHello with another's address and cookie makes nothing of what has proved itself before it has done so."""
    server = UDPServer(ADDRESS, echo, deployment.server_security(limits={"handshake_timeout": 1.0}))
    with (
        running(server) as port,
        bad_link(port, lose=0, repeat=0, hold=0) as link,
        client(deployment, link.port) as one,
    ):
        assert one.send_request(1) == 1
        with_cookie = [each for each in link.heard if client_random(each) is not None][-1]
        random = client_random(with_cookie)
        assert random is not None
        before = server.demultiplexer.peers
        for number in range(3):
            link.inject(with_cookie.replace(random, os.urandom(32)))
            assert one.send_request(number, wait=3) == number
        eventually(lambda: server.demultiplexer.peers == before)


def test_what_has_lapsed_takes_no_more_requests(deployment: Deployment) -> None:
    """However busy it is: one with a request in progress at every moment ends all the same."""
    addresses = set()

    class Slow(RequestHandler):
        def respond(self, message: Any) -> Any:
            addresses.add(self.client_address)
            threading.Event().wait(message)
            return message

    async def main(port: int) -> None:
        async with AsyncUDPClient("127.0.0.1", port, security=deployment.security("client")) as one:

            async def keep_asking(seconds: float) -> None:
                while len(addresses) < 3:
                    assert await one.send_request(seconds) == seconds

            async with asyncio.timeout(15), asyncio.TaskGroup() as group:
                for number in range(4):
                    group.create_task(keep_asking(0.1 + number * 0.03))

    security = deployment.server_security(limits={"max_connection_age": 0.3, "reload_interval": 0.05})
    with running(ThreadingUDPServer(ADDRESS, Slow, security)) as port:
        asyncio.run(main(port))


@pytest.mark.parametrize("server_class", [UDPServer, ThreadingUDPServer])
def test_a_revoked_key_takes_the_reply_with_it(tmp_path: Path, server_class: type[UDPServer]) -> None:
    ca = create_ca("CA")
    sides = [Side(tmp_path / "server", "127.0.0.1"), Side(tmp_path / "client", "client.example")]
    for side in sides:
        side.leaf(ca)
        side.trust(ca)
        side.keys("k1", "k2")
    server_side, client_side = sides
    client_side.keys("k1")

    def revoking(message: Any) -> Any:
        text = (server_side.directory / "keyring").read_bytes()
        server_side.write(keyring=text.replace(b'id = "k1"\n', b'id = "k1"\nrevoked = true\n'))
        passed(0.1)
        return message

    security = server_side.security(peers=["dns:client.example"])
    with (
        running(server_class(ADDRESS, revoking, security)) as port,
        SynchronousUDPClient("127.0.0.1", port, 5, 5, security=client_side.security()) as one,
        pytest.raises(ConnectionClosed) as ended,
    ):
        one.send_request(1)
    assert ended.value.code == 3


def test_a_handler_that_gives_no_reply(deployment: Deployment) -> None:
    class Silent(RequestHandler):
        def handle(self) -> None:
            recv_msg(self.request)

    with running(UDPServer(ADDRESS, Silent, deployment.server_security())) as port, client(deployment, port) as one:
        for _ in range(2):
            with pytest.raises(RemoteError, match="no reply") as failed:
                one.send_request(1)
            assert failed.value.code == 19


def test_shutdown_by_a_handler(deployment: Deployment) -> None:
    def respond(message: Any) -> Any:
        server.shutdown()
        return message

    server = ThreadingUDPServer(ADDRESS, respond, deployment.server_security())
    with running(server) as port, client(deployment, port) as one:
        start = monotonic()
        assert one.send_request(1) == 1
        assert monotonic() - start < 4  # less than drain_timeout


@pytest.mark.parametrize("step", [0.0, 30.0, -30.0, 3600.0])
def test_the_clock_is_set_while_a_datagram_waits(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may count as younger than it is, which does no harm, but never as older."""
    before, came, now, offset = 1000.0, 50.0, 52.0, 1000.0 + step
    stamp = (socket.SOL_SOCKET, 35, struct.pack("@ll", int(came + before), 0))
    monkeypatch.setattr("sealwire.dtls.server.monotonic", lambda: now)
    monkeypatch.setattr("sealwire.dtls.server.time", lambda: now + offset)
    assert arrival_time([stamp], before) == (now if step < 0 else came)
    assert arrival_time([], before) == now


def test_threads_switch_quickly_while_several_peers_are_active(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as the program has set it before and after that."""
    monkeypatch.setattr(sealwire.contention, "CONTENDED", 1000.0)
    interval = sys.getswitchinterval()
    sealwire.contention.activity.reset()
    security = deployment.security("server", peers=["dns:client.example", "dns:other.example"])
    with running(ThreadingUDPServer(ADDRESS, echo, security)) as port, ExitStack() as stack:
        clients = [stack.enter_context(client(deployment, port, role=role)) for role in ("client", "other client")]
        for each in clients * 2:
            assert each.send_request("one") == "one"
        assert sys.getswitchinterval() < interval / 10
    assert sys.getswitchinterval() == interval
    sealwire.contention.activity.reset()
