"""Many requests under way on one connection of a synchronous client."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from time import monotonic
from typing import Any

import pytest

from reference.peer import answer, close, do, drop, nothing
from sealwire import (
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    EncodeError,
    InvalidState,
    PayloadTooLarge,
    RemoteError,
    TCPServer,
    ThreadingTCPServer,
)
from support.service import Deployment, eventually, running
from support.udp import forked

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
    """Replies come while requests are made; and the caller can stop early."""
    with deployment.client(port) as client:
        replies = client.send_requests(count())
        assert list(islice(replies, 50)) == [[number] for number in range(50)]
        replies.close()
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


class Mine(Exception):
    pass


def with_a_bad_item(kind: str) -> Iterator[Any]:
    """The fourth of six items."""
    yield from (b"0", b"1", b"2")
    if kind == "raised":
        raise Mine
    yield "no bytes" if kind == "not encodable" else bytes(5000)
    yield from (b"4", b"5")


BAD = [("not encodable", EncodeError), ("too large", PayloadTooLarge), ("raised", Mine)]


@pytest.mark.parametrize(("kind", "error"), BAD)
@pytest.mark.parametrize("window", [1, 2, 32])
class TestBadItem:
    def test_in_its_place(self, deployment: Deployment, kind: str, error: type[Exception], window: int) -> None:
        """After the replies before it, and the connection goes on."""
        with deployment.ref_server(max_frame=4096) as server, deployment.client(server.port, raw=True) as client:
            replies = client.send_requests(with_a_bad_item(kind), window=window)
            assert [next(replies) for _ in range(3)] == [b"0", b"1", b"2"]
            with pytest.raises(error) as raised:
                next(replies)
            assert "item 3" in "".join([str(raised.value), *getattr(raised.value, "__notes__", [])])
            assert next(replies, None) is None
            assert client.send_request(b"x") == b"x"
            assert server.payloads() == [b"0", b"1", b"2", b"x"]
            assert len(server.connections) == 1

    def test_returned(self, deployment: Deployment, kind: str, error: type[Exception], window: int) -> None:
        with deployment.ref_server(max_frame=4096) as server, deployment.client(server.port, raw=True) as client:
            replies = list(client.send_requests(with_a_bad_item(kind), window=window, return_errors=True))
            assert isinstance(replies.pop(3), error)
            assert replies == [b"0", b"1", b"2"] + [b"4", b"5"] * (kind != "raised")
            assert len(server.connections) == 1


def test_what_is_made_is_sent(deployment: Deployment, port: int, handler: Counting) -> None:
    """Although the next item is not there yet, and may come of it."""

    def requests() -> Iterator[int]:
        for number in range(5):
            yield number
            eventually(lambda: handler.seen[-1:] == [number])  # noqa: B023 - it is called at once

    with deployment.client(port) as client:
        assert list(client.send_requests(requests())) == [[number] for number in range(5)]


@pytest.mark.parametrize("slow", ["iterable", "consumer"])
def test_the_callers_time_does_not_count(deployment: Deployment, port: int, slow: str) -> None:
    def requests() -> Iterator[int]:
        for number in range(3):
            yield number
            threading.Event().wait(0.3)

    with deployment.client(port) as client:
        items = requests() if slow == "iterable" else [0, 1, 2]
        for number, reply in enumerate(client.send_requests(items, wait=0.2)):
            assert reply == [number]
            if slow == "consumer":
                threading.Event().wait(0.3)


def test_a_silent_servers_time_counts(deployment: Deployment) -> None:
    """Also while the iterable makes more."""

    def requests() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x"
            threading.Event().wait(0.1)

    with deployment.ref_server(dict.fromkeys(range(1, 99), nothing)) as server:
        with deployment.client(server.port, raw=True) as client, pytest.raises(DeadlineExceeded) as late:
            list(client.send_requests(requests(), wait=0.3))
        assert late.value.sent
        assert 3 <= len(server.payloads()) < 10


def test_a_consumer_that_was_too_slow_is_told(deployment: Deployment) -> None:
    with (
        deployment.ref_server({1: answer(), 2: drop()}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        replies = client.send_requests([b"a", b"b"], wait=0.2)
        assert next(replies) == b"a"
        threading.Event().wait(0.3)
        with pytest.raises(ConnectionClosed, match=r"paused for 0\.[3-9] s"):
            next(replies)


class TestOtherCalls:
    """They have another connection, whatever becomes of the loop."""

    def test_in_the_body(self, deployment: Deployment, port: int) -> None:
        with deployment.client(port) as client:
            assert [client.send_request(reply) for reply in client.send_requests([1, 2])] == [[[1]], [[2]]]

    def test_in_the_iterable(self, deployment: Deployment, port: int) -> None:
        with deployment.client(port) as client:
            assert list(client.send_requests(client.send_request(n) for n in (1, 2))) == [[[1]], [[2]]]
            nested = client.send_requests(client.send_requests([3, 4]))
            assert list(nested) == [[[3]], [[4]]]

    def test_in_another_thread(self, deployment: Deployment, port: int) -> None:
        with deployment.client(port) as client, ThreadPoolExecutor(1) as executor:
            kept = client.send_requests(count())
            assert next(kept) == [0]
            assert executor.submit(client.send_request, 1).result(10) == [1]
            assert next(kept) == [1]

    @pytest.fixture
    def only_one(self, deployment: Deployment, handler: Counting) -> Iterator[int]:
        """A server that serves one connection at a time."""
        with running(TCPServer(("127.0.0.1", 0), handler, deployment.server_security())) as port:
            yield port

    def test_at_a_server_that_serves_one_at_a_time(
        self, deployment: Deployment, handler: Counting, only_one: int
    ) -> None:
        """They take the loop's connection, wait for another one but once, and the loop goes on."""
        with deployment.client(only_one) as client:
            start = monotonic()
            replies = client.send_requests(map(str, range(100)))
            assert [client.send_request(reply) for reply in replies] == [[[str(number)]] for number in range(100)]
            assert monotonic() - start < client.timeout
            asked = client.send_requests(client.send_request(n) for n in (1, 2))
            assert list(asked) == [[[1]], [[2]]]
            nested = client.send_requests(client.send_requests([3, 4]))
            assert list(nested) == [[[3]], [[4]]]
            assert list(zip(client.send_requests("ab"), client.send_requests("cd"), strict=True)) == [
                (["a"], ["c"]),
                (["b"], ["d"]),
            ]
        assert len(handler.seen) == 200 + 4 + 4 + 4

    def test_of_another_thread_there(self, deployment: Deployment, only_one: int) -> None:
        """The loop's connection is not its own, and the error says what stands in the way."""
        with deployment.client(only_one) as client, ThreadPoolExecutor(1) as executor:
            replies = client.send_requests([1, 2])
            assert next(replies) == [1]
            client.timeout = 0.3
            with pytest.raises(DeadlineExceeded, match="a loop over send_requests of this client"):
                executor.submit(client.send_request, 3).result(10)
            assert list(replies) == [[2]]

    def test_while_the_connection_ends(self, deployment: Deployment) -> None:
        """The loop notices what its connection brought to a call in its body, and sends again what it may."""
        with (
            deployment.ref_server({1: answer(b"A"), 2: close(2, 1)}, {1: answer(b"X"), 2: answer(b"B")}) as server,
            deployment.client(server.port, raw=True) as client,
        ):
            client._only_one = True
            replies = client.send_requests([b"a", b"b"])
            assert next(replies) == b"A"
            assert client.send_request(b"x") == b"X"
            assert list(replies) == [b"B"]
            assert len(server.connections) == 2

    def test_while_the_loop_waits_in_vain(self, deployment: Deployment) -> None:
        """A call that cannot have the loop's connection in time takes another one, if the server accepts it."""
        with (
            deployment.ref_server({1: answer(b"A"), 2: nothing}, {1: answer(b"X")}) as server,
            deployment.client(server.port, raw=True, timeout=1) as client,
        ):
            client._only_one = True
            replies = client.send_requests([b"a", b"b"])
            assert next(replies) == b"A"
            assert client.send_request(b"x") == b"X"

    def test_close(self, deployment: Deployment, port: int) -> None:
        """The iterator that was kept says so, and the client goes on."""
        with deployment.client(port) as client:
            kept = client.send_requests(count())
            assert next(kept) == [0]
            client.close()
            with pytest.raises(ConnectionClosed, match="closed by this side"):
                next(kept)
            assert client.send_request("x") == ["x"]

    def test_one_connection_if_there_are_none(self, deployment: Deployment) -> None:
        with deployment.ref_server() as server, deployment.client(server.port, raw=True) as client:
            for _ in range(2):
                assert client.send_request(b"x") == b"x"
                assert list(client.send_requests([b"a", b"b"])) == [b"a", b"b"]
            assert len(server.connections) == 1


def test_a_connection_that_is_to_be_left(deployment: Deployment, handler: Counting) -> None:
    """It is left when nothing is in flight, although the iterable has no end."""
    limits = {"reload_interval": 0.01, "max_connection_age": 0.05}
    with (
        running(ThreadingTCPServer(("127.0.0.1", 0), handler, deployment.server_security())) as port,
        deployment.client(port, limits=limits) as client,
    ):
        replies = client.send_requests(count())
        assert next(replies) == [0]
        first, number = client._channel, 0
        assert first is not None
        while client._channel is first:
            number += 1
            assert next(replies) == [number]
        replies.close()
    assert handler.seen[:number] == list(range(number))


def test_in_a_forked_child(deployment: Deployment, port: int) -> None:
    """The parent's loop is not the child's, which has a connection of its own."""
    with deployment.client(port) as client:
        replies = client.send_requests(count())
        assert next(replies) == [0]

        def in_child() -> bool:
            with pytest.raises(InvalidState, match="belongs to the parent"):
                next(replies)
            return list(client.send_requests("ab")) == [["a"], ["b"]]

        assert forked(in_child) == 0
        assert [next(replies) for _ in range(50)] == [[number] for number in range(1, 51)]


def test_forked_in_the_iterable(deployment: Deployment, port: int) -> None:
    """The child goes on below the loop of its parent."""
    exits: list[int] = []

    def requests() -> Iterator[int]:
        yield 0
        child = os.fork()
        yield 1 if child else -1
        exits.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with deployment.client(port) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which is the point
        parent = os.getpid()
        status = 1
        try:
            assert list(client.send_requests(requests())) == [[0], [1]]
        except InvalidState:
            status = 3
        finally:
            if os.getpid() != parent:
                os._exit(status)
        assert exits == [3]


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


def test_once_at_most(deployment: Deployment) -> None:
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
        replies = client.send_requests(["x", "hold", "y"], wait=1)
        assert next(replies) == "x"
        with pytest.raises(DeadlineExceeded):
            next(replies)
        go_on.set()
        assert client.send_request("z") == "z"


def test_nothing_to_iterate_over(deployment: Deployment, port: int) -> None:
    with deployment.client(port) as client, pytest.raises(ConfigurationError, match="must be an iterable"):
        client.send_requests(1)


@pytest.mark.parametrize("window", [0, -1, 1025, 1.5, True, None])
def test_windows(deployment: Deployment, port: int, window: Any) -> None:
    with deployment.client(port) as client, pytest.raises(ConfigurationError, match="window must be"):
        client.send_requests([1], window=window)
