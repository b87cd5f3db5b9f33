"""Many requests under way on one connection of a synchronous client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import pytest

from reference.peer import answer, close, do, drop
from sealwire import (
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    EncodeError,
    RemoteError,
    ThreadingTCPServer,
)
from support.service import Deployment, nothing_left, running

pytestmark = pytest.mark.usefixtures("clean")


class Counting:
    """A handler that counts, and the most requests that were taken from the iterator before their turn."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, message: Any) -> Any:
        if message == "fail":
            raise ValueError
        self.seen.append(message)
        return [message]


@pytest.fixture
def handler() -> Counting:
    return Counting()


@pytest.fixture
def port(deployment: Deployment, handler: Counting) -> Iterator[int]:
    with running(ThreadingTCPServer(("127.0.0.1", 0), handler, deployment.server_security())) as port:
        yield port


def test_in_order_and_each_once(deployment: Deployment, port: int, handler: Counting) -> None:
    with deployment.client(port) as client:
        assert list(client.send_requests(range(2000))) == [[number] for number in range(2000)]
        assert handler.seen == list(range(2000))
        assert client.send_request("x") == ["x"]
        assert list(client.send_requests([])) == []


@pytest.mark.parametrize("window", [1, 2, 7, 1024])
def test_at_most_so_many_are_under_way(deployment: Deployment, port: int, window: int) -> None:
    taken = 0

    def requests() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    with deployment.client(port) as client:
        for received, reply in enumerate(client.send_requests(requests(), window=window)):
            assert reply == [received]
            assert taken <= received + 1 + window


def test_much_in_both_directions(deployment: Deployment, port: int) -> None:
    """Neither side waits for the other one to read."""
    payload = b"x" * 3_000_000
    with deployment.client(port) as client:
        for reply in client.send_requests([payload] * 8, window=8, wait=60):
            assert reply == [payload]


def test_a_request_without_end(deployment: Deployment, port: int) -> None:
    """Replies come while requests are made; and who has had enough can stop."""
    with nothing_left(), deployment.client(port) as client:
        replies = client.send_requests(count())
        assert list(islice(replies, 50)) == [[number] for number in range(50)]
        replies.close()  # type: ignore[attr-defined]  # it is a generator
        assert client.send_request("x") == ["x"]


def test_a_fault_in_its_place(deployment: Deployment, port: int) -> None:
    with deployment.client(port) as client:
        one, error, other = client.send_requests([1, "fail", 2], return_errors=True)
        assert (one, other) == ([1], [2])
        assert isinstance(error, RemoteError)
        assert error.code == 19
        replies = client.send_requests([1, "fail", 2])
        assert next(replies) == [1]
        with pytest.raises(RemoteError):
            next(replies)
        assert client.send_request(3) == [3]


def test_what_cannot_be_encoded(deployment: Deployment, port: int) -> None:
    with deployment.client(port) as client:
        replies = client.send_requests([1, object()], window=1)
        assert next(replies) == [1]
        with pytest.raises(EncodeError):
            next(replies)
        assert client.send_request(3) == [3]


def test_connections_that_end_in_between(deployment: Deployment, handler: Counting) -> None:
    """With age: every request is answered, and handled once."""
    security = deployment.server_security(limits={"max_connection_age": 0.05})
    with running(ThreadingTCPServer(("127.0.0.1", 0), handler, security)) as port, deployment.client(port) as client:
        assert list(client.send_requests(range(3000))) == [[number] for number in range(3000)]
    assert handler.seen == list(range(3000))


def test_what_was_not_handled_goes_to_the_next_connection(deployment: Deployment) -> None:
    with (
        deployment.ref_server({1: do(answer(b"A"), close(2))}, {1: answer(b"B"), 2: answer(b"C")}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        assert list(client.send_requests([b"a", b"b", b"c"])) == [b"A", b"B", b"C"]
        assert len(server.connections) == 2


@pytest.mark.parametrize("end", [drop(), close(2, 2), close(4), close(3)])
def test_what_may_have_been_handled_is_not_sent_again(deployment: Deployment, end: Any) -> None:
    with (
        deployment.ref_server({1: do(answer(b"A"), end)}, {}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        replies = client.send_requests([b"a", b"b", b"c"])
        assert next(replies) == b"A"
        with pytest.raises(ConnectionClosed, match="may or may not have acted"):
            next(replies)
        assert len(server.connections) == 1


def test_unless_that_does_no_harm(deployment: Deployment) -> None:
    with (
        deployment.ref_server({1: do(answer(b"A"), drop())}, {1: answer(b"B"), 2: answer(b"C")}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        assert list(client.send_requests([b"a", b"b", b"c"], idempotent=True)) == [b"A", b"B", b"C"]


def test_but_once_at_most(deployment: Deployment) -> None:
    with (
        deployment.ref_server({1: do(answer(b"A"), close(2))}, {1: close(2, 0)}, {1: answer()}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        replies = client.send_requests([b"a", b"b", b"c"])
        assert next(replies) == b"A"
        with pytest.raises(ConnectionClosed):
            next(replies)
        assert len(server.connections) == 2


def test_each_has_its_own_time(deployment: Deployment) -> None:
    go_on = threading.Event()

    def slow(message: Any) -> Any:
        if message == "hold":
            go_on.wait(10)
        return message

    server = ThreadingTCPServer(("127.0.0.1", 0), slow, deployment.server_security())
    with running(server) as port, deployment.client(port) as client:
        replies = client.send_requests(["x", "hold", "y"], wait=0.3)
        assert next(replies) == "x"
        with pytest.raises(DeadlineExceeded):
            next(replies)
        go_on.set()
        assert client.send_request("z") == "z"


@pytest.mark.parametrize("window", [0, -1, 1025, 1.5, True, None])
def test_windows(deployment: Deployment, port: int, window: Any) -> None:
    with deployment.client(port) as client, pytest.raises(ConfigurationError, match="window must be"):
        client.send_requests([1], window=window)
