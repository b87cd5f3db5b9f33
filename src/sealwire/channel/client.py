"""The client's end: connect, requests out, replies in."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from time import monotonic

from sealwire.channel.pump import Carrier, Channel
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    InvalidState,
    RemoteError,
    SealwireError,
)
from sealwire.limits import Limits
from sealwire.standing import Standing
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Closed, Event, Faulted, Ponged, Reply
from sealwire.wire.frames import CloseCode, Payload, VerifiedPayload
from sealwire.wire.protocol import State

logger = logging.getLogger("sealwire.client")

_AHEAD = 1 << 18
"""Bytes that may be queued before it is looked whether they go."""


class ClientChannel(Channel):
    """The client's end of a sealed connection, as :func:`connect` makes it."""

    _protocol: ClientProtocol

    def __init__(
        self,
        sock: Carrier,
        protocol: ClientProtocol,
        limits: Limits,
        peer: PeerIdentity,
        *,
        standing: Standing,
    ) -> None:
        super().__init__(sock, protocol, limits, peer)
        self._standing = standing
        self.sent = False
        """Whether the last request's last byte was handed to TLS."""
        self.sequence = 0
        """The last request's number."""

    def request(self, payload: Payload, deadline: float) -> VerifiedPayload:
        """Send a request and return its reply. Raises DeadlineExceeded, PayloadTooLarge, InvalidState, RemoteError,
        RemoteProtocolError, ConnectionClosed; where the connection breaks while sending, what the peer said last is
        read before it is reported, since that may explain it.
        """
        self._send_request(payload, deadline)
        if self.sent:
            self.receive(deadline)
        return self.receive_reply(deadline)

    def receive_reply(self, deadline: float) -> VerifiedPayload:
        """The next reply. Raises RemoteError, DeadlineExceeded, RemoteProtocolError, ConnectionClosed."""
        event = self._protocol.next_event()
        if type(event) is Reply:  # as a rule
            return event.payload
        event = self._checked(event, deadline)
        while not isinstance(event, Reply):
            if isinstance(event, Faulted):
                raise RemoteError(event.code, event.text)
            event = self._checked(None, deadline)
        return event.payload

    def ping(self, deadline: float) -> float:
        """Seconds until the server's answer. Raises DeadlineExceeded, RemoteProtocolError, ConnectionClosed."""
        start = monotonic()
        self._protocol.send_ping()
        self.flush(deadline)
        while not isinstance(self._checked(None, deadline), Ponged):
            pass
        return monotonic() - start

    def pipeline(
        self, payloads: Iterator[Payload], *, window: int, wait: float, unanswered: dict[int, Payload]
    ) -> Iterator[VerifiedPayload | RemoteError]:
        """Send requests without waiting for replies, at most ``window`` of them; yield replies and faults in order.

        wait: seconds for each request. unanswered: filled with the requests under way, by number and in order.
        Raises like :meth:`request`.
        """
        unsent: deque[memoryview] = deque()
        ends: dict[int, float] = {}
        found: dict[int, VerifiedPayload | RemoteError] = {}
        more = True
        while True:
            while more and len(unanswered) < window and sum(map(len, unsent)) < _AHEAD:
                payload = next(payloads, None)
                if payload is None:
                    more = False
                    break
                self.sequence = self._protocol.send_request(payload, wait=wait)
                unanswered[self.sequence] = payload
                ends[self.sequence] = monotonic() + wait
                unsent.extend(memoryview(piece).cast("B") for piece in self._protocol.data_to_send())
            if not unanswered:
                return
            event = self._protocol.next_event()
            if event is None:
                if self._protocol.state is State.ENDED:
                    raise ConnectionClosed("the connection was closed by this side")
                self.converse(unsent, ends[next(iter(unanswered))])
            elif isinstance(event, Reply):
                found[event.request] = event.payload
            elif isinstance(event, Faulted):
                found[event.request] = RemoteError(event.code, event.text)
            else:
                self._checked(event, 0.0)
            # A server may answer in another order than it was asked.
            while unanswered and (first := next(iter(unanswered))) in found:
                del unanswered[first]
                yield found.pop(first)

    def usable(self) -> bool:
        """Whether the connection can take a request, and what it was made by still holds.

        Looks for a CLOSE or an end that is there to read; never waits.
        """
        if monotonic() >= self._standing.next_look:
            lapse = self._standing.look()
            reason = self._standing.stale() if lapse is None else lapse.reason
            if reason is not None:
                logger.info("a connection to %s is not used any more: %s", self.peer, reason)
                self._protocol.close(CloseCode.DONE)
                return False
        if not self._filled and not self._input.poll(0):
            return not self.ended  # as a rule
        try:
            while not self.ended and (self._buffered or self._input.poll(0)):
                self.receive(0.0, ready=True)
                if self._protocol.next_event() is not None:
                    return False
        except DeadlineExceeded:
            pass  # part of a TLS record is there, which says nothing yet
        except SealwireError:
            return False
        return not self.ended

    @property
    def renewed(self) -> bool:
        """Whether a new connection would be made with another certificate or key."""
        return self._standing.renewed()

    @property
    def idle(self) -> bool:
        """Whether the connection stands and nothing is unanswered."""
        return not self.ended and not self._protocol.unanswered

    def abandon(self) -> None:
        """Close our copy of the socket without a word: the connection belongs to the process that forked this one."""
        self._closed = True
        self._release()

    def send_msg(self, payload: Payload) -> None:
        """Send a request; sealwire.send_msg(channel, payload) is the usual way to call it."""
        self._send_request(payload, monotonic() + self._limits.frame_timeout)
        if not self.sent:
            raise ConnectionClosed("the connection broke while sending; the request was not received")

    def recv_msg(self) -> bytes | None:
        """The next reply, waiting as long as Limits.idle_timeout; None after the server's CLOSE."""
        if not self._protocol.unanswered:
            raise InvalidState("no request is unanswered, so no reply will come; send_msg first")
        try:
            return bytes(self.receive_reply(monotonic() + self._limits.idle_timeout))
        except ConnectionClosed as closed:
            if closed.code is None:
                raise
            return None

    def _send_request(self, payload: Payload, deadline: float) -> None:
        self.sent = False
        self.sequence = self._protocol.send_request(payload, wait=max(0.0, deadline - monotonic()))
        try:
            self.flush(deadline)
            self.sent = True
        except ConnectionClosed:  # the reply that does not come reports it, with what explains it
            pass

    def _checked(self, event: Event | None, deadline: float) -> Event:
        """The event, or where there is none the next one; raises ConnectionClosed for an end."""
        if event is None:
            event = self.next_event(deadline)
        if event is None:
            raise ConnectionClosed("the connection was closed by this side")
        if isinstance(event, Closed):
            raise unanswered(event)
        return event


def unanswered(event: Closed) -> ConnectionClosed:
    """The server's CLOSE, to whoever waits for a reply."""
    return ConnectionClosed(
        f"the server closed the connection (code {event.code}) with the request unanswered", **event._asdict()
    )
