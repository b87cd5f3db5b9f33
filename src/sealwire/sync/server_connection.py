"""A server's end of a connection on a blocking socket: requests in, replies out.

Two threads use a connection: the one that runs its handler, and the server's reading thread while that handler is at
work (see :mod:`sealwire.sync.read_ahead`). ``_handling_since`` tells which one has it: the reading thread may read only
while it is set. ``_lock`` is held while it reads, and while the handler's thread takes the connection back.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Hashable
from contextlib import suppress
from time import monotonic
from typing import Final

from sealwire.contention import ConnectionTurns, activity
from sealwire.errors import DeadlineExceeded, PayloadTooLarge, RemoteProtocolError, SealwireError
from sealwire.fork import leave_in_children
from sealwire.security import Security
from sealwire.session.arrival_times import Arrivals
from sealwire.session.buffers import STEP, Buffers, Holding
from sealwire.session.requests import LINGER
from sealwire.session.server import MAX_UNANSWERED, ServerSession
from sealwire.session.validity import Termination
from sealwire.slot import Slot
from sealwire.sync.pump import WOULD_BLOCK, Carrier
from sealwire.sync.read_ahead import TICK, ReadAhead
from sealwire.sync.reply_batches import ReplyBatches
from sealwire.sync.server_parts import PartsChannel
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Doubted, Request
from sealwire.wire.frames import CloseCode, Payload
from sealwire.wire.metadata import Metadata
from sealwire.wire.protocol import State
from sealwire.wire.server import ServerProtocol

_CHECK_INTERVAL: Final = 1 / 32
"""Interval between two checks of the reading thread, as a fraction of the time that the handler has been at work."""
_LOOK_AGAIN: Final = 0.1
"""Seconds after which a connection that waits for others looks again, whether or not it was told of a change."""


class ServerChannel(PartsChannel):
    """A server's end of a sealed connection, made by :func:`sealwire.sync.accepting.accept`.

    Args:
        sock: The connection's socket.
        protocol: The connection's protocol.
        session: The rules of the connection.
        security: The server's Security.
        slot: The connection's slot.
        drain_fd: A descriptor that becomes readable when the server drains.
        read_ahead: The server's reading thread; None for a server that does not read ahead.
    """

    def __init__(
        self,
        sock: Carrier,
        protocol: ServerProtocol,
        session: ServerSession,
        security: Security,
        *,
        slot: Slot,
        drain_fd: int,
        read_ahead: ReadAhead | None,
    ) -> None:
        super().__init__(sock, protocol, session, security, drain_fd)
        self.security = security
        self._slot = slot
        # A slot that no server counts has no holding.
        self._holding: Holding = getattr(slot, "holding", None) or Buffers(security.limits.max_buffered).open()
        self.share: Hashable = getattr(slot, "key", None)
        """The peer that the connection's work is charged to."""
        self._turns = ConnectionTurns(self.share)
        self._read_ahead = read_ahead
        self._lock = threading.Lock()
        self._handling_since: float | None = None
        self._next_read_ahead = 0.0
        self._batches = ReplyBatches(read_ahead)
        self.deadline = None
        if read_ahead is not None:
            read_ahead.add(self)
        leave_in_children(self)

    def leave_to_parent(self) -> None:
        """End this process's copy of the connection in a forked child, without sending anything."""
        self._lock = threading.Lock()
        self._handling_since = None
        self._protocol.state = State.ENDED
        self._protocol.frames_to_send()
        self._closed = True
        self._sock.close()

    @property
    def peer(self) -> PeerIdentity | None:  # type: ignore[override]  # read-only here
        """The client's verified identity; None without a certificate."""
        return self._slot.peer

    @property
    def key_id(self) -> str:  # type: ignore[override]  # read-only here
        """The id of the key that the client proved to have."""
        return self._session.key_id

    @property
    def termination(self) -> Termination | None:
        """The reason if certificates, key or age ended the connection."""
        return self._session.termination

    def close(self, code: int = CloseCode.DONE, *, linger: float = LINGER) -> None:
        """Close the connection; see :meth:`Channel.close`."""
        self._take_back()
        if self._turns.taken:  # by a call that was interrupted
            self._turns.give()
        super().close(code, linger=linger)

    def handshake(self, deadline: float) -> None:
        """Read HELLO and answer it.

        Raises HandshakeFailed, RemoteProtocolError, DeadlineExceeded, ConnectionClosed.
        """
        try:
            event = self.next_event(deadline)
            if isinstance(event, Doubted):
                self._security.look(deadline)
                event = self._session.answer_hello()
        finally:
            with suppress(SealwireError):
                self.flush(deadline)
        self._session.establish(event)
        self._sock.opened()

    def next_request(self) -> Request | None:
        """Return the next request, which counts as handed to a handler from now on; None after the last one.

        Raises RemoteProtocolError, ConnectionClosed, InvalidState.
        """
        session = self._session
        if session.unanswered >= MAX_UNANSWERED:
            raise session.too_many_unanswered()
        now = monotonic()
        with self._lock:  # as _take_back does
            self._handling_since = None
        if session.working:
            session.finish_handling(now)
            if self._uploads:
                self._forget_handled()
            self._handled = self._context = None
        if self._holding.counted:
            self._holding.update(self._held)
        if now >= session.validity.next_check:
            self._security.refresh()
            session.check(now)
        try:
            if now < activity.until and self._protocol.pending:
                self._send_waiting(now)
                session.paused(self._turns.begin())
            return self._take_request()
        finally:
            if self._turns.taken:
                self._turns.give()

    def _take_request(self) -> Request | None:
        """Wait for the next request that a handler may have; send CLOSE after the last one, and return None."""
        session, protocol = self._session, self._protocol
        polled = False
        while session.closing is None:
            waiting = self._next_in_turn() if self._waiting else None
            if waiting is None and self._unread_error is not None:
                self._raise_unread_error()
            event = protocol.next_event() if waiting is None else waiting[0]
            if event is None:
                if protocol.state is State.ENDED:
                    return None
                polled = self._wait_for_input()
                continue
            if not polled and (ready := self._input_or_drain.poll(0)) and ready[-1][0] == self._drain_fd:
                session.close(CloseCode.GOING_AWAY)
                break
            now = monotonic()
            if waiting is None:
                arrival = self._received_at if self._ahead is None else self._arrival_time()
                request = session.receive(event, now)
                if request is None or request.flags:
                    self._note_parts(event)
            else:
                request, arrival = waiting
            if request is not None:
                self.deadline = None if request.wait is None else arrival + request.wait
                if session.start_handling(request, self.deadline, now):
                    self._handled = request
                    # From here on the reading thread may use the connection.
                    self._leave(now)
                    return request
                self._forget_upload(request.sequence)
            self._go_on(now)
        session.send_close()
        return None

    def send_reply(self, request: int, payload: Payload, metadata: Metadata | None = None) -> None:
        """Answer a request; with FAULT 18 if the payload is over the client's limit.

        Raises ConnectionClosed, DeadlineExceeded, InvalidState, PayloadTooLarge.
        """
        now = monotonic()
        with self._lock:  # as _take_back does
            since, self._handling_since = self._handling_since, None
        if self._unread_error is not None:
            self._raise_unread_error()
        if now >= self._session.validity.next_check:
            self._security.refresh()
        try:
            if now < activity.until:
                self._turns.take()
            try:
                self._session.reply(request, payload, now, metadata)
            except PayloadTooLarge:
                self.flush(now + self._frame_timeout)
                raise
            held = self._held + (sum(map(len, payload)) if isinstance(payload, list) else len(payload))
            if held >= STEP or self._holding.counted:
                self._holding.update(held)
            may_wait = since is not None and self._batches.may_wait(held - self._held, now, since)
            if not may_wait or self._protocol.reader.empty or self._records is None:
                self.flush(now + self._frame_timeout)
        finally:
            if self._turns.taken:
                self._turns.give()
            if self._holding.counted:
                self._holding.update(self._held)
        self._handling_since = now

    def _send_waiting(self, now: float) -> None:
        """Send the replies that wait for others."""
        if self._protocol.queued:
            self.flush(now + self._frame_timeout)

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT; the default text is the code's own. Raises like :meth:`send_reply`."""
        now = monotonic()
        self._take_back()
        self._raise_unread_error()
        self._session.fault(request, code, text)
        self.flush(now + self._frame_timeout)
        self._handling_since = now

    @property
    def oldest_unanswered(self) -> int | None:
        """The number of the oldest unanswered request; None if all are answered."""
        return self._protocol.oldest_unanswered

    def _go_on(self, now: float) -> None:
        """Send the answers to what no handler gets, and begin another turn."""
        if self._session.closing is None:  # else all goes in one packet with the end
            self.flush(now + self._frame_timeout)
            if self._turns.counting:
                self._session.paused(self._turns.begin())

    def _wait_for_input(self) -> bool:
        """Wait for input, draining or a time limit, and read; return True if ``drain_fd`` was polled."""
        session = self._session
        now = monotonic()
        self._send_waiting(now)
        between_frames = self._protocol.reader.empty and not self._sock.buffered
        if self._turns.taken:
            self._turns.give()
        if self._turns.counting:
            self._turns.count()
        if between_frames:
            end = min(session.input_deadline(now), session.validity.next_check)
            # A client that sends PINGs without end is idle all the same.
            ready = self._input_or_drain.poll((end - now) * 1000) if now < end else []
            if not ready:
                self._on_timeout()
                return True
            if ready[-1][0] == self._drain_fd:  # poll reports in the order of registration
                session.close(CloseCode.GOING_AWAY)
                return True
            now = monotonic()
        self._ahead = None
        end = session.begin_frame(now)
        try:
            if self._holding.counted and self._holding.waits:
                self._wait_for_others(end)
            if activity.note(self.share, now):
                session.paused(self._turns.begin(more=not between_frames))
                end = session.begin_frame(now)
            self.receive(end, ready=True)
        except DeadlineExceeded:
            self._on_timeout()
        else:
            self._received_at = monotonic()
            if not between_frames:
                self._holding.update(self._protocol.buffered)
        return between_frames

    def _wait_for(self, want: ssl.SSLError, deadline: float) -> None:
        """Wait until the socket is ready for TLS. Raises TimeoutError at the deadline."""
        if not self._turns.taken:
            super()._wait_for(want, deadline)
            return
        self._turns.give()
        super()._wait_for(want, deadline)
        self._turns.take()

    def _wait_for_others(self, deadline: float) -> None:
        """Wait until another connection holds more, less is held in all, this one is ended, or the deadline."""
        while self._holding.waits and not self._slot.evicted and (seconds := deadline - monotonic()) > 0:
            changed = threading.Event()
            self._holding.when_changed(changed.set)
            changed.wait(min(seconds, _LOOK_AGAIN))

    def _on_timeout(self) -> None:
        now = monotonic()
        if now >= self._session.validity.next_check:
            self._security.refresh()
        self._session.on_timeout(now)

    # Reading ahead (see sealwire.sync.read_ahead)

    def _arrival_time(self) -> float:
        """Return the arrival time of the request parsed last.

        Input that was read ahead is parsed before the next ordinary read, so one of the two times always applies.
        """
        return self._received_at if self._ahead is None else self._ahead.at(self._protocol.pending)

    def _take_back(self) -> None:
        """Take the connection back from the reading thread."""
        with self._lock:
            self._handling_since = None

    def _count(self, held: int) -> None:
        self._holding.update(held)

    def _leave(self, now: float) -> None:
        """Leave the connection to the reading thread."""
        self._next_read_ahead = 0.0
        self._handling_since = now
        if self._read_ahead is not None and self._read_ahead.parked:
            self._read_ahead.start()

    def is_working(self) -> bool:
        """Return True if a handler is at work on a request of the connection."""
        return self._handling_since is not None

    def read_ahead(self, now: float) -> None:
        """Read the input that has arrived, if the handler has been at work for longer than TICK and a check is due."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            since = self._handling_since
            if since is None or now < max(since + TICK, self._next_read_ahead):
                return
            self._next_read_ahead = now + (now - since) * _CHECK_INTERVAL
            if self._protocol.queued and self._records is not None:
                # What the kernel does not take now, and an error, are left to the handler's thread.
                with suppress(OSError):
                    self._records.write(self._protocol.queued)
            room = self._protocol.room  # no more than that: a client that sends without end must not keep the thread
            while room > 0 and not self._input_ended and (self._sock.buffered or self._input.poll(0)):
                self._ahead = self._ahead or Arrivals(self._protocol.pending, self._received_at)
                pending = self._protocol.pending
                count = self._read(is_ahead=True)
                # Not ``now``: that is the start of the check of all connections and may be much earlier. A request
                # in time would count as late.
                self._ahead.add(count, monotonic(), pending)
                self._input_ended = count == 0
                self._note_of_request()
                room = min(room - count, self._protocol.room)
        except WOULD_BLOCK:
            pass  # only a part of a TLS record has arrived
        except RemoteProtocolError:
            self._input_ended = True  # and the protocol as well, which the handler's thread will find
        finally:
            self._lock.release()

    def _release(self) -> None:
        if self._read_ahead is not None:
            self._read_ahead.remove(self)
        if self._turns.counting:
            self._turns.count()
        self._session.drop_unanswered()
        self._slot.track_socket(None)
        super()._release()
