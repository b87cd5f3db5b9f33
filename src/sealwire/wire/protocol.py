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
from sealwire.wire.events import Closed, Event
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import Close, CloseCode, Kind, Payload
from sealwire.wire.keys import Mac
from sealwire.wire.sealing import PEER_LIMIT, Sealer
from sealwire.wire.sequence import HeaderChecker


class State(Enum):
    """The state of a connection."""

    HANDSHAKE = auto()
    OPEN = auto()
    ENDED = auto()
    """Nothing more can be queued. Bytes that still arrive are read and discarded."""


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

    # For the two sides

    @abstractmethod
    def _handshake(self, frame: Frame) -> Event | None:
        """Process a frame that arrives before the connection is established."""

    @abstractmethod
    def _message(self, frame: Frame) -> Event | None:
        """Process a frame of an established connection that is not CLOSE."""

    @abstractmethod
    def _last_sequence(self) -> int:
        """Return the field ``last`` for CLOSE."""

    def _establish(self, *, sending: Mac, receiving: Mac, peer_max_frame: int) -> None:  # noqa: ARG002 - the carrier's
        self._sealer = Sealer(sending, max_frame=peer_max_frame, sequence=1, size_limit=self._size_limit)
        self.state = State.OPEN

    def _send(self, kind: int, payload: Payload, *, wait: int = 0, reply_to: int = 0) -> int:
        sealer = self._sealer
        if sealer is None or self.state is not _OPEN:
            raise InvalidState("the connection is not established, or has ended; nothing more can be sent on it")
        sequence = sealer.sequence
        self.queued.append(sealer.seal(kind, payload, wait=wait, reply_to=reply_to))
        return sequence

    # For the carriers

    def _frame(self, frame: Frame) -> Event | None:
        """Process a frame of an established connection that has a valid tag."""
        self._header_checker.check(frame)
        if frame.kind != _CLOSE:
            return self._message(frame)
        close = Close.unpack(frame.payload)
        assert self._sealer is not None  # noqa: S101 - the state is OPEN
        if close.last >= self._sealer.sequence:
            raise RemoteProtocolError(f"CLOSE with sequence {close.last}, which was never sent")
        self.close()
        return Closed(*close)

    def _fail(self) -> None:
        self.close(CloseCode.PROTOCOL_ERROR)
