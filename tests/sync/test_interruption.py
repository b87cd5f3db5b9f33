"""An exception that comes from outside, anywhere inside a synchronous client, leaves it usable; and calls in a signal
handler do not hang.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from types import FrameType
from typing import Any

import pytest

from sealwire import ConnectionClosed, InvalidState, TCPServer, ThreadingTCPServer
from sealwire.dtls import ThreadingUDPServer
from support import udp
from support.interruption import Interruption, interrupted
from support.service import Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clean")

EVERY = 6
"""Only each sixth line is interrupted, from another one on in each test: each costs a connection."""


class Held:
    """A handler that holds "hold" until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.entered = threading.Event()

    def __call__(self, message: Any) -> Any:
        if message == "hold":
            self.entered.set()
            self.go_on.wait(20)
        return message


@pytest.fixture
def handler() -> Held:
    return Held()


@pytest.fixture(params=["tcp", "udp"])
def client(request: pytest.FixtureRequest, deployment: Deployment, handler: Held) -> Iterator[Any]:
    security = deployment.server_security()
    if request.param == "tcp":
        with running(ThreadingTCPServer(("127.0.0.1", 0), handler, security)) as port:
            with deployment.client(port, wait=20) as client:
                yield client
            handler.go_on.set()
    else:
        with udp.running(ThreadingUDPServer(("127.0.0.1", 0), handler, security)) as port:
            with udp.client(deployment, port, wait=20) as client:
                yield client
            handler.go_on.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a socket that was just being made
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # likewise
@pytest.mark.parametrize("what", ["request", "new connection", "loop"])
def test_at_any_line(client: Any, what: str) -> None:
    def call() -> None:
        if what == "new connection":
            client.close()
        if what == "loop":
            list(client.send_requests(iter("abc")))
        else:
            client.send_request("x")

    if what == "loop" and not hasattr(client, "send_requests"):
        return
    client.connect()
    every = 5 * EVERY if what == "new connection" else EVERY
    number = 1 + len(what) % EVERY
    while interrupted(number, call):
        start = monotonic()
        assert client.send_request(number) == number
        assert monotonic() - start < 10  # it did not wait for anything
        number += every
    assert number > 100
    gc.collect()  # what the interruptions have left, before another test counts


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a socket that was just being made
def test_at_any_line_of_a_call_in_the_body_of_a_loop(deployment: Deployment) -> None:
    """The call borrows the loop's connection, which has requests in flight; the loop goes on, or says that it ended."""
    with running(TCPServer(("127.0.0.1", 0), Held(), deployment.server_security())) as port:
        number, ended, went_on = 1, 0, 0
        was = True
        while was:
            with deployment.client(port, wait=20) as client:
                client._only_one = True
                replies = client.send_requests([1, 2, 3])
                assert next(replies) == 1
                was = interrupted(number, lambda client=client: client.send_request("x"))
                try:
                    assert list(replies) == [2, 3]
                    went_on += 1
                except (ConnectionClosed, InvalidState):
                    ended += 1
                assert client.send_request(number) == number
            number += EVERY
        assert number > 100
        assert ended
        assert went_on
    gc.collect()


@pytest.fixture
def in_signal_handler() -> Iterator[Callable[[Held, Callable[[], None]], None]]:
    """Calls a function in a signal handler, as soon as a request is held."""
    before = signal.getsignal(signal.SIGUSR1)
    threads = []

    def arrange(handler: Held, action: Callable[[], None]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: action())

        def interrupt() -> None:
            assert handler.entered.wait(20)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        threads.append(threading.Thread(target=interrupt))
        threads[-1].start()

    yield arrange
    for thread in threads:
        thread.join(20)
    signal.signal(signal.SIGUSR1, before)


def test_close_in_a_signal_handler(client: Any, handler: Held, in_signal_handler: Any) -> None:
    in_signal_handler(handler, client.close)
    start = monotonic()
    with pytest.raises(ConnectionClosed, match="closed by this side"):
        client.send_request("hold", idempotent=True)
    assert monotonic() - start < 10
    assert client.send_request("x") == "x"


def test_a_request_in_a_signal_handler(client: Any, handler: Held, in_signal_handler: Any) -> None:
    """It is refused at once, and the one that it has interrupted goes on."""
    seen: list[Any] = []

    def ask() -> None:
        with pytest.raises(InvalidState, match="in the middle of another call"):
            client.send_request("x")
        seen.append(1)
        handler.go_on.set()

    in_signal_handler(handler, ask)
    assert client.send_request("hold") == "hold"
    assert seen == [1]


def test_an_exception_of_a_signal_handler(client: Any, handler: Held, in_signal_handler: Any) -> None:
    def stop() -> None:
        raise Interruption

    in_signal_handler(handler, stop)
    with pytest.raises(Interruption):
        client.send_request("hold")
    assert client.send_request("x") == "x"


def test_close_in_another_thread_has_a_bound(client: Any, handler: Held) -> None:
    assert client.send_request("x") == "x"  # connected, in any time
    client.timeout = client.wait = 0.1
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            client.send_request("hold", wait=30)
        except ConnectionClosed as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert handler.entered.wait(20)
    client.close()
    thread.join(20)
    assert len(failed) == 1
    handler.go_on.set()
    client.timeout = client.wait = 10.0
    eventually(lambda: client.send_request("x") == "x")


def test_nothing_of_the_package_runs_inside_openssl(deployment: Deployment) -> None:
    """An exception that a signal handler raises in a callback would be lost, and the handshake would fail instead."""
    inside = []

    def trace(frame: FrameType, event: str, _: Any) -> None:
        before = frame.f_back
        if before is not None and "/OpenSSL/" in before.f_code.co_filename and "/sealwire/" in frame.f_code.co_filename:
            inside.append(frame.f_code.co_qualname)

    with (
        udp.running(ThreadingUDPServer(("127.0.0.1", 0), Held(), deployment.server_security())) as port,
        udp.client(deployment, port, wait=20) as client,
    ):
        sys.settrace(trace)
        try:
            assert client.send_request("x") == "x"
        finally:
            sys.settrace(None)
    assert not inside
