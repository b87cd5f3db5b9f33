"""Requests over datagrams, without I/O: idempotent ones are sent again until a reply comes. The time is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from sealwire.backoff import Backoff
from sealwire.dtls.client_association import ClientAssociation
from sealwire.errors import ConnectionClosed, RemoteError, SealwireError
from sealwire.session import explain
from sealwire.session.call_metadata import CallMetadata, sendable
from sealwire.session.client import ConnectionLost
from sealwire.wire.events import Event, Reply
from sealwire.wire.frames import FaultCode, Payload, VerifiedPayload

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 2.0
"""Seconds until an idempotent request is sent again: _FIRST_PAUSE, doubled each time up to _LONGEST_PAUSE."""


class Exchanges:
    """The requests in flight on one association.

    Args:
        association: The association.
        address: The server's address, for messages.

    Attributes:
        closed: The error since the association has ended; None while it is open.
        in_flight: The exchanges by request number; an exchange that was sent again has several numbers.
    """

    def __init__(self, association: ClientAssociation, address: str) -> None:
        self.association = association
        self.address = address
        self.closed: ConnectionClosed | None = None
        self.in_flight: dict[int, Exchange] = {}

    def __len__(self) -> int:
        return len(self.in_flight)

    def receive(self, event: Event) -> None:
        """Process an event of the association."""
        try:
            answer = self.association.session.receive(event)
        except ConnectionClosed as closed:
            self.closed = closed.with_traceback(None)  # which would hold this object
            return
        if answer is not None and answer[0] in self.in_flight:
            self.in_flight[answer[0]].answer(answer[1], event.metadata if isinstance(event, Reply) else None)

    def loss(self) -> ConnectionClosed | None:
        """Return the error if the association has ended, or None."""
        if self.closed is None and self.association.ended:
            self.closed = ConnectionClosed("the server has ended the association")
        return self.closed

    def fail(self, error: SealwireError) -> None:
        """Fail all requests in flight."""
        for exchange in set(self.in_flight.values()):
            exchange.fail(error)


class Exchange:
    """One request in flight. The constructor queues it.

    Args:
        exchanges: The requests of its association.
        payload: The encoded request.
        deadline: The time at which the caller stops waiting.
        now: The current time.
        idempotent: Send the request again while no reply comes.
        call_metadata: Of the call, if there is any.

    Raises:
        PayloadTooLarge: The payload does not fit into a datagram.
        InvalidState: The association has ended.

    Attributes:
        resend_at: The time at which :meth:`send` is due again; infinite if it is not sent again.
        result: The reply or an error; None while there is neither.
        on_result: The function to call when there is a result, or None.
    """

    def __init__(
        self,
        exchanges: Exchanges,
        payload: Payload,
        deadline: float,
        now: float,
        *,
        idempotent: bool,
        call_metadata: CallMetadata | None = None,
    ) -> None:
        self._call_metadata = call_metadata
        self._metadata = None
        if call_metadata is not None:
            self._metadata = sendable(
                call_metadata.metadata, exchanges.association.protocol.features, exchanges.address
            )
        self._exchanges = exchanges
        self._in_flight = exchanges.in_flight
        self._payload = payload
        self._deadline = deadline
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE) if idempotent else None
        self._numbers: list[int] = []
        self._overloaded: RemoteError | None = None
        self.resend_at = math.inf
        self.result: VerifiedPayload | SealwireError | None = None
        self.on_result: Callable[[], None] | None = None
        self.send(now)

    def send(self, now: float) -> None:
        """Queue the request, again if it was sent before. Raises PayloadTooLarge, InvalidState."""
        wait = max(0.001, self._deadline - now)
        number = self._exchanges.association.protocol.send_request(self._payload, wait=wait, metadata=self._metadata)
        self._numbers.append(number)
        self._in_flight[number] = self
        if self._backoff is not None:
            self.resend_at = now + self._backoff.next()

    def answer(self, result: VerifiedPayload | RemoteError, metadata: dict[str, str] | None = None) -> None:
        """Process a reply or a fault. If the server is overloaded, an idempotent request is sent again later."""
        if self._backoff is not None and isinstance(result, RemoteError) and result.code == FaultCode.OVERLOADED:
            self._overloaded = result
        elif self.result is None:
            self.result = result
            if self._call_metadata is not None and not isinstance(result, RemoteError):
                self._call_metadata.receive(metadata)
            if self.on_result is not None:
                self.on_result()

    def fail(self, error: SealwireError) -> None:
        """Set an error as the result, if there is none yet."""
        if self.result is None:
            self.result = error
            if self.on_result is not None:
                self.on_result()

    def take(self) -> VerifiedPayload:
        """Return the result, and raise it if it is an error. Called once.

        The error would otherwise hold this object and this object the error, until garbage is collected.
        """
        result, self.result = self.result, None
        try:
            if isinstance(result, ConnectionClosed):
                raise self.lost(result)
            if isinstance(result, SealwireError):
                raise result
            assert result is not None  # the caller waited for it
            return result
        finally:
            del result

    def timed_out(self) -> SealwireError:
        """Return the error for a request after its deadline."""
        return self._overloaded or explain.nothing_came(self._exchanges.address)

    def lost(self, closed: ConnectionClosed) -> ConnectionLost:
        """Return the error for a request that was lost with its association."""
        return self._exchanges.association.session.lost(closed, self._numbers[0])

    def close(self) -> None:
        """Ignore replies that come from now on."""
        for number in self._numbers:
            if self._in_flight.pop(number, None) is not None:
                self._exchanges.association.protocol.give_up(number)
