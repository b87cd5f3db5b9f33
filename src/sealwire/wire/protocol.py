"""The part common to both sides and all carriers: states, errors, end of a connection (docs/protocol.md, section 5).

A carrier, ``stream`` or ``datagram``, receives frames and judges their order. A side, ``client`` or ``server``,
interprets them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import Enum, auto
from typing import ClassVar, Final

from sealwire.errors import InvalidState, RemoteProtocolError
from sealwire.wire.events import Closed, Credited, Event
from sealwire.wire.features import NO_FEATURES
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import Close, CloseCode, Kind, Payload, escaped, pack_credit, payload_size, unpack_credit
from sealwire.wire.handshake import HandshakeResult
from sealwire.wire.keys import Mac
from sealwire.wire.metadata import Metadata
from sealwire.wire.parts import IncomingParts, OutgoingParts
from sealwire.wire.sealing import PEER_LIMIT, Sealer
from sealwire.wire.sequence import HeaderChecker


class State(Enum):
    """The state of a connection."""

    HANDSHAKE = auto()
    OPEN = auto()
    ENDED = auto()
    """Nothing more can be queued. Bytes that still arrive are read and discarded."""


_LONGEST_ID: Final = 64
"""Characters of a request's id in a log."""
# Looking a member up in its Enum takes longer than comparing it.
_OPEN: Final = State.OPEN
_CLOSE: Final = int(Kind.CLOSE)


class Protocol(ABC):
    """One side of a connection.

    Subclasses combine a side with a carrier: ClientProtocol and ServerProtocol, ClientDatagrams and ServerDatagrams.
    """

    _is_client: ClassVar[bool]
    _header_checker_class: ClassVar[type[HeaderChecker]] = HeaderChecker
    _size_limit: ClassVar[str] = PEER_LIMIT
    """The part of an error message that tells the largest payload."""

    def __init__(self, max_frame: int) -> None:
        self.state = State.HANDSHAKE
        self._max_frame = max_frame
        self._header_checker = self._header_checker_class(from_client=not self._is_client)
        self._sealer: Sealer | None = None
        self.features = NO_FEATURES
        """The features that were agreed on, with the peer's parameters."""
        self._flags = 0
        """The flags that this side may set."""
        self._incoming: dict[int, IncomingParts] = {}
        """The parts that the peer may send for each request."""
        self._outgoing: dict[int, OutgoingParts] = {}
        """The parts that this side may send for each request."""
        self.connection_id = ""
        """Names the connection in the logs of both sides."""
        self._request_ids: dict[int, str] = {}
        """The ids that clients gave to requests that are not answered."""
        self.queued: list[Iterable[bytes | memoryview]] = []
        """Frames that are still to be handed out by :meth:`frames_to_send`."""

    def frames_to_send(self) -> list[Iterable[bytes | memoryview]]:
        """Return the frames to write now, each in pieces. They are handed out once, so write them all."""
        out, self.queued = self.queued, []
        return out

    def close(self, code: int = CloseCode.DONE) -> None:
        """Queue CLOSE as the last frame, if the connection is established; end the connection."""
        if self.state is State.OPEN:
            self._send(Kind.CLOSE, Close(code, self._last_sequence()).pack())
        self.state = State.ENDED

    def request_id(self, request: int) -> str:
        """Return the id of a request for logs: the client's, escaped and cut short, or one that both sides derive."""
        return self._request_ids.get(request) or f"{self.connection_id}-{request}"

    def take_request_id(self, request: int) -> str:
        """Return the id of a request like :meth:`request_id`, and forget it."""
        return self._request_ids.pop(request, None) or self.request_id(request)

    def _note_id(self, request: int, metadata: Metadata) -> None:
        if own := metadata.get("request-id"):
            self._request_ids[request] = escaped(own[:_LONGEST_ID])

    def may_send_part(self, request: int) -> bool:
        """Return True if there is credit for a part of a request, or of the reply to it, that is still wanted."""
        parts = self._outgoing.get(request)
        return parts is not None and parts.credit > 0 and self.is_wanted(request)

    def send_part(self, request: int, payload: Payload) -> None:
        """Queue a part of a request, or of the reply to it.

        Raises:
            InvalidState: There is no credit for it, it is not wanted, or the connection has ended.
            PayloadTooLarge: The peer does not accept a frame of that size.
        """
        if not self.may_send_part(request):
            raise InvalidState("there is no credit for a part, or the peer does not want any")
        size = payload_size(payload)
        self._send(Kind.PART, payload, reply_to=request)
        self._outgoing[request].note_sent(size)

    def note_processed(self, request: int, size: int) -> None:
        """Grant the peer credit for a part of ``size`` bytes that the caller has taken, if more can come.

        Raises InvalidState if the connection has ended.
        """
        parts = self._incoming.get(request)
        if parts is None or not self.is_wanted(request):
            return
        credit = parts.note_processed(size)
        if credit:
            self._send(Kind.CREDIT, pack_credit(credit), reply_to=request)

    # For the two sides

    @abstractmethod
    def is_wanted(self, request: int) -> bool:
        """Return True for a request that is not answered, as far as this side knows, or given up."""

    def _credited(self, frame: Frame) -> Event | None:
        """Process CREDIT, which is ignored for a request that has no parts, or none any more."""
        request, credit = frame.reply_to, unpack_credit(frame.payload)
        parts = self._outgoing.get(request)
        if parts is None or not self.is_wanted(request):
            return None
        parts.grant(credit)
        return Credited(request)

    @abstractmethod
    def _handshake(self, frame: Frame) -> Event | None:
        """Process a frame that arrives before the connection is established."""

    @abstractmethod
    def _message(self, frame: Frame) -> Event | None:
        """Process a frame of an established connection that is not CLOSE."""

    @abstractmethod
    def _last_sequence(self) -> int:
        """Return the field ``last`` for CLOSE."""

    def _establish(self, result: HandshakeResult) -> None:
        sending, receiving = result.traffic if self._is_client else reversed(result.traffic)
        self._begin_sealing(sending, receiving, result.max_frame)
        self.features = result.features
        self._flags = result.features.flags(of_client=self._is_client)
        self.connection_id = result.connection_id
        self._header_checker.allow(result.features)
        self.state = State.OPEN

    def _begin_sealing(self, sending: Mac, _receiving: Mac, peer_max_frame: int) -> None:
        self._sealer = Sealer(sending, max_frame=peer_max_frame, sequence=1, size_limit=self._size_limit)

    def _send(self, kind: int, payload: Payload, wait: int = 0, reply_to: int = 0, flags: int = 0) -> int:
        sealer = self._sealer
        if sealer is None or self.state is not _OPEN:
            raise InvalidState("the connection is not established, or has ended; nothing more can be sent on it")
        if flags and int(flags) & ~self._flags:
            raise InvalidState("the peer has not agreed to what the message needs, metadata or parts")
        sequence = sealer.sequence
        if sealer.twin is not None and not flags:
            frame = sealer.twin.seal(kind, payload, wait, sequence, reply_to)
            if frame is not None:
                sealer.sequence = sequence + 1
                self.queued.append((frame,))
                return sequence
        self.queued.append(sealer.seal(kind, payload, wait, reply_to, flags))
        return sequence

    # For the carriers

    def _frame(self, frame: Frame) -> Event | None:
        """Process a frame of an established connection that has a valid tag."""
        self._header_checker.check(frame)
        if frame.kind != _CLOSE:
            return self._message(frame)
        close = Close.unpack(frame.payload)
        assert self._sealer is not None  # the state is OPEN
        if close.last >= self._sealer.sequence:
            raise RemoteProtocolError(f"CLOSE with sequence {close.last}, which was never sent")
        self.close()
        return Closed(*close)

    def _fail(self) -> None:
        self.close(CloseCode.PROTOCOL_ERROR)
