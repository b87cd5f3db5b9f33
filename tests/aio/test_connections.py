"""The connections of an asyncio client: whose time they take, and where and until when they exist."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest
import uvloop

from reference.peer import answer, hold, nothing, raw
from sealwire import (
    AsyncTCPClient,
    Codec,
    ConnectionClosed,
    DeadlineExceeded,
    InvalidState,
    Limits,
    ThreadingTCPServer,
)
from sealwire.aio import connect
from sealwire.codec import Allowlist
from support.aio import eventually_on_loop
from support.forks import forked
from support.service import Deployment, descriptors, eventually, running

pytestmark = pytest.mark.usefixtures("clean")
LONG = 60.0
"""Seconds that no test may take: what ends earlier was not a matter of time."""


def client(deployment: Deployment, port: int, timeout: float = 5, wait: float = 5, **options: Any) -> AsyncTCPClient:
    return AsyncTCPClient("localhost", port, timeout, wait, security=deployment.security("client", **options))


@pytest.fixture(scope="module", autouse=True)
def libuv() -> None:
    """Let libuv open the descriptors that it keeps for the process."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """A server that accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        listener.setblocking(False)
        yield listener


def sockets() -> set[str]:
    return {name.partition(" ")[2] for name in descriptors() if "socket:" in name}


def accepted(listener: socket.socket) -> list[socket.socket]:
    found = []
    while True:
        try:
            found.append(listener.accept()[0])
        except BlockingIOError:
            return found


@pytest.fixture
def port(deployment: Deployment) -> Iterator[int]:
    with running(ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, deployment.server_security())) as port:
        yield port


class TestTime:
    def test_tasks_share_one_attempt_to_connect(self, deployment: Deployment, mute: socket.socket) -> None:
        async def main() -> list[Any]:
            async with client(deployment, mute.getsockname()[1], timeout=0.5) as one:
                return await asyncio.gather(*map(one.send_request, range(20)), return_exceptions=True)

        late = asyncio.run(main())
        assert [(type(each), each.sent) for each in late] == [(DeadlineExceeded, False)] * 20
        assert len({id(each) for each in late}) == 20
        (connection,) = accepted(mute)
        connection.close()

    def test_each_waits_for_its_own_time(self, deployment: Deployment, mute: socket.socket) -> None:
        """One that comes late joins the attempt of another, and makes another one after that."""

        async def main() -> None:
            async with client(deployment, mute.getsockname()[1], timeout=2.0) as one:
                first = asyncio.create_task(one.connect())
                await asyncio.sleep(1.0)  # half of the first one's time
                second = asyncio.create_task(one.connect())
                done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
                assert done == {first}
                assert isinstance(first.exception(), DeadlineExceeded)
                with pytest.raises(DeadlineExceeded):
                    await second

        asyncio.run(main())
        connections = accepted(mute)
        assert len(connections) == 2
        for each in connections:
            each.close()

    def test_waiting_for_others_counts(self, deployment: Deployment) -> None:
        """Of 257 requests the last one is not sent, and says so."""
        go_on = threading.Event()

        async def main(port: int) -> None:
            async with client(deployment, port, wait=LONG) as one:
                others = [asyncio.create_task(one.send_request(number)) for number in range(256)]
                await asyncio.sleep(0)
                with pytest.raises(DeadlineExceeded, match="other requests") as late:
                    await one.send_request("last", wait=0.2)
                assert not late.value.sent
                go_on.set()
                assert await asyncio.gather(*others) == list(range(256))
                assert await one.send_request("again") == "again"

        def answer_later(message: Any) -> Any:
            go_on.wait(LONG)
            return message

        with running(ThreadingTCPServer(("127.0.0.1", 0), answer_later, deployment.server_security())) as port:
            asyncio.run(main(port))

    def test_a_reply_that_does_not_come(self, deployment: Deployment) -> None:
        async def main(port: int) -> None:
            async with client(deployment, port, raw=True) as one:
                with pytest.raises(DeadlineExceeded, match="nothing came") as late:
                    await one.send_request(b"x", wait=0.1)
                assert late.value.sent

        with deployment.ref_server({1: nothing}) as server:
            asyncio.run(main(server.port))

    @pytest.mark.parametrize("alone", [True, False])
    def test_a_request_that_is_not_taken(self, deployment: Deployment, alone: bool) -> None:
        """It is not sent later, unless other requests need the connection: then the error says so."""
        go_on = threading.Event()
        large = bytes(10_000_000)

        async def main(port: int) -> None:
            async with client(deployment, port, raw=True, wait=LONG) as one:
                other = None if alone else asyncio.create_task(one.send_request(b"x"))
                await asyncio.sleep(0)
                with pytest.raises(DeadlineExceeded, match="whole request" if alone else "nothing came") as late:
                    await one.send_request(large, wait=0.2)
                assert late.value.sent is not alone
                go_on.set()
                if other is not None:
                    await other
                await asyncio.to_thread(server.wait_for, lambda: large in server.payloads() or server.ends, LONG)

        with deployment.ref_server({"welcomed": hold(go_on)}, max_frame=1 << 24) as server:
            asyncio.run(main(server.port))
            assert (large in server.payloads()) is not alone
            server.violations.clear()

    @pytest.mark.parametrize("fault", [nothing, raw(bytes.fromhex("00004000"))], ids=["silence", "wrong length"])
    def test_a_broken_connection_is_left(self, deployment: Deployment, fault: Any) -> None:
        async def main(port: int) -> None:
            async with client(deployment, port, raw=True) as one:
                with pytest.raises(DeadlineExceeded):
                    await one.send_request(b"x", wait=0.1)
                assert await one.send_request(b"y", wait=LONG) == b"Y"

        with deployment.ref_server({1: fault}, {1: answer(b"Y")}) as server:
            asyncio.run(main(server.port))
            assert len(server.connections) == 2

    def test_of_the_article(self, deployment: Deployment) -> None:
        """``recv_async`` and ``end`` come back from a server that does not answer; the reply is not lost."""
        go_on = threading.Event()

        async def main(port: int) -> None:
            limits = Limits(idle_timeout=0.1)
            channel = await connect("localhost", port, deployment.security("client", raw=True, limits=limits))
            channel.send_msg(b"x")
            with pytest.raises(DeadlineExceeded):
                await channel.recv_async()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(channel.recv_async(), 0.01)
            go_on.set()
            while True:
                try:
                    assert await channel.recv_async() == b"X"
                    break
                except DeadlineExceeded:
                    pass
            channel.send_msg(b"never answered")
            await channel.end()

        with deployment.ref_server({"welcomed": hold(go_on), 1: answer(b"X"), 2: nothing}) as server:
            asyncio.run(main(server.port))


class TestClosing:
    def test_ends_an_attempt_to_connect(self, deployment: Deployment, mute: socket.socket) -> None:
        async def main() -> None:
            async with client(deployment, mute.getsockname()[1], timeout=LONG) as one:
                waiting = [asyncio.create_task(one.send_request(number)) for number in range(3)]
                connections = await eventually_on_loop(lambda: accepted(mute))
            for each in waiting:
                with pytest.raises(ConnectionClosed, match="by this side"):
                    await each
            assert asyncio.all_tasks() == {asyncio.current_task()}
            while connections[0].recv(4096):
                pass  # until its end
            connections[0].close()

        asyncio.run(main())

    def test_an_attempt_ends_with_the_last_task(self, deployment: Deployment, mute: socket.socket) -> None:
        async def main() -> None:
            one = client(deployment, mute.getsockname()[1], timeout=LONG)
            tasks = [asyncio.create_task(one.connect()) for _ in range(2)]
            connections = await eventually_on_loop(lambda: accepted(mute))
            tasks[0].cancel()
            await asyncio.wait([tasks[0]])
            assert await asyncio.to_thread(connections[0].recv, 65536)
            with pytest.raises(BlockingIOError):
                connections[0].recv(1, socket.MSG_DONTWAIT)
            tasks[1].cancel()
            await asyncio.wait([tasks[1]])
            assert await asyncio.to_thread(connections[0].recv, 1) == b""
            connections[0].close()

        asyncio.run(main())

    @pytest.mark.parametrize("size", [1, 10_000_000])
    def test_takes_two_seconds_at_most(self, deployment: Deployment, size: int) -> None:
        """It does so whatever the server does, and pending calls are told at once."""
        go_on = threading.Event()

        async def main(port: int) -> None:
            limits = Limits(frame_timeout=LONG)
            one = client(deployment, port, wait=LONG, raw=True, limits=limits)
            await one.connect()
            waiting = [asyncio.create_task(one.send_request(bytes(size))) for _ in range(300)]
            await asyncio.sleep(0.01)  # so that they are in all stages: encoded, sent, in a queue
            start = monotonic()
            await one.close()
            assert monotonic() - start < LONG / 4
            for each in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(each, ConnectionClosed)
            go_on.set()
            assert await one.send_request(b"x") is not None
            await one.close()

        with deployment.ref_server({"welcomed": hold(go_on)}, {}, max_frame=1 << 24) as server:
            asyncio.run(main(server.port))
            server.violations.clear()

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
    def test_a_client_that_is_dropped(self, deployment: Deployment, port: int, new_loop: Any) -> None:
        async def main() -> None:
            before = sockets()
            one = client(deployment, port)
            await one.connect()
            assert sockets() > before
            with pytest.warns(ResourceWarning, match="AsyncTCPClient localhost.*was not closed"):
                del one
            await eventually_on_loop(lambda: not sockets() > before and len(asyncio.all_tasks()) == 1)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())


class TestLoops:
    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
    def test_one_after_the_other(self, deployment: Deployment, port: int, new_loop: Any) -> None:
        one = client(deployment, port)
        for number in range(3):
            with asyncio.Runner(loop_factory=new_loop) as runner:
                assert runner.run(one.send_request(number)) == number
        asyncio.run(one.close())
        assert asyncio.run(one.send_request(3)) == 3
        gc.collect()

    def test_two_that_run(self, deployment: Deployment, port: int) -> None:
        """The client says so; closing works from anywhere."""
        one = client(deployment, port)
        with other_loop() as run:
            assert run(one.send_request(1)) == 1
            with pytest.raises(InvalidState, match="another event loop"):
                asyncio.run(one.send_request(2))
            assert run(one.send_request(3)) == 3
            asyncio.run(one.close())
            assert asyncio.run(one.send_request(4)) == 4

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def test_interrupted(self, deployment: Deployment, port: int, new_loop: Callable[[], Any]) -> None:
        """By an exception of a signal handler, once for the same loop, and by Ctrl-C for the next one."""
        one = client(deployment, port)

        async def interrupt() -> None:
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await asyncio.gather(*map(one.send_request, range(300)))

        loop = new_loop()
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(interrupt())
        assert loop.run_until_complete(one.send_request("same loop")) == "same loop"
        loop.run_until_complete(one.close())
        loop.run_until_complete(eventually_on_loop(lambda: len(asyncio.all_tasks()) == 1))
        loop.close()
        with asyncio.Runner(loop_factory=new_loop) as runner, pytest.raises(KeyboardInterrupt):
            runner.run(interrupt())
        with asyncio.Runner(loop_factory=new_loop) as runner:
            assert runner.run(one.send_request("next loop")) == "next loop"
            runner.run(one.close())

    def test_without_one(self, deployment: Deployment, port: int) -> None:
        asking = client(deployment, port).send_request(1)
        with pytest.raises(InvalidState, match="no event loop"):
            asking.send(None)


@contextmanager
def other_loop() -> Iterator[Callable[[Any], Any]]:
    """A loop that runs in a thread; gives the function that runs a coroutine there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(LONG)
    finally:
        eventually(lambda: not asyncio.all_tasks(loop))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def succeeded(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestForking:
    """A child never uses its parent's connections, and makes new ones."""

    @pytest.fixture
    def slow(self, deployment: Deployment) -> Iterator[tuple[int, threading.Event, list[Any]]]:
        """A server that answers ``slow`` when it is let go."""
        go_on, seen = threading.Event(), list[Any]()

        def handle(message: Any) -> Any:
            seen.append(message)
            if message == "slow":
                go_on.wait(LONG)
            return message

        with running(ThreadingTCPServer(("127.0.0.1", 0), handle, deployment.server_security())) as port:
            yield port, go_on, seen

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
    def test_in_a_loop_of_its_own(self, deployment: Deployment, slow: Any, new_loop: Any) -> None:
        port, go_on, seen = slow

        async def main() -> None:
            before = sockets()
            async with client(deployment, port) as one:
                pending = asyncio.create_task(one.send_request("slow"))
                await eventually_on_loop(lambda: "slow" in seen)
                assert len(mine := sockets() - before) == 2  # the server's end as well

                def in_child() -> None:
                    assert len(mine & sockets()) < 2
                    with asyncio.Runner(loop_factory=new_loop) as runner:
                        assert runner.run(one.send_request("child")) == "child"
                        runner.run(one.close())

                assert succeeded(forked(in_child))
                go_on.set()
                assert await pending == "slow"
                assert await one.send_request("parent") == "parent"

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

    def test_in_the_loop_that_it_inherited(self, deployment: Deployment, slow: Any) -> None:
        """Requests of the parent fail there; the parent gets its replies."""
        port, go_on, seen = slow
        with asyncio.Runner() as runner:
            one = client(deployment, port)
            runner.run(one.connect())
            start = runner.get_loop().create_task
            pending = [start(one.send_request("slow"))]
            pending += [start(one.send_request(number, idempotent=True)) for number in range(256)]
            runner.run(eventually_on_loop(lambda: "slow" in seen))

            async def in_child() -> None:
                for each in pending:
                    with pytest.raises(ConnectionClosed, match="forked"):
                        await each
                assert await one.send_request("child") == "child"
                await one.close()

            assert succeeded(forked(lambda: runner.run(in_child())))
            go_on.set()

            async def in_parent() -> None:
                assert await asyncio.gather(*pending) == ["slow", *range(256)]
                assert await one.send_request("parent") == "parent"
                await one.close()

            runner.run(in_parent())
        assert len(seen) == 259  # each message once


made_in: list[str] = []


@dataclass
class Noted:
    """Notes the thread in which it is made."""

    data: bytes

    def __post_init__(self) -> None:
        made_in.append(threading.current_thread().name)


@pytest.mark.parametrize(("size", "where"), [(100, "MainThread"), (100_000, "sealwire codec")])
def test_large_values_leave_the_loop(deployment: Deployment, size: int, where: str) -> None:
    encoded_in: list[str] = []

    class Watched(Codec):
        __slots__ = ()

        def encode_pieces(self, value: object) -> bytes | list[bytes | bytearray]:
            encoded_in.append(threading.current_thread().name)
            return super().encode_pieces(value)

    async def main(port: int) -> None:
        async with client(deployment, port, codec=Watched(Allowlist(Noted))) as one:
            value = [Noted(bytes(size))]
            made_in.clear()
            assert await one.send_request(value) == value
            assert set(encoded_in) == {where}
            assert made_in[-1] == where

    security = deployment.server_security(codec=Codec(Allowlist(Noted)))
    with running(ThreadingTCPServer(("127.0.0.1", 0), lambda message: message, security)) as port:
        asyncio.run(main(port))
