"""Requests and replies in parts, and cancellation, on asyncio: what the conformance suite cannot see of them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from time import monotonic
from typing import Any

import pytest

from reference import protocol as p
from reference.features import Features
from reference.peer import do, nothing, part
from sealwire import (
    AsyncTCPClient,
    AsyncTCPServer,
    ConfigurationError,
    ConnectionClosed,
    Context,
    DeadlineExceeded,
    FeatureNotSupported,
    InvalidState,
    Limits,
    RemoteError,
    RemoteProtocolError,
    RequestHandler,
    Service,
    TCPServer,
    ThreadingTCPServer,
    encode,
)
from support.aio import eventually_on_loop, serving
from support.constants import QUICK
from support.service import Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clean")

ADDRESS = ("127.0.0.1", 0)
FEATURES = Features(metadata=True, cancel=True, window=500, at_once=8)
OFFERED = Features(metadata=True, cancel=True, window=500)
ALONE = Features(metadata=True, cancel=True, window=500, at_once=1)


def served(deployment: Deployment, handler: Any, **options: Any) -> Any:
    security = deployment.server_security(**options)
    return serving(lambda: AsyncTCPServer(ADDRESS, handler, security))


def with_client(
    deployment: Deployment, port: int, test: Callable[[AsyncTCPClient], Awaitable[Any]], **options: Any
) -> Any:
    async def main() -> Any:
        security = deployment.security("client", limits=Limits(**(QUICK | options)))
        async with AsyncTCPClient("localhost", port, security=security, wait=10) as client:
            return await asyncio.wait_for(test(client), 30)

    return asyncio.run(main())


class Gate:
    """A coroutine handler that waits until the test opens the gate, or it is cancelled."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.cancelled = threading.Event()
        self.calls = 0

    async def __call__(self, message: Any) -> Any:
        self.calls += 1
        if message != "wait":
            return message
        try:
            self.entered.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def function(self, message: Any) -> Any:
        return await self(message)


def test_a_cancelled_call_cancels_the_handler(deployment: Deployment) -> None:
    gate = Gate()

    async def test(client: AsyncTCPClient) -> None:
        call = asyncio.create_task(client.send_request("wait"))
        assert await asyncio.to_thread(gate.entered.wait, 20)
        before = client._here().current
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(gate.cancelled.wait, 20)
        assert await client.send_request("next") == "next"
        assert client._here().current is before

    with served(deployment, gate.function) as one:
        with_client(deployment, one.port, test)
    assert gate.cancelled.is_set()


def test_the_end_of_a_connection_cancels_its_handlers(deployment: Deployment) -> None:
    gate = Gate()
    with served(deployment, gate.function) as one:
        with deployment.ref_client(one.port, codec="pickle-5") as client:
            client.send_message(encode("wait"))
            assert gate.entered.wait(20)
            client.link.abort(reset=True)
        assert gate.cancelled.wait(20)


def test_a_handler_that_goes_on_after_its_cancellation_is_answered(deployment: Deployment) -> None:
    async def stubborn(message: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return message

    with (
        served(deployment, stubborn) as one,
        deployment.ref_client(one.port, codec="pickle-5", features=OFFERED) as client,
    ):
        request = client.send_message(encode("x"))
        client.ping()
        client.cancel(request)
        assert client.receive(request).payload == encode("x")


def test_one_that_waits_for_a_thread_is_not_run_if_it_is_cancelled(deployment: Deployment) -> None:
    entered, go = threading.Event(), threading.Event()
    seen: list[Any] = []

    def function(message: Any) -> Any:
        seen.append(message)
        entered.set()
        assert go.wait(20)
        return message

    security = deployment.server_security()
    with (
        serving(lambda: AsyncTCPServer(ADDRESS, function, security, workers=1)) as one,
        deployment.ref_client(one.port, codec="pickle-5", features=OFFERED) as client,
    ):
        first, second, third = (client.send_message(encode(each)) for each in range(3))
        assert entered.wait(20)
        client.cancel(second)
        client.ping()
        go.set()
        assert client.receive(second).code == 22
        assert [client.receive(each).kind for each in (first, third)] == [p.MESSAGE] * 2
    assert seen == [0, 2]


async def yields(message: Any) -> AsyncIterator[Any]:
    yield message


async def yields_with_context(message: Any, context: Context) -> AsyncIterator[Any]:
    context.reply_metadata["seen"] = "yes"
    yield message


class Yields(RequestHandler):
    async def respond(self, message: Any) -> AsyncIterator[Any]:
        self.context.reply_metadata["seen"] = self.metadata["a"]
        yield message


class Operations(Service):
    async def double(self, message: int) -> AsyncIterator[int]:
        yield message

    async def total(self, message: AsyncIterator[bytes]) -> int:
        return sum([len(each) async for each in message])


def whole(message: int) -> int:
    return message


async def whole_on_the_loop(message: int) -> int:
    return message


def test_a_service_of_coroutine_functions_takes_parts(deployment: Deployment) -> None:
    with served(deployment, Operations) as one, deployment.client(one.port) as client:
        assert client.send_parts([b"a", b"bc"]) == 3
        with pytest.raises(RemoteError) as refused:
            client.send_parts([b"a", 5])
        assert refused.value.code == 17
        assert client.send_parts([b"a"]) == 1


@pytest.mark.parametrize("handler", [whole, whole_on_the_loop])
def test_parts_that_the_handler_does_not_declare(deployment: Deployment, handler: Any) -> None:
    with served(deployment, handler) as one, deployment.client(one.port) as client:
        with pytest.raises(RemoteError, match="no message of this type") as refused:
            client.send_parts([1])
        assert refused.value.code == 17
        assert client.send_request(5) == 5


@pytest.mark.parametrize("handler", [yields, yields_with_context, Yields, Operations])
def test_async_generator_functions(deployment: Deployment, handler: Any) -> None:
    async def test(client: AsyncTCPClient) -> None:
        stream = client.stream(5, metadata={"a": "yes"})
        assert [each async for each in stream] == [5]
        assert stream.metadata == ({} if handler in (yields, Operations) else {"seen": "yes"})

    with served(deployment, handler) as one:
        with_client(deployment, one.port, test)
    with pytest.raises(ConfigurationError, match="runs no coroutines"):
        TCPServer(ADDRESS, handler, deployment.server_security())


def test_a_handler_that_cancels_itself_has_failed(deployment: Deployment) -> None:
    async def broken(message: Any) -> Any:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        if message:
            await asyncio.sleep(0)
        await future

    with served(deployment, broken) as one, deployment.client(one.port) as client:
        for message in (0, 1):
            with pytest.raises(RemoteError) as caught:
                client.send_request(message)
            assert caught.value.code == 19


def test_a_nested_call_takes_no_longer_than_its_caller_waits(deployment: Deployment) -> None:
    taken: list[float] = []
    client: AsyncTCPClient

    async def nests(message: Any) -> Any:
        begun = monotonic()
        try:
            return await client.send_request(message, wait=60)
        except DeadlineExceeded:
            taken.append(monotonic() - begun)
            raise

    gate = Gate()
    with served(deployment, gate.function) as inner, served(deployment, nests) as outer:

        async def make() -> AsyncTCPClient:
            return AsyncTCPClient("localhost", inner.port, security=deployment.security("client"))

        client = outer.call(make())
        with deployment.client(outer.port, wait=1) as caller:
            assert caller.send_request("x") == "x"
            with pytest.raises((DeadlineExceeded, RemoteError)):
                caller.send_request("wait")
        assert gate.cancelled.wait(20)  # by its client, or with it
        outer.call(client.close())
    assert all(each < 10 for each in taken)


@pytest.mark.parametrize("ended", ["break", "cancelled", "dropped", "closed"])
def test_ways_to_leave_a_stream(deployment: Deployment, ended: str) -> None:
    closed = threading.Event()

    async def endless(message: Any) -> AsyncIterator[Any]:
        try:
            yield 1
            yield 2
            if message == "pauses":
                await asyncio.Event().wait()
            while True:
                yield bytes(1000)
        finally:
            closed.set()

    async def leave(client: AsyncTCPClient) -> None:
        if ended == "cancelled":
            stream = client.stream("pauses")
            assert [await anext(stream), await anext(stream)] == [1, 2]
            waiting = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)  # so that it waits
            with pytest.raises(InvalidState, match="another task"):
                await anext(stream)
            waiting.cancel()
            await asyncio.wait([waiting])
        elif ended == "closed":
            async with client.stream("x") as stream:
                assert await anext(stream) == 1
        elif ended == "break":
            async for each in client.stream("x"):
                assert each == 1
                break
        else:
            stream = client.stream("x")
            await anext(stream)
            del stream

    async def test(client: AsyncTCPClient) -> None:
        await leave(client)
        gc.collect()
        assert await asyncio.to_thread(closed.wait, 20)
        connection = client._here().current
        assert connection is not None
        await eventually_on_loop(lambda: not connection._protocol.unanswered)
        assert not connection._exchanges

    with served(deployment, endless) as one:
        with_client(deployment, one.port, test)
    assert closed.is_set()


def test_streams_beside_each_other(deployment: Deployment) -> None:
    """More than the server works on at a time, so that some wait until others have ended."""

    async def count(message: Any) -> AsyncIterator[Any]:
        for each in range(message):
            await asyncio.sleep(0)
            yield each, bytes(500)

    async def test(client: AsyncTCPClient) -> None:
        async def one(number: int) -> list[int]:
            return [each async for each, _ in client.stream(number)]

        found = await asyncio.gather(*map(one, range(30)))
        assert found == [list(range(number)) for number in range(30)]

    limits = {"max_in_flight": 4, "part_window": 2000}
    with served(deployment, count, limits=limits) as one:
        with_client(deployment, one.port, test, part_window=2000)


def test_streams_do_not_take_the_places_of_requests(deployment: Deployment) -> None:
    """Streams of ordinary functions do not take the threads of other requests, either."""

    def function(message: Any) -> Any:
        return endless() if message == "endless" else message

    def endless() -> Iterator[Any]:
        while True:
            yield bytes(1000)

    async def test(client: AsyncTCPClient) -> None:
        streams = [client.stream("endless") for _ in range(12)]
        for stream in streams:
            await anext(stream)
        assert await asyncio.gather(*map(client.send_request, range(4))) == list(range(4))
        for stream in streams:
            await stream.aclose()

    security = deployment.server_security(limits={"max_in_flight": 16})
    with serving(lambda: AsyncTCPServer(ADDRESS, function, security, workers=2)) as one:
        with_client(deployment, one.port, test)


def test_a_server_with_one_request_at_a_time(deployment: Deployment) -> None:
    """A stream has a connection of its own there, and gives it back."""

    def function(message: Any) -> Any:
        return count() if message == "count" else message

    def count() -> Iterator[Any]:
        yield from range(3)

    async def test(client: AsyncTCPClient) -> None:
        connections = client._here()
        assert await client.send_request(1) == 1
        first = connections.current
        assert [each async for each in client.stream("count")] == [0, 1, 2]
        assert connections.current is first
        async with client.stream("count") as stream:
            assert await anext(stream) == 0
            assert connections.current is None
        assert await client.send_request(2) == 2
        assert await client.send_parts([1, 2, 3]) is None

    def handler(message: Any) -> Any:
        return function(message) if not isinstance(message, Iterator) else None

    with running(TCPServer(ADDRESS, handler, deployment.server_security())) as port:
        with_client(deployment, port, test)


def test_a_handler_that_does_not_heed_its_cancellation_holds_up_nobody(deployment: Deployment) -> None:
    """A server with one request at a time would answer the next one of that connection after it."""
    go = threading.Event()

    def function(message: Any) -> Any:
        return waits() if message == "wait" else message

    def waits() -> Iterator[Any]:
        yield 1
        go.wait(20)

    async def test(client: AsyncTCPClient) -> None:
        async with client.stream("wait") as stream:
            assert await anext(stream) == 1
        before = client._here().current
        assert await client.send_request("next", wait=5) == "next"
        assert client._here().current is not before
        go.set()

    with running(ThreadingTCPServer(ADDRESS, function, deployment.server_security())) as port:
        with_client(deployment, port, test)


def test_large_parts(deployment: Deployment) -> None:
    async def echo(message: Any) -> AsyncIterator[Any]:
        yield message

    async def total(message: Any) -> Any:
        return sum([len(each) async for each in message])

    large = [{"x": number} for number in range(50_000)]

    async def test(client: AsyncTCPClient) -> None:
        assert [each async for each in client.stream(large)] == [large]

    async def upload(client: AsyncTCPClient) -> None:
        async def some() -> AsyncIterator[Any]:
            for _ in range(3):
                yield large

        assert await client.send_parts(some()) == 150_000

    with served(deployment, echo) as one:
        with_client(deployment, one.port, test)
    with served(deployment, total) as one:
        with_client(deployment, one.port, upload)


def test_a_server_without_the_features(deployment: Deployment) -> None:
    async def test(client: AsyncTCPClient) -> None:
        with pytest.raises(FeatureNotSupported, match="only as a whole"):
            await anext(client.stream(1))
        with pytest.raises(FeatureNotSupported, match="only as a whole"):
            await client.send_parts([1])
        with pytest.raises(FeatureNotSupported, match="no metadata"):
            await client.send_request(1, metadata={"a": "b"})
        with pytest.raises(ConfigurationError, match="mapping"):
            client.stream(1, metadata={"a": 1})
        assert await client.send_request(1) == 1

    with deployment.ref_server() as server:
        with_client(deployment, server.port, test)


class Own(RequestHandler):
    async def handle(self) -> None:
        await asyncio.sleep(0)


def test_a_handler_that_owns_its_connection_takes_no_parts(deployment: Deployment) -> None:
    async def test(client: AsyncTCPClient) -> None:
        with pytest.raises(FeatureNotSupported, match="only as a whole"):
            await anext(client.stream(1))

    with served(deployment, Own) as one:
        with_client(deployment, one.port, test)


def test_a_connection_whose_server_answers_the_cancellation_is_not_left(deployment: Deployment) -> None:
    async def test(client: AsyncTCPClient) -> None:
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await client.send_request(1, wait=0.1)
            assert await client.send_request(2) == 2

    with deployment.ref_server({1: nothing, 3: nothing}, features=FEATURES) as server:
        with_client(deployment, server.port, test)
    assert len(server.connections) == 1


def test_a_connection_whose_server_does_not_answer_is_left(deployment: Deployment) -> None:
    async def test(client: AsyncTCPClient) -> None:
        with pytest.raises(DeadlineExceeded):
            await client.send_request(1, wait=0.1)
        assert await client.send_request(2) == 2

    with deployment.ref_server({1: nothing, "cancel": nothing}, features=FEATURES) as server:
        with_client(deployment, server.port, test)
    assert len(server.connections) == 2


def test_a_part_over_the_window(deployment: Deployment) -> None:
    """The parts before it are there, and the client goes on."""

    async def test(client: AsyncTCPClient) -> None:
        stream = client.stream("x")
        assert await anext(stream) == 1
        assert stream._borrowed is not None
        assert stream._borrowed.exchange is not None
        await eventually_on_loop(stream._borrowed.exchange.reply.done)  # until then, this gives no credit
        with pytest.raises(RemoteProtocolError):
            [each async for each in stream]
        assert [each async for each in stream] == []
        assert await client.send_request(1) == 1

    script = {1: do(part(encode(1)), part(encode(bytes(1000))), part(encode(2)))}
    with deployment.ref_server(script, features=FEATURES) as server:
        with_client(deployment, server.port, test, part_window=1024, max_parts=5)
        server.violations.clear()


def test_an_upload_is_not_sent_again(deployment: Deployment) -> None:
    async def test(client: AsyncTCPClient) -> None:
        with pytest.raises(ConnectionClosed):
            await client.send_parts([1, 2])

    with deployment.ref_server({1: lambda connection, _: connection.send_close(2, 0)}, features=FEATURES) as server:
        with_client(deployment, server.port, test)
    assert len(server.connections) == 1


@pytest.mark.parametrize("in_order", [True, False])
def test_credit_that_does_not_come(deployment: Deployment, in_order: bool) -> None:
    async def test(client: AsyncTCPClient) -> None:
        with pytest.raises(DeadlineExceeded):
            await client.send_parts((bytes(300) for _ in range(10)), wait=0.2)
        assert await client.send_request(1) == 1

    features = FEATURES if in_order else ALONE
    with deployment.ref_server({"part": nothing}, features=features) as server:
        with_client(deployment, server.port, test)
    assert 0 < len(server.payloads(p.PART)) < 4
    eventually(lambda: p.CANCEL in [got.kind for got in server.received])


def test_a_client_that_is_closed_in_a_stream(deployment: Deployment) -> None:
    async def endless(message: Any) -> AsyncIterator[Any]:
        yield 1
        await asyncio.Event().wait()

    async def test(client: AsyncTCPClient) -> None:
        stream = client.stream("x")
        await anext(stream)
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)  # so that it waits
        await client.close()
        with pytest.raises(ConnectionClosed):
            await waiting

    with served(deployment, endless) as one:
        with_client(deployment, one.port, test)


def test_the_shutdown_ends_a_stream_that_waits(deployment: Deployment) -> None:
    """At once: a subscription may wait for hours."""

    async def endless(message: Any) -> AsyncIterator[Any]:
        yield 1
        await asyncio.Event().wait()

    async def test(client: AsyncTCPClient) -> None:
        stream = client.stream("x", wait=20)
        await anext(stream)
        one.server.start_shutdown()
        with pytest.raises(RemoteError, match="shutting down") as caught:
            await anext(stream)
        assert caught.value.code == 21

    with served(deployment, endless, limits={"drain_timeout": 20}) as one:
        with_client(deployment, one.port, test)
