"""Servers on asyncio: every kind of handler, bounds in both directions, the end of connections and of the server."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import stat
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import uvloop

from reference import protocol as p
from reference.peer import Closed, Ended, RefClient, Rejected
from sealwire import (
    AsyncTCPClient,
    AsyncTCPServer,
    AsyncUnixClient,
    AsyncUnixServer,
    ConfigurationError,
    HandshakeRejected,
    InvalidState,
    Key,
    Keyring,
    RemoteError,
    RequestHandler,
    SynchronousUnixClient,
    TransportError,
    decode,
    encode,
    recv_async,
    recv_msg,
    send_msg,
)
from sealwire.aio import connect
from support.aio import TASK_FACTORIES, serving
from support.service import KEY_ID, Deployment, eventually, sockets

pytestmark = pytest.mark.usefixtures("clean")

ADDRESS = ("127.0.0.1", 0)
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def served(deployment: Deployment, handler: Any, *, workers: int = 8, loop: Any = LOOPS[0], **options: Any) -> Any:
    security = deployment.server_security(**options)
    return serving(lambda: AsyncTCPServer(ADDRESS, handler, security, workers=workers), loop)


def pickling(deployment: Deployment, port: int) -> RefClient:
    """The reference client, with our codec."""
    return deployment.ref_client(port, codec="pickle-5")


def echo(message: Any) -> Any:
    return message


async def async_echo(message: Any) -> Any:
    await asyncio.sleep(0)
    return message


class Respond(RequestHandler):
    def respond(self, message: Any) -> Any:
        return message


class AsyncRespond(RequestHandler):
    async def respond(self, message: Any) -> Any:
        await asyncio.sleep(0)
        return message


class Handle(RequestHandler):
    def handle(self) -> None:
        while (message := recv_msg(self.request)) is not None:
            send_msg(self.request, message)


class AsyncHandle(RequestHandler):
    async def handle(self) -> None:
        while (message := await recv_async(self.request)) is not None:
            send_msg(self.request, message)


class OwnInit(RequestHandler):
    """With a constructor of its own, as some have."""

    def __init__(self, request: Any, client_address: Any, server: Any) -> None:
        self.given = server.security
        super().__init__(request, client_address, server)

    def respond(self, message: Any) -> Any:
        assert self.given is self.server.security
        return message


HANDLERS = [echo, async_echo, Respond, AsyncRespond, Handle, AsyncHandle, OwnInit]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("handler", HANDLERS)
def test_reference_client(deployment: Deployment, handler: Any, loop: Any) -> None:
    with served(deployment, handler, loop=loop, raw=True) as one:
        for _ in range(2):
            with deployment.ref_client(one.port) as client:
                for size in (0, 1, 1000, 20_000, 70_000, 300_000):
                    number = client.send_message(b"x" * size, wait=5)
                    got = client.receive(number)
                    assert (got.kind, got.payload) == (p.MESSAGE, b"x" * size)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("handler", [echo, async_echo, AsyncRespond, Handle])
def test_a_thousand_at_once(deployment: Deployment, handler: Any, loop: Any) -> None:
    async def main(port: int) -> None:
        async with AsyncTCPClient("localhost", port, security=deployment.security("client", raw=raw)) as client:
            values = [f"{n}".encode() for n in range(1000)]
            assert await asyncio.gather(*map(client.send_request, values)) == values

    raw = handler is Handle
    with served(deployment, handler, loop=loop, raw=raw) as one, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main(one.port))


def test_the_client_is_identified(deployment: Deployment) -> None:
    class Who(RequestHandler):
        async def respond(self, message: Any) -> Any:
            assert self.peer is not None
            assert isinstance(self.server, AsyncTCPServer)
            return [self.peer.dns, self.key_id, self.deadline - monotonic() if self.deadline else None]

    with served(deployment, Who) as one, deployment.client(one.port, wait=5) as client:
        names, key_id, left = client.send_request(None)
        assert (names, key_id) == (("client.example",), KEY_ID)
        assert 4 < left <= 5.02


def test_the_article_by_hand(deployment: Deployment) -> None:
    class Goods(RequestHandler):
        async def handle(self) -> None:
            while (message := await recv_async(self.request)) is not None:
                send_msg(self.request, encode({"got": decode(message)}))

    async def main(port: int) -> None:
        channel = await connect("localhost", port, deployment.security("client"))
        for number in range(3):
            send_msg(channel, encode(number))
        for number in range(3):
            message = await recv_async(channel)
            assert message is not None
            assert decode(message) == {"got": number}
        with pytest.raises(InvalidState, match="send_msg first"):
            await recv_async(channel)
        with pytest.raises(InvalidState, match="use `await recv_async"):
            recv_msg(channel)
        await channel.end()

    with served(deployment, Goods) as one:
        asyncio.run(main(one.port))


class Gate:
    """Messages are held until the gate opens for them."""

    def __init__(self) -> None:
        self.entered: list[Any] = []
        self.open: dict[Any, threading.Event] = {}
        self.lock = threading.Lock()

    def of(self, message: Any) -> threading.Event:
        with self.lock:
            return self.open.setdefault(message, threading.Event())

    def __call__(self, message: Any) -> Any:
        self.entered.append(message)
        assert self.of(message).wait(20)
        return message

    async def on_loop(self, message: Any) -> Any:
        self.entered.append(message)
        assert await asyncio.to_thread(self.of(message).wait, 20)
        return message


@pytest.mark.parametrize("on_loop", [False, True])
def test_replies_in_another_order(deployment: Deployment, on_loop: bool) -> None:
    gate = Gate()
    with (
        served(deployment, gate.on_loop if on_loop else gate) as one,
        pickling(deployment, one.port) as client,
    ):
        first, second = (client.send_message(encode(text), wait=5) for text in ("slow", "quick"))
        gate.of("quick").set()
        assert client.receive(second).payload == encode("quick")
        gate.of("slow").set()
        assert client.receive(first).payload == encode("slow")


@pytest.mark.parametrize("on_loop", [False, True])
def test_bounded_for_each_connection(deployment: Deployment, on_loop: bool) -> None:
    gate = Gate()
    handler = gate.on_loop if on_loop else gate
    with (
        served(deployment, handler, limits={"max_in_flight": 2}) as one,
        pickling(deployment, one.port) as client,
        deployment.client(one.port) as other,
    ):
        numbers = [client.send_message(encode(n), wait=5) for n in range(5)]
        eventually(lambda: len(gate.entered) == 2)
        gate.of("other").set()
        assert other.send_request("other") == "other"  # the third one of this had its chance
        assert gate.entered == [0, 1, "other"]
        for n, number in enumerate(numbers):
            gate.of(n).set()
            assert client.receive(number).payload == encode(n)
        assert gate.entered == [0, 1, "other", 2, 3, 4]


def test_bounded_for_all_connections(deployment: Deployment) -> None:
    gate = Gate()
    with (
        served(deployment, gate.on_loop, limits={"max_in_flight_total": 2}) as one,
        pickling(deployment, one.port) as client,
        pickling(deployment, one.port) as other,
    ):
        numbers = [client.send_message(encode(n), wait=5) for n in range(2)]
        eventually(lambda: len(gate.entered) == 2)
        late = other.send_message(encode("late"), wait=0.05)
        number = other.send_message(encode("other"), wait=5)
        threading.Event().wait(0.5)  # the time of the first is over, which counts from when it was read
        assert gate.entered == [0, 1]
        gate.of("other").set()
        gate.of(0).set()
        fault = other.receive(late)
        assert (fault.kind, fault.payload[:2]) == (p.FAULT, b"\0\x14")
        assert other.receive(number).payload == encode("other")
        gate.of(1).set()
        assert [client.receive(each).payload for each in numbers] == [encode(0), encode(1)]
    assert "late" not in gate.entered


def test_no_object_has_two_messages(deployment: Deployment) -> None:
    busy: list[int] = []
    made: list[Any] = []
    finished: list[Any] = []
    both = threading.Barrier(2)

    class Alone(RequestHandler):
        def setup(self) -> None:
            super().setup()
            made.append(self)
            self.in_hand = 0

        def respond(self, message: Any) -> Any:
            self.in_hand += 1
            busy.append(self.in_hand)
            if message == "both":
                both.wait(20)
            self.in_hand -= 1
            return message

        def finish(self) -> None:
            finished.append(self)

    with served(deployment, Alone) as one, deployment.client(one.port) as client:
        assert [client.send_request(n) for n in range(5)] == [0, 1, 2, 3, 4]
        assert len(made) == 1
        assert list(client.send_requests(["both", "both"])) == ["both", "both"]
        assert len(made) == 2
    assert set(busy) == {1}
    assert set(finished) == set(made)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_a_client_that_takes_nothing_from_a_handler_of_its_connection(deployment: Deployment) -> None:
    """Its requests came together, so that the handler never waits for one."""
    asked = []

    class Large(RequestHandler):
        async def handle(self) -> None:
            while (message := await recv_async(self.request)) is not None:
                asked.append(message)
                send_msg(self.request, bytes(1_000_000))

    with served(deployment, Large, raw=True) as one, deployment.ref_client(one.port) as client:
        client.send_raw(b"".join(p.frame(p.MESSAGE, b"x", n, 0, client.key_out) for n in range(1, 200)))
        eventually(lambda: asked)
        one.call(turns(1000))  # in which it could ask for all of them
        assert len(asked) < 30
        client.link.abort(reset=True)


def test_a_client_that_takes_nothing(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked for no more, gets its time and is dropped; the others are served."""
    asked = []

    async def large(message: Any) -> Any:
        if message == "small":
            return message
        asked.append(message)
        return bytes(1_000_000)

    caplog.set_level(logging.INFO, "sealwire.server")
    with (
        served(deployment, large, limits={"frame_timeout": 0.5, "max_in_flight": 4}) as one,
        pickling(deployment, one.port) as client,
        deployment.client(one.port) as other,
    ):
        numbers = [client.send_message(encode(n), wait=5) for n in range(50)]
        eventually(lambda: len(asked) >= 4)
        assert other.send_request("small") == "small"
        eventually(lambda: "did not take what was sent" in caplog.text)
        with pytest.raises((Ended, OSError, Closed)):
            client.receive(numbers[-1])
        # The kernel and the transport hold some of what is not taken, never all of it.
        assert len(asked) <= 16


FLOODS = {
    "pings": lambda client: client.send(p.PING, b"x" * 125),
    "impatient": lambda client: client.send_message(encode("x"), wait=0.01),
    "malformed": lambda client: client.send_message(b"x", wait=5),
    "good ones": lambda client: client.send_message(encode("x" * 100), wait=5),
}


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize(
    ("handler", "flood"),
    [*((async_echo, flood) for flood in FLOODS), (Handle, "impatient"), (AsyncHandle, "impatient")],
)
def test_floods_whose_answers_are_not_taken(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture, new_loop: Any, handler: Any, flood: str
) -> None:
    """The server stops reading when it has too much to say, and drops a client that does not listen.

    On a Unix socket: TCP drops what comes while the client's buffer is full of small segments, and acknowledgements.
    """
    caplog.set_level(logging.INFO, "sealwire.server")
    raw = handler is not async_echo
    security = deployment.server_security(
        limits={"frame_timeout": 2}, raw=raw, peers=[f"uid:{os.getuid()}"], service="of-flood"
    )
    path = str(tmp_path / "socket")
    with (
        serving(lambda: AsyncUnixServer(path, handler, security, workers=8), new_loop),
        deployment.ref_client(
            None, path, server_name="/of-flood", codec="raw" if raw else "pickle-5", timeout=30
        ) as client,
    ):
        # The client is stuck until the server loses patience; a time-out here would only say that the server is slow.
        with pytest.raises(ConnectionError):
            [FLOODS[flood](client) for _ in range(1_000_000)]
        eventually(lambda: "did not take what was sent" in caplog.text)


def test_a_frame_is_not_late_while_a_reply_is_taken(deployment: Deployment) -> None:
    """Nothing is read meanwhile, and so nothing of the frame that had begun before."""
    gate = threading.Event()

    def respond(message: bytes) -> bytes:
        gate.wait(20)
        return bytes(1_000_000) if message == b"large" else message

    with (
        served(deployment, respond, raw=True, limits={"frame_timeout": 0.3}) as one,
        deployment.ref_client(one.port, timeout=20) as client,
    ):
        for _ in range(20):
            client.send_message(b"large")
        frame = p.frame(p.MESSAGE, b"small", 21, 0, client.key_out)
        client.send_raw(frame[:20])
        (channel,) = eventually(lambda: list(one.server._channels))
        end = eventually(lambda: channel.session._frame_end)
        channel._frame_timeout = 60.0  # of the reply
        gate.set()
        eventually(lambda: channel._full)
        eventually(lambda: monotonic() > end)
        one.call(turns(10))
        assert {len(client.read_unverified().payload) for _ in range(20)} == {1_000_000}
        client.send_raw(frame[20:])
        assert client.read_unverified().payload == b"small"


def test_refused_and_gone(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keyring([Key("k1", b"another secret of the same name, of an attacker")])
    with served(deployment, echo, limits={"handshake_timeout": 1.0}) as one:
        before = len(sockets(os.getpid()))
        with (
            socket.create_connection(("127.0.0.1", one.port)),
            deployment.client(one.port, keys=keys) as stranger,
            pytest.raises(HandshakeRejected),
        ):
            stranger.send_request(1)
        with socket.create_connection(("127.0.0.1", one.port)) as nonsense:
            nonsense.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while nonsense.recv(1000):
                pass
        for _ in range(20):
            socket.create_connection(("127.0.0.1", one.port)).close()
        with deployment.client(one.port) as client:
            assert client.send_request(1) == 1
        eventually(lambda: len(sockets(os.getpid())) <= before + 1)
    assert "refused: HELLO with a wrong tag" in caplog.text
    assert "refused: TLS failed" in caplog.text


def test_what_a_handler_raises(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    for handler in (fail, async_fail, AsyncFails, Fails):
        caplog.clear()
        with served(deployment, handler) as one, deployment.client(one.port) as client:
            with pytest.raises(RemoteError, match="the handler failed") as caught:
                client.send_request("secret")
            assert caught.value.code == 19
            assert client.send_request("good") == "good"
            with pytest.raises(RemoteError):
                client.send_request("object")
            assert client.send_request("good") == "good"
        assert "secret" not in caplog.text
        assert "handler failed (id" in caplog.text


def fail(message: Any) -> Any:
    if message == "secret":
        raise StopIteration(message)
    return object() if message == "object" else message


async def async_fail(message: Any) -> Any:
    if message == "secret":
        raise ValueError(message)
    return object() if message == "object" else message


class Article(RequestHandler):
    def handle(self) -> None:
        while (message := recv_msg(self.request)) is not None:
            send_msg(self.request, encode(fail(decode(message))))


class AsyncArticle(RequestHandler):
    async def handle(self) -> None:
        while (message := await recv_async(self.request)) is not None:
            send_msg(self.request, encode(fail(decode(message))))


@pytest.mark.parametrize("handler", [Article, AsyncArticle])
def test_what_ends_a_handler_of_a_connection(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, handler: Any
) -> None:
    with served(deployment, handler) as one, deployment.client(one.port) as client:
        for _ in range(2):
            assert client.send_request("good") == "good"
            with pytest.raises(RemoteError, match="the handler failed") as caught:
                client.send_request("secret")
            assert caught.value.code == 19
        with pickling(deployment, one.port) as other:
            number = other.send_message(b"nonsense", wait=5)
            assert other.receive(number).payload[:2] == b"\0\x10"
    assert "secret" not in caplog.text
    assert caplog.text.count("handler failed (id") == 2


class AsyncFails(RequestHandler):
    async def respond(self, message: Any) -> Any:
        return await async_fail(message)


class Fails(RequestHandler):
    def respond(self, message: Any) -> Any:
        if message == "secret":
            raise SystemExit(message)
        return fail(message)


def test_bounds_of_connections(deployment: Deployment) -> None:
    with served(deployment, echo, limits={"max_connections": 1, "idle_timeout": 1.0}) as one:
        with pickling(deployment, one.port) as client:
            assert client.request(encode(1))[1] == encode(1)
            with pytest.raises(Rejected, match="4"):
                pickling(deployment, one.port)
            with pytest.raises(Closed) as closed:
                client.receive(2)
            assert (closed.value.frame.code, closed.value.frame.last) == (1, 1)
        with deployment.client(one.port) as other:
            assert other.send_request(3) == 3


def test_pending_connections_make_room(deployment: Deployment) -> None:
    with served(deployment, echo, limits={"max_handshakes": 2}) as one:
        silent = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(4)]
        with deployment.client(one.port, timeout=20) as client:
            assert client.send_request(1) == 1
        for each in silent:
            each.close()


@pytest.mark.parametrize("on_loop", [False, True])
def test_drain(deployment: Deployment, on_loop: bool) -> None:
    gate = Gate()
    with served(deployment, gate.on_loop if on_loop else gate) as one:
        with pickling(deployment, one.port) as client, deployment.client(one.port) as idle:
            gate.of("idle").set()
            assert idle.send_request("idle") == "idle"
            number = client.send_message(encode("held"), wait=5)
            eventually(lambda: "held" in gate.entered)
            leaving = asyncio.run_coroutine_threadsafe(one.server.shutdown(), one.loop)
            with pytest.raises(Rejected, match="5"):
                eventually(lambda: pickling(deployment, one.port).link.sock.close())
            late = client.send_message(encode("late"), wait=5)
            assert not leaving.done()
            gate.of("held").set()
            assert client.receive(number).payload == encode("held")
            with pytest.raises(Closed) as closed:
                client.receive(late)
            assert (closed.value.frame.code, closed.value.frame.last) == (2, number)
        leaving.result(20)
    assert gate.entered == ["idle", "held"]


def test_shutdown_by_a_handler(deployment: Deployment) -> None:
    async def stop(message: Any) -> Any:
        await one.server.shutdown()
        return message

    with served(deployment, stop) as one:
        with deployment.client(one.port) as client:
            assert client.send_request("stop") == "stop"
        one.join()


def test_a_handler_that_never_returns(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with served(deployment, gate, limits={"drain_timeout": 0.2}) as one, pickling(deployment, one.port) as client:
        client.send_message(encode("held"), wait=5)
        eventually(lambda: gate.entered)
        one.call(one.server.shutdown())
        assert "1 handlers have not returned" in caplog.text
        gate.of("held").set()


def test_cancelled_coroutines_at_the_end(deployment: Deployment) -> None:
    entered = threading.Event()
    ended = []

    async def forever(_: Any) -> Any:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with (
        served(deployment, forever, limits={"drain_timeout": 0.2}) as one,
        pickling(deployment, one.port) as client,
    ):
        client.send_message(encode("held"), wait=5)
        assert entered.wait(10)
        one.call(one.server.shutdown())
    assert ended == [True]


def test_the_age_of_a_connection(deployment: Deployment) -> None:
    limits = {"max_connection_age": 0.5, "reload_interval": 0.05}
    with served(deployment, echo, limits=limits) as one, pickling(deployment, one.port) as client:
        number = client.send_message(encode(1), wait=5)
        assert client.receive(number).payload == encode(1)
        with pytest.raises(Closed) as closed:
            client.receive(number + 1)
        assert (closed.value.frame.code, closed.value.frame.last) == (0, number)


@pytest.mark.parametrize("trouble", ["stuck", "no descriptors"])
def test_files_that_cannot_be_looked_at(deployment: Deployment, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server goes on with what is in service, and connections still end with age."""
    go_on, tried = threading.Event(), threading.Event()
    security = deployment.server_security(limits={"max_connection_age": 0.5, "reload_interval": 0.05})

    def refresh() -> None:
        tried.set()
        if trouble == "stuck":
            go_on.wait(20)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(security, "refresh", refresh)
    with serving(lambda: AsyncTCPServer(ADDRESS, echo, security)) as one:
        assert tried.wait(10)
        with pickling(deployment, one.port) as client:
            assert client.receive(client.send_message(encode(1), wait=5)).payload == encode(1)
            assert client.expect_end(5).code == 0
        go_on.set()


def test_a_connection_is_not_idle_while_its_handlers_tasks_are_at_work(deployment: Deployment) -> None:
    class InTasks(RequestHandler):
        async def handle(self) -> None:
            tasks = []
            while (message := await recv_async(self.request)) is not None:
                tasks.append(asyncio.create_task(self.answer(message)))
            for task in tasks:
                task.cancel()

        async def answer(self, message: bytes) -> None:
            await asyncio.sleep(0.5)  # longer than `idle_timeout`
            send_msg(self.request, message)

    limits = {"idle_timeout": 0.1}
    with served(deployment, InTasks, raw=True, limits=limits) as one, deployment.ref_client(one.port) as client:
        numbers = [client.send_message(message) for message in (b"a", b"b")]
        assert [client.receive(number).payload for number in numbers] == [b"a", b"b"]
        assert client.expect_end(5).code == 1


def test_each_reload_is_followed_by_a_check_of_all_connections(deployment: Deployment) -> None:
    """Even of one that was made or checked a moment before: a revocation is noticed within one interval, not two."""
    limits = {"max_connection_age": 0.3, "reload_interval": 0.05}
    with served(deployment, echo, limits=limits) as one, pickling(deployment, one.port) as client:
        channel = eventually(lambda: next((each for each in list(one.server._channels) if each._sealed), None))
        channel.session.validity.next_check += 60
        assert client.expect_end(5).code == 0


def test_new_connections_do_not_wait_for_a_stuck_disk(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, calls = threading.Event(), Counter[str]()
    security = deployment.server_security(limits={"reload_interval": 20.0})

    def refresh() -> None:
        calls["refresh"] += 1
        if calls["refresh"] > 1:
            go_on.wait(20)

    monkeypatch.setattr(security, "refresh", refresh)
    monkeypatch.setattr(security, "refresh_due", lambda: True)
    with serving(lambda: AsyncTCPServer(ADDRESS, echo, security)) as one:
        for _ in range(2):
            with deployment.client(one.port) as client:
                assert client.send_request("x") == "x"
        go_on.set()


def test_serves_once(deployment: Deployment) -> None:
    async def main() -> None:
        server = AsyncTCPServer(ADDRESS, echo, deployment.server_security())
        serving = asyncio.create_task(server.serve_forever())
        while server._finished is None:
            await asyncio.sleep(0)
        await server.shutdown()
        await serving
        with pytest.raises(InvalidState, match="make a new one"):
            async with server:
                pass
        unused = AsyncTCPServer(ADDRESS, echo, deployment.server_security())
        await unused.shutdown()

    asyncio.run(main())


def test_cancelled_server(deployment: Deployment) -> None:
    async def main() -> None:
        server = AsyncTCPServer(ADDRESS, echo, deployment.server_security())
        serving = asyncio.create_task(server.serve_forever())
        port = server.server_address[1]
        client = AsyncTCPClient("localhost", port, security=deployment.security("client"))
        assert await client.send_request(1) == 1
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await client.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))

    asyncio.run(main())


def test_a_listener_that_is_closed_under_it(deployment: Deployment) -> None:
    async def main() -> None:
        server = AsyncTCPServer(ADDRESS, echo, deployment.server_security())
        async with server:
            server.socket.close()
            with pytest.raises(OSError, match="Bad file descriptor"):
                await server.serve_forever()

    asyncio.run(main())


def test_a_socket_that_listens_already(deployment: Deployment) -> None:
    security = deployment.server_security()
    listener = socket.create_server(ADDRESS)
    with serving(lambda: AsyncTCPServer(None, echo, security, listener=listener)) as one:
        assert listener.getsockname() == one.server.server_address
        with deployment.client(one.port) as client:
            assert client.send_request(1) == 1
    assert listener.fileno() == -1


def test_no_descriptors(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    with served(deployment, echo) as one, deployment.client(one.port) as good:
        assert good.send_request(1) == 1
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as waiting, ExitStack() as stack:
            highest = max(map(int, os.listdir("/proc/self/fd")))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            with suppress(OSError):
                while True:
                    stack.enter_context(open(os.devnull))
            waiting.connect(("127.0.0.1", one.port))
            eventually(lambda: "cannot accept: Too many open files" in caplog.text)
            assert good.send_request(2) == 2
        with deployment.client(one.port) as client:
            assert client.send_request(3) == 3


def test_wrong_arguments(deployment: Deployment) -> None:
    security = deployment.server_security()
    with pytest.raises(ConfigurationError, match="needs a Security"):
        AsyncTCPServer(ADDRESS, echo, None)
    with pytest.raises(ConfigurationError, match="workers"):
        AsyncTCPServer(ADDRESS, echo, security, workers=0)
    with socket.create_server(ADDRESS) as taken, pytest.raises(TransportError, match="cannot listen on 127"):
        AsyncTCPServer(taken.getsockname(), echo, security)
    with pytest.raises(ConfigurationError, match="service"):
        AsyncUnixServer("socket", echo, security)


@pytest.mark.parametrize("factory", TASK_FACTORIES)
@pytest.mark.parametrize("loop", LOOPS)
def test_unix(deployment: Deployment, tmp_path: Path, loop: Any, factory: Any) -> None:
    class Who(RequestHandler):
        async def respond(self, message: Any) -> Any:
            assert self.peer is not None
            return self.peer.uid, self.peer.pid

    path = tmp_path / "socket"
    security = deployment.server_security(peers=[f"uid:{os.getuid()}"], service="orders")
    mine = deployment.security("client", peers=[f"uid:{os.getuid()}"], service="orders")

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        async with AsyncUnixClient(path, security=mine) as client:
            assert await client.send_request(1) == (os.getuid(), os.getpid())
            assert repr(client) == f"<AsyncUnixClient {path}, open>"

    with serving(lambda: AsyncUnixServer(path, Who, security, mode=0o660), loop):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        asyncio.run(main())
        with SynchronousUnixClient(path, security=mine) as client:
            assert client.send_request(1) == (os.getuid(), os.getpid())
    assert not path.exists()
    with pytest.raises(TransportError, match="cannot connect"):
        asyncio.run(main())
