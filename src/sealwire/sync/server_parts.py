"""A server's end of a connection while a handler is at work: parts, cancellation, and the requests behind this one.

One request of a connection is handled at a time. Whatever comes meanwhile is *noted*: a request waits for its turn, a
part for the handler that takes it, and a cancellation is told to the handler. Two threads note, never at once: the
reading thread, while the handler computes (:mod:`sealwire.sync.read_ahead`), and the handler's own thread, when it
takes or sends a part.
"""

from __future__ import annotations

import select
from abc import abstractmethod
from collections import deque
from contextlib import suppress
from threading import get_ident
from time import monotonic
from types import SimpleNamespace
from typing import Any, Final

from sealwire.errors import SealwireError
from sealwire.security import Security
from sealwire.session import explain, misuse
from sealwire.session.arrival_times import Arrivals
from sealwire.session.call_time import time_limit
from sealwire.session.context import Context
from sealwire.session.parts import PartOverdue, RequestCancelled, Upload
from sealwire.session.requests import RequestChannel
from sealwire.session.server import MAX_UNANSWERED, ServerSession
from sealwire.sync.pump import WOULD_BLOCK, Carrier, Channel
from sealwire.wire.events import Cancelled, Event, Part, PartsEnded, Request
from sealwire.wire.frames import CloseCode, FaultCode, Flag, Kind, Payload, VerifiedPayload
from sealwire.wire.metadata import MAX_SIZE
from sealwire.wire.parts import cost
from sealwire.wire.server import ServerProtocol

OF_REQUEST: Final = (Kind.CANCEL, Kind.PART, Kind.CREDIT, Kind.END)


class PartsChannel(Channel, RequestChannel):
    """The part of a server's end that a handler uses while it is at work.

    Args:
        sock: The connection's socket.
        protocol: The connection's protocol.
        session: The rules of the connection.
        security: The server's Security.
        drain_fd: A descriptor that becomes readable when the server drains.
    """

    _protocol: ServerProtocol

    def __init__(
        self, sock: Carrier, protocol: ServerProtocol, session: ServerSession, security: Security, drain_fd: int
    ) -> None:
        super().__init__(sock, protocol)
        self._session = self.session = session
        self._security = security
        self._limits = security.limits
        self._frame_timeout = security.limits.frame_timeout
        self._drain_fd = drain_fd
        # Between frames, wake on input or on shutdown.
        self._input_or_drain = select.poll()
        self._input_or_drain.register(sock, select.POLLIN)
        self._input_or_drain.register(drain_fd, select.POLLIN)
        self._received_at = 0.0
        self._ahead: Arrivals | None = None
        """The arrival times of bytes that were read ahead; None after the next ordinary read."""
        self._input_ended = False
        self._waiting: deque[tuple[Request, float]] = deque()
        """Requests that came while a handler was at work, with the times of their arrival."""
        self._uploads: dict[int, Upload] = {}
        self._context: Context | None = None
        """The context of the request that is handled, if its handler has asked for it."""
        self._handled: Request | None = None
        """The number of that request."""
        self._state = SimpleNamespace()
        self._held = 0
        """Bytes of the parts and requests that were noted."""
        self._unread_error: SealwireError | None = None
        """The error that ended the connection while a handler was at work."""
        self._thread = get_ident()

    @abstractmethod
    def _arrival_time(self) -> float:
        """Return the arrival time of the request parsed last."""

    @abstractmethod
    def _take_back(self) -> None:
        """Take the connection back from the reading thread."""

    @abstractmethod
    def _count(self, held: int) -> None:
        """Note how many bytes the connection holds, beside the request that is handled."""

    @abstractmethod
    def _leave(self, now: float) -> None:
        """Leave the connection to the reading thread."""

    # For handlers

    def context(self, request: Request, client_address: Any) -> Context:
        """Return the context of the request that is handled."""
        context = Context(
            request,
            session=self.session,
            client_address=client_address,
            deadline=self.deadline,
            connection=self._state,
            request_id=self.request_id(request.sequence),
        )
        self._context = context
        if request.sequence in self._protocol.cancelled or self._nobody_waits:
            context.cancel()
        return context

    def request_id(self, request: int) -> str:
        """Return the id for logs of a request, by its number."""
        return self._protocol.request_id(request)

    def accepts_parts(self, request: int) -> bool:
        """Return True if the reply to a request may come in parts."""
        return self._protocol.accepts_parts(request)

    def send_part(self, request: int, payload: Payload) -> None:
        """Send a part of the reply to a request; wait for credit first.

        Raises:
            RequestCancelled: The client does not want the rest, or the server drains.
            PayloadTooLarge: The part is over the client's limit.
            DeadlineExceeded: The client made no room for it in time.
            ConnectionClosed: The connection has ended.
        """
        self._take_back()
        deadline = monotonic() + self._limits.part_timeout
        try:
            self._note_input(0.0)
            while True:
                self._check_goes_on(request)
                if self._protocol.may_send_part(request):
                    break
                self._note_next(deadline)
            self._protocol.send_part(request, payload)
            self._session.note_part(payload)
            self.flush(monotonic() + self._frame_timeout)
            self._renew_deadline()
        finally:
            self._leave(monotonic())

    def next_part(self, request: int) -> VerifiedPayload | None:
        """Return the next part of a request; None after the last one.

        A request with all its parts here is like any other: its handler may finish.

        Raises:
            RequestCancelled: The client does not want the reply, or the server drains.
            DeadlineExceeded: The client sent no part in time.
            ConnectionClosed: The connection has ended.
            RemoteProtocolError: The client broke the protocol.
            InvalidState: The request was answered, or this is not the thread of its handler.
        """
        upload = self._uploads.get(request)
        if upload is None or get_ident() != self._thread:
            raise misuse.no_part_now(answered=upload is None)
        self._take_back()
        deadline = monotonic() + self._limits.part_timeout
        try:
            if not upload.is_complete:
                self._note_input(0.0)
            while not upload.is_complete:
                self._check_goes_on(request)
                if upload.parts:
                    break
                self._note_next(deadline)
            if not upload.parts:
                return None
            payload = upload.parts.popleft()
            self._hold(-cost(len(payload)))
            if not self.ended:
                self._protocol.note_processed(request, len(payload))
                self.flush(monotonic() + self._frame_timeout)
            self._renew_deadline()
            return payload
        finally:
            self._leave(monotonic())

    def check_wanted(self, request: int) -> None:
        """Raise RequestCancelled or ConnectionClosed if no client waits for the reply to a request."""
        self._raise_unread_error()
        if self.ended:
            raise explain.dropped_reply()
        if request in self._protocol.cancelled:
            raise RequestCancelled

    @property
    def _nobody_waits(self) -> bool:
        """True if the client has ended the connection, whether or not what came before was taken."""
        return self._input_ended or self.ended or self._protocol.next_kind == Kind.CLOSE

    def _check_goes_on(self, request: int) -> None:
        """Raise an error if no more parts of a request may be sent or taken: the handler may be at it for hours."""
        now = monotonic()
        if now >= self._session.validity.next_check:
            self._security.refresh()
            self._session.check(now)
        self.check_wanted(request)
        if self._session.closing is not None:
            raise RequestCancelled(draining=True)

    def _renew_deadline(self) -> None:
        """Count the client's wait again after a part."""
        if self._handled is not None and self._handled.wait is not None:
            self.deadline = monotonic() + self._handled.wait
            time_limit.set(self.deadline)
            if self._context is not None:
                self._context.deadline = self.deadline

    # Notes

    def _raise_unread_error(self) -> None:
        """Raise the error that ended the connection while a handler was at work, if there is one."""
        if self._unread_error is not None:
            error, self._unread_error = self._unread_error, None
            raise error

    def _forget_handled(self) -> None:
        if self._handled is not None:
            self._forget_upload(self._handled.sequence)

    def _next_in_turn(self) -> tuple[Request, float]:
        """Take the oldest request that waits, and the time of its arrival."""
        waiting = self._waiting.popleft()
        self._hold(-_size(waiting[0]))
        return waiting

    def _forget_upload(self, request: int) -> None:
        """Drop the parts of a request that has an answer."""
        upload = self._uploads.pop(request, None)
        if upload is not None and upload.parts:
            self._hold(-sum(cost(len(part)) for part in upload.parts))

    def _hold(self, size: int) -> None:
        """Count bytes more, or fewer, of what was noted."""
        self._held += size
        self._count(self._protocol.buffered + self._held)

    def _note_parts(self, event: Event) -> None:
        """Note an event that concerns parts or a cancellation."""
        if isinstance(event, Request):
            if event.flags & Flag.UPLOAD:
                self._uploads[event.sequence] = Upload()
        elif isinstance(event, Part):
            self._uploads[event.request].parts.append(event.payload)
            self._hold(cost(len(event.payload)))
        elif isinstance(event, PartsEnded):
            self._uploads[event.request].is_complete = True
        elif isinstance(event, Cancelled) and self._context is not None and event.request == self._context.sequence:
            self._context.cancel()

    def _note_all(self) -> bool:
        """Note all frames that are here whole; return True if there are any."""
        found = False
        while (event := self._protocol.next_event()) is not None:
            request = self._session.receive(event, monotonic())
            self._note_parts(event)
            if request is not None:
                self._wait_for_turn(request)
            found = True
        return found

    def _wait_for_turn(self, request: Request) -> None:
        """Keep a request until the handler has finished; with FAULT 21, if there is no place for it."""
        waiting = sum(_size(each) for each, _ in self._waiting)
        has_room = waiting + _size(request) <= self._limits.part_window and self._session.unanswered <= MAX_UNANSWERED
        if has_room and len(self._uploads) <= self._limits.max_streams:
            self._waiting.append((request, self._arrival_time()))
            self._hold(_size(request))
        else:
            self._session.fault(request.sequence, FaultCode.OVERLOADED)
            self._forget_upload(request.sequence)

    def _note_of_request(self) -> None:
        """In the reading thread, note frames up to the next one that may only be seen when the handler has finished.

        That is another request, CLOSE, or what ends the connection otherwise: the requests before it are served first.
        """
        try:
            while self._protocol.next_kind in OF_REQUEST and (event := self._protocol.next_event()) is not None:
                self._session.receive(event, monotonic())
                self._note_parts(event)
        except SealwireError as error:
            self._unread_error = error
        if self._nobody_waits and self._context is not None:
            self._context.cancel()

    def _note_next(self, deadline: float) -> None:
        """Wait until something has come, the server drains, or a check is due. Raises DeadlineExceeded."""
        now = monotonic()
        if now >= deadline:
            raise PartOverdue
        self._note_input(max(0.0, min(deadline, self._session.validity.next_check) - now))

    def _note_input(self, seconds: float) -> None:
        """Note the frames that are here, or what comes within ``seconds``; begin to drain if the server does."""
        found = self._note_all()
        if self._protocol.queued:
            self.flush(monotonic() + self._frame_timeout)
        if found or self.ended:
            return
        if not self._sock.buffered:
            ready = self._input_or_drain.poll(seconds * 1000)
            if ready and ready[-1][0] == self._drain_fd:  # poll reports in the order of registration
                self._session.close(CloseCode.GOING_AWAY)
            if not ready or ready[0][0] == self._drain_fd:
                return
        self._ahead = None
        with suppress(*WOULD_BLOCK):  # a part of a TLS record has arrived
            self._read()
        self._received_at = monotonic()
        self._note_all()
        self._hold(0)  # the part of a large frame counts as well


def _size(request: Request) -> int:
    """Return the bytes that a request counts while it waits, metadata included."""
    return cost(len(request.payload)) + (MAX_SIZE if request.metadata else 0)
