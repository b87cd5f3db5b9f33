"""The rules of a client's end of a connection, the same on every transport.

A pump passes the protocol's events to :class:`ClientSession`, which matches replies to requests. When the connection is
lost, it finds out which requests no handler can have seen; :mod:`sealwire.retry` decides which of them to send again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sealwire.errors import ConnectionClosed, RemoteError, TruncatedFrame
from sealwire.events import emit
from sealwire.faults import FaultClasses
from sealwire.session import explain
from sealwire.session.validity import Validity
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.client import ClientSide
from sealwire.wire.events import Closed, Established, Event, Faulted, Rejected, Reply
from sealwire.wire.frames import CloseCode, VerifiedPayload
from sealwire.wire.protocol import State

_SAFE_ENDS: Final = (CloseCode.DONE, CloseCode.IDLE, CloseCode.GOING_AWAY)
"""Codes of CLOSE with a ``last`` that proves that later requests were not handed over (docs/protocol.md, section 5)."""


class ConnectionLost(ConnectionClosed):
    """The connection ended while a request was in flight.

    Args:
        closed: The error that ended the connection.
        unprocessed: Returns True if it is proved that no handler saw the request.
    """

    def __init__(self, closed: ConnectionClosed, *, unprocessed: Callable[[], bool]) -> None:
        super().__init__(str(closed), code=closed.code, last=closed.last)
        self._unprocessed = unprocessed

    @property
    def unprocessed(self) -> bool:
        """True if it is proved that no handler saw the request; after CLOSE 3 the present credentials decide."""
        return self._unprocessed()


class ClientSession:
    """A client's end of one connection.

    Args:
        protocol: The connection's protocol.
        validity: Checks the connection's certificates and key.
        peer: The server's identity.
        address: The server's address, for messages.
        faults: The exceptions for faults.

    Attributes:
        validity: As given. From its ``next_check`` on :meth:`usable` compares certificates and key with those in use,
            so the caller refreshes the Security before.
        peer, address: As given.
    """

    def __init__(
        self, protocol: ClientSide, validity: Validity, peer: PeerIdentity, address: str, faults: FaultClasses
    ) -> None:
        self._protocol = protocol
        self.validity = validity
        self.peer = peer
        self.address = address
        self._faults = faults
        self._left = False

    def establish(self, event: Event | None) -> None:
        """Process the server's answer to HELLO. Raises HandshakeRejected, HandshakeFailed."""
        if isinstance(event, Rejected):
            raise explain.rejected(self.address, event.code)
        if not isinstance(event, Established):
            raise explain.ended_handshake(self.address)
        self.validity.set_key(event.key_id)
        self.validity.remember_peer()

    def receive(self, event: Event) -> tuple[int, VerifiedPayload | RemoteError] | None:
        """Return the number of the request that an event answers, and its reply or fault; None for a PONG.

        Raises ConnectionClosed if the event is the server's CLOSE.
        """
        if type(event) is Reply:
            return event.request, event.payload
        if type(event) is Faulted:
            error = self._faults.error(event.code, event.text)
            error.request_id = self._protocol.take_request_id(event.request)
            text = f"request {error.request_id} to {self.address}: fault {event.code}"
            emit("client.fault", text, address=self.address, request_id=error.request_id, fault=event.code)
            return event.request, error
        if type(event) is Closed:
            raise ConnectionClosed(
                f"the server closed the connection (code {event.code}) with the request unanswered", **event._asdict()
            )
        return None

    def lost(self, closed: ConnectionClosed | TruncatedFrame, sequence: int | None) -> ConnectionLost:
        """Return the error for a request that was in flight when the connection ended.

        Args:
            closed: The error that ended the connection.
            sequence: The request's number, the first one if it was sent several times; None if its last byte was never
                passed to TLS.
        """
        if sequence is not None:
            number = self._protocol.request_id(sequence)
            text = f"request {number} to {self.address}: lost with its connection"
            emit("client.lost", text, address=self.address, request_id=number)
        if isinstance(closed, TruncatedFrame):
            closed = ConnectionClosed("the connection ended inside a frame of the server")
        return ConnectionLost(closed, unprocessed=lambda: self._is_unprocessed(closed, sequence))

    def usable(self, now: float) -> bool:
        """Return True if the connection can take a request, as far as this end knows. Once False, it stays False."""
        if self._left or self._protocol.state is not State.OPEN:
            return False
        due = self.validity.next_check
        if now < due:
            return True
        termination = self.validity.check(now)
        if termination is not None:
            reason = termination.reason
        elif self.validity.expires_soon():
            reason = "a certificate or the key expires soon"
        elif self.validity.is_replaced(due, now):
            reason = "another certificate or key is in use now"
        else:
            return True
        self._left = True
        text = f"a connection to {self.peer} is not used any more: {reason}"
        emit("client.left", text, address=self.address, peer=str(self.peer), why=reason)
        return False

    def _is_unprocessed(self, closed: ConnectionClosed, sequence: int | None) -> bool:
        """Return True if no handler can have seen the request (docs/protocol.md, section 5)."""
        if sequence is None:
            return True
        proves = closed.code in _SAFE_ENDS or (
            closed.code == CloseCode.CREDENTIAL and self.validity.has_newer_credentials()
        )
        return proves and closed.last is not None and closed.last < sequence
