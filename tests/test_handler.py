"""Handlers of both shapes, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

from reference import protocol as p
from sealwire import (
    Allowlist,
    ForkingTCPServer,
    Limits,
    PeerPolicy,
    RequestHandler,
    TCPServer,
    ThreadingTCPServer,
    decode,
    encode,
    recv_msg,
    send_msg,
)
from sealwire.codec import Codec
from sealwire.errors import ConnectionClosed, DecodeError, EncodeError, RemoteError
from sealwire.failures import error_location
from support.events import logged
from support.service import Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clean")

SECRET_TEXT = "Peter's password is Hunter2"


@contextmanager
def serving(deployment: Deployment, handler: Any, **options: Any) -> Iterator[int]:
    with running(ThreadingTCPServer(("127.0.0.1", 0), handler, deployment.server_security(**options))) as port:
        yield port


# Both shapes


def test_respond(deployment: Deployment) -> None:
    facts: list[Any] = []

    class Orders(RequestHandler):
        def respond(self, message: Any) -> Any:
            assert self.peer is not None
            facts.append((self.peer.dns, self.key_id, self.deadline, self.codec))
            return {"got": message}

    with serving(deployment, Orders) as port, deployment.client(port, wait=3) as client:
        client.connect()
        before = monotonic()
        for number in range(3):
            assert client.send_request(number) == {"got": number}
    dns, key_id, deadline, codec = facts[0]
    assert (dns, key_id) == (("client.example",), "k1")
    assert before + 2.9 < deadline <= monotonic() + 3
    assert isinstance(codec, Codec)


def test_no_deadline_if_the_client_does_not_say(deployment: Deployment) -> None:
    class Orders(RequestHandler):
        def respond(self, message: bytes) -> bytes:
            return repr(self.deadline).encode()

    with serving(deployment, Orders, raw=True) as port, deployment.ref_client(port) as client:
        assert client.request(b"x", wait=10)[1] != b"None"
        assert client.request(b"x")[1] == b"None"
        client.send_close()
        client.expect_end()


def test_anonymous(deployment: Deployment) -> None:
    """No certificate, no peer; the key is asked for all the same."""

    class Orders(RequestHandler):
        def respond(self, message: bytes) -> bytes:
            return repr(self.peer).encode()

    with serving(deployment, Orders, raw=True, peers=["anonymous", "dns:client.example"]) as port:
        with deployment.ref_client(port, cert=None, key=None) as client:
            assert client.request(b"x")[1] == b"None"
            client.send_close()
            client.expect_end()
        with deployment.ref_client(port) as client:
            assert b"client.example" in client.request(b"x")[1]
            client.send_close()
            client.expect_end()


def test_any_signed_by_ca(deployment: Deployment) -> None:
    with (
        serving(deployment, lambda message: message, peers=PeerPolicy.any_signed_by_ca()) as port,
        deployment.client(port, role="other client") as client,
    ):
        assert client.send_request(1) == 1


def test_article_style(deployment: Deployment) -> None:
    class MyTCPHandler(RequestHandler):
        def handle(self) -> None:
            sock = self.request
            the_goods = decode(recv_msg(sock))
            assert the_goods == {"order": 1}
            send_msg(sock, encode({"msg": "Goods received."}))

    with serving(deployment, MyTCPHandler) as port, deployment.client(port) as client:
        # Each connection takes one; the client finds that out by itself.
        for _ in range(3):
            assert client.send_request({"order": 1}) == {"msg": "Goods received."}


def test_article_style_loop(deployment: Deployment) -> None:
    ends: list[Any] = []

    class Handler(RequestHandler):
        def handle(self) -> None:
            while (message := recv_msg(self.request)) is not None:
                send_msg(self.request, message.upper())
            ends.append(None)

    with serving(deployment, Handler, raw=True) as port:
        with deployment.client(port, raw=True) as client:
            assert [client.send_request(b"%c" % letter) for letter in b"abc"] == [b"A", b"B", b"C"]
        eventually(lambda: ends)


def test_handle_that_reads_ahead_answers_the_oldest(deployment: Deployment) -> None:
    class Handler(RequestHandler):
        def handle(self) -> None:
            messages = [recv_msg(self.request) for _ in range(3)]
            for message in messages:
                assert message is not None
                send_msg(self.request, message)

    with serving(deployment, Handler, raw=True) as port, deployment.ref_client(port) as client:
        for payload in (b"a", b"b", b"c"):
            client.send_message(payload)
        end = client.expect_end()
    assert [(frame.reply_to, frame.payload) for frame in end.frames[:-1]] == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert (end.code, end.last) == (0, 3)


def test_handle_that_does_not_answer(deployment: Deployment) -> None:
    """The reply will not come, and the client is told that somebody has seen the request."""

    class Handler(RequestHandler):
        def handle(self) -> None:
            recv_msg(self.request)

    with serving(deployment, Handler) as port, deployment.client(port) as client:
        with pytest.raises(ConnectionClosed) as caught:
            client.send_request(1)
        assert (caught.value.code, caught.value.last) == (0, 1)


def test_handle_that_does_not_even_read(deployment: Deployment) -> None:
    made = []

    class Handler(RequestHandler):
        def handle(self) -> None:
            made.append(self)

    with serving(deployment, Handler) as port, deployment.client(port) as client:
        with pytest.raises(ConnectionClosed):
            client.send_request(1)
        # Nobody had seen it, so it was sent again: once.
        assert len(made) <= 3


def test_setup_and_finish(deployment: Deployment) -> None:
    calls: list[str] = []

    class Handler(RequestHandler):
        def setup(self) -> None:
            super().setup()
            calls.append("setup")

        def respond(self, message: Any) -> Any:
            calls.append("respond")
            raise ValueError

        def finish(self) -> None:
            calls.append("finish")
            super().finish()

    with serving(deployment, Handler) as port:
        with deployment.client(port) as client:
            for _ in range(2):
                with pytest.raises(RemoteError):
                    client.send_request(1)
        eventually(lambda: "finish" in calls)
    assert calls == ["setup", "respond", "respond", "finish"]


# Errors of handlers


def raising(error: BaseException) -> Callable[[Any], Any]:
    def respond(message: Any) -> Any:
        raise error

    return respond


def record_text(records: list[logging.LogRecord]) -> str:
    """Everything that a handler of logging could make of them."""
    formatter = logging.Formatter()
    return "\n".join(formatter.format(record) + repr(record.__dict__) for record in records)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET_TEXT),
        KeyError(SECRET_TEXT),
        UnicodeDecodeError("utf-8", SECRET_TEXT.encode(), 0, 1, SECRET_TEXT),
        OSError(5, SECRET_TEXT, SECRET_TEXT),
        RecursionError(SECRET_TEXT),
        MemoryError(SECRET_TEXT),
        ConnectionResetError(SECRET_TEXT),
        TimeoutError(SECRET_TEXT),
        ConnectionClosed(SECRET_TEXT),
        DecodeError(SECRET_TEXT),
        RemoteError(19, SECRET_TEXT),
        ExceptionGroup(SECRET_TEXT, [ValueError(SECRET_TEXT)]),
        StopIteration(SECRET_TEXT),
        type("Odd", (Exception,), {"__str__": lambda self: 1 / 0})(SECRET_TEXT),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failure(deployment: Deployment, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    """Only an id goes to the client, and the same id, type and place to the log."""
    caplog.set_level(logging.INFO)
    with serving(deployment, raising(error)) as port, deployment.client(port) as client:
        with pytest.raises(RemoteError) as caught:
            client.send_request(SECRET_TEXT)
        # The connection stays.
        with pytest.raises(RemoteError):
            client.send_request(SECRET_TEXT)
    assert caught.value.code == 19
    found = re.fullmatch(r"the handler failed \(id ([0-9a-f]{8}-\d+)\)", caught.value.text)
    assert found
    errors = [
        record for record in caplog.records if record.name == "sealwire.server" and found[1] in record.getMessage()
    ]
    assert [record.levelname for record in errors] == ["ERROR"]
    assert f"{type(error).__name__} at test_handler.py:" in errors[0].getMessage()
    assert "Hunter2" not in record_text(caplog.records)
    assert len([record for record in caplog.records if record.name == "sealwire.server"]) == 2


def test_failure_with_traceback_at_debug(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sealwire")
    with (
        serving(deployment, raising(ValueError("in detail"))) as port,
        deployment.client(port) as client,
        pytest.raises(RemoteError),
    ):
        client.send_request(1)
    assert "in detail" in caplog.text


def test_failure_of_handle(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    class Handler(RequestHandler):
        def handle(self) -> None:
            message = recv_msg(self.request)
            raise ValueError(message)

    with serving(deployment, Handler, raw=True) as port, deployment.ref_client(port) as client:
        number = client.send_message(SECRET_TEXT.encode())
        got = client.receive(number)
        assert (got.kind, got.code) == (p.FAULT, 19)
        assert b"Hunter2" not in got.raw
        end = client.expect_end()
        assert (end.code, end.last) == (0, 1)
    assert len(logged(caplog)) == 1
    assert "Hunter2" not in record_text(caplog.records)


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("server_class", [TCPServer, ThreadingTCPServer])
def test_exit_in_a_handler(
    deployment: Deployment,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    server_class: type[TCPServer],
) -> None:
    """Is a failure like any other: a client's request ends no server."""
    server = server_class(("127.0.0.1", 0), raising(error), deployment.server_security())
    with running(server) as port, deployment.client(port) as client:
        for _ in range(2):
            with pytest.raises(RemoteError, match=r"handler failed \(id"):
                client.send_request(1)
    assert caplog.text.count(f"{type(error).__name__} at test_handler.py") == 2


def test_interrupt_in_a_handler(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """^C ends the thread that it meets, after the client was told, and no other."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)

    def respond(message: bytes) -> bytes:
        if message == b"exit":
            raise KeyboardInterrupt
        return message

    with serving(deployment, respond, raw=True) as port, deployment.ref_client(port) as other:
        with deployment.ref_client(port) as client:
            number = client.send_message(b"exit")
            assert client.receive(number).code == 19
            client.expect_end()
        assert other.request(b"x")[1] == b"x"
        other.send_close()
        other.expect_end()


def test_exit_in_handle(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    class Handler(RequestHandler):
        def handle(self) -> None:
            recv_msg(self.request)
            raise SystemExit(3)

    with serving(deployment, Handler, raw=True) as port, deployment.ref_client(port) as client:
        number = client.send_message(b"x")
        assert client.receive(number).code == 19
        client.expect_end()
    assert "SystemExit at test_handler.py" in caplog.text


def test_send_msg_without_encode(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    """The likeliest slip: it is said what is wrong, and no number of a frame is lost."""

    class Handler(RequestHandler):
        def handle(self) -> None:
            while (message := recv_msg(self.request)) is not None:
                for wrong in ({"msg": "x"}, "x", [1], 5, None):
                    with pytest.raises(EncodeError, match=r"takes bytes, not \w+; use send_msg\(sock, encode"):
                        send_msg(self.request, wrong)
                if decode(message) == "slip":
                    send_msg(self.request, {"msg": "x"})
                send_msg(self.request, message)

    with serving(deployment, Handler) as port, deployment.client(port) as client:
        assert client.send_request("good") == "good"
        with pytest.raises(RemoteError, match=r"handler failed \(id"):
            client.send_request("slip")
    assert "takes bytes, not dict" in caplog.text


@pytest.mark.parametrize(
    "reply", [{SECRET_TEXT: object()}, [SECRET_TEXT, object()], object()], ids=["key", "list", "bare"]
)
def test_reply_that_cannot_be_encoded(deployment: Deployment, caplog: pytest.LogCaptureFixture, reply: Any) -> None:
    """The log says what is wrong with it, and where, without what the client has sent."""
    caplog.set_level(logging.INFO)
    with serving(deployment, lambda message: reply) as port, deployment.client(port) as client:
        with pytest.raises(RemoteError) as caught:
            client.send_request(1)
        assert caught.value.code == 19
        assert "object" not in caught.value.text
    assert "object" in caplog.text
    assert "Hunter2" not in record_text(caplog.records)


def test_reply_too_large_for_the_client(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    with (
        serving(deployment, lambda message: b"x" * message) as port,
        deployment.client(port, limits={"max_frame": 2000}) as client,
    ):
        assert len(client.send_request(1500)) == 1500
        with pytest.raises(RemoteError) as caught:
            client.send_request(2500)
        assert caught.value.code == 18
        assert len(client.send_request(1500)) == 1500
    assert [record.levelname for record in logged(caplog)] == ["WARNING"]


# Messages that never reach a handler


class Order:
    pass


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 16),
        (SECRET_TEXT.encode(), 16),
        (b"\x80\x05K\x01", 16),
        (b"\x80\x04cos\nsystem\n(S'echo Hunter2'\ntR.", 17),
        (b"\x80\x04cHunter2\nHunter2\n)R.", 17),
        (b"\x80\x05" + b"]" * 500 + b"a" * 499 + b".", 18),
    ],
    ids=["empty", "no pickle", "cut", "os.system", "unknown", "deep"],
)
def test_refused_messages(deployment: Deployment, caplog: pytest.LogCaptureFixture, payload: bytes, code: int) -> None:
    caplog.set_level(logging.INFO)
    seen: list[Any] = []
    with serving(deployment, seen.append) as port, deployment.ref_client(port, codec="pickle-5") as client:
        kind, got, _ = client.request(payload)
        assert (kind, int.from_bytes(got[:2], "big")) == (p.FAULT, code)
        # The name of a type is told, to its sender and in the log.
        assert (b"Hunter2" in got) is (b"cHunter2" in payload)
        # The connection stays.
        assert client.request(encode("good"))[0] == p.MESSAGE
        client.send_close()
        client.expect_end()
    assert seen == ["good"]
    assert len(logged(caplog)) == 1
    assert ("Hunter2" in record_text(caplog.records)) is (b"cHunter2" in payload)


def test_allowed_types(deployment: Deployment) -> None:
    from datetime import date

    with (
        serving(deployment, lambda message: message, codec=Codec(Allowlist(), limits=Limits())) as port,
        deployment.client(port) as client,
    ):
        assert client.send_request(date(2026, 11, 24)) == date(2026, 11, 24)


def test_server_classes_share_the_handler() -> None:
    assert TCPServer.finish_request is ThreadingTCPServer.finish_request
    assert ForkingTCPServer.mro().index(TCPServer) > 0


class TestLocation:
    def location(self, function: Callable[[], object]) -> str:
        try:
            function()
        except BaseException as error:
            return error_location(error)
        raise AssertionError

    def test_innermost_place_in_the_users_code(self) -> None:
        """A place in the standard library, or in a package that it calls, does not count."""

        def parse() -> Any:
            return json.loads(SECRET_TEXT)

        def allow() -> Any:
            return Allowlist(lambda: parse())

        line = parse.__code__.co_firstlineno + 1
        assert self.location(parse) == f"JSONDecodeError at test_handler.py:{line} in parse"
        assert " in allow" in self.location(allow)

    def test_without_code_of_the_user(self) -> None:
        """It is the innermost place of the package that the handler is in, or the innermost one at all."""
        installed = {"__name__": "orders.api", "loads": json.loads}
        code = compile(
            "def respond():\n    return loads('x')\n", sysconfig.get_path("purelib") + "/orders/api.py", "exec"
        )
        exec(code, installed)
        try:
            installed["respond"]()
        except ValueError as error:
            inner = error.with_traceback(error.__traceback__.tb_next)  # this test's frame
            assert error_location(inner) == "JSONDecodeError at api.py:2 in respond"
        assert error_location(ValueError()) == "ValueError"

    def test_groups(self) -> None:
        def fail() -> None:
            raise ValueError(SECRET_TEXT)

        async def fail_together() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(fail))
                group.create_task(asyncio.to_thread(fail))

        found = self.location(lambda: asyncio.run(fail_together()))
        assert re.fullmatch(
            r"ExceptionGroup at test_handler\.py:\d+ in fail_together "
            r"\(first of [12]: ValueError at test_handler\.py:\d+ in fail\)",
            found,
        )

    def test_names_are_bounded_and_escaped(self) -> None:
        scope: dict[str, Any] = {}
        exec(compile(f"def {'f' * 500}():\n    raise ValueError", "/x/\x1b[2J" + "y" * 500, "exec"), scope)
        found = self.location(scope["f" * 500])
        assert found.startswith("ValueError at \\x1b[2Jyy")
        assert len(found) < 200
