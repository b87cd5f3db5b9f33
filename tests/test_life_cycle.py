"""Stopping and closing every server: from anywhere, in any order, and without anything to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sealwire
from sealwire import InvalidState, Limits, dtls
from support.service import QUICK, Deployment, eventually

# Forking beside threads is the point.
pytestmark = [pytest.mark.usefixtures("clean"), pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")]

THREADED = ["TCPServer", "ThreadingTCPServer", "UnixStreamServer", "ThreadingUnixStreamServer"]
FORKING = ["ForkingTCPServer", "ForkingUnixStreamServer"]
UDP = ["UDPServer", "ThreadingUDPServer"]
SYNCHRONOUS = [*THREADED, *FORKING, "PreforkTCPServer", *UDP]
ASYNCIO = ["AsyncTCPServer", "AsyncUnixServer"]

Make = Callable[..., Any]


@pytest.fixture
def make(deployment: Deployment, tmp_path: Path) -> Make:
    def make(name: str, handler: Any = lambda message: message) -> Any:
        options: dict[str, Any] = {"workers": 1} if name == "PreforkTCPServer" else {}
        address = str(tmp_path / "socket") if "Unix" in name else ("127.0.0.1", 0)
        server_class = getattr(dtls if "UDP" in name else sealwire, name)
        return server_class(address, handler, security(deployment, "server"), **options)

    return make


def security(deployment: Deployment, role: str) -> Any:
    peers = [f"uid:{os.getuid()}", "dns:client.example" if role == "server" else "dns:localhost"]
    return deployment.security(role, peers=peers, service="orders", limits=Limits(**QUICK, reload_interval=0.05))


def client(deployment: Deployment, server: Any) -> Any:
    if isinstance(server.server_address, str):
        return sealwire.SynchronousUnixClient(server.server_address, 5, 5, security=security(deployment, "client"))
    kind = dtls.SynchronousUDPClient if isinstance(server, dtls.UDPServer) else sealwire.SynchronousTCPClient
    return kind("localhost", server.server_address[1], 5, 5, security=security(deployment, "client"))


@contextmanager
def in_thread(function: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run a function in a thread, which must have returned at the end of the block."""
    thread = threading.Thread(target=function, name="in_thread", daemon=True)
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive()


@contextmanager
def alarm(function: Callable[[], object]) -> Iterator[None]:
    """Call a function in a signal handler of this thread, soon."""
    before = signal.signal(signal.SIGALRM, lambda *_: function())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_shutdown_without_serving(make: Make, name: str) -> None:
    """It returns, twice, and so does the serve_forever that comes too late."""
    with make(name) as server:
        server.shutdown()
        server.shutdown()
        server.serve_forever()
    with pytest.raises(InvalidState, match="closed; make a new one"):
        server.serve_forever()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ASYNCIO)
def test_shutdown_without_serving_on_asyncio(make: Make, name: str) -> None:
    async def stop_first() -> None:
        server = make(name)
        await server.shutdown()
        await server.shutdown()
        await server.serve_forever()
        with pytest.raises(InvalidState, match="closed; make a new one"):
            await server.__aenter__()

    asyncio.run(stop_first())


@pytest.mark.parametrize("method", ["shutdown", "server_close"])
@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_signal_handler_of_the_serving_thread(make: Make, name: str, method: str) -> None:
    server = make(name)
    with alarm(getattr(server, method)):
        server.serve_forever()
    if method == "server_close":
        assert server.socket.fileno() == -1
    server.server_close()


@pytest.mark.parametrize("method", ["start_shutdown", "server_close"])
@pytest.mark.parametrize("name", ASYNCIO)
def test_signal_handler_of_the_loops_thread(make: Make, name: str, method: str) -> None:
    server = make(name)
    with alarm(getattr(server, method)):
        asyncio.run(server.serve_forever())
    assert server.socket.fileno() == -1


@pytest.mark.parametrize("name", [*THREADED, *FORKING, *UDP])
def test_server_close_while_serving(deployment: Deployment, make: Make, name: str) -> None:
    server = make(name)
    with in_thread(server.serve_forever):
        with client(deployment, server) as one:
            assert one.send_request(1) == 1
        server.server_close()
        assert server.socket.fileno() == -1


@pytest.mark.parametrize("method", ["shutdown", "server_close"])
@pytest.mark.parametrize("name", [*THREADED, *UDP])
def test_handler_that_stops_its_server(deployment: Deployment, make: Make, name: str, method: str) -> None:
    """It does not wait for itself: the reply to its request still goes out."""

    def stop(message: Any) -> Any:
        getattr(server, method)()
        return message

    server = make(name, stop)
    with in_thread(server.serve_forever), client(deployment, server) as one:
        assert one.send_request(1) == 1
    server.server_close()


@pytest.mark.parametrize("name", [*THREADED, *FORKING])
def test_shutdown_ends_handle_request(make: Make, name: str) -> None:
    with make(name) as server, in_thread(server.handle_request):
        eventually(lambda: server._life._thread is not None)
        server.shutdown()


@pytest.mark.parametrize("name", [*THREADED, *UDP])
def test_one_loop_at_a_time(make: Make, name: str) -> None:
    with make(name) as server, in_thread(server.serve_forever):
        eventually(lambda: server._life._thread is not None)
        with pytest.raises(InvalidState, match="serves already"):
            server.serve_forever()
        server.shutdown()


def test_server_that_does_not_listen(deployment: Deployment) -> None:
    with (
        sealwire.TCPServer(("127.0.0.1", 0), len, security(deployment, "server"), bind_and_activate=False) as server,
        pytest.raises(InvalidState, match="does not listen"),
    ):
        server.serve_forever()


def test_listening_socket_closed_from_outside(make: Make) -> None:
    """It ends the loop, instead of spinning on a descriptor that may be another's by now."""
    with make("ThreadingTCPServer") as server, in_thread(lambda: server.serve_forever(0.01)):
        eventually(lambda: server._life._thread is not None)
        server.socket.close()


def test_listening_socket_closed_from_outside_on_asyncio(deployment: Deployment, make: Make) -> None:
    async def main() -> None:
        async with make("AsyncTCPServer") as server:
            with client(deployment, server) as one:
                assert await asyncio.to_thread(one.send_request, 1) == 1
            server.socket.close()
            with pytest.raises(OSError, match="was closed"):
                await server.serve_forever()

    asyncio.run(main())


def test_another_loop_cannot_wait(make: Make) -> None:
    async def main() -> None:
        async with make("AsyncTCPServer") as server:
            with pytest.raises(InvalidState, match="another event loop"):
                await asyncio.to_thread(asyncio.run, server.shutdown())

    asyncio.run(main())
