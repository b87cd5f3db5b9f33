"""The server's side: requests in, replies out (docs/protocol.md, sections 3 and 4)."""

from __future__ import annotations

from typing import Final

from sealwire.errors import InvalidState, RemoteProtocolError
from sealwire.wire.events import Established, Event, Pinged, Request
from sealwire.wire.frames import MAX_PING, Fault, Kind, Payload, RejectCode, verified
from sealwire.wire.handshake import Refusal, ServerHandshake, Terms, reject
from sealwire.wire.protocol import Protocol, State
from sealwire.wire.reader import Frame
from sealwire.wire.stream import StreamProtocol

# Looking a member up in its Enum takes longer than comparing it.
_MESSAGE: Final = Kind.MESSAGE
_OPEN: Final = State.OPEN


class ServerSide(Protocol):
    """A server's side of one connection, whatever carries it."""

    _is_client = False

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms.max_frame)
        self._judge = ServerHandshake(terms)
        self._unanswered: dict[int, None] = {}
        self._handed_over = 0
        self.authenticated = False
        """Whether a frame under the client's traffic key has come: HELLO alone can be a replay."""
        self.rejected: int | None = None
        """The code of the REJECT that was queued; None where none was."""

    @property
    def oldest_unanswered(self) -> int | None:
        """Sequence of the request that has waited longest for its answer; None where none waits."""
        return next(iter(self._unanswered), None)

    @property
    def unanswered(self) -> int:
        """Requests whose answers have not been queued."""
        return len(self._unanswered)

    def hand_over(self, sequence: int) -> None:
        """The request goes to a handler now: from here on CLOSE says so. Raises InvalidState after our CLOSE."""
        if self.state is not _OPEN:
            raise InvalidState("the connection has ended; nothing is handed over any more")
        if sequence > self._handed_over:
            self._handed_over = sequence

    def send_reply(self, request: int, payload: Payload) -> None:
        """Queue the reply to that request. Raises InvalidState where it is not unanswered, PayloadTooLarge."""
        self._answer(request, _MESSAGE, payload)

    def send_fault(self, request: int, code: int, text: str) -> None:
        """Queue FAULT in place of the reply to that request. ``text``: cut to 1,024 bytes of UTF-8."""
        self._answer(request, Kind.FAULT, Fault(code, text).pack())

    def _answer(self, request: int, kind: int, payload: Payload) -> None:
        if request not in self._unanswered:
            raise InvalidState("there is no unanswered request to reply to; a server sends nothing unasked")
        self._send(kind, payload, reply_to=request)
        del self._unanswered[request]
        if request > self._handed_over:
            self._handed_over = request

    def _last(self) -> int:
        return self._handed_over

    def _handshake(self, frame: Frame) -> Event | None:
        self._opener.check(frame)
        if frame.kind != Kind.HELLO:
            raise RemoteProtocolError(f"{frame} before HELLO")
        verdict = self._judge.judge(frame)
        if isinstance(verdict, Refusal):
            self.rejected = verdict.code
            self._out.append((reject(verdict.code),))
            self.state = State.ENDED
            if verdict.error is not None:
                raise verdict.error
            return None
        welcome, agreed = verdict
        self._out.append((welcome,))
        self._establish(
            sending=agreed.traffic.server_to_client,
            receiving=agreed.traffic.client_to_server,
            peer_max_frame=agreed.max_frame,
        )
        return Established(agreed.key.id, agreed.max_frame)

    def _frame(self, frame: Frame) -> Event | None:
        self.authenticated = True
        return super()._frame(frame)

    def _message(self, frame: Frame) -> Event | None:
        if frame.kind == _MESSAGE:
            self._unanswered[frame.sequence] = None
            wait = frame.wait / 100 if frame.wait else None
            return Request(frame.sequence, verified(frame.payload), wait)
        if frame.kind == Kind.PING:
            if len(frame.payload) > MAX_PING:
                raise RemoteProtocolError(f"PING with {len(frame.payload)} bytes; the most is {MAX_PING}")
            self._send(Kind.PONG, frame.payload, reply_to=frame.sequence)
            return Pinged(frame.sequence)
        raise RemoteProtocolError(f"{frame} from a client with an established connection")


class ServerProtocol(ServerSide, StreamProtocol):
    """A server's side of one connection over a stream."""


__all__ = ["RejectCode", "ServerProtocol", "ServerSide", "Terms"]
