"""The ends of streams at synchronous clients and pools: closed, dropped or interrupted by anything, at any time."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sealwire import (
    ClientPool,
    ConnectionClosed,
    DeadlineExceeded,
    InvalidState,
    Limits,
    PartStream,
    SynchronousTCPClient,
    TCPServer,
    ThreadingTCPServer,
)
from support.constants import QUICK
from support.interruption import interrupted
from support.service import Deployment, running

pytestmark = pytest.mark.usefixtures("clean")

ADDRESS = ("127.0.0.1", 0)
Client = SynchronousTCPClient | ClientPool


class Service:
    """Its streams of a negative number wait after that number of parts until ``go_on`` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, message: Any) -> Any:
        if hasattr(message, "__next__"):
            return list(message)
        return self.stream(message) if isinstance(message, int) else message

    def stream(self, count: int) -> Iterator[int]:
        yield from range(abs(count))
        if count < 0:
            self.go_on.wait(20)


def single(deployment: Deployment, port: int) -> Client:
    return deployment.client(port)


def pool(deployment: Deployment, port: int) -> Client:
    security = deployment.security("client", limits=Limits(**QUICK))
    return ClientPool([f"localhost:{port}"], size=1, timeout=5, wait=5, security=security)


@pytest.fixture(params=[single, pool])
def client(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[Client]:
    service = Service()
    with (
        running(ThreadingTCPServer(ADDRESS, service, deployment.server_security())) as port,
        request.param(deployment, port) as made,
    ):
        yield made
        service.go_on.set()


def loops(client: Client) -> int:
    return len(client._shared.loops if isinstance(client, ClientPool) else client._loops)


def take_one(stream: PartStream, raised: list[BaseException]) -> None:
    try:
        next(stream)
    except BaseException as error:
        raised.append(error)


def test_garbage_that_another_thread_collects(client: Client) -> None:
    """Also a pool with one connection has a place for the next call."""
    for _ in range(3):
        kept = [client.stream(10**6)]
        next(kept[0])
        thread = threading.Thread(target=kept.clear)
        thread.start()
        thread.join()
        gc.collect()
        assert loops(client) == 0
        assert client.send_request("x") == "x"


@pytest.mark.parametrize("what", ["stream", "client"])
def test_closed_while_another_thread_waits_for_a_part(client: Client, what: str) -> None:
    stream = client.stream(-2)
    assert [next(stream), next(stream)] == [0, 1]
    raised: list[BaseException] = []
    thread = threading.Thread(target=take_one, args=[stream, raised])
    thread.start()
    while stream._download.in_order:  # it does not wait yet
        threading.Event().wait(0.001)
    (stream if what == "stream" else client).close()
    thread.join(10)
    assert [type(error) for error in raised] == [ConnectionClosed]
    assert "closed by this side" in str(raised[0])
    assert list(stream) == []
    assert client.send_request("x") == "x"


@pytest.mark.parametrize("what", ["stream", "client"])
def test_closed_while_another_thread_takes_parts(client: Client, what: str) -> None:
    for pause in range(20):
        stream = client.stream(10**6)
        next(stream)
        raised: list[BaseException | None] = []

        def take(stream: Any = stream, raised: list[Any] = raised) -> None:
            try:
                for _ in stream:
                    pass
                raised.append(None)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=take)
        thread.start()
        threading.Event().wait(pause * 0.0005)
        (stream if what == "stream" else client).close()
        thread.join(10)
        # Closed between two parts, it has ended; while one is awaited, that is missing.
        assert raised[0] is None or type(raised[0]) is ConnectionClosed
    assert client.send_request("x") == "x"


def test_two_threads_at_a_time(client: Client) -> None:
    stream = client.stream(-1)
    assert next(stream) == 0
    raised: list[BaseException] = []
    thread = threading.Thread(target=take_one, args=[stream, raised])
    thread.start()
    while stream._download.in_order:
        threading.Event().wait(0.001)
    with pytest.raises(InvalidState, match="another thread"):
        next(stream)
    stream.close()
    thread.join(10)
    assert [type(error) for error in raised] == [ConnectionClosed]


def test_a_signal_handler_that_closes_it(client: Client) -> None:
    stream = client.stream(-1)
    assert next(stream) == 0
    before = signal.signal(signal.SIGALRM, lambda *_: stream.close())
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(ConnectionClosed, match="closed by this side"):
            next(stream)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert list(stream) == []
    assert client.send_request("x") == "x"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a socket that was just being made
@pytest.mark.parametrize("what", ["whole", "left", "upload"])
def test_interrupted_at_any_line(client: Client, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool has its only place again, and a client is as good as new."""
    # pytest keeps what finalizers raise, with the frames and so the connections; Python only prints it.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    def call() -> None:
        if what == "upload":
            client.send_parts("abc")
        elif what == "whole":
            list(client.stream(2))
        else:
            with client.stream(10**6) as stream:
                next(stream)

    number = 1 + len(what)
    client.send_request("x")
    while interrupted(number, call):
        gc.collect()  # an error that is under way has its frame, which has the error
        assert client.send_request("x") == "x"
        number += 31
    assert number > 100
    gc.collect()


def test_in_the_body_and_in_the_iterable(deployment: Deployment) -> None:
    with (
        running(ThreadingTCPServer(ADDRESS, Service(), deployment.server_security())) as port,
        single(deployment, port) as client,
    ):

        def parts() -> Iterator[Any]:
            yield client.send_request("a")
            yield from client.stream(2)
            yield client.send_parts("b")

        assert client.send_parts(parts()) == ["a", 0, 1, ["b"]]


def test_a_server_that_serves_one_connection_at_a_time(deployment: Deployment) -> None:
    with (
        running(TCPServer(ADDRESS, Service(), deployment.server_security())) as port,
        deployment.client(port, timeout=0.5, wait=0.5) as client,
    ):
        stream = client.stream(5)
        next(stream)
        with pytest.raises(DeadlineExceeded, match="or a stream, has another connection"):
            client.send_request("x")
        stream.close()
        with pytest.raises(DeadlineExceeded, match="or a stream, has another connection"):
            client.send_parts(client.send_request("x") for _ in range(2))
        assert list(client.stream(2)) == [0, 1]


def test_what_is_answered_is_not_given_up(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sealwire.client")
    assert list(client.stream(3)) == [0, 1, 2]
    assert client.send_parts("a") == ["a"]
    assert "given up" not in caplog.text
    next(client.stream(10**6))
    gc.collect()
    assert "given up" in caplog.text
