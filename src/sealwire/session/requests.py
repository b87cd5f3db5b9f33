"""The interface of a server's end of a connection for handlers, the same on every transport."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final

from sealwire.errors import InvalidState
from sealwire.faults import Refuse
from sealwire.security import Security
from sealwire.session import misuse
from sealwire.session.context import Context
from sealwire.session.server import ServerSession
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.events import Request
from sealwire.wire.frames import Payload, VerifiedPayload
from sealwire.wire.metadata import Metadata

LINGER: Final = 2.0
"""Seconds to read and discard after the last frame was sent, at most (docs/protocol.md, section 5)."""


class Sealed:
    """Marks channels that seal all frames; send_msg and recv_msg accept no others."""


class AnswerChannel(Sealed):
    """A server's end of a connection, as far as requests are answered on it.

    Attributes:
        session: The rules of the connection.
    """

    session: ServerSession

    @property
    @abstractmethod
    def ended(self) -> bool:
        """True if nothing more can be sent."""

    @property
    @abstractmethod
    def oldest_unanswered(self) -> int | None:
        """The number of the oldest unanswered request; None if all are answered."""

    @abstractmethod
    def request_id(self, request: int) -> str:
        """Return the id for logs of a request, by its number."""

    @abstractmethod
    def send_reply(self, request: int, payload: Payload, metadata: Metadata | None = None) -> None:
        """Answer a request, by its number."""

    @abstractmethod
    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT; the default text is the code's own."""

    def refuse(self, refusal: Refuse) -> None:
        """Refuse the oldest unanswered request, in place of a reply; the connection goes on.

        Args:
            refusal: The refusal, as ``respond`` would raise it.

        Raises:
            InvalidState: All requests are answered.
            ConnectionClosed: The connection has ended.
            DeadlineExceeded: The client did not take the answer in time.
        """
        self.send_fault(self._oldest(), refusal.code, refusal.text)

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
        self.send_reply(self._oldest(), payload)

    def _oldest(self) -> int:
        request = self.oldest_unanswered
        if request is None:
            raise InvalidState("there is no unanswered request; a server sends nothing unasked")
        return request


class RequestChannel(AnswerChannel):
    """The ``self.request`` of a handler.

    Attributes:
        security: The Security that was pinned for the connection.
        peer: The client's verified identity; None if it has no certificate.
        key_id: The id of the key that the client proved to have.
        deadline: The time (``time.monotonic()``) at which the client stops waiting for the reply to the last request;
            None if it did not say.
    """

    security: Security
    peer: PeerIdentity | None
    key_id: str
    deadline: float | None

    def context(self, _request: Request, _client_address: Any) -> Context:
        """Return the context of the request that is handled. Raises InvalidState if handlers read requests."""
        raise misuse.no_context()

    def accepts_parts(self, _request: int) -> bool:  # a carrier without parts accepts none
        """Return True if the reply to a request, by its number, may come in parts."""
        return False

    def check_wanted(self, request: int) -> None:
        """Raise RequestCancelled or ConnectionClosed if no client waits for the reply to a request."""

    def send_part(self, request: int, payload: Payload) -> None:
        """Send a part of the reply to a request, if :meth:`accepts_parts` says so."""
        raise NotImplementedError

    def next_part(self, request: int) -> VerifiedPayload | None:
        """Return the next part of a request in parts; None after the last one."""
        raise NotImplementedError

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
