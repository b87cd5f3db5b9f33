"""The client on asyncio, against our own servers and the reference server's scripts."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Coroutine, Iterator
from time import monotonic
from typing import Any

import pytest

from reference.peer import answer, answer_partly, close, do, drop, hold, reject
from sealwire import (
    AsyncTCPClient,
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    EncodeError,
    HandshakeFailed,
    HandshakeRejected,
    Limits,
    PeerNotAllowed,
    RemoteError,
    RemoteProtocolError,
    ThreadingTCPServer,
    TransportError,
)
from sealwire.aio import connect
from support.service import Deployment, eventually, nothing_left, running

pytestmark = pytest.mark.usefixtures("clean")


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """In a loop of its own, in which nothing may be left, and no exception that nobody has seen."""
    unseen: list[Any] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        result = await main
        gc.collect()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    with nothing_left():
        result = asyncio.run(watched())
    assert unseen == []
    return result


def client(deployment: Deployment, port: int, **options: Any) -> AsyncTCPClient:
    times = {name: options.pop(name) for name in ("timeout", "wait") if name in options}
    security = deployment.security(options.pop("role", "client"), **options)
    return AsyncTCPClient("localhost", port, **({"timeout": 5, "wait": 5} | times), security=security)


class Handler:
    """``hold`` waits until it is let go."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.go_on = threading.Event()

    def __call__(self, message: Any) -> Any:
        self.seen.append(message)
        if message == "hold":
            self.go_on.wait(10)
        if message == "fail":
            raise ValueError
        return message


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def port(deployment: Deployment, handler: Handler) -> Iterator[int]:
    with running(ThreadingTCPServer(("127.0.0.1", 0), handler, deployment.server_security())) as port:
        yield port


def test_a_thousand_at_once(deployment: Deployment, port: int, handler: Handler) -> None:
    async def main() -> None:
        async with client(deployment, port) as one:
            replies = await asyncio.gather(*(one.send_request({"n": number}) for number in range(1000)))
            assert replies == [{"n": number} for number in range(1000)]
            assert one.peer is not None
            assert "localhost" in one.peer.dns
            assert repr(one).endswith("open>")
        assert one.peer is None

    run(main())
    assert len(handler.seen) == 1000


def test_much_in_both_directions(deployment: Deployment, port: int) -> None:
    async def main() -> None:
        async with client(deployment, port, wait=60) as one:
            payload = b"x" * 3_000_000
            assert await asyncio.gather(*(one.send_request(payload) for _ in range(8))) == [payload] * 8

    run(main())


def test_one_connection_however_many_begin(deployment: Deployment) -> None:
    async def main(port: int) -> None:
        async with client(deployment, port, raw=True) as one:
            await asyncio.gather(*(one.send_request(b"x") for _ in range(20)))

    with deployment.ref_server() as server:
        run(main(server.port))
        assert len(server.connections) == 1


def test_one_that_is_cancelled_leaves_the_others_alone(deployment: Deployment, port: int, handler: Handler) -> None:
    async def main() -> None:
        async with client(deployment, port) as one:
            await one.send_request("first")
            held = asyncio.create_task(one.send_request("hold"))
            others = [asyncio.create_task(one.send_request(number)) for number in range(5)]
            await asyncio.to_thread(eventually, lambda: "hold" in handler.seen)
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            handler.go_on.set()
            assert await asyncio.gather(*others) == list(range(5))

    run(main())


def test_one_that_is_out_of_time_leaves_the_others_alone(deployment: Deployment, port: int, handler: Handler) -> None:
    async def main() -> None:
        async with client(deployment, port) as one:
            held = asyncio.create_task(one.send_request("hold", wait=0.2))
            other = asyncio.create_task(one.send_request("other"))
            with pytest.raises(DeadlineExceeded):
                await held
            handler.go_on.set()
            assert await other == "other"

    run(main())


def test_each_has_its_own_time_in_whatever_order_they_begin(
    deployment: Deployment, port: int, handler: Handler
) -> None:
    """One timer watches them all: it is set again for one that ends before, and after each end for the next."""

    async def main() -> None:
        async with client(deployment, port, wait=60) as one:
            ended: list[float] = []

            async def late(wait: float) -> None:
                with pytest.raises(DeadlineExceeded):
                    await one.send_request("late", wait=wait)
                ended.append(wait)

            held = asyncio.create_task(one.send_request("hold"))
            await asyncio.to_thread(eventually, lambda: "hold" in handler.seen)
            await asyncio.wait_for(asyncio.gather(*map(late, (0.3, 0.1, 0.2, 0.4))), 20)
            assert sorted(ended) == [0.1, 0.2, 0.3, 0.4]
            assert not held.done()
            handler.go_on.set()
            assert await held == "hold"

    run(main())


def test_a_fault_is_its_own(deployment: Deployment, port: int) -> None:
    async def main() -> None:
        async with client(deployment, port) as one:
            results = await asyncio.gather(*map(one.send_request, [1, "fail", 2]), return_exceptions=True)
            assert results[::2] == [1, 2]
            assert isinstance(results[1], RemoteError)
            with pytest.raises(EncodeError):
                await one.send_request(object())
            assert await one.send_request(3) == 3

    run(main())


def test_a_server_that_restarts(deployment: Deployment, handler: Handler) -> None:
    async def main() -> None:
        with running(ThreadingTCPServer(("127.0.0.1", 0), handler, deployment.server_security())) as port:
            one = client(deployment, port)
            assert await one.send_request(1) == 1
        server = ThreadingTCPServer(("127.0.0.1", port), handler, deployment.server_security())
        with running(server):
            assert await one.send_request(2) == 2
            await one.close()

    run(main())


def test_connections_that_end_with_age(deployment: Deployment, handler: Handler) -> None:
    """Under load: each request is answered, and handled once."""

    async def main(port: int) -> None:
        async with client(deployment, port) as one:

            async def ask(number: int) -> None:
                for step in range(100):
                    message = f"{number}.{step}"
                    assert await one.send_request(message) == message

            await asyncio.gather(*map(ask, range(20)))

    security = deployment.server_security(limits={"max_connection_age": 0.2})
    with running(ThreadingTCPServer(("127.0.0.1", 0), handler, security)) as port:
        run(main(port))
    assert len(handler.seen) == len(set(handler.seen)) == 2000


@pytest.mark.parametrize("end", [drop(), drop("reset"), close(2, 1), close(3, 0), close(4)])
def test_what_may_have_been_handled_is_not_sent_again(deployment: Deployment, end: Any) -> None:
    async def main(port: int) -> None:
        async with client(deployment, port, raw=True) as one:
            with pytest.raises(ConnectionClosed, match="may or may not have acted"):
                await one.send_request(b"a")

    with deployment.ref_server({1: end}, {1: answer()}) as server:
        run(main(server.port))
        assert len(server.connections) == 1


@pytest.mark.parametrize(("end", "idempotent"), [(close(2, 0), False), (close(1, 0), False), (drop(), True)])
def test_what_was_not_handled_is_sent_again(deployment: Deployment, end: Any, idempotent: bool) -> None:
    async def main(port: int) -> None:
        async with client(deployment, port, raw=True) as one:
            assert await one.send_request(b"a", idempotent=idempotent) == b"A"

    with deployment.ref_server({1: end}, {1: answer(b"A")}) as server:
        run(main(server.port))
        assert len(server.connections) == 2


class TestHandshake:
    def failing(self, deployment: Deployment, port: int, error: type[Exception], match: str, **options: Any) -> None:
        async def main() -> None:
            async with client(deployment, port, **options) as one:
                with pytest.raises(error, match=match):
                    await one.connect()

        run(main())

    def test_no_server_there(self, deployment: Deployment, port: int) -> None:
        self.failing(deployment, 1, TransportError, "cannot connect to localhost:1")

    def test_another_ca(self, deployment: Deployment, port: int, tmp_path: Any) -> None:
        from sealwire.testing import Throwaway

        with Throwaway() as other:
            self.failing(deployment, port, HandshakeFailed, "certificate of localhost", ca=other.ca)

    def test_a_peer_that_is_not_listed(self, deployment: Deployment, port: int) -> None:
        self.failing(deployment, port, HandshakeRejected, "not authorised", role="other client")
        self.failing(deployment, port, PeerNotAllowed, "not on this client's list", peers=["dns:x.example"])

    def test_rejected(self, deployment: Deployment) -> None:
        with deployment.ref_server({"hello": reject(2)}) as server:
            self.failing(deployment, server.port, HandshakeRejected, "another codec", raw=True)

    def test_a_server_that_is_busy_at_first(self, deployment: Deployment) -> None:
        async def main(port: int) -> None:
            async with client(deployment, port, raw=True) as one:
                assert await one.send_request(b"x") is not None

        with deployment.ref_server({"hello": reject(4)}, {"hello": reject(5)}, {}) as server:
            run(main(server.port))
            assert len(server.connections) == 3

    def test_one_that_says_nothing(self, deployment: Deployment) -> None:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as silent:
            start = monotonic()
            self.failing(deployment, silent.getsockname()[1], DeadlineExceeded, "in time", timeout=0.3)
            assert monotonic() - start < 4


def test_arguments(deployment: Deployment) -> None:
    security = deployment.security("client")
    for arguments in (("localhost", 0), ("a b", 1), ("localhost", 1, 0), ("localhost", 1, 1, -1)):
        with pytest.raises(ConfigurationError):
            AsyncTCPClient(*arguments, security=security)
    with pytest.raises(ConfigurationError):
        AsyncTCPClient("localhost", 1, security=None)


def test_a_tampered_reply_ends_the_connection(deployment: Deployment) -> None:
    async def main(port: int) -> None:
        async with client(deployment, port, raw=True) as one:
            with pytest.raises(RemoteProtocolError):
                await one.send_request(b"x")

    with deployment.ref_server({1: answer(reply_to=9)}) as server:
        run(main(server.port))


def test_a_reply_that_cannot_be_decoded(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    async def main(port: int) -> None:
        async with client(deployment, port) as one:
            with pytest.raises(DecodeError):
                await one.send_request("x")
            assert await one.send_request("y") is None

    with deployment.ref_server({1: answer(b"garbage"), 2: answer(b"\x80\x05N.")}) as server:
        run(main(server.port))


def test_a_server_that_takes_nothing(deployment: Deployment) -> None:
    """The request is given up with the connection, and not only when its own time is over."""
    go_on = threading.Event()

    async def main(port: int) -> None:
        limits = Limits(frame_timeout=0.3)
        async with client(deployment, port, wait=60, raw=True, limits=limits) as asking:
            with pytest.raises(DeadlineExceeded, match="did not take"):
                await asking.send_request(bytes(10_000_000))
            go_on.set()

    with deployment.ref_server({"welcomed": hold(go_on)}, max_frame=1 << 24) as server:
        run(main(server.port))
        server.violations.clear()


def test_a_disk_that_does_not_answer(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client goes on with what is in service, on its connection and on a new one."""
    looked, go_on = threading.Event(), threading.Event()

    def look() -> None:
        looked.set()
        go_on.wait(20)

    async def main(port: int) -> None:
        security = deployment.security("client", limits=Limits(reload_interval=0.05))
        async with AsyncTCPClient("localhost", port, timeout=1, security=security) as asking:
            await asking.connect()
            monkeypatch.setattr(security, "refresh_due", lambda: True)
            monkeypatch.setattr(security, "refresh", look)
            while not looked.is_set():
                assert await asking.send_request("x") == "x"
            await asking.close()
            assert await asking.send_request("y") == "y"
        go_on.set()

    with running(ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, deployment.server_security())) as port:
        run(main(port))


def test_the_article_and_a_reply_that_breaks_off(deployment: Deployment) -> None:
    async def main(port: int) -> None:
        channel = await connect("localhost", port, deployment.security("client", raw=True))
        channel.send_msg(b"x")
        with pytest.raises(ConnectionClosed, match="inside a frame"):
            await channel.recv_async()
        await channel.end()

    with deployment.ref_server({1: do(answer_partly(20), drop())}) as server:
        run(main(server.port))


class Interruption(KeyboardInterrupt):
    """Raised by a signal handler."""


@pytest.mark.parametrize("step", ["queued", "_incoming"])
def test_an_exception_in_a_half_done_step_leaves_the_client_usable(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """By then the number of a request is used up, or a part of the input was taken."""

    class Interrupted:
        def __init__(self, whole: Any) -> None:
            self._whole = whole

        def interrupt(self, *_: Any) -> None:
            raise Interruption

        append = write = interrupt

        def __getattr__(self, name: str) -> Any:
            return getattr(self._whole, name)

    async def main(port: int) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with client(deployment, port) as one:
            assert await one.send_request("a") == "a"
            assert one._connections is not None
            connection: Any = one._connections.current
            place = connection._protocol if step == "queued" else connection
            monkeypatch.setattr(place, step, Interrupted(getattr(place, step)))
            try:
                await one.send_request("b", wait=5)
            except (Interruption, ConnectionClosed):
                pass
            else:
                pytest.fail("it was not interrupted")
            assert await one.send_request("c") == "c"

    with running(ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, deployment.server_security())) as port:
        loop = asyncio.new_event_loop()
        try:
            task = loop.create_task(main(port))
            while not task.done():
                try:
                    loop.run_until_complete(task)
                except Interruption:
                    continue  # raised in a callback, it ends the turn of the loop
            task.result()
        finally:
            loop.close()
