"""The server's end of a channel, where no server is needed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from reference import protocol as p
from reference.peer import RefClient, Rejected
from sealwire.contention import Activity
from sealwire.errors import BadTag, ConnectionClosed, DeadlineExceeded, FrameTooLarge, HandshakeFailed
from sealwire.pickling import NATIVE
from sealwire.server_events import ServerEvents
from sealwire.sync import accepting, reply_batches, server_connection
from sealwire.sync.accepting import accept
from sealwire.sync.read_ahead import ReadAhead
from sealwire.sync.server_connection import ServerChannel
from support.service import Deployment, eventually

pytestmark = pytest.mark.usefixtures("clean")


class Slot:
    """A slot that remembers."""

    def __init__(self, room: bool = True) -> None:
        self.room, self.held, self.authenticated = room, 0, 0
        self.since = monotonic()
        self.events = ServerEvents()
        self.address: Any = ("192.0.2.1", 4711)
        self.peer: Any = None

    def identify(self, peer: Any) -> None:
        self.peer = peer

    def track_socket(self, sock: socket.socket | None) -> None:
        self.held += 1 if sock is not None else -1

    def mark_welcomed(self) -> None:
        """Nothing depends on it here."""

    def mark_authenticated(self) -> bool:
        self.authenticated += 1
        return self.room

    def on_request(self) -> None:
        """Nothing depends on it here."""


class Meeting:
    """One accept() in a thread, and a reference client that comes to it."""

    def __init__(self, deployment: Deployment, **limits: Any) -> None:
        self.deployment = deployment
        self.security = deployment.server_security(raw=True, limits=limits)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.leaving, self.leave = socket.socketpair()
        self.slot = Slot()
        self.busy: int | None = None
        self.read_ahead: ReadAhead | None = None
        self.outcome: ServerChannel | BaseException | None = None
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self) -> None:
        sock, _ = self.listener.accept()
        try:
            self.outcome = accept(
                sock,
                self.security,
                slot=self.slot,
                drain_fd=self.leaving.fileno(),
                busy=lambda: self.busy,
                read_ahead=self.read_ahead,
            )
        except Exception as error:
            self.outcome = error

    def client(self, **options: Any) -> RefClient:
        return self.deployment.ref_client(self.listener.getsockname()[1], **options)

    def channel(self) -> ServerChannel:
        self.thread.join(10)
        assert isinstance(self.outcome, ServerChannel)
        return self.outcome

    def error(self) -> BaseException:
        self.thread.join(10)
        assert isinstance(self.outcome, BaseException)
        assert self.slot.held <= 0  # what the server has to drop is not held any more
        return self.outcome

    def close(self) -> None:
        for sock in (self.listener, self.leaving, self.leave):
            sock.close()


@pytest.fixture
def meeting(deployment: Deployment) -> Iterator[Any]:
    made: list[Meeting] = []

    def make(**limits: Any) -> Meeting:
        made.append(Meeting(deployment, **limits))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_authenticated_by_the_first_frame_alone(meeting: Any) -> None:
    met = meeting()
    with met.client() as client, met.channel() as channel:
        assert channel.key_id == "k1"
        assert channel.peer is not None
        assert met.slot.authenticated == 0
        client.send_message(b"x")
        client.send_message(b"y")
        assert bytes(channel.next_request().payload) == b"x"
        assert bytes(channel.next_request().payload) == b"y"
        assert met.slot.authenticated == 1
        client.link.abort(reset=False)
    assert met.slot.held == 0


@pytest.mark.parametrize("code", [4, 5])
def test_busy(meeting: Any, code: int) -> None:
    met = meeting()
    met.busy = code
    with met.client(until="hello") as client:
        with pytest.raises(Rejected) as rejected:
            client.read_welcome()
        assert client.expect_end().close_notify
        assert rejected.value.code == code
    assert isinstance(met.error(), HandshakeFailed)


def test_strangers_do_not_learn_that_the_server_is_busy(meeting: Any) -> None:
    """A client without the key does not learn how the server is doing."""
    met = meeting()
    met.busy = 4
    with met.client(until="hello", psk=b"w" * 32) as client:
        with pytest.raises(Rejected) as rejected:
            client.read_welcome()
        client.expect_end()
        assert rejected.value.code == 3
    assert isinstance(met.error(), BadTag)


def test_lingers_for_the_peer_and_not_for_ever(meeting: Any) -> None:
    """A large reply and CLOSE arrive although the client had sent more than was read."""
    met = meeting()
    with met.client() as client:
        channel = met.channel()
        client.send_message(b"first")
        client.send_message(b"x" * 100_000)
        request = channel.next_request()
        channel.send_reply(request.sequence, b"y" * 300_000)
        closer = threading.Thread(target=channel.close)
        closer.start()
        end = client.expect_end()
        closer.join(5)
        assert [frame.kind for frame in end.frames] == [p.MESSAGE, p.CLOSE]
        assert (end.last, end.how) == (1, "fin")


def test_linger_ends(meeting: Any) -> None:
    met = meeting()
    with met.client():
        channel = met.channel()
        start = monotonic()
        channel.close(linger=0.2)
        assert 0.1 < monotonic() - start < 1.8
        assert channel.fileno() == -1
        channel.close()
        assert met.slot.held == 0


def test_nothing_after_close(meeting: Any) -> None:
    met = meeting()
    with met.client() as client:
        channel = met.channel()
        client.send_message(b"x")
        request = channel.next_request()
        channel.close(linger=0)
        assert channel.ended
        with pytest.raises(ConnectionClosed):
            channel.send_reply(request.sequence, b"late")


def test_leaving_wakes_those_that_wait(meeting: Any) -> None:
    met = meeting()
    with met.client() as client, met.channel() as channel:
        found: list[Any] = []
        waiter = threading.Thread(target=lambda: found.append(channel.next_request()))
        waiter.start()
        met.leave.send(b"x")
        waiter.join(5)
        assert found == [None]
        client.send_message(b"unheard")
        closer = threading.Thread(target=channel.close)
        closer.start()
        end = client.expect_end()
        closer.join(5)
        assert (end.code, end.last) == (2, 0)


def test_leaving_comes_before_what_is_buffered(meeting: Any) -> None:
    """Of two requests that came together the second is not handed over once the server is going."""
    met = meeting()
    with met.client() as client, met.channel() as channel:
        first = p.frame(p.MESSAGE, b"1", 1, 0, client.key_out)
        client.send_raw(first + p.frame(p.MESSAGE, b"2", 2, 0, client.key_out))
        assert bytes(channel.next_request().payload) == b"1"
        met.leave.send(b"x")
        assert channel.next_request() is None
        client.link.abort(reset=False)


def test_frame_too_large_by_its_length_alone(meeting: Any) -> None:
    met = meeting(max_frame=2000)
    with met.client() as client, met.channel() as channel:
        assert client.peer_max_frame == 2000
        client.send_raw(p.u(2001, 4))
        with pytest.raises(FrameTooLarge):
            channel.next_request()
        client.link.abort(reset=False)


@pytest.mark.parametrize(
    ("until", "how", "error", "text"),
    [
        ("tcp", "fin", HandshakeFailed, "before its first byte"),
        ("tcp", "reset", HandshakeFailed, "before its first byte|ended before TLS"),
        ("tls", "fin", ConnectionClosed, "without CLOSE"),
        ("tls", "reset", ConnectionClosed, "without CLOSE"),
    ],
)
def test_client_goes(meeting: Any, until: str, how: str, error: type[Exception], text: str) -> None:
    met = meeting()
    with met.client(until=until) as client:
        client.link.abort(reset=how == "reset")
        with pytest.raises(error, match=text):
            raise met.error()


@pytest.mark.parametrize("until", ["tcp", "tls"])
def test_client_is_silent(meeting: Any, until: str) -> None:
    met = meeting(handshake_timeout=0.5)
    with met.client(until=until), pytest.raises(DeadlineExceeded):
        raise met.error()


def test_what_is_read_ahead_arrived_when_it_was_read(meeting: Any) -> None:
    """The start of the round over all connections does not count: the thread may have waited long for the processor."""
    met = meeting()
    with met.client() as client, met.channel() as channel:
        client.send_message(b"1")
        channel.next_request()
        channel._handling_since -= 10
        round_begun, sent = monotonic() - 5, monotonic()
        client.send_message(b"2", wait=2)
        eventually(lambda: channel.read_ahead(round_begun) or channel._ahead)
        request = channel.next_request()
        client.link.abort(reset=False)
        assert request is not None
        assert channel.deadline >= sent + 2


class Awake(ReadAhead):
    """A reading thread that never runs: the test reads ahead in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.parked = False

    def start(self) -> None:
        self.parked = False


@pytest.mark.skipif(not NATIVE, reason="each reply is sent at once without the native core")
class TestRepliesTogether:
    @pytest.fixture
    def met(self, meeting: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Meeting]:
        """However busy the machine, handlers are quick and no other client is active."""
        activity = Activity()
        monkeypatch.setattr(activity, "newcomer", lambda now: None)
        monkeypatch.setattr(reply_batches, "_QUICK", 1e9)
        for module in (accepting, reply_batches, server_connection):
            monkeypatch.setattr(module, "activity", activity)
        met: Meeting = meeting()
        met.read_ahead = self.thread = Awake()
        yield met
        activity.until = 0.0
        activity.calm(monotonic())

    def frames(self, client: RefClient, count: int) -> list[bytes]:
        """Return the frames of requests, which are not sent."""
        made: list[bytes] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(client.link, "send", made.append)
            for number in range(count):
                client.send_message(bytes([number]))
        return made

    def ask(self, client: RefClient, count: int = 3) -> None:
        """Send requests in one record."""
        client.link.send(b"".join(self.frames(client, count)))

    def answer(self, channel: ServerChannel, size: int = 1) -> None:
        request = channel.next_request()
        assert request is not None
        channel.send_reply(request.sequence, bytes(size))

    def records(self, client: RefClient) -> int:
        """Return the number of TLS records that have arrived and are not read."""
        client.link.sock.settimeout(0)
        try:
            data = client.link.sock.recv(1 << 20, socket.MSG_PEEK)
        except BlockingIOError:
            return 0
        count = 0
        while data:
            data = data[5 + int.from_bytes(data[3:5], "big") :]
            count += 1
        return count

    def end(self, client: RefClient, channel: ServerChannel, answers: int) -> None:
        assert [client.receive(number).payload for number in range(1, answers + 1)] == [b"\0"] * answers
        client.link.abort(reset=False)
        channel.close()

    def test_if_the_next_request_is_here(self, met: Meeting) -> None:
        with met.client() as client, met.channel() as channel:
            self.ask(client)
            for _ in range(2):
                self.answer(channel)
                assert self.records(client) == 0
            self.answer(channel)
            assert self.records(client) == 1
            self.end(client, channel, 3)

    @pytest.mark.parametrize("why", ["slow", "others", "no thread", "parked"])
    def test_not_if(self, met: Meeting, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A handler was slow a moment ago, several clients are active, or nothing would send them if the next is."""
        with met.client() as client, met.channel() as channel:
            self.ask(client)
            if why == "slow":
                monkeypatch.setattr(reply_batches, "_QUICK", -1)
                monkeypatch.setattr(reply_batches, "_CAUTION", 1e9)
            elif why == "others":
                monkeypatch.setattr(server_connection.activity, "until", monotonic() + 1e9)
            elif why == "no thread":
                channel._batches._read_ahead = None
            for count in (1, 2, 3):
                request = channel.next_request()
                assert request is not None
                if why == "parked":
                    self.thread.parked = True
                channel.send_reply(request.sequence, b"\0")
                assert self.records(client) == count
                monkeypatch.setattr(reply_batches, "_QUICK", 1e9)  # that was a moment ago
            self.end(client, channel, 3)

    def test_not_all_that_the_client_waits_for(self, met: Meeting) -> None:
        """Else one end would be idle while the other is at work."""
        with met.client() as client, met.channel() as channel:
            self.ask(client, 32)
            seen = []
            for _ in range(32):
                self.answer(channel)
                seen.append(self.records(client))
            assert seen == [0] * 11 + [1] * 12 + [2] * 8 + [3]
            self.end(client, channel, 32)

    def test_no_more_than_one_record_has(self, met: Meeting) -> None:
        with met.client() as client, met.channel() as channel:
            self.ask(client, 5)
            seen = []
            for _ in range(5):
                self.answer(channel, 5000)
                seen.append(self.records(client))
            assert seen == [0, 1, 1, 2, 3]
            client.link.abort(reset=False)

    def test_the_reading_thread_sends_them(self, met: Meeting) -> None:
        with met.client() as client, met.channel() as channel:
            self.ask(client)
            self.answer(channel)
            channel.next_request()
            channel.read_ahead(monotonic())
            assert self.records(client) == 0
            channel.read_ahead(monotonic() + 1)
            assert self.records(client) == 1
            channel.send_reply(2, b"\0")
            self.answer(channel)
            self.end(client, channel, 3)

    def test_but_does_not_report_that_the_client_is_gone(self, met: Meeting) -> None:
        with met.client() as client, met.channel() as channel:
            self.ask(client)
            self.answer(channel)
            channel.next_request()
            client.link.abort(reset=True)
            channel.read_ahead(monotonic() + 1)
            assert channel.next_request() is not None
            with pytest.raises(ConnectionClosed):
                channel.next_request()

    def test_before_the_connection_waits_for_its_turn(self, met: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
        with met.client() as client, met.channel() as channel:
            self.ask(client)
            self.answer(channel)
            monkeypatch.setattr(server_connection.activity, "until", monotonic() + 1e9)
            begin, seen = channel._turns.begin, []
            monkeypatch.setattr(
                server_connection.ConnectionTurns,
                "begin",
                lambda *arguments, **options: seen.append(self.records(client)) or begin(**options),
            )
            self.answer(channel)
            assert seen[:1] == [1]
            self.answer(channel)
            self.end(client, channel, 3)

    def test_before_it_waits_for_input(self, met: Meeting) -> None:
        """Also for the rest of a request of which the beginning is here."""
        with met.client() as client, met.channel() as channel:
            first, second = self.frames(client, 2)
            client.link.send(first + second[:20])
            self.answer(channel)
            assert self.records(client) == 0
            rest = threading.Thread(target=lambda: client.receive(1) and client.link.send(second[20:]))
            rest.start()
            self.answer(channel)
            rest.join(10)
            assert client.receive(2).payload == b"\0"
            client.link.abort(reset=False)

    def test_before_the_end(self, met: Meeting) -> None:
        with met.client() as client, met.channel() as channel:
            self.ask(client)
            self.answer(channel)
            assert self.records(client) == 0
            closing = threading.Thread(target=channel.close)
            closing.start()
            assert client.receive(1).payload == b"\0"
            client.expect_end()
            closing.join(10)
