"""The client's side: requests out, replies in (docs/protocol.md, sections 3 and 4)."""

from __future__ import annotations

import math
from typing import Final, NotRequired, TypedDict, Unpack

from sealwire.errors import BadSequence, InvalidState, RemoteProtocolError
from sealwire.wire.events import Established, Event, Faulted, Ponged, Rejected, Reply
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import MAX_PING, TAG, Fault, Kind, Payload, unpack_reject, verified
from sealwire.wire.handshake import ClientHandshake
from sealwire.wire.keys import Binding, Key
from sealwire.wire.protocol import Protocol, State
from sealwire.wire.stream import StreamProtocol

_MAX_WAIT: Final = 65_535
_GIVEN_UP: Final = 0
# Looking a member up in its Enum takes longer than comparing it.
_MESSAGE: Final = int(Kind.MESSAGE)
_FAULT: Final = int(Kind.FAULT)
_PONG: Final = int(Kind.PONG)
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
    nonce: NotRequired[bytes | None]
    """32 bytes, for test vectors only; random by default."""


class ClientSide(Protocol):
    """A client's side of a connection, for any carrier. HELLO is queued from the start."""

    _is_client = True

    def __init__(self, **parameters: Unpack[ClientParameters]) -> None:
        super().__init__(parameters["max_frame"])
        self._client_handshake = ClientHandshake(**({"nonce": None} | parameters))
        self.queued.append((self._client_handshake.hello,))
        self._unanswered: dict[int, int] = {}
        """Maps the sequence of each request to the expected kind of its answer, or to _GIVEN_UP."""
        self._ping: bytes | None = None

    @property
    def unanswered(self) -> int:
        """The number of requests and pings without an answer, including those given up."""
        return len(self._unanswered)

    def send_request(self, payload: Payload, *, wait: float | None = None) -> int:
        """Queue a MESSAGE and return its sequence.

        Args:
            payload: The encoded request.
            wait: Seconds for which the client will wait for the reply; None for no limit.

        Raises:
            InvalidState: The connection is not established, or has ended.
            PayloadTooLarge: The server does not accept a frame of that size.
        """
        sequence = self._send(_MESSAGE, payload, wait=_hundredths(wait))
        self._unanswered[sequence] = _MESSAGE
        return sequence

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
        self._unanswered[sequence] = Kind.PONG
        self._ping = data
        return sequence

    def give_up(self, sequence: int) -> None:
        """Drop the answer to a request when it arrives."""
        if self._unanswered.get(sequence) == Kind.MESSAGE:
            self._unanswered[sequence] = _GIVEN_UP

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
        self._establish(
            sending=result.traffic.client_to_server,
            receiving=result.traffic.server_to_client,
            peer_max_frame=result.max_frame,
        )
        return Established(result.key.id, result.max_frame)

    def _message(self, frame: Frame) -> Event | None:
        kind = frame.kind
        if kind not in _REPLIES:
            raise RemoteProtocolError(f"{frame} from a server with an established connection")
        request = frame.reply_to
        if kind == _MESSAGE and self._unanswered.get(request) == _MESSAGE:
            del self._unanswered[request]
            return Reply(request, verified(frame.payload))
        expected = self._unanswered.pop(request, None)
        if expected is None:
            raise BadSequence(f"{frame} in answer to {request}, which is not an unanswered request")
        if (expected == _PONG) is not (kind == _PONG):
            raise BadSequence(f"{frame} in answer to {request}, which calls for another kind of frame")
        if kind == _PONG:
            if bytes(frame.payload) != self._ping:
                raise RemoteProtocolError("PONG with different bytes from those of the ping")
            self._ping = None
            return Ponged(request, verified(frame.payload))
        fault = Fault.unpack(frame.payload) if kind == _FAULT else None
        if expected == _GIVEN_UP:
            return None
        assert fault is not None  # noqa: S101 - a MESSAGE that was expected is above
        return Faulted(request, *fault)


class ClientProtocol(ClientSide, StreamProtocol):
    """A client's side of a connection over a stream; the arguments are those of ClientParameters."""


def _hundredths(wait: float | None) -> int:
    if wait is None:
        return 0
    # Never 0, which on the wire means no limit.
    hundredths = math.ceil(wait * 100) or 1
    return hundredths if hundredths <= _MAX_WAIT else 0
