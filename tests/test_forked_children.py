"""Processes that a program forks beside its servers: they hold none of its sockets, and send nothing on them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sealwire
from sealwire import Limits, RequestHandler, dtls
from support.aio import serving as serving_on_a_loop
from support.service import QUICK, Deployment

# Forking beside threads is the point.
pytestmark = [pytest.mark.usefixtures("clean"), pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")]

THREADED = ["TCPServer", "ThreadingTCPServer", "UnixStreamServer", "ThreadingUnixStreamServer"]
UDP = ["UDPServer", "ThreadingUDPServer"]
ASYNCIO = ["AsyncTCPServer", "AsyncUnixServer"]


def security(deployment: Deployment, role: str) -> Any:
    peers = [f"uid:{os.getuid()}", "dns:client.example" if role == "server" else "dns:localhost"]
    return deployment.security(role, peers=peers, service="orders", limits=Limits(**QUICK))


def make(deployment: Deployment, path: Path, name: str, handler: Any, **options: Any) -> Any:
    address = str(path / "socket") if "Unix" in name else ("127.0.0.1", 0)
    return getattr(dtls if "UDP" in name else sealwire, name)(
        address, handler, security(deployment, "server"), **options
    )


@contextmanager
def served(deployment: Deployment, path: Path, name: str, handler: Any) -> Iterator[Any]:
    """A server that serves in a thread."""
    if name.startswith("Async"):
        with serving_on_a_loop(lambda: make(deployment, path, name, handler)) as one:
            yield one.server
        return
    with make(deployment, path, name, handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01], name="served")
        thread.start()
        yield server
        server.shutdown()
        thread.join(20)
        assert not thread.is_alive()


def client(deployment: Deployment, server: Any) -> Any:
    if isinstance(server.server_address, str):
        return sealwire.SynchronousUnixClient(server.server_address, 20, 20, security=security(deployment, "client"))
    kind = dtls.SynchronousUDPClient if isinstance(server, dtls.UDPServer) else sealwire.SynchronousTCPClient
    return kind("localhost", server.server_address[1], 20, 20, security=security(deployment, "client"))


def in_child(function: Callable[[], object]) -> str:
    """Run a function in a forked process; return its result as text, or the error."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            result = repr(function())
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, result.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as file:
        result = file.read()
    os.waitpid(pid, 0)
    return result


def sockets() -> set[int]:
    """The inodes of the sockets that this process has."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        link = os.readlink(f"/proc/self/fd/{name}") if os.path.lexists(f"/proc/self/fd/{name}") else ""
        if link.startswith("socket:["):
            found.add(int(link[8:-1]))
    return found


@pytest.mark.parametrize("name", [*THREADED, *UDP, *ASYNCIO])
def test_helper_of_a_handler_holds_no_socket(deployment: Deployment, tmp_path: Path, name: str) -> None:
    """It outlives the server, which a successor may follow on the same port."""
    seen: list[str] = []

    def respond(message: Any) -> Any:
        held = sockets()
        seen.append(in_child(lambda: sorted(sockets() & held)))
        return message

    with served(deployment, tmp_path, name, respond) as server, client(deployment, server) as one:
        own = os.fstat(one._channel.fileno()).st_ino if one._channel else 0
        assert one.send_request(1) == 1
        listening = os.fstat(server.socket.fileno()).st_ino
        assert one.send_request(2) == 2
    assert own == 0
    for held in seen:
        assert listening not in eval(held)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ForkingTCPServer", {}),
        ("PreforkTCPServer", {"workers": 1}),
        ("PreforkTCPServer", {"workers": 1, "loop": "asyncio"}),
    ],
)
def test_helper_of_a_handler_in_a_child(
    deployment: Deployment, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    """It does not hold the link of a worker, either, whose end tells the other side that the process has ended."""
    before = set(sockets())  # of other tests in this process
    with make(deployment, tmp_path, name, lambda _: in_child(lambda: sorted(sockets())), **options) as server:
        listening = os.fstat(server.socket.fileno()).st_ino
        pid = fork_server(server)
        with client(deployment, server) as one:
            held = eval(one.send_request(1))
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0)[1] == 0
    assert listening not in held
    assert len(set(held) - before) <= (3 if options.get("loop") else 0)  # a loop has two of its own


@pytest.mark.parametrize("name", [*THREADED, *UDP])
def test_child_that_stops_its_copy_of_a_server(deployment: Deployment, tmp_path: Path, name: str) -> None:
    """The parent serves on, on the same connection, and its file stays."""
    with served(deployment, tmp_path, name, lambda message: message) as server, client(deployment, server) as one:
        assert one.send_request(1) == 1
        connection = one._channel

        def stop() -> None:
            server.shutdown()
            server.server_close()

        assert in_child(stop) == "None"
        assert "closed; make a new one, also in a child" in in_child(server.serve_forever)
        assert one.send_request(2) == 2
        assert one._channel is connection


@pytest.mark.parametrize("name", THREADED)
def test_child_in_a_handler_sends_nothing(deployment: Deployment, tmp_path: Path, name: str) -> None:
    """It cannot answer its parent's request, nor take its next ones: the keys of the connection are the parent's."""
    told: list[str] = []

    class Handler(RequestHandler):
        def handle(self) -> None:
            while (message := sealwire.recv_msg(self.request)) is not None:
                told.append(in_child(lambda: sealwire.send_msg(self.request, b"from the child")))
                told.append(in_child(lambda: sealwire.recv_msg(self.request)))
                told.append(in_child(self.request.close))
                sealwire.send_msg(self.request, message)

    with served(deployment, tmp_path, name, Handler) as server, client(deployment, server) as one:
        assert one.send_request(1) == 1
        connection = one._channel
        assert one.send_request(2) == 2
        assert one._channel is connection
    assert len(told) == 6
    for answer in (told[:3], told[3:]):
        assert answer[0].startswith("ConnectionClosed: the connection was ended before the reply")
        assert answer[1:] == ["None", "None"]


@pytest.mark.parametrize("name", ["ThreadingTCPServer", "ThreadingUnixStreamServer"])
def test_servers_that_children_serve(deployment: Deployment, tmp_path: Path, name: str) -> None:
    """Bound in the parent and served in its children, each with a life of its own."""
    with make(deployment, tmp_path, name, lambda _: os.getpid()) as server:
        pids = [fork_server(server) for _ in range(2)]
        try:
            with client(deployment, server) as one:
                first = one.send_request(1)
                os.kill(first, signal.SIGTERM)
            assert first in pids
            assert os.waitpid(first, 0)[1] == 0
            pids.remove(first)
            assert os.path.exists(str(server.server_address)) == ("Unix" in name)
            with client(deployment, server) as one:
                assert one.send_request(1) == pids[0]
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
                assert os.waitpid(pid, 0)[1] == 0


def fork_server(server: Any) -> int:
    """Fork a process that serves until SIGTERM, and ends with 0 then."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    if (pid := os.fork()) == 0:
        status = 1
        try:
            signal.signal(signal.SIGTERM, lambda *_: server.shutdown())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            server.serve_forever(0.01)
            server.server_close()
            status = 0
        finally:
            os._exit(status)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    return pid
