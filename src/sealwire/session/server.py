"""The rules of a server's end of a connection, the same on every transport.

A pump reads frames and passes the protocol's events to :class:`ServerSession`. The session decides and queues answers
in the protocol; the pump writes them. A request takes these steps:

1. ``receive``: its frame came. The first authenticated frame establishes the connection, if there is room.
2. ``start_handling``: a handler is free. If the client has given up by now, the request is answered with FAULT 20
   instead, and with FAULT 21 if its identity has too many in a second; if the connection is closing, it is dropped.
   Otherwise it counts as handed over, as CLOSE will state.
3. ``reply`` or ``fault``: the handler has a result. A reply over the client's limit becomes FAULT 18; a reply after a
   revocation is dropped.
4. ``finish_handling``: the handler is free again.

``closing`` is the code of the CLOSE to come. The first reason sets it (drain, idleness, an expired or revoked
certificate, a removed key, age) and later ones do not change it. From then on no request is handed over; those in
progress are finished, then the pump closes.

The pump waits for input until ``input_deadline``, then calls ``on_timeout``. All times are of its monotonic clock.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

from sealwire.errors import InvalidState, PayloadTooLarge
from sealwire.limits import Limits
from sealwire.metrics import (
    ANSWERED,
    DROPPED,
    IN_FLIGHT,
    RECEIVED,
    REQUEST_BUCKETS,
    REQUEST_SECONDS,
    REQUEST_SUM,
    SENT,
    STARTED,
    outcome_of,
)
from sealwire.server_events import ServerEvents, Source
from sealwire.session import explain
from sealwire.session.validity import Termination, Validity
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Closed, Established, Event, Part, Request
from sealwire.wire.frames import CloseCode, FaultCode, Payload, payload_size
from sealwire.wire.metadata import Metadata
from sealwire.wire.protocol import State
from sealwire.wire.server import ServerSide

MAX_UNANSWERED: Final = 1024
"""Requests of one connection that may be unanswered at a time."""
TERMINATION_WAIT: Final = 1.0
"""Seconds to wait for handlers after their connections were dropped."""
_OPEN: Final = State.OPEN


class Slot(Protocol):
    """The slot of a connection among those that its server admits.

    Attributes:
        events: Receives the events to report.
        address: The client's address.
        since: When the connection was accepted.
    """

    events: ServerEvents
    address: Any
    since: float

    @property
    def peer(self) -> PeerIdentity | None:
        """The client's verified identity."""

    @property
    def on_request(self) -> Callable[[], None] | None:
        """The function to call for each request handed to a handler, or None."""

    def mark_welcomed(self) -> None:
        """Note that the client's HELLO was good, so that the connection has time until its first frame."""

    def mark_authenticated(self) -> bool:
        """Establish the connection; return False if max_connections are established already."""


class ServerSession:
    """A server's end of one connection.

    Args:
        protocol: The connection's protocol.
        validity: Checks the connection's certificates and key.
        limits: The limits of the server's Security.
        slot: The connection's slot.
        now: The current time.

    Attributes:
        key_id: The id of the key that the client proved to have.
        events: Receives the events to report.
        closing: The code of the CLOSE to send when no request is in progress; None while the connection goes on.
        termination: The reason if certificates, key or age end the connection.
        working: Number of requests that handlers are working on.
        unanswered: Number of requests received and not answered.
        validity: As given. From its ``next_check`` on :meth:`check` compares certificates and key with those in use,
            so the caller refreshes the Security before.
    """

    def __init__(self, protocol: ServerSide, validity: Validity, limits: Limits, slot: Slot, now: float) -> None:
        self._protocol = protocol
        self.validity = validity
        self._limits = limits
        self._slot = slot
        self.events = slot.events
        self._counts = slot.events.counts
        self._begun: dict[int, float] = {}
        """The requests that were handed over and have no answer, and when that was."""
        self._on_request = slot.on_request
        # The slots of a server that bounds the rate of requests have this.
        self._allow_request: Callable[[float], bool] | None = getattr(slot, "allow_request", None)
        self._authenticated = False
        self._active = now
        self._frame_end: float | None = None
        self.key_id = ""
        self.closing: int | None = None
        self.termination: Termination | None = None
        self.working = 0
        self.unanswered = 0
        self._streams: set[int] = set()

    def answer_hello(self) -> Event | None:
        """Answer the HELLO that a Doubted was about, after a look at the files. Raises RemoteProtocolError."""
        self.validity.renew_keys()
        return self._protocol.answer_hello()

    def establish(self, event: Event | None) -> None:
        """Process the answer to the client's HELLO. Raises HandshakeFailed if it was REJECT."""
        if not isinstance(event, Established):
            raise explain.not_established(self._protocol.rejected)
        self.key_id = event.key_id
        self.validity.set_key(event.key_id)
        self.validity.remember_peer()
        self._slot.mark_welcomed()
        self.events.welcomed(monotonic() - self._slot.since)

    @property
    def peer(self) -> PeerIdentity | None:
        """The client's verified identity; None without a certificate."""
        return self._slot.peer

    def source(self, request: int | None = None) -> Source:
        """Return details of the client, and of one of its requests by its number, for a report."""
        protocol, slot = self._protocol, self._slot
        named = "" if request is None else protocol.request_id(request)
        return Source(slot.address, slot.peer, self.key_id, protocol.connection_id, named)

    @property
    def ended(self) -> bool:
        """True if nothing more can be sent."""
        return self._protocol.state is not _OPEN

    # Requests

    def receive(self, event: Event, now: float) -> Request | None:
        """Process an event; return it if it is a request for a handler."""
        self._frame_end = None
        if not self._authenticated and self._protocol.authenticated:
            self._authenticated = True
            if self._slot.mark_authenticated():
                self.events.opened(self.source())
            else:
                self.close(CloseCode.GOING_AWAY)
                self.events.hit("max_connections", self.source(), "ended: there are max_connections already")
        if type(event) is Request:
            # A PING does not reset the idle time: it only asks if the connection still works.
            self._active = now
            self.unanswered += 1
            self._counts[RECEIVED] += len(event.payload)
            if self.closing is None:
                return event
        elif type(event) is Part:
            self._counts[RECEIVED] += len(event.payload)
        elif type(event) is Closed:
            self.close(CloseCode.DONE)
        return None

    def start_handling(self, request: Request, deadline: float | None, now: float) -> bool:
        """Hand a request over to a handler.

        Return False if its deadline passed, its identity has too many requests, or the connection is closing.

        Args:
            request: A request from :meth:`receive`.
            deadline: The time at which its client stops waiting; None if the client did not say.
            now: The current time.
        """
        if self.closing is not None or self._protocol.state is not _OPEN:
            return False
        if deadline is not None and now >= deadline:
            self.fault(request.sequence, FaultCode.DEADLINE_EXCEEDED)
            return False
        if self._protocol.cancelled and request.sequence in self._protocol.cancelled:
            self.fault(request.sequence, FaultCode.CANCELLED)
            return False
        if request.flags and not self._open_stream(request.sequence):
            self.refuse(request.sequence, "max_streams")
            return False
        if self._allow_request is not None and not self._allow_request(now):
            self.refuse(request.sequence, "max_requests_per_second")
            return False
        self._protocol.hand_over(request.sequence)
        self.working += 1
        self._begun[request.sequence] = now
        counts = self._counts
        counts[STARTED] += 1.0
        counts[IN_FLIGHT] += 1.0
        if self._on_request is not None:
            self._on_request()
        return True

    def _open_stream(self, request: int) -> bool:
        """Count a request with parts; return False if there are too many."""
        self._streams = {each for each in self._streams if self._protocol.is_unanswered(each)}
        if len(self._streams) >= self._limits.max_streams:
            return False
        self._streams.add(request)
        return True

    def reply(self, request: int, payload: Payload, now: float, metadata: Metadata | None = None) -> None:
        """Queue the reply to a request.

        Raises:
            ConnectionClosed: The connection ended meanwhile; the reply is dropped.
            PayloadTooLarge: The payload is over the client's limit; FAULT 18 is queued instead.
            InvalidState: The request was answered already.
        """
        if now >= self.validity.next_check:
            self.check(now)
        if self._protocol.state is not _OPEN:
            raise explain.dropped_reply()
        if metadata and not self._protocol.features.metadata:
            metadata = None
        try:
            self._protocol.send_reply(request, payload, metadata)
        except PayloadTooLarge:
            self.fault(request, FaultCode.TOO_LARGE)
            raise
        self.unanswered -= 1
        self._active = now
        counts = self._counts
        counts[SENT] += len(payload) if type(payload) is bytes else payload_size(payload)
        counts[ANSWERED] += 1.0
        if (begun := self._begun.pop(request, None)) is not None:
            counts[IN_FLIGHT] -= 1.0
            counts[REQUEST_BUCKETS + bisect_left(REQUEST_SECONDS, now - begun)] += 1.0
            counts[REQUEST_SUM] += now - begun

    def note_part(self, payload: Payload) -> None:
        """Record that a part of a reply was queued."""
        self._counts[SENT] += payload_size(payload)

    def refuse(self, request: int, limit: str) -> None:
        """Queue FAULT because of a limit, for a request that is not handed over. Raises like :meth:`fault`."""
        self.events.hit(limit, self.source(request), f"refused a request: {limit}", level=logging.INFO)
        self.fault(request, FaultCode.OVERLOADED)

    def fault(self, request: int, code: int, text: str | None = None) -> None:
        """Queue FAULT in place of a reply; the default text is the code's own.

        Raises ConnectionClosed if the connection ended, InvalidState if the request was answered already.
        """
        if self._protocol.state is not _OPEN:
            raise explain.dropped_reply()
        self._protocol.send_fault(request, code, explain.FAULT_TEXTS[FaultCode(code)] if text is None else text)
        self.unanswered -= 1
        counts = self._counts
        counts[outcome_of(code)] += 1
        if (begun := self._begun.pop(request, None)) is not None:
            seconds = monotonic() - begun
            counts[IN_FLIGHT] -= 1
            counts[REQUEST_BUCKETS + bisect_left(REQUEST_SECONDS, seconds)] += 1
            counts[REQUEST_SUM] += seconds

    def finish_handling(self, now: float) -> None:
        """Record that a handler has finished with a request from :meth:`start_handling`."""
        self.working -= 1
        self._active = now

    def too_many_unanswered(self) -> InvalidState:
        """Return the error for a handler that asks for another request with MAX_UNANSWERED of them unanswered."""
        return InvalidState(f"{MAX_UNANSWERED} requests are unanswered; answer them before the next one")

    # The end

    def drop_unanswered(self) -> None:
        """Record that the connection has ended: what was handed over and is not answered never will be."""
        lost, self._begun = len(self._begun), {}
        self._counts[IN_FLIGHT] -= lost
        self._counts[DROPPED] += lost

    def begin_frame(self, now: float) -> float:
        """Record that a frame has begun; return the time at which it must be complete, or :meth:`check` is due."""
        if self._frame_end is None:
            self._frame_end = now + self._limits.frame_timeout
        return min(self._frame_end, self.validity.next_check)

    def restart_frame(self, now: float) -> None:
        """Start the time of a frame in progress again, after this side has not read for a while."""
        if self._frame_end is not None:
            self._frame_end = now + self._limits.frame_timeout

    def paused(self, seconds: float) -> None:
        """Record that this side has not read for so long: the client's time did not run meanwhile."""
        self._active += seconds
        if self._frame_end is not None:
            self._frame_end += seconds

    def input_deadline(self, now: float) -> float:
        """Return the time at which the connection has been idle, or a frame in progress, for too long.

        While handlers work on requests, the connection is not idle: the time keeps moving on.
        """
        if self._frame_end is not None:
            return self._frame_end
        return (now if self.working else self._active) + self._limits.idle_timeout

    def on_timeout(self, now: float) -> None:
        """Check validity if due, and close the connection if it has reached :meth:`input_deadline`."""
        self.check(now)
        if now >= self.input_deadline(now):
            self.close(CloseCode.IDLE)

    def check(self, now: float) -> None:
        """Begin to close the connection if a check is due and its certificates, key or age no longer allow it.

        A revocation takes effect even if the connection is closing for another reason.
        """
        if now < self.validity.next_check or not self.key_id:
            return
        found = self.validity.check(now)
        if found is None or (self.termination is not None and not found.immediate):
            return
        self.termination = found
        self.close(found.code)
        if found.immediate:
            self._protocol.close(found.code)

    def close(self, code: int) -> None:
        """Hand over no more requests, and close with ``code`` when none is in progress. The first code counts."""
        if self.closing is None:
            self.closing = code

    def send_close(self) -> None:
        """Queue CLOSE."""
        self._protocol.close(CloseCode.DONE if self.closing is None else self.closing)
