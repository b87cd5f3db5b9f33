"""A PING on connections without requests, for every client of a stream that asks for it.

The reference server ends the test if a PING comes while another one is unanswered.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from conformance.combinations import LOOP, asynchronous, synchronous
from pool.ways import Tasks, Threads
from reference.actions import answer, do, nothing, silent
from reference.protocol import PING
from sealwire import AsyncTCPClient, ConfigurationError, SynchronousTCPClient
from sealwire.sync.keep_alive import KeepAlive
from support.interruption import signalled
from support.service import Deployment, eventually

pytestmark = pytest.mark.usefixtures("clients_loop", "clean")


@pytest.fixture(scope="session")
def clients_loop() -> None:
    LOOP.start()


def pool(way: Any) -> Any:
    """With one place, so that a request waits for a PING, as with other clients, and does not open a connection."""
    return lambda address, security, **options: way([("localhost", address[1])], security=security, size=1, **options)


WAYS = {
    "SynchronousTCPClient": synchronous("SynchronousTCPClient"),
    "AsyncTCPClient": asynchronous("AsyncTCPClient"),
    "ClientPool": pool(Threads),
    "AsyncClientPool": pool(Tasks),
}


@pytest.fixture(params=WAYS)
def make(request: pytest.FixtureRequest, deployment: Deployment, clean: None) -> Iterator[Any]:
    with ExitStack() as stack:

        def made(port: int, **options: Any) -> Any:
            security = deployment.security("client", raw=True)
            client = WAYS[request.param](("localhost", port), security, timeout=10, wait=10, **options)
            stack.callback(client.close)
            return client

        yield made


def is_unconnected(client: SynchronousTCPClient) -> bool:
    return client.peer is None


def pings(server: Any, connection: int = 0) -> int:
    return sum(each.kind == PING and each.connection == connection for each in list(server.received))


def test_when_nothing_else_is_sent(deployment: Deployment, make: Any) -> None:
    with deployment.ref_server() as server:
        client = make(server.port, keepalive=0.05)
        assert client.request(b"1") == b"1"
        eventually(lambda: pings(server) >= 3, timeout=10)
        assert client.request(b"2") == b"2"
        eventually(lambda: pings(server) >= 5, timeout=10)
        assert len(server.connections) == 1
        client.close()


def test_not_unless_asked_for(deployment: Deployment, make: Any) -> None:
    over = threading.Event()
    with deployment.ref_server({1: do(answer(), silent(0.3), lambda *_: over.set())}) as server:
        client = make(server.port)
        assert client.request(b"1") == b"1"
        assert over.wait(10)
        assert client.request(b"2") == b"2"
        client.close()


def test_a_connection_without_an_answer_is_replaced(deployment: Deployment, make: Any) -> None:
    with deployment.ref_server({"ping": nothing}) as server:
        client = make(server.port, keepalive=0.05)
        assert client.request(b"1") == b"1"
        eventually(lambda: pings(server) == 1, timeout=10)
        eventually(lambda: client.request(b"2") == b"2" and len(server.connections) == 2, timeout=10)
        eventually(lambda: pings(server, 1) >= 1, timeout=10)
        client.close()


def test_it_never_meets_a_request(deployment: Deployment, make: Any) -> None:
    """With one PING after another, each reply is that of its request."""
    with deployment.ref_server() as server:
        client = make(server.port, keepalive=0.001)
        for number in range(300):
            message = str(number).encode()
            assert client.request(message) == message
        client.close()


def test_several_at_a_time_take_turns(deployment: Deployment) -> None:
    async def main(port: int) -> list[float]:
        async with AsyncTCPClient("localhost", port, security=deployment.security("client", raw=True)) as client:
            return await asyncio.gather(*(client.ping() for _ in range(5)))

    with deployment.ref_server() as server:
        assert all(0 < seconds < 10 for seconds in asyncio.run(main(server.port)))
        assert pings(server) == 5


def test_the_thread_ends_with_a_client_that_is_forgotten(deployment: Deployment) -> None:
    """The fixture finds no thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of other tests
        gc.collect()
    with deployment.ref_server() as server:
        client = SynchronousTCPClient(
            "localhost", server.port, security=deployment.security("client", raw=True), keepalive=0.05
        )
        assert client.send_request(b"1") == b"1"
    eventually(partial(is_unconnected, client))  # it has noticed the end, so that nothing is left to warn about
    del client
    gc.collect()


class Pinged:
    """A client that has nothing to ping."""

    def __init__(self) -> None:
        self.looks = 0

    def ping_idle(self, _seconds: float) -> None:
        self.looks += 1


def test_the_thread_goes_on_without_a_connection_and_after_a_close() -> None:
    """A request may have opened one at this very moment."""
    client = Pinged()
    keep_alive = KeepAlive(client, 0.001)
    for _ in range(50):
        keep_alive.start()
        client.looks = 0
        eventually(lambda: client.looks >= 2, timeout=10)
        keep_alive.stop()


def test_a_signal_handler_stops_it_while_it_is_being_stopped() -> None:
    """As when the handler closes the client. An Event has a lock, for which the handler would wait for ever."""

    def stop_and_stop() -> None:
        number, was = 0, True
        while was:
            number += 1
            keep_alive = KeepAlive(Pinged(), 100)
            keep_alive.start()
            was = signalled(number, keep_alive.stop, keep_alive.stop)

    thread = threading.Thread(target=stop_and_stop, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_without_threads_the_next_request_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Pinged()
    keep_alive = KeepAlive(client, 0.001)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        keep_alive.start()
    keep_alive.start()
    eventually(lambda: client.looks >= 2)
    keep_alive.stop()


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("keepalive", [0, -1, True, "60", float("nan")])
def test_what_is_not_a_time(deployment: Deployment, make: Any, keepalive: Any) -> None:
    with pytest.raises(ConfigurationError, match="keepalive"):
        make(7443, keepalive=keepalive)
