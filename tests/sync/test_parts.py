"""Replies and requests in parts, metadata and cancellation, with the synchronous clients and servers."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import pytest

from sealwire import (
    ConfigurationError,
    Context,
    DeadlineExceeded,
    DecodeError,
    FeatureNotSupported,
    InvalidState,
    LimitExceeded,
    Limits,
    PartStream,
    RemoteError,
    RequestHandler,
    SynchronousTCPClient,
    ThreadingTCPServer,
    recv_msg,
)
from sealwire.dtls import SynchronousUDPClient
from sealwire.sync.client_connection import ClientChannel
from support.service import Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clean")

ADDRESS = ("127.0.0.1", 0)


@contextmanager
def connected(
    deployment: Deployment, handler: Any, *, limits: dict[str, Any] | None = None, **options: Any
) -> Iterator[SynchronousTCPClient]:
    security = deployment.server_security(limits=limits or {})
    with running(ThreadingTCPServer(ADDRESS, handler, security)) as port, deployment.client(port, **options) as client:
        yield client


def counting(message: Any) -> Generator[Any, None, Any]:
    yield from range(message)
    return "done"


def listed(message: Any) -> Any:
    return list(message)


class TestStream:
    def test_parts_and_the_reply(self, deployment: Deployment) -> None:
        with connected(deployment, counting) as client:
            stream = client.stream(5)
            assert isinstance(stream, PartStream)
            assert stream.result is None
            assert list(stream) == [0, 1, 2, 3, 4]
            assert stream.result == "done"
            assert list(stream) == []
            assert list(client.stream(0)) == []

    def test_the_connection_is_kept(self, deployment: Deployment) -> None:
        with connected(deployment, counting) as client:
            list(client.stream(3))
            channel = client._channel
            assert channel is not None
            list(client.stream(3))
            with pytest.raises(RemoteError):
                client.send_request("no number")
            assert client._channel is channel

    def test_more_than_the_window(self, deployment: Deployment) -> None:
        def large(message: int) -> Iterator[bytes]:
            for number in range(message):
                yield bytes([number % 256]) * 3000

        with connected(deployment, large, limits={"part_window": 5000}) as client:
            for number, part in enumerate(client.stream(300)):
                assert part == bytes([number % 256]) * 3000

    def test_the_server_waits_for_a_slow_client(self, deployment: Deployment) -> None:
        sent = []

        def large(_: Any) -> Iterator[bytes]:
            for number in range(100):
                sent.append(number)
                yield bytes(1000)

        with connected(deployment, large, limits={"part_window": 1024}) as client:
            stream = client.stream(None)
            next(stream)
            window = client.security.limits.part_window
            assert eventually(lambda: len(sent) == 100 or len(sent) * 1100 >= window)
            assert len(list(stream)) == 99

    @pytest.mark.parametrize("leave", ["break", "close", "with", "drop"])
    def test_leaving_early(self, deployment: Deployment, leave: str) -> None:
        ended = threading.Event()

        def endless(_: Any) -> Iterator[bytes]:
            try:
                while True:
                    yield bytes(500)
            finally:
                ended.set()

        with connected(deployment, lambda message: endless(message) if message == "endless" else message) as client:
            for _ in range(3):
                ended.clear()
                stream = client.stream("endless")
                next(stream)
                if leave == "close":
                    stream.close()
                    stream.close()
                elif leave == "with":
                    with stream:
                        next(stream)
                elif leave == "break":
                    for _ in stream:
                        break
                del stream
                gc.collect()
                assert ended.wait(10)
                channel = client._channel
                assert client.send_request("x") == "x"
                assert client._channel is channel  # it is used again

    def test_in_the_body_of_the_loop(self, deployment: Deployment) -> None:
        with connected(deployment, lambda message: counting(message) if message else "plain") as client:
            for _ in client.stream(3):
                assert client.send_request(0) == "plain"
                assert list(client.stream(2)) == [0, 1]

    def test_the_handlers_failure_after_parts(self, deployment: Deployment) -> None:
        def failing(_: Any) -> Iterator[int]:
            yield 1
            raise ZeroDivisionError

        with connected(deployment, failing) as client:
            stream = client.stream(None)
            assert next(stream) == 1
            with pytest.raises(RemoteError, match="handler failed") as caught:
                next(stream)
            assert caught.value.request_id in caught.value.text
            assert list(stream) == []

    def test_wait_is_for_each_part(self, deployment: Deployment) -> None:
        go_on = threading.Event()

        def stalling(message: Any) -> Iterator[int]:
            yield 1
            go_on.wait(20)
            yield 2

        with connected(deployment, stalling) as client:
            stream = client.stream(None, wait=0.3)
            assert next(stream) == 1
            with pytest.raises(DeadlineExceeded):
                next(stream)
            go_on.set()
            assert list(client.stream(None)) == [1, 2]

    def test_a_part_that_is_refused(self, deployment: Deployment) -> None:
        def parts(_: Any) -> Iterator[Any]:
            yield 1
            yield "x" * 1000
            yield 3

        with connected(deployment, parts, limits={}) as client:
            narrow = deployment.client(client.port, limits={"max_string": 500})
            with narrow:
                stream = narrow.stream(None)
                assert next(stream) == 1
                with pytest.raises(DecodeError):
                    next(stream)
                assert list(stream) == []

    def test_too_many_parts(self, deployment: Deployment) -> None:
        with connected(deployment, counting, limits={"max_parts": 3}) as client:
            assert list(client.stream(3)) == [0, 1, 2]
            with pytest.raises(RemoteError, match="handler failed"):
                list(client.stream(4))
        with (
            connected(deployment, counting) as client,
            deployment.client(client.port, limits={"max_parts": 3}) as few,
            pytest.raises(LimitExceeded, match="max_parts"),
        ):
            list(few.stream(4))

    def test_without_asking_for_parts(self, deployment: Deployment) -> None:
        def only_parts(_: Any) -> Iterator[int]:
            yield 1

        with connected(deployment, counting) as client:
            assert client.send_request(3) == "done"
        with connected(deployment, only_parts) as client, pytest.raises(RemoteError, match=r"stream\(\)") as caught:
            client.send_request(None)
        assert caught.value.code == 23

    def test_no_parts_at_all(self, deployment: Deployment) -> None:
        with connected(deployment, lambda message: message) as client:
            stream = client.stream("whole")
            assert list(stream) == []
            assert stream.result == "whole"

    def test_of_an_older_server(self, deployment: Deployment) -> None:
        with deployment.ref_server() as server, deployment.client(server.port, raw=True) as client:
            with pytest.raises(FeatureNotSupported, match="as a whole"):
                next(client.stream(b"x"))
            with pytest.raises(FeatureNotSupported, match="as a whole"):
                client.send_parts([b"x"])
            with pytest.raises(FeatureNotSupported, match="no metadata"):
                client.send_request(b"x", metadata={"a": "b"})
            assert client.send_request(b"x", metadata={}) == b"x"

    def test_of_a_handler_that_reads_its_requests(self, deployment: Deployment) -> None:
        class Handle(RequestHandler):
            def handle(self) -> None:
                with pytest.raises(InvalidState, match="respond"):
                    _ = self.context
                while (message := recv_msg(self.request)) is not None:
                    self.request.send_msg(message)

        with connected(deployment, Handle) as client:
            with pytest.raises(FeatureNotSupported):
                next(client.stream(1))
            assert client.send_request(1) == 1

    def test_close_of_the_client_ends_it(self, deployment: Deployment) -> None:
        with connected(deployment, counting) as client:
            stream = client.stream(10**9)
            next(stream)
            client.close()
            with pytest.raises(OSError, match="closed"):
                for _ in stream:
                    pass

    def test_shutdown_ends_it(self, deployment: Deployment) -> None:
        server = ThreadingTCPServer(ADDRESS, counting, deployment.server_security())
        with running(server) as port, deployment.client(port) as client:
            stream = client.stream(10**9)
            next(stream)
            threading.Thread(target=server.shutdown).start()
            with pytest.raises((RemoteError, OSError)) as caught:
                for _ in stream:
                    pass
            assert not isinstance(caught.value, RemoteError) or caught.value.code == 21


class TestUpload:
    def test_parts(self, deployment: Deployment) -> None:
        with connected(deployment, listed, limits={"part_window": 2000}) as client:
            assert client.send_parts(range(5)) == [0, 1, 2, 3, 4]
            assert client.send_parts([]) == []
            assert client.send_parts(bytes([number]) * 1500 for number in range(50))[49] == bytes([49]) * 1500

    def test_an_early_answer(self, deployment: Deployment) -> None:
        taken = []

        def endless() -> Iterator[int]:
            for number in range(10**9):
                taken.append(number)
                yield number

        with connected(
            deployment, lambda message: next(message) if not isinstance(message, str) else message
        ) as client:
            assert client.send_parts(endless()) == 0
            channel = client._channel
            assert client.send_request("x") == "x"
            assert client._channel is channel

    def test_an_exception_of_the_iterable(self, deployment: Deployment) -> None:
        seen = []

        def handler(message: Any) -> Any:
            try:
                return [seen.append(part) for part in message]
            except BaseException as error:
                seen.append(type(error).__name__)
                raise

        def broken() -> Iterator[int]:
            yield 1
            raise ZeroDivisionError

        with connected(deployment, handler) as client:
            with pytest.raises(ZeroDivisionError):
                client.send_parts(broken())
            channel = client._channel
            assert eventually(lambda: seen == [1, "RequestCancelled"])
            assert client.send_parts([2]) == [None]
            assert client._channel is channel

    def test_a_part_that_is_refused(self, deployment: Deployment) -> None:
        with connected(deployment, listed, limits={"max_string": 100}) as client:
            with pytest.raises(RemoteError) as caught:
                client.send_parts(["x", "x" * 200, "y"])
            assert caught.value.code == 18
            assert client.send_parts([1]) == [1]

    def test_a_server_that_takes_none(self, deployment: Deployment) -> None:
        release = threading.Event()

        def deaf(message: Any) -> int:
            release.wait(20)
            return 1

        with connected(deployment, deaf, limits={"part_window": 1024}) as client:
            with pytest.raises(DeadlineExceeded):
                client.send_parts((bytes(1000) for _ in range(10)), wait=0.3)
            release.set()

    def test_a_client_that_sends_no_more(self, deployment: Deployment) -> None:
        with connected(deployment, listed, limits={"part_timeout": 0.2}) as client:
            stuck = threading.Event()

            def slow() -> Iterator[int]:
                yield 1
                stuck.wait(1)
                yield 2

            with pytest.raises(RemoteError):
                client.send_parts(slow())

    def test_arguments(self, deployment: Deployment) -> None:
        with connected(deployment, listed) as client:
            with pytest.raises(ConfigurationError, match="iterable"):
                client.send_parts(5)
            with pytest.raises(ConfigurationError, match="wait"):
                client.send_parts([], wait=-1)


class TestCancellation:
    def test_the_handler_is_told_and_the_connection_used_again(self, deployment: Deployment) -> None:
        told = threading.Event()

        class Slow(RequestHandler):
            def respond(self, message: Any) -> Any:
                if message == "slow" and self.cancelled.wait(20):
                    told.set()
                return message

        with connected(deployment, Slow) as client:
            assert client.send_request(1) == 1
            channel = client._channel
            with pytest.raises(DeadlineExceeded) as caught:
                client.send_request("slow", wait=0.3)
            assert caught.value.sent
            assert told.wait(10)
            assert eventually(lambda: _is_answered(client))
            assert client.send_request(2) == 2
            assert client._channel is channel

    def test_a_handler_that_takes_no_notice_holds_nobody_up(self, deployment: Deployment) -> None:
        release = threading.Event()
        with connected(deployment, lambda message: release.wait(20) if message == "slow" else message) as client:
            with pytest.raises(DeadlineExceeded):
                client.send_request("slow", wait=0.2)
            assert client.send_request(2) == 2
            release.set()

    def test_a_client_that_has_gone(self, deployment: Deployment) -> None:
        told = threading.Event()
        begun = threading.Event()

        def waiting(_: Any, context: Context) -> None:
            begun.set()
            if context.cancelled.wait(20):
                told.set()

        with connected(deployment, waiting) as client, deployment.ref_client(client.port, codec="pickle-5") as other:
            other.send_message(b"\x80\x04N.")
            assert begun.wait(10)
            other.link.abort(reset=False)
            assert told.wait(10)

    def test_nested_calls_take_no_longer(self, deployment: Deployment) -> None:
        release = threading.Event()
        said: list[str] = []
        with connected(deployment, lambda _: release.wait(20)) as backend:

            def nested(_: Any) -> str:
                begun = monotonic()
                with pytest.raises(DeadlineExceeded):
                    backend.send_request(1, wait=15)
                said.append("late" if monotonic() - begun < 5 else "much too late")
                return said[0]

            with connected(deployment, nested) as client:
                with suppress(DeadlineExceeded):  # the reply comes at the last moment, or after it
                    assert client.send_request(1, wait=0.5) == "late"
                assert eventually(lambda: said) == ["late"]
            release.set()


class TestMetadata:
    def test_both_ways(self, deployment: Deployment) -> None:
        def handler(message: Any, context: Context) -> Any:
            context.reply_metadata["answer"] = "ä" * 10
            return context.metadata

        with connected(deployment, handler) as client:
            received: dict[str, str] = {"old": "x"}
            assert client.send_request(1, metadata={"b": "1", "a": "2"}, reply_metadata=received) == {
                "a": "2",
                "b": "1",
            }
            assert received == {"answer": "ä" * 10}
            assert client.send_request(1) == {}
            stream = client.stream(1, metadata={"c": "3"})
            assert list(stream) == []
            assert (stream.result, stream.metadata) == ({"c": "3"}, {"answer": "ä" * 10})

    @pytest.mark.parametrize(
        ("metadata", "match"),
        [
            ({"a b": "1"}, "key"),
            ({"": "1"}, "key"),
            ({"a": 1}, "str to str"),
            ([("a", "b")], "mapping"),
            ({f"{number}": "" for number in range(33)}, "33 entries"),
            ({"a": "x" * 4096}, "4096 bytes"),
            ({"a": "\ud800"}, "surrogate"),
        ],
    )
    def test_what_cannot_be_sent(self, deployment: Deployment, metadata: Any, match: str) -> None:
        def handler(message: Any, context: Context) -> Any:
            if message:
                context.reply_metadata.update(metadata)
            return 1

        with connected(deployment, handler) as client:
            with pytest.raises(ConfigurationError, match=match):
                client.send_request(0, metadata=metadata)
            if isinstance(metadata, dict):
                with pytest.raises(RemoteError, match="handler failed"):
                    client.send_request(1)
            assert client.send_request(0) == 1

    def test_ids_in_both_logs(self, deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)

        def failing(message: Any, context: Context) -> Any:
            raise ZeroDivisionError(context.request_id)

        with connected(deployment, failing) as client:
            for metadata, expected in ((None, None), ({"request-id": "order\n7"}, "order\\n7")):
                caplog.clear()
                with pytest.raises(RemoteError) as caught:
                    client.send_request(1, metadata=metadata)
                assert caught.value.request_id == (expected or caught.value.request_id)
                for logger in ("sealwire.server", "sealwire.client"):
                    lines = [record.getMessage() for record in caplog.records if record.name == logger]
                    assert any(caught.value.request_id in line for line in lines)


class TestContext:
    def test_the_state_is_the_connections(self, deployment: Deployment) -> None:
        class Counting(RequestHandler):
            def respond(self, message: Any) -> Any:
                state = self.context.connection
                state.count = getattr(state, "count", 0) + 1
                return state.count, self.context.key_id, str(self.context.peer).partition(" ")[0]

        with connected(deployment, Counting) as client:
            answers = [client.send_request(None) for _ in range(3)]
            assert [answer[0] for answer in answers] == [1, 2, 3]
            assert answers[0][2] == "dns:client.example"
            with deployment.client(client.port) as other:
                assert other.send_request(None)[0] == 1

    @pytest.mark.parametrize("handler", [lambda m, context: context, lambda m, c: c, lambda m, context=None: context])
    def test_functions_get_it(self, deployment: Deployment, handler: Callable[..., Any]) -> None:
        with connected(deployment, lambda m, context: handler(m, context).metadata) as client:
            assert client.send_request(1, metadata={"a": "b"}) == {"a": "b"}
        with connected(deployment, lambda message, other=7: other) as client:
            assert client.send_request(1) == 7


def test_udp_says_that_it_cannot(deployment: Deployment) -> None:
    with SynchronousUDPClient("localhost", 9, security=deployment.security("client", limits=Limits())) as client:
        with pytest.raises(FeatureNotSupported, match="UDP"):
            client.stream(1)
        with pytest.raises(FeatureNotSupported, match="UDP"):
            client.send_parts([1])


def _is_answered(client: SynchronousTCPClient) -> bool:
    channel = client._channel
    assert isinstance(channel, ClientChannel)
    return channel.forget_cancelled()
