"""The server's side: requests in, replies out (docs/protocol.md, sections 3 and 4)."""

from __future__ import annotations

from typing import Final

from sealwire.errors import BadSequence, InvalidState, RemoteProtocolError
from sealwire.wire.events import Cancelled, Doubted, Established, Event, Part, PartsEnded, Pinged, Request
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import MAX_PING, Fault, Flag, Kind, Payload, RejectCode, verified
from sealwire.wire.handshake import HandshakeResult, Rejection, ServerHandshake, ServerParameters, reject
from sealwire.wire.metadata import Metadata, pack, unpack
from sealwire.wire.parts import MAX_UPLOADS, IncomingParts, OutgoingParts
from sealwire.wire.protocol import Protocol, State
from sealwire.wire.stream import StreamProtocol

# Looking a member up in its Enum takes longer than comparing it.
_MESSAGE: Final = int(Kind.MESSAGE)
_OPEN: Final = State.OPEN
_new: Final = tuple.__new__  # in C, unlike that of a NamedTuple


class ServerSide(Protocol):
    """A server's side of a connection, for any carrier."""

    _is_client = False

    def __init__(self, parameters: ServerParameters) -> None:
        super().__init__(parameters.max_frame)
        self._server_handshake = ServerHandshake(parameters)
        self._doubted: Frame | None = None
        self._unanswered: dict[int, None] = {}
        self._handed_over = 0
        self._window = parameters.features.window
        self.cancelled: set[int] = set()
        """The unanswered requests that their client does not want to be answered."""
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

    def send_reply(self, request: int, payload: Payload, metadata: Metadata | None = None) -> None:
        """Queue the reply to a request.

        Args:
            request: Its sequence.
            payload: The encoded reply.
            metadata: The metadata of the reply, if the client has that feature.

        Raises:
            InvalidState: The request has an answer already or never arrived, the client does not have the feature, or
                the connection has ended.
            PayloadTooLarge: The client does not accept a frame of that size.
        """
        if metadata:
            payload = [pack(metadata), *(payload if isinstance(payload, list) else [bytes(payload)])]
        self._answer(request, _MESSAGE, payload, Flag.METADATA if metadata else 0)

    def send_fault(self, request: int, code: int, text: str) -> None:
        """Queue FAULT instead of the reply to a request. ``text`` is cut to 1,024 bytes of UTF-8."""
        self._answer(request, Kind.FAULT, Fault(code, text).pack())

    def accepts_parts(self, request: int) -> bool:
        """Return True if the reply to a request may come in parts."""
        return request in self._outgoing

    def is_unanswered(self, request: int) -> bool:
        """Return True if a request has no answer yet."""
        return request in self._unanswered

    def _answer(self, request: int, kind: int, payload: Payload, flags: int = 0) -> None:
        if request not in self._unanswered:
            raise InvalidState("there is no unanswered request to reply to; a server sends nothing unasked")
        self._send(kind, payload, 0, request, flags)
        del self._unanswered[request]
        if self._outgoing or self.cancelled or self._request_ids:
            self._outgoing.pop(request, None)
            self.cancelled.discard(request)
            self._request_ids.pop(request, None)
        if request > self._handed_over:
            self._handed_over = request

    def is_wanted(self, request: int) -> bool:
        return request in self._unanswered and request not in self.cancelled

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
        assert self._doubted is not None  # there was a Doubted
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
        self._establish(result)
        return Established(result.key.id, result.max_frame)

    def _frame(self, frame: Frame) -> Event | None:
        self.authenticated = True
        return super()._frame(frame)

    def _message(self, frame: Frame) -> Event | None:
        self.authenticated = True
        if frame.kind == _MESSAGE:
            self._unanswered[frame.sequence] = None
            wait = frame.wait / 100 if frame.wait else None
            if frame.flags:
                return self._request_with_flags(frame, wait)
            return _new(Request, (frame.sequence, verified(frame.payload), wait, 0, None))
        if frame.kind == Kind.PING:
            if len(frame.payload) > MAX_PING:
                raise RemoteProtocolError(f"PING with {len(frame.payload)} bytes; the maximum is {MAX_PING}")
            self._check_ping()
            self._send(Kind.PONG, frame.payload, reply_to=frame.sequence)
            self._pong_queued()
            return Pinged(frame.sequence)
        return self._about_request(frame)

    def _request_with_flags(self, frame: Frame, wait: float | None) -> Request:
        metadata: dict[str, str] | None = None
        payload = frame.payload
        if frame.flags & Flag.METADATA:
            metadata, size = unpack(payload)
            self._note_id(frame.sequence, metadata)
            payload = payload[size:]
        if frame.flags & Flag.UPLOAD:
            if len(payload):
                raise RemoteProtocolError("MESSAGE with a payload of its own, and parts")
            if len(self._incoming) >= MAX_UPLOADS:
                raise RemoteProtocolError(f"more than {MAX_UPLOADS} requests in parts that are not complete")
            self._incoming[frame.sequence] = IncomingParts(self._window)
        if frame.flags & Flag.PARTS:
            self._outgoing[frame.sequence] = OutgoingParts(self.features.window)
        return Request(frame.sequence, verified(payload), wait, frame.flags & ~Flag.METADATA, metadata)

    def _about_request(self, frame: Frame) -> Event | None:
        """Process a frame that belongs to a request: its cancellation, a part of it, their end, or credit."""
        kind, request = frame.kind, frame.reply_to
        if kind in (Kind.PART, Kind.END):
            return self._part_or_end(frame)
        if kind not in (Kind.CANCEL, Kind.CREDIT) or not 0 < request < frame.sequence:
            raise RemoteProtocolError(f"{frame} from a client with an established connection")
        if kind == Kind.CREDIT:
            return self._credited(frame)
        if len(frame.payload):
            raise RemoteProtocolError(f"{frame} with a payload")
        self._incoming.pop(request, None)
        if request not in self._unanswered:
            return None
        if request in self.cancelled:
            raise RemoteProtocolError(f"{frame} for a request that was cancelled before")
        self.cancelled.add(request)
        return Cancelled(request)

    def _part_or_end(self, frame: Frame) -> Event | None:
        request = frame.reply_to
        parts = self._incoming.get(request)
        if parts is None:
            raise BadSequence(f"{frame} for {request}, which is not an incomplete request in parts")
        is_wanted = self.is_wanted(request)
        if frame.kind == Kind.PART:
            parts.note_received(len(frame.payload))
            return Part(request, verified(frame.payload)) if is_wanted else None
        if len(frame.payload):
            raise RemoteProtocolError(f"{frame} with a payload")
        del self._incoming[request]
        return PartsEnded(request) if is_wanted else None

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
        if self._reads_at_ping == self.reader.reads or any(frame is self._pong for frame in self.queued):
            raise RemoteProtocolError("a PING, but the client did not take what was sent for the last one")
        self._reads_at_ping = self.reader.reads

    def _pong_queued(self) -> None:
        self._pong = self.queued[-1]


__all__ = ["RejectCode", "ServerParameters", "ServerProtocol", "ServerSide"]
