"""The client's side: requests out, replies in (docs/protocol.md, sections 3 and 4)."""

from __future__ import annotations

from math import ceil
from typing import Final, NotRequired, TypedDict, Unpack

from sealwire.errors import BadSequence, InvalidState, RemoteProtocolError
from sealwire.metrics import CLIENT, CLIENT_RECEIVED, CLIENT_SENT
from sealwire.wire.events import Established, Event, Faulted, Part, Ponged, Rejected, Reply
from sealwire.wire.features import NO_FEATURES, Features
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import MAX_PING, TAG, Fault, Flag, Kind, Payload, payload_size, unpack_reject, verified
from sealwire.wire.handshake import ClientHandshake
from sealwire.wire.keys import Binding, Key
from sealwire.wire.metadata import Metadata, pack, unpack
from sealwire.wire.parts import MAX_UPLOADS, IncomingParts, OutgoingParts
from sealwire.wire.protocol import Protocol, State
from sealwire.wire.stream import StreamProtocol

_MAX_WAIT: Final = 65_535
_GIVEN_UP: Final = 0
# Looking a member up in its Enum takes longer than comparing it.
_MESSAGE: Final = int(Kind.MESSAGE)
_FAULT: Final = int(Kind.FAULT)
_PONG: Final = int(Kind.PONG)
_new: Final = tuple.__new__  # in C, unlike that of a NamedTuple
_REPLIES: Final = frozenset((_MESSAGE, _FAULT, _PONG))


class ClientParameters(TypedDict):
    """The parameters of a client's side."""

    key: Key
    """The key to authenticate with."""
    binding: Binding
    """The two leaf certificates of the connection."""
    codec: str
    """The name of the codec for payloads."""
    server_name: str
    """The verified host name, and the service if there is one."""
    max_frame: int
    """The largest ``length`` to accept from the server."""
    features: NotRequired[Features]
    """The features to offer; none by default."""
    nonce: NotRequired[bytes | None]
    """32 bytes, for test vectors only; random by default."""


class ClientSide(Protocol):
    """A client's side of a connection, for any carrier. HELLO is queued from the start."""

    _is_client = True

    def __init__(self, **parameters: Unpack[ClientParameters]) -> None:
        super().__init__(parameters["max_frame"])
        self._offered = parameters.get("features", NO_FEATURES)
        self._client_handshake = ClientHandshake(**({"nonce": None} | parameters))
        self.queued.append((self._client_handshake.hello,))
        self.awaited: dict[int, int] = {}
        """Maps the sequence of each request to the expected kind of its answer, or to _GIVEN_UP."""
        self._ping: bytes | None = None

    @property
    def unanswered(self) -> int:
        """The number of requests and pings without an answer, including those given up."""
        return len(self.awaited)

    @property
    def has_only_cancelled(self) -> bool:
        """True if all requests without an answer were given up, and the server has the feature to be told."""
        return self.features.cancel and all(kind == _GIVEN_UP for kind in self.awaited.values())

    def send_request(
        self, payload: Payload, *, wait: float | None = None, metadata: Metadata | None = None, flags: int = 0
    ) -> int:
        """Queue a MESSAGE and return its sequence.

        Args:
            payload: The encoded request; b"" for one in parts.
            wait: Seconds for which the client will wait for the reply, or for the next part; None for no limit.
            metadata: The metadata, if the server has that feature.
            flags: Flag.PARTS to accept a reply in parts, and Flag.UPLOAD for a request in parts.

        Raises:
            InvalidState: The connection is not established, or has ended; or the server does not have the feature, or
                too many requests in parts have not ended.
            PayloadTooLarge: The server does not accept a frame of that size.
            ConfigurationError: The metadata is not acceptable.
        """
        if metadata:
            flags |= Flag.METADATA
            payload = [pack(metadata), *(payload if isinstance(payload, list) else [bytes(payload)])]
        if flags and flags & Flag.UPLOAD and len(self._outgoing) >= MAX_UPLOADS:
            raise InvalidState(f"{MAX_UPLOADS} requests in parts have not ended; end some before the next")
        hundredths = 0 if wait is None else ceil(wait * 100) or 1  # never 0, which on the wire means no limit
        sequence = self._send(_MESSAGE, payload, hundredths if hundredths <= _MAX_WAIT else 0, 0, flags)
        self.awaited[sequence] = _MESSAGE
        CLIENT[CLIENT_SENT] += len(payload) if type(payload) is bytes else payload_size(payload)
        if metadata:
            self._note_id(sequence, metadata)
        if not flags:
            return sequence
        if flags & Flag.PARTS:
            self._incoming[sequence] = IncomingParts(self._offered.window)
        if flags & Flag.UPLOAD:
            self._outgoing[sequence] = OutgoingParts(self.features.window)
        return sequence

    def send_part(self, request: int, payload: Payload) -> None:
        """Queue a part of a request. Raises like :meth:`Protocol.send_part`."""
        super().send_part(request, payload)
        CLIENT[CLIENT_SENT] += payload_size(payload)

    def end_parts(self, request: int) -> None:
        """Queue the end of a request's parts, if it has parts and they have not ended. Raises InvalidState.

        Call it also after an answer that came early: the server keeps count of a request until its parts have ended.
        """
        if self._outgoing.pop(request, None) is not None:
            self._send(Kind.END, b"", reply_to=request)

    def cancel(self, request: int) -> None:
        """Give up a request, and tell the server if it has that feature. End its parts. Raises InvalidState."""
        if self.features.cancel and self.is_wanted(request):
            self._outgoing.pop(request, None)
            self._send(Kind.CANCEL, b"", reply_to=request)
        self.give_up(request)
        self.end_parts(request)

    def send_ping(self, data: bytes = b"") -> int:
        """Queue a PING with at most 125 bytes and return its sequence.

        Raises:
            InvalidState: Another ping is unanswered, ``data`` is too long, or the connection is not established.
        """
        if len(data) > MAX_PING:
            raise InvalidState(f"a ping carries at most {MAX_PING} bytes")
        if self._ping is not None:
            raise InvalidState("another ping is unanswered; wait for its PONG first")
        sequence = self._send(Kind.PING, data)
        self.awaited[sequence] = Kind.PONG
        self._ping = data
        return sequence

    def is_unanswered(self, request: int) -> bool:
        """Return True if a request has no answer yet, given up or not."""
        return request in self.awaited

    def give_up(self, sequence: int) -> None:
        """Drop the answer to a request when it arrives."""
        if self.awaited.get(sequence) == Kind.MESSAGE:
            self.awaited[sequence] = _GIVEN_UP

    def is_wanted(self, request: int) -> bool:
        return self.awaited.get(request) == _MESSAGE

    def _last_sequence(self) -> int:
        return self._header_checker.sequence - 1

    def _handshake(self, frame: Frame) -> Event | None:
        self._header_checker.check(frame)
        if frame.kind == Kind.REJECT:
            code = unpack_reject(frame.payload)
            if frame.raw[-TAG:] != bytes(TAG):
                raise RemoteProtocolError("REJECT with a tag that is not zero")
            self.state = State.ENDED
            return Rejected(code)
        if frame.kind != Kind.WELCOME:
            raise RemoteProtocolError(f"{frame} before WELCOME")
        result = self._client_handshake.complete(frame)
        self._establish(result)
        return Established(result.key.id, result.max_frame)

    def _message(self, frame: Frame) -> Event | None:
        kind = frame.kind
        request = frame.reply_to
        if kind not in _REPLIES:
            return self._part_or_credit(frame)
        if self._incoming:
            self._incoming.pop(request, None)
        if kind == _MESSAGE and self.awaited.get(request) == _MESSAGE:
            del self.awaited[request]
            CLIENT[CLIENT_RECEIVED] += len(frame.payload)
            if self._request_ids:
                self._request_ids.pop(request, None)
            return _reply(frame) if frame.flags else _new(Reply, (request, verified(frame.payload), None))
        expected = self.awaited.pop(request, None)
        if expected is None:
            raise BadSequence(f"{frame} in answer to {request}, which is not an unanswered request")
        if (expected == _PONG) is not (kind == _PONG):
            raise BadSequence(f"{frame} in answer to {request}, which calls for another kind of frame")
        if kind == _PONG:
            if bytes(frame.payload) != self._ping:
                raise RemoteProtocolError("PONG with different bytes from those of the ping")
            self._ping = None
            return Ponged(request, verified(frame.payload))
        # An answer that is dropped must be right all the same.
        answer = Faulted(request, *Fault.unpack(frame.payload)) if kind == _FAULT else _reply(frame)
        if expected == _GIVEN_UP:
            self._request_ids.pop(request, None)
            return None
        return answer

    def _part_or_credit(self, frame: Frame) -> Event | None:
        request = frame.reply_to
        if frame.kind == Kind.PART:
            parts = self._incoming.get(request)
            if parts is None:
                raise BadSequence(f"{frame} for {request}, which is not an unanswered request for parts")
            parts.note_received(len(frame.payload))
            CLIENT[CLIENT_RECEIVED] += len(frame.payload)
            return Part(request, verified(frame.payload)) if self.is_wanted(request) else None
        if frame.kind == Kind.CREDIT and self._is_past(request):
            return self._credited(frame)
        raise RemoteProtocolError(f"{frame} from a server with an established connection")

    def _is_past(self, request: int) -> bool:
        """Return True for the sequence of a frame that was sent."""
        assert self._sealer is not None  # the connection is established
        return 0 < request < self._sealer.sequence


class ClientProtocol(ClientSide, StreamProtocol):
    """A client's side of a connection over a stream; the arguments are those of ClientParameters."""


def _reply(frame: Frame) -> Reply:
    metadata, size = unpack(frame.payload) if frame.flags else (None, 0)
    return Reply(frame.reply_to, verified(frame.payload[size:]), metadata)
