"""The client's side: requests out, replies in (docs/protocol.md, sections 3 and 4)."""

from __future__ import annotations

import math
from typing import Final, NotRequired, TypedDict, Unpack

from sealwire.errors import BadSequence, InvalidState, RemoteProtocolError
from sealwire.wire.events import Established, Event, Faulted, Ponged, Rejected, Reply
from sealwire.wire.frames import MAX_PING, TAG, Fault, Kind, Payload, unpack_reject, verified
from sealwire.wire.handshake import ClientHandshake
from sealwire.wire.keys import Binding, Key
from sealwire.wire.protocol import Protocol, State
from sealwire.wire.reader import Frame
from sealwire.wire.stream import StreamProtocol

_MAX_WAIT: Final = 65_535
_GIVEN_UP: Final = 0
# Looking a member up in its Enum takes longer than comparing it.
_MESSAGE: Final = Kind.MESSAGE
_FAULT: Final = Kind.FAULT
_PONG: Final = Kind.PONG
_REPLIES: Final = frozenset((_MESSAGE, _FAULT, _PONG))


class Offer(TypedDict):
    """What a client begins with.

    key: what we sign with. binding: the two leaf certificates of this connection. codec: what payloads are.
    server_name: the host as it was verified, and the service. max_frame: bytes of a frame that we take.
    nonce: 32 bytes, for test vectors alone.
    """

    key: Key
    binding: Binding
    codec: str
    server_name: str
    max_frame: int
    nonce: NotRequired[bytes | None]


class ClientSide(Protocol):
    """A client's side of one connection, whatever carries it. HELLO is among what is to be sent from the start."""

    _is_client = True

    def __init__(self, **offer: Unpack[Offer]) -> None:
        super().__init__(offer["max_frame"])
        self._offer = ClientHandshake(**({"nonce": None} | offer))
        self._out.append((self._offer.hello,))
        self._unanswered: dict[int, int] = {}
        """Sequence of each request under way, and the kind of its answer; _GIVEN_UP where nobody waits any more."""
        self._ping: bytes | None = None

    @property
    def unanswered(self) -> int:
        """Requests and pings whose answers have not come, those given up included."""
        return len(self._unanswered)

    def send_request(self, payload: Payload, *, wait: float | None = None) -> int:
        """Queue a MESSAGE; returns its sequence. ``wait``: seconds for which its reply is awaited.

        Raises InvalidState, PayloadTooLarge.
        """
        sequence = self._send(_MESSAGE, payload, wait=_hundredths(wait))
        self._unanswered[sequence] = _MESSAGE
        return sequence

    def send_ping(self, data: bytes = b"") -> int:
        """Queue a PING with at most 125 bytes; returns its sequence. Raises InvalidState while one is unanswered."""
        if len(data) > MAX_PING:
            raise InvalidState(f"a ping carries at most {MAX_PING} bytes")
        if self._ping is not None:
            raise InvalidState("a ping is unanswered; one at a time")
        sequence = self._send(Kind.PING, data)
        self._unanswered[sequence] = Kind.PONG
        self._ping = data
        return sequence

    def give_up(self, sequence: int) -> None:
        """Nobody waits for this answer any more: drop it when it comes."""
        if self._unanswered.get(sequence) == Kind.MESSAGE:
            self._unanswered[sequence] = _GIVEN_UP

    def _last(self) -> int:
        return self._opener.sequence - 1

    def _handshake(self, frame: Frame) -> Event | None:
        self._opener.check(frame)
        if frame.kind == Kind.REJECT:
            code = unpack_reject(frame.payload)
            if frame.raw[-TAG:] != bytes(TAG):
                raise RemoteProtocolError("REJECT with a tag that is not zero")
            self.state = State.ENDED
            return Rejected(code)
        if frame.kind != Kind.WELCOME:
            raise RemoteProtocolError(f"{frame} before WELCOME")
        agreed = self._offer.complete(frame)
        self._establish(
            sending=agreed.traffic.client_to_server,
            receiving=agreed.traffic.server_to_client,
            peer_max_frame=agreed.max_frame,
        )
        return Established(agreed.key.id, agreed.max_frame)

    def _message(self, frame: Frame) -> Event | None:
        kind = frame.kind
        if kind not in _REPLIES:
            raise RemoteProtocolError(f"{frame} from a server with an established connection")
        request = frame.reply_to
        expected = self._unanswered.pop(request, None)
        if expected is None:
            raise BadSequence(f"{frame} in answer to {request}, which is not unanswered")
        if (expected == _PONG) is not (kind == _PONG):
            raise BadSequence(f"{frame} in answer to {request}, which asked for something else")
        if kind == _PONG:
            if bytes(frame.payload) != self._ping:
                raise RemoteProtocolError("PONG with other bytes than the ping's")
            self._ping = None
            return Ponged(request, verified(frame.payload))
        fault = Fault.unpack(frame.payload) if kind == _FAULT else None
        if expected == _GIVEN_UP:
            return None
        return Reply(request, verified(frame.payload)) if fault is None else Faulted(request, *fault)


class ClientProtocol(ClientSide, StreamProtocol):
    """A client's side of one connection over a stream; arguments as Offer has them."""


def _hundredths(wait: float | None) -> int:
    if wait is None:
        return 0
    # At least one: 0 would say that we wait for ever.
    hundredths = math.ceil(wait * 100) or 1
    return hundredths if hundredths <= _MAX_WAIT else 0
