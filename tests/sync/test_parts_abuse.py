"""Clients, handlers and circumstances that streams and requests in parts must withstand, at synchronous servers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from reference import protocol as p
from reference.peer import Features, RefClient
from sealwire import Context, InvalidState, RemoteError, RequestHandler, ThreadingTCPServer
from sealwire.session.parts import Upload
from sealwire.sync import server_parts
from sealwire.sync.server_connection import ServerChannel
from support.service import Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clean")

ADDRESS = ("127.0.0.1", 0)
NONE = b"\x80\x04N."
FEATURES = Features(metadata=True, cancel=True, window=2**20)


class Behind:
    """A handler whose stream goes on until ``end`` is set, and which counts the parts of other requests."""

    def __init__(self) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        self.went_on = threading.Semaphore(0)

    def __call__(self, message: Any) -> Any:
        return len(list(message)) if hasattr(message, "__next__") else self.stream()

    def stream(self) -> Iterator[int]:
        self.begun.set()
        while not self.end.wait(0.001):
            yield 1
            self.went_on.release()


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> list[ServerChannel]:
    """The ends of connections that servers have made."""
    made: list[ServerChannel] = []
    open_channel = ServerChannel.__init__

    def opened(self: ServerChannel, *arguments: Any, **options: Any) -> None:
        open_channel(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(ServerChannel, "__init__", opened)
    return made


def reference(deployment: Deployment, port: int) -> RefClient:
    return deployment.ref_client(port, codec="pickle-5", features=FEATURES)


class TestBehindAStream:
    def test_an_upload_loses_no_parts(self, deployment: Deployment) -> None:
        behind = Behind()
        with (
            running(ThreadingTCPServer(ADDRESS, behind, deployment.server_security())) as port,
            reference(deployment, port) as client,
        ):
            stream = client.send_message(NONE, flags=p.PARTS)
            assert behind.begun.wait(10)
            upload = client.upload([NONE] * 3)
            client.ping()  # all of that has been read
            behind.end.set()
            assert client.receive(stream).kind == p.MESSAGE
            assert client.receive(upload).payload == b"\x80\x05K\x03."

    def test_uploads_are_streams(self, deployment: Deployment, channels: list[ServerChannel]) -> None:
        behind = Behind()
        security = deployment.server_security(limits={"max_streams": 4})
        with running(ThreadingTCPServer(ADDRESS, behind, security)) as port, reference(deployment, port) as client:
            stream = client.send_message(NONE, flags=p.PARTS)
            assert behind.begun.wait(10)
            uploads = [client.upload([NONE]) for _ in range(10)]
            client.ping()
            assert len(channels[0]._uploads) == 4
            behind.end.set()
            assert client.receive(stream).kind == p.MESSAGE
            answers = [client.receive(upload) for upload in uploads]
            assert [answer.kind for answer in answers] == [p.MESSAGE] * 4 + [p.FAULT] * 6

    def test_what_waits_is_counted_until_it_is_taken(
        self, deployment: Deployment, channels: list[ServerChannel]
    ) -> None:
        behind = Behind()
        with (
            running(ThreadingTCPServer(ADDRESS, behind, deployment.server_security())) as port,
            reference(deployment, port) as client,
        ):
            stream = client.send_message(NONE, flags=p.PARTS)
            assert behind.begun.wait(10)
            uploads = [client.upload([bytes(50_000)] * 4) for _ in range(3)]
            plain = [client.send_message(bytes(1000), values={"a": "b"}) for _ in range(100)]
            client.ping()
            assert channels[0]._held > 3 * 200_000 + 100 * 5000
            assert channels[0]._holding.counted > 600_000
            behind.end.set()
            for request in (stream, *uploads, *plain):
                client.receive(request)
            assert channels[0]._held == 0

    def test_as_many_requests_as_may_be_unanswered(self, deployment: Deployment) -> None:
        behind = Behind()
        with (
            running(ThreadingTCPServer(ADDRESS, behind, deployment.server_security())) as port,
            reference(deployment, port) as client,
        ):
            stream = client.send_message(NONE, flags=p.PARTS)
            assert behind.begun.wait(10)
            requests = [client.send_message(NONE) for _ in range(1500)]
            client.ping()
            behind.end.set()
            assert client.receive(stream).kind == p.MESSAGE
            kinds = [client.receive(request).kind for request in requests]
            assert kinds == [p.MESSAGE] * 1023 + [p.FAULT] * 477


def test_refused_uploads_leave_nothing(deployment: Deployment, channels: list[ServerChannel]) -> None:
    security = deployment.server_security(limits={"max_requests_per_second": 1})
    with (
        running(ThreadingTCPServer(ADDRESS, lambda message: len(list(message)), security)) as port,
        reference(deployment, port) as client,
    ):
        uploads = [client.upload([NONE] * 3) for _ in range(20)]
        kinds = {client.receive(upload).kind for upload in uploads}
        assert p.FAULT in kinds
        client.ping()
        assert not channels[0]._uploads


def test_the_parts_that_wait_are_not_gone_through_for_each(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window has 18,000 empty parts; their bytes are not added up again whenever one comes or goes."""
    full = threading.Event()
    walks: list[int] = []

    class Parts(deque[Any]):
        def __iter__(self) -> Iterator[Any]:
            walks.append(len(self))
            return super().__iter__()

    class CountedUpload(Upload):
        def __init__(self) -> None:
            super().__init__()
            self.parts = Parts()

    def counted(message: Any) -> int:
        assert full.wait(10)
        return sum(1 for _ in message)

    def parts() -> Iterator[None]:
        for number in range(3000):
            if number == 2000:
                full.set()
            yield None

    monkeypatch.setattr(server_parts, "Upload", CountedUpload)
    security = deployment.server_security()
    with running(ThreadingTCPServer(ADDRESS, counted, security)) as port, deployment.client(port) as client:
        assert client.send_parts(parts()) == 3000
    assert sum(walks) < 3000


class TestTheMessageOutsideOfItsHandler:
    def test_after_the_answer(self, deployment: Deployment) -> None:
        kept: list[Any] = []

        def keeping(message: Any) -> Any:
            if message is None:
                with pytest.raises(InvalidState, match="has been answered"):
                    next(kept[0])
                return "still here"
            kept.append(message)
            return next(message)

        with (
            running(ThreadingTCPServer(ADDRESS, keeping, deployment.server_security())) as port,
            deployment.client(port) as client,
        ):
            assert client.send_parts(range(10)) == 0
            assert client.send_request(None) == "still here"

    def test_in_another_thread(self, deployment: Deployment) -> None:
        """The thread that reads ahead would read at the same time, and end, for all connections."""
        raised: list[BaseException] = []

        def take(message: Any) -> None:
            try:
                next(message)
            except BaseException as error:
                raised.append(error)

        def passing_on(message: Any) -> Any:
            thread = threading.Thread(target=take, args=[message])
            thread.start()
            thread.join()
            return list(message)

        with (
            running(ThreadingTCPServer(ADDRESS, passing_on, deployment.server_security())) as port,
            deployment.client(port) as client,
        ):
            assert client.send_parts(range(3)) == [0, 1, 2]
        assert isinstance(raised[0], InvalidState)
        assert "queue" in str(raised[0])


def test_the_loss_of_the_client_is_noticed_late(deployment: Deployment, channels: list[ServerChannel]) -> None:
    begun, go_on = threading.Event(), threading.Event()
    told: list[bool] = []

    class Late(RequestHandler):
        def respond(self, message: Any) -> None:
            begun.set()
            assert go_on.wait(10)
            told.append(self.cancelled.wait(5))

    with running(ThreadingTCPServer(ADDRESS, Late, deployment.server_security())) as port:
        client = reference(deployment, port)
        client.send_message(NONE)
        assert begun.wait(10)
        client.link.abort(reset=False)
        eventually(lambda: channels[0]._input_ended)
        go_on.set()
        assert eventually(lambda: told) == [True]


class TestTheEndOfTheServer:
    @pytest.mark.parametrize("waits_for", ["credit", "a part"])
    def test_handlers_that_wait_are_told_at_once(self, deployment: Deployment, waits_for: str) -> None:
        ended = threading.Event()

        def handler(message: Any) -> Any:
            return list(message) if hasattr(message, "__next__") else large()

        def large() -> Iterator[bytes]:
            try:
                while True:
                    yield bytes(1000)
            finally:
                ended.set()

        server = ThreadingTCPServer(ADDRESS, handler, deployment.server_security(limits={"drain_timeout": 30.0}))
        features = Features(cancel=True, window=1)
        with (
            running(server) as port,
            deployment.ref_client(port, codec="pickle-5", features=features) as client,
        ):
            upload = waits_for == "a part"
            request = client.send_message(b"" if upload else NONE, flags=p.UPLOAD if upload else p.PARTS)
            client.grant = lambda _: None  # never any credit
            client.ping()
            threading.Thread(target=server.shutdown).start()
            begun = monotonic()
            assert client.receive(request).code == 21
            assert monotonic() - begun < 15

    def test_an_upload_that_is_here_is_finished(self, deployment: Deployment, channels: list[ServerChannel]) -> None:
        go_on = threading.Event()

        def handler(message: Any) -> list[Any]:
            first = next(message)
            assert go_on.wait(10)
            return [first, *message]

        server = ThreadingTCPServer(ADDRESS, handler, deployment.server_security())
        with running(server) as port, reference(deployment, port) as client:
            request = client.upload([NONE] * 3)
            eventually(lambda: any(upload.is_complete for upload in channels[0]._uploads.values()))
            threading.Thread(target=server.shutdown).start()
            eventually(lambda: server._draining)
            go_on.set()
            assert client.receive(request).kind == p.MESSAGE


def test_age_ends_a_stream(deployment: Deployment) -> None:
    """Otherwise a client that does not end its subscription would never have to authenticate again."""

    def endless(_: Any, context: Context) -> Iterator[None]:
        while not context.cancelled.wait(0.01):
            yield None

    security = deployment.server_security(limits={"reload_interval": 0.05, "max_connection_age": 0.5})
    with running(ThreadingTCPServer(ADDRESS, endless, security)) as port, deployment.client(port) as client:
        with pytest.raises(RemoteError, match="too old") as caught:
            for _ in client.stream(None):
                pass
        assert caught.value.code == 21
        stream = client.stream(None)
        next(stream)
        stream.close()


def test_a_client_that_sends_without_end_keeps_no_others_waiting(
    deployment: Deployment, channels: list[ServerChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that reads ahead takes one buffer of each connection at a time."""
    begun, go_on = threading.Event(), threading.Event()

    def handler(_: Any) -> None:
        begun.set()
        assert go_on.wait(10)

    with (
        running(ThreadingTCPServer(ADDRESS, handler, deployment.server_security())) as port,
        reference(deployment, port) as client,
    ):
        request = client.send_message(NONE)
        assert begun.wait(10)
        channel = channels[0]
        eventually(channel.is_working)
        with channel._lock:
            frames = b""
            for _ in range(2000):  # more than four buffers, ignored
                frames += p.frame(p.CREDIT, p.u(1, 4), client.next_sequence, request, client.key_out)
                client.next_sequence += 1
            client.send_raw(frames)
        counts: list[int] = []
        read = channel._read

        def counted(**options: bool) -> int:
            counts.append(read(**options))
            return counts[-1]

        monkeypatch.setattr(channel, "_read", counted)
        channel._next_read_ahead = 0.0
        ahead = channel.read_ahead
        sizes: list[int] = []
        while not sizes or sizes[-1]:
            with channel._lock:
                counts.clear()
                channel._next_read_ahead = 0.0
            ahead(monotonic() + 60)
            sizes.append(sum(counts))
        assert max(sizes) <= 16_384
        go_on.set()
        assert client.receive(request).kind == p.MESSAGE
