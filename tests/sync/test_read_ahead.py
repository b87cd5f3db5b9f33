"""Reading while a handler is at work: when the thread looks, and what a connection lets it read."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from sealwire.errors import ConnectionClosed
from sealwire.session import terms
from sealwire.sync import accepting, pump, read_ahead, server_connection
from sealwire.sync.accepting import accept
from sealwire.sync.read_ahead import TICK, ReadAhead
from sealwire.sync.server_connection import ServerChannel
from sealwire.sync.unix_socket import own_process
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Event, Faulted, Reply
from sealwire.wire.frame_reader import STAGING
from sealwire.wire.frames import FaultCode
from support.service import Deployment, eventually
from support.session import Slot
from support.wire import feed, sent

pytestmark = pytest.mark.usefixtures("clean")

NAME = "sealwire read-ahead"


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


class Waits(threading.Event):
    """An event that remembers for how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.timeouts.append(timeout)
        return super().wait(timeout)


class Watched:
    """A connection that remembers when it was looked at and read from."""

    def __init__(self, at_work: Callable[[], bool] = lambda: False) -> None:
        self.at_work = at_work
        self.looks = 0
        self.reads: list[float] = []

    def is_working(self) -> bool:
        self.looks += 1
        return self.at_work()

    def read_ahead(self, now: float) -> None:
        self.reads.append(now)


class Watching:
    """A ReadAhead that is patient for three short ticks, and what its thread waits for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(read_ahead, "TICK", 0.001)
        monkeypatch.setattr(read_ahead, "_IDLE_TICKS", 3)
        self.wake = Waits()
        with monkeypatch.context() as patched:
            patched.setattr(threading, "Event", lambda: self.wake)
            self.ahead = ReadAhead()

    def wait_until_parked(self) -> None:
        """Return when the thread waits until it is woken."""
        eventually(lambda: self.ahead.parked and self.wake.timeouts[-1:] == [None] and not self.wake.is_set())


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    made = Watching(monkeypatch)
    yield made
    made.ahead.close()
    assert threads() == []


class TestThread:
    def test_is_not_there_before_it_is_needed(self, watching: Watching) -> None:
        watching.ahead.add(Watched(lambda: True))
        assert watching.ahead.parked
        assert threads() == []

    def test_is_one(self, watching: Watching) -> None:
        watching.ahead.add(Watched(lambda: True))
        for _ in range(3):
            watching.ahead.start()
        assert not watching.ahead.parked
        (thread,) = threads()
        assert thread.daemon

    def test_reads_from_connections_at_work(self, watching: Watching) -> None:
        working, waiting = Watched(lambda: True), Watched()
        for each in (working, waiting):
            watching.ahead.add(each)
        watching.ahead.start()
        eventually(lambda: len(working.reads) >= 10)
        assert working.reads == sorted(working.reads)
        assert waiting.looks >= 9
        assert waiting.reads == []

    def test_leaves_what_was_removed(self, watching: Watching) -> None:
        gone, other = Watched(lambda: True), Watched(lambda: True)
        for each in (gone, other):
            watching.ahead.add(each)
        watching.ahead.start()
        eventually(lambda: gone.reads)
        watching.ahead.remove(gone)
        watching.ahead.remove(gone)
        seen = len(other.reads)
        eventually(lambda: len(other.reads) >= seen + 2)
        before = len(gone.reads)
        eventually(lambda: len(other.reads) >= seen + 6)
        assert len(gone.reads) == before

    def test_parks_when_no_handler_is_at_work(self, watching: Watching) -> None:
        watched = Watched()
        watching.ahead.add(watched)
        watching.ahead.start()
        watching.wait_until_parked()
        # Three ticks of patience, and a look more after it has said that it parks.
        assert watching.wake.timeouts[-4:] == [0.001, 0.001, 0.001, None]
        assert watched.looks == len(watching.wake.timeouts)
        assert watched.reads == []

    def test_does_not_park_while_a_handler_is_at_work(self, watching: Watching) -> None:
        watched = Watched(lambda: True)
        watching.ahead.add(watched)
        watching.ahead.start()
        eventually(lambda: len(watched.reads) > 20)
        assert not watching.ahead.parked
        assert None not in watching.wake.timeouts

    def test_is_woken(self, watching: Watching) -> None:
        working = threading.Event()
        watched = Watched(working.is_set)
        watching.ahead.add(watched)
        watching.ahead.start()
        for _ in range(3):
            watching.wait_until_parked()
            before = len(watched.reads)
            working.set()
            watching.ahead.start()
            assert not watching.ahead.parked
            eventually(lambda before=before: len(watched.reads) > before)
            working.clear()
        assert len(threads()) == 1

    def test_a_handler_that_gets_to_work_as_it_parks(self, watching: Watching) -> None:
        """It has seen the thread awake a moment ago, so that it does not wake it, and must be seen by it."""
        watched = Watched(lambda: watching.ahead.parked and not watched.reads)
        watching.ahead.add(watched)
        watching.ahead.start()
        eventually(lambda: watched.reads)

    @pytest.mark.parametrize("state", ["never started", "awake", "parked"])
    def test_close_ends_it(self, watching: Watching, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if state == "awake":
            watching.ahead.add(Watched(lambda: True))
        if state != "never started":
            watching.ahead.start()
        if state == "parked":
            watching.wait_until_parked()
        for _ in range(2):
            watching.ahead.close()
            assert threads() == []
        started: list[threading.Thread] = []
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", started.append)
            watching.ahead.start()
        assert started == []

    def test_without_any_more_threads(self, watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
        """Requests are served all the same, and the next handler tries again."""

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        watched = Watched(lambda: True)
        watching.ahead.add(watched)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            watching.ahead.start()
        assert watching.ahead.parked
        watching.ahead.start()
        eventually(lambda: watched.reads)


class Clock:
    """A monotonic clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Pair:
    """A server's channel on a Unix socket, and the client's protocol with the other end of it.

    ``moments``: what the channel told the thread that reads.
    """

    def __init__(self, deployment: Deployment, clock: Clock) -> None:
        self.clock = clock
        own = own_process()
        options = {"peers": [f"uid:{own.uid}"], "service": "orders", "raw": True}
        security = deployment.security("server", **options)
        ours, self.sock = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._draining, self._drain = socket.socketpair()
        self.client = ClientProtocol(**terms.unix_client_parameters(deployment.security("client", **options), own, own))
        self.thread = Thread()
        self.send()
        slot = TrackedSlot()
        slot.since = clock()
        self.channel: ServerChannel = accept(
            ours,
            security,
            slot=slot,
            drain_fd=self._draining.fileno(),
            busy=lambda: None,
            read_ahead=self.thread,
        )
        self.receive()

    def send(self) -> int:
        """Send what the client has queued; return its size."""
        data = sent(self.client)
        self.sock.sendall(data)
        return len(data)

    def ask(self, payload: bytes = b"?", **options: Any) -> int:
        self.client.send_request(payload, **options)
        return self.send()

    def receive(self) -> list[Event]:
        """Return the events that the server has sent."""
        self.sock.settimeout(0)
        data = b""
        with suppress(BlockingIOError):
            while piece := self.sock.recv(1 << 20):
                data += piece
        self.sock.settimeout(5)
        return feed(self.client, data)

    @property
    def unread(self) -> int:
        """Bytes that the server has left in the kernel."""
        size: int = struct.unpack("i", fcntl.ioctl(self.channel.fileno(), termios.FIONREAD, bytes(4)))[0]
        return size

    def close(self) -> None:
        for sock in (self.sock, self._draining, self._drain):
            sock.close()
        self.channel.close(linger=0)


class TrackedSlot(Slot):
    peer = None
    since = 0.0

    def identify(self, peer: Any) -> None:
        self.peer = peer

    def track_socket(self, sock: socket.socket | None) -> None:
        """It is closed by the channel."""


class Thread(ReadAhead):
    """Never runs: the test reads ahead in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0
        self.connections: list[Any] = []

    def add(self, connection: Any) -> None:
        self.connections.append(connection)

    def remove(self, connection: Any) -> None:
        self.connections.remove(connection)

    def start(self) -> None:
        self.starts += 1
        self.parked = False


@pytest.fixture
def pair(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    clock = Clock()
    for module in (accepting, server_connection, pump):
        monkeypatch.setattr(module, "monotonic", clock)
    made = Pair(deployment, clock)
    yield made
    made.close()
    assert made.thread.connections == []


class TestConnection:
    def in_hand(self, pair: Pair) -> None:
        """One request is in the handler's hands from now on."""
        pair.ask(b"held")
        request = pair.channel.next_request()
        assert request is not None
        assert bytes(request.payload) == b"held"
        assert pair.channel.is_working()

    def test_is_known_to_the_thread(self, pair: Pair) -> None:
        assert pair.thread.connections == [pair.channel]
        assert not pair.channel.is_working()
        assert pair.thread.starts == 0

    def test_wakes_a_parked_thread(self, pair: Pair) -> None:
        self.in_hand(pair)
        assert pair.thread.starts == 1
        self.in_hand(pair)
        assert pair.thread.starts == 1
        pair.thread.parked = True
        self.in_hand(pair)
        assert pair.thread.starts == 2

    def test_is_left_alone_between_requests(self, pair: Pair) -> None:
        size = pair.ask()
        pair.channel.read_ahead(pair.clock.now + 100)
        assert pair.unread == size

    @pytest.mark.parametrize(("seconds", "read"), [(0.0, False), (TICK * 0.9, False), (TICK * 1.1, True), (9.0, True)])
    def test_is_read_from_once_a_handler_takes_long(self, pair: Pair, seconds: float, read: bool) -> None:
        self.in_hand(pair)
        size = pair.ask()
        pair.channel.read_ahead(pair.clock.now + seconds)
        assert pair.unread == (0 if read else size)

    def test_counts_from_zero_after_a_reply(self, pair: Pair) -> None:
        """A handler that has answered is expected back."""
        self.in_hand(pair)
        pair.clock.now += 10
        pair.channel.send_reply(1, b"!")
        size = pair.ask()
        pair.channel.read_ahead(pair.clock.now + TICK / 2)
        assert pair.unread == size
        pair.channel.read_ahead(pair.clock.now + TICK * 2)
        assert pair.unread == 0

    def test_looks_ever_more_rarely(self, pair: Pair) -> None:
        """So that many handlers that take long cost no more than a few."""
        self.in_hand(pair)
        start, seen = pair.clock.now, []
        for tick in range(1, 6000):
            if pair.unread == 0:
                pair.ask()
            pair.channel.read_ahead(start + tick * TICK)
            if pair.unread == 0:
                seen.append(tick * TICK)
        gaps = [later - earlier for earlier, later in pairwise(seen)]
        assert min(gaps) < 2 * TICK
        assert 0.5 < max(gaps) < 3.0
        assert all(gap <= later / 20 + 2 * TICK for gap, later in zip(gaps, seen[1:], strict=True))

    @pytest.mark.parametrize("answered", ["by a reply", "by a fault", "by nothing"])
    def test_each_request_is_looked_at_as_soon_as_the_first(self, pair: Pair, answered: str) -> None:
        """However long the handler was at work on the one before it."""
        self.in_hand(pair)
        pair.clock.now += 1000
        pair.channel.read_ahead(pair.clock.now)
        if answered == "by a reply":
            pair.channel.send_reply(1, b"!")
        elif answered == "by a fault":
            pair.channel.send_fault(1, FaultCode.HANDLER_FAILED)
        self.in_hand(pair)
        pair.ask()
        pair.channel.read_ahead(pair.clock.now + 2 * TICK)
        assert pair.unread == 0

    @pytest.mark.parametrize("ahead", [True, False], ids=["read ahead", "read when the handler is back"])
    @pytest.mark.parametrize(("back", "late"), [(0.69, False), (0.71, True), (60.0, True)])
    def test_lateness_counts_from_the_arrival(self, pair: Pair, ahead: bool, back: float, late: bool) -> None:
        self.in_hand(pair)
        start = pair.clock.now
        pair.ask(b"late", wait=0.5)
        pair.clock.now = start + 0.2
        if ahead:
            pair.channel.read_ahead(pair.clock.now)
        pair.clock.now = start + back
        pair.channel.send_reply(1, b"!")
        pair.ask(b"next")
        request = pair.channel.next_request()
        assert request is not None
        if ahead and late:
            assert bytes(request.payload) == b"next"
            answers = pair.receive()
            assert [type(event) for event in answers] == [Reply, Faulted]
            assert answers[1][:2] == (2, FaultCode.DEADLINE_EXCEEDED)
        else:
            assert bytes(request.payload) == b"late"
            assert pair.channel.deadline == pytest.approx((start + 0.2 if ahead else start + back) + 0.5)

    def test_each_arrived_with_its_last_byte(self, pair: Pair) -> None:
        self.in_hand(pair)
        start = pair.clock.now
        pair.client.send_request(b"one", wait=10)
        pair.client.send_request(b"two", wait=10)
        data = sent(pair.client)
        cuts = [0, 10, len(data) // 2 + 1, len(data) - 1, len(data)]
        for number, (begin, end) in enumerate(pairwise(cuts), 1):
            pair.sock.sendall(data[begin:end])
            pair.clock.now = start + number
            pair.channel.read_ahead(pair.clock.now)
        deadlines = []
        for _ in range(2):
            assert pair.channel.next_request() is not None
            deadlines.append(pair.channel.deadline)
        assert deadlines == [start + 2 + 10, start + 4 + 10]

    def test_the_rest_of_a_frame_that_is_read_in_the_ordinary_way(self, pair: Pair) -> None:
        self.in_hand(pair)
        start = pair.clock.now
        pair.client.send_request(b"halved", wait=10)
        data = sent(pair.client)
        pair.sock.sendall(data[:30])
        pair.channel.read_ahead(start + 1)
        assert pair.unread == 0
        pair.sock.sendall(data[30:])
        pair.clock.now = start + 5
        assert pair.channel.next_request() is not None
        assert pair.channel.deadline == start + 5 + 10

    @pytest.mark.parametrize("size", [1000, 100_000])
    def test_one_buffer_at_most(self, pair: Pair, size: int) -> None:
        """However much a client sends, and however often it is looked at."""
        self.in_hand(pair)
        count = 200_000 // size
        total = sum(pair.ask(b"%d" % number + bytes(size)) for number in range(count))
        for number in range(1, 20):
            pair.channel.read_ahead(pair.clock.now + number)
            assert pair.unread == total - STAGING
        for number in range(count):
            request = pair.channel.next_request()
            assert request is not None
            assert bytes(request.payload) == b"%d" % number + bytes(size)
            pair.channel.read_ahead(pair.clock.now + 100)

    @pytest.mark.parametrize("clean", [True, False])
    def test_the_end(self, pair: Pair, clean: bool) -> None:
        """Requests that came before the end are served, and the end is noted once."""
        self.in_hand(pair)
        pair.ask(b"last")
        if clean:
            pair.client.close()
            pair.send()
        pair.sock.shutdown(socket.SHUT_WR)
        for number in range(1, 5):
            pair.channel.read_ahead(pair.clock.now + number)
        request = pair.channel.next_request()
        assert request is not None
        assert bytes(request.payload) == b"last"
        if clean:
            assert pair.channel.next_request() is None
            assert pair.channel.ended
        else:
            with pytest.raises(ConnectionClosed):
                pair.channel.next_request()

    def test_not_after_its_own_end(self, pair: Pair) -> None:
        self.in_hand(pair)
        pair.channel.close(linger=0)
        assert not pair.channel.is_working()
        pair.channel.read_ahead(pair.clock.now + 100)
        assert pair.thread.connections == []

    def test_never_waits_for_the_handlers_thread(self, pair: Pair) -> None:
        """While the connection passes from one thread to the other, the thread goes on to the next connection."""
        self.in_hand(pair)
        size = pair.ask()
        start = time.monotonic()
        with pair.channel._lock:  # as its owner has it
            pair.channel.read_ahead(pair.clock.now + 100)
            assert pair.unread == size
        assert time.monotonic() - start < 2
