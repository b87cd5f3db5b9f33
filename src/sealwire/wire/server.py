"""The server's side: requests in, replies out (docs/protocol.md, sections 3 and 4)."""

from __future__ import annotations

from typing import Final

from sealwire.errors import InvalidState, RemoteProtocolError
from sealwire.wire.events import Doubted, Established, Event, Pinged, Request
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import MAX_PING, Fault, Kind, Payload, RejectCode, verified
from sealwire.wire.handshake import HandshakeResult, Rejection, ServerHandshake, ServerParameters, reject
from sealwire.wire.protocol import Protocol, State
from sealwire.wire.stream import StreamProtocol

# Looking a member up in its Enum takes longer than comparing it.
_MESSAGE: Final = int(Kind.MESSAGE)
_OPEN: Final = State.OPEN


class ServerSide(Protocol):
    """A server's side of a connection, for any carrier."""

    _is_client = False

    def __init__(self, parameters: ServerParameters) -> None:
        super().__init__(parameters.max_frame)
        self._server_handshake = ServerHandshake(parameters)
        self._doubted: Frame | None = None
        self._unanswered: dict[int, None] = {}
        self._handed_over = 0
        self.authenticated = False
        """True once a frame sealed with the client's traffic key has arrived; HELLO alone can be a replay."""
        self.rejected: int | None = None
        """The code of the REJECT that was queued, if any."""

    @property
    def oldest_unanswered(self) -> int | None:
        """The sequence of the oldest request without an answer, or None."""
        return next(iter(self._unanswered), None)

    @property
    def unanswered(self) -> int:
        """The number of requests without an answer."""
        return len(self._unanswered)

    def hand_over(self, sequence: int) -> None:
        """Note that a handler processes the request; CLOSE will say so.

        Raises:
            InvalidState: The connection has ended.
        """
        if self.state is not _OPEN:
            raise InvalidState("the connection has ended; the request must not be processed")
        if sequence > self._handed_over:
            self._handed_over = sequence

    def send_reply(self, request: int, payload: Payload) -> None:
        """Queue the reply to a request.

        Raises:
            InvalidState: The request has an answer already or never arrived, or the connection has ended.
            PayloadTooLarge: The client does not accept a frame of that size.
        """
        self._answer(request, _MESSAGE, payload)

    def send_fault(self, request: int, code: int, text: str) -> None:
        """Queue FAULT instead of the reply to a request. ``text`` is cut to 1,024 bytes of UTF-8."""
        self._answer(request, Kind.FAULT, Fault(code, text).pack())

    def _answer(self, request: int, kind: int, payload: Payload) -> None:
        if request not in self._unanswered:
            raise InvalidState("there is no unanswered request to reply to; a server sends nothing unasked")
        self._send(kind, payload, reply_to=request)
        del self._unanswered[request]
        if request > self._handed_over:
            self._handed_over = request

    def _last_sequence(self) -> int:
        return self._handed_over

    def _handshake(self, frame: Frame) -> Event | None:
        self._header_checker.check(frame)
        if frame.kind != Kind.HELLO:
            raise RemoteProtocolError(f"{frame} before HELLO")
        answer = self._server_handshake.check_hello(frame)
        if self._server_handshake.doubts(answer):
            self._doubted = frame
            return Doubted()
        return self._answer_hello(frame, answer)

    def answer_hello(self) -> Event | None:
        """Answer the HELLO that a Doubted was about, by the keys in use now. Raises RemoteProtocolError."""
        assert self._doubted is not None  # noqa: S101 - there was a Doubted
        return self._answer_hello(self._doubted, self._server_handshake.check_hello(self._doubted))

    def _answer_hello(self, _: Frame, answer: tuple[bytes, HandshakeResult] | Rejection) -> Event | None:
        if isinstance(answer, Rejection):
            self.rejected = answer.code
            self.queued.append((reject(answer.code),))
            self.state = State.ENDED
            if answer.error is not None:
                raise answer.error
            return None
        welcome, result = answer
        self.queued.append((welcome,))
        self._establish(
            sending=result.traffic.server_to_client,
            receiving=result.traffic.client_to_server,
            peer_max_frame=result.max_frame,
        )
        return Established(result.key.id, result.max_frame)

    def _frame(self, frame: Frame) -> Event | None:
        self.authenticated = True
        return super()._frame(frame)

    def _message(self, frame: Frame) -> Event | None:
        self.authenticated = True
        if frame.kind == _MESSAGE:
            self._unanswered[frame.sequence] = None
            wait = frame.wait / 100 if frame.wait else None
            return Request(frame.sequence, verified(frame.payload), wait)
        if frame.kind == Kind.PING:
            if len(frame.payload) > MAX_PING:
                raise RemoteProtocolError(f"PING with {len(frame.payload)} bytes; the maximum is {MAX_PING}")
            self._check_ping()
            self._send(Kind.PONG, frame.payload, reply_to=frame.sequence)
            self._pong_queued()
            return Pinged(frame.sequence)
        raise RemoteProtocolError(f"{frame} from a client with an established connection")

    def _check_ping(self) -> None:
        """Raise RemoteProtocolError for a PING that comes too early, as far as the carrier can tell."""

    def _pong_queued(self) -> None:
        """Note that the answer to a PING was queued."""


class ServerProtocol(ServerSide, StreamProtocol):
    """A server's side of a connection over a stream.

    A client has one PING unanswered at a time. One that was read together with the PING before it was sent too early:
    its client cannot have taken that one's PONG, which was not sent yet.
    """

    def __init__(self, parameters: ServerParameters) -> None:
        super().__init__(parameters)
        self._pong: object = None
        """The last PONG, as it was queued."""
        self._reads_at_ping = -1

    def _check_ping(self) -> None:
        if self._reads_at_ping == self._reader.reads or any(frame is self._pong for frame in self.queued):
            raise RemoteProtocolError("a PING, but the client did not take what was sent for the last one")
        self._reads_at_ping = self._reader.reads

    def _pong_queued(self) -> None:
        self._pong = self.queued[-1]


__all__ = ["RejectCode", "ServerParameters", "ServerProtocol", "ServerSide"]
