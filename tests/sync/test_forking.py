"""Children of the forking server: shared and inherited state, and how they end. See also test_server."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from reference.peer import Closed
from sealwire import ForkingTCPServer, ForkingUnixStreamServer, RemoteError
from sealwire.admission import GRACE
from sealwire.wire.frames import FaultCode
from support.events import logged
from support.service import ChildServer, Deployment, children, eventually, sockets, zombies

pytestmark = pytest.mark.usefixtures("clean")

Start = Callable[..., ChildServer]


@pytest.fixture
def start(deployment: Deployment, tmp_path: Path) -> Start:
    return lambda **options: ChildServer(deployment, tmp_path, **options)


def test_what_a_child_holds(deployment: Deployment, start: Start) -> None:
    """Its own connection and the receiving end of the drain signal, but no listening socket and no other connection."""
    with start() as server, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(server.port)) for _ in range(4)]
        of_children = [sockets(int(client.request(b"pid")[1])) for client in clients]
        of_parent = sockets(server.pid)
        assert len(of_parent) == 3
        assert [len(each & of_parent) for each in of_children] == [1] * 4
        assert [len(each - of_parent) for each in of_children] == [1] * 4
        assert len(set[str]().union(*of_children)) == 4 + 1


def test_nonces_differ(deployment: Deployment, start: Start) -> None:
    """Children start with the same memory, and still send different WELCOMEs."""
    with start() as server, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(server.port, until="hello")) for _ in range(6)]
        assert len({client.read_welcome().payload[1:33] for client in clients}) == 6


def test_no_zombies_after_a_burst(deployment: Deployment, start: Start) -> None:
    with start() as server:
        with ExitStack() as stack:
            clients = [stack.enter_context(deployment.ref_client(server.port)) for _ in range(20)]
            assert len({client.request(b"pid")[1] for client in clients}) == 20
        eventually(lambda: not children(server.pid))
        assert zombies(server.pid) == []


def test_without_its_parent(deployment: Deployment, start: Start) -> None:
    """A child finishes the requests in progress, and exits."""
    with start() as server, ExitStack() as stack:
        busy, idle = (stack.enter_context(deployment.ref_client(server.port)) for _ in range(2))
        idle.request(b"x")
        number = busy.send_message(b"hold")
        eventually(lambda: "hold" in server.seen())
        pids = children(server.pid)
        server.kill()
        assert idle.expect_end().code == 2
        server.release()
        assert busy.receive(number).payload == b"HOLD"
        with pytest.raises(Closed) as closed:
            busy.receive(number + 1)
        assert (closed.value.frame.code, closed.value.frame.last) == (2, number)
        stack.close()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_child_cannot_stop_the_server(deployment: Deployment, start: Start) -> None:
    """It gets an error instead of waiting for ever for the loop of its parent."""
    with start() as server:
        with deployment.client(server.port, raw=True) as client, pytest.raises(RemoteError) as fault:
            client.send_request(b"stop")
        assert fault.value.code == FaultCode.HANDLER_FAILED
        with deployment.client(server.port, raw=True) as client:
            assert client.send_request(b"x") == b"X"
        assert "InvalidState" in server.log.read_text()


def test_what_a_handler_prints(deployment: Deployment, start: Start) -> None:
    """Buffered output is written once, when the child exits."""
    with start() as server:
        for _ in range(2):
            with deployment.client(server.port, raw=True) as client:
                assert client.send_request(b"print") == b"PRINT"
        eventually(lambda: not children(server.pid))
        server.interrupt()
        assert server.process.wait(20) == 0
        assert server.process.stdout.read() == "printed\n" * 2


def test_interrupted_while_it_forks(deployment: Deployment, start: Start) -> None:
    """The child that was just forked is not forgotten, and does not run its parent's signal handler."""
    with start(interrupted_at_fork=True) as server, deployment.ref_client(server.port, until="tls") as client:
        client.send_hello()
        server.process.wait(20)


def test_forks_beside_a_busy_thread(deployment: Deployment, start: Start) -> None:
    """The thread holds a lock during the fork, and does not exist in the child to release it."""
    with start(mode="thread", contended=True) as server:
        for _ in range(12):
            with deployment.client(server.port, raw=True) as client:
                assert client.send_request(b"x") == b"X"


class Silent:
    """A forking server in this process, and connections to it that send nothing.

    Attributes:
        forks: the number of its forks.
    """

    def __init__(self, deployment: Deployment, directory: Path, monkeypatch: pytest.MonkeyPatch, carrier: str) -> None:
        self.deployment = deployment
        self.path = str(directory / "socket")
        self.monkeypatch = monkeypatch
        self.carrier = carrier
        self.forks = 0

    @contextmanager
    def serving(self, method: str = "serve_forever", proxies: list[str] | None = None, **limits: Any) -> Iterator[None]:
        fork = os.fork

        def counted() -> int:
            self.forks += 1
            return fork()

        self.monkeypatch.setattr(os, "fork", counted)
        kind, address, options = (
            (ForkingTCPServer, ("127.0.0.1", 0), {"proxy_protocol": proxies})
            if self.carrier == "TCP"
            else (ForkingUnixStreamServer, self.path, {"peers": [f"uid:{os.getuid()}"], "service": "orders"})
        )
        security = self.deployment.server_security(raw=True, limits={"handshake_timeout": 60.0} | limits, **options)
        with kind(address, lambda message: message.upper(), security) as self.server:
            self.thread = threading.Thread(target=getattr(self.server, method))
            self.thread.start()
            try:
                yield
            finally:
                self.server.shutdown()
                self.thread.join(20)

    def connection(self) -> socket.socket:
        made = socket.socket(socket.AF_INET if self.carrier == "TCP" else socket.AF_UNIX)
        made.settimeout(20)
        made.connect(self.server.server_address)
        return made

    def pending(self) -> int:
        return len(self.server._admission.unauthenticated())


@pytest.fixture(params=["TCP", "Unix"])
def silent(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Silent:
    return Silent(deployment, tmp_path, monkeypatch, request.param)


class TestSilentConnections:
    """A connection costs a fork only when its client has sent something."""

    def test_one_that_speaks_in_the_end(self, silent: Silent) -> None:
        with silent.serving(), silent.connection() as first, silent.connection(), silent.connection():
            eventually(lambda: silent.pending() == 3)
            assert silent.forks == 0
            first.sendall(b"what is this?")
            first.shutdown(socket.SHUT_WR)
            while first.recv(1000):
                pass
            eventually(lambda: silent.pending() == 2)
            assert silent.forks == 1

    def test_one_behind_a_proxy(self, silent: Silent, caplog: pytest.LogCaptureFixture) -> None:
        """The proxy speaks at once, whether or not its client does: the header is read, and costs no fork."""
        if silent.carrier == "Unix":
            pytest.skip("a Unix socket has no proxies")
        line = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
        with silent.serving(proxies=["127.0.0.1"]), silent.connection() as first, silent.connection() as second:
            first.sendall(line)
            second.sendall(line[:30])
            eventually(lambda: [slot.source for slot in silent.server._admission.slots()] == ["203.0.113.7", None])
            with silent.connection() as third:
                third.sendall(b"what is this?")
                assert third.recv(1) == b""
            eventually(lambda: "no PROXY header" in caplog.text)
            assert silent.forks == 0
            second.sendall(line[30:] + b"what is this?")
            second.shutdown(socket.SHUT_WR)
            while second.recv(1000):
                pass
            eventually(lambda: silent.pending() == 1)
            assert silent.forks == 1

    def test_one_that_goes(self, silent: Silent, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG", "sealwire.server")
        with silent.serving(), silent.connection() as first, silent.connection():
            eventually(lambda: silent.pending() == 2)
            first.close()
            eventually(lambda: "before its first byte" in caplog.text)
            eventually(lambda: silent.pending() == 1)
            assert silent.forks == 0

    def test_one_that_is_reset(self, silent: Silent, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG", "sealwire.server")
        with silent.serving(), silent.connection() as first:
            eventually(silent.pending)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            first.close()
            eventually(lambda: not silent.pending())
            assert silent.forks == 0
            assert silent.carrier == "Unix" or "before its first byte" in caplog.text

    def test_no_more_processes(self, silent: Silent, caplog: pytest.LogCaptureFixture) -> None:
        """The connection ends, with a line in the log, and the next one is served if there are some again."""
        with silent.serving(), silent.connection() as first, silent.connection() as second:
            eventually(lambda: silent.pending() == 2)
            with silent.monkeypatch.context() as patched:
                patched.setattr(os, "fork", lambda: os.kill(-1 << 30, 0))  # an OSError of the system's own
                first.sendall(b"what is this?")
                eventually(lambda: "not served" in caplog.text)
                eventually(lambda: silent.pending() == 1)
            second.sendall(b"what is this?")
            second.shutdown(socket.SHUT_WR)
            eventually(lambda: silent.pending() == 0)
        assert silent.forks == 1

    def test_those_that_are_over_their_time(self, silent: Silent, caplog: pytest.LogCaptureFixture) -> None:
        with silent.serving(handshake_timeout=0.05), silent.connection() as first, silent.connection() as second:
            assert first.recv(1) == second.recv(1) == b""
            eventually(lambda: silent.pending() == 0)
        assert silent.forks == 0
        assert sum("in time" in record.getMessage() for record in logged(caplog)) == 2

    def test_those_that_make_room(self, silent: Silent, caplog: pytest.LogCaptureFixture) -> None:
        with silent.serving(max_handshakes=2), ExitStack() as stack:
            first, *_ = [stack.enter_context(silent.connection()) for _ in range(3)]
            assert first.recv(1) == b""
            eventually(lambda: "evicted" in caplog.text)
        assert silent.forks == 0

    def test_those_that_are_there_at_the_end(self, silent: Silent) -> None:
        with silent.serving(drain_timeout=GRACE * 10), silent.connection() as one:
            eventually(silent.pending)
            silent.server.shutdown()
            assert one.recv(1) == b""
        assert silent.forks == 0

    def test_one_request(self, silent: Silent) -> None:
        """``handle_request`` returns at the end of its connection, which is silent for a while."""
        with silent.serving("handle_request"), silent.connection() as one:
            eventually(silent.pending)
            one.sendall(b"what is this?")
            one.shutdown(socket.SHUT_WR)
            silent.thread.join(20)
            assert not silent.thread.is_alive()
        assert silent.forks == 1
