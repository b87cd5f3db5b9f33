"""The interface of a server's end of a connection for handlers, the same on every transport."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from sealwire.errors import InvalidState
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.frames import Payload

LINGER: Final = 2.0
"""Seconds to read and discard after the last frame was sent, at most (docs/protocol.md, section 5)."""


class Sealed:
    """Marks channels that seal all frames; send_msg and recv_msg accept no others."""


class AnswerChannel(Sealed):
    """A server's end of a connection, as far as requests are answered on it."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """True if nothing more can be sent."""

    @property
    @abstractmethod
    def oldest_unanswered(self) -> int | None:
        """The number of the oldest unanswered request; None if all are answered."""

    @abstractmethod
    def send_reply(self, request: int, payload: Payload) -> None:
        """Answer a request, by its number."""

    @abstractmethod
    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT; the default text is the code's own."""

    def send_msg(self, payload: Payload) -> None:
        """Answer the oldest unanswered request. Usually called as ``sealwire.send_msg(channel, payload)``.

        Args:
            payload: The encoded reply.

        Raises:
            InvalidState: All requests are answered.
            PayloadTooLarge: The reply is over the client's limit; the client gets a RemoteError instead.
            ConnectionClosed: The connection has ended.
            DeadlineExceeded: The client did not take the reply in time.
        """
        request = self.oldest_unanswered
        if request is None:
            raise InvalidState("there is no unanswered request; a server sends nothing unasked")
        self.send_reply(request, payload)


class RequestChannel(AnswerChannel):
    """The ``self.request`` of a handler.

    Attributes:
        peer: The client's verified identity; None if it has no certificate.
        key_id: The id of the key that the client proved to have.
        deadline: The moment of ``time.monotonic()`` at which the client stops waiting for the reply to the last
            request; None if it did not say.
    """

    peer: PeerIdentity | None
    key_id: str
    deadline: float | None

    @abstractmethod
    def next_request(self) -> Request | None:
        """Return the next request, which counts as handed to a handler from now on; None after the last one."""

    def recv_msg(self) -> bytes | None:
        """Return the payload of the next request. Usually called as ``sealwire.recv_msg(channel)``.

        Returns:
            The encoded message, or None after the last one.

        Raises:
            ConnectionClosed: The connection broke, or ended without the closing frame.
            RemoteProtocolError: The client broke the protocol.
            InvalidState: 1,024 requests are unanswered.
        """
        request = self.next_request()
        return None if request is None else bytes(request.payload)
