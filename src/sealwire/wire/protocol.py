"""What both sides and all carriers share: states, errors and the end of a connection (docs/protocol.md, section 5).

What comes in, and in which order, is the carrier's: ``stream`` or ``datagram``. What the frames mean is the side's:
``client`` or ``server``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import Enum, auto
from typing import ClassVar, Final

from sealwire.errors import InvalidState, RemoteProtocolError
from sealwire.wire.events import Closed, Event
from sealwire.wire.frames import Close, CloseCode, Kind, Payload
from sealwire.wire.keys import Mac
from sealwire.wire.reader import Frame
from sealwire.wire.sealing import PEER_TAKES, Opener, Sealer


class State(Enum):
    """Where a connection is."""

    HANDSHAKE = auto()
    OPEN = auto()
    ENDED = auto()
    """Our last frame is sent or queued, or none can be: whatever still comes is read and discarded."""


# Looking a member up in its Enum takes longer than comparing it.
_OPEN: Final = State.OPEN
_CLOSE: Final = Kind.CLOSE


class Protocol(ABC):
    """One side of one connection.

    A side is mixed with a carrier: ClientProtocol and ServerProtocol on a stream, ClientDatagrams and ServerDatagrams.
    """

    _is_client: ClassVar[bool]
    _opener_class: ClassVar[type[Opener]] = Opener
    _taken: ClassVar[str] = PEER_TAKES
    """What an error says of the most that can be sent."""

    def __init__(self, max_frame: int) -> None:
        self.state = State.HANDSHAKE
        self._max_frame = max_frame
        self._opener = self._opener_class(from_client=not self._is_client)
        self._sealer: Sealer | None = None
        self._out: list[Iterable[bytes | memoryview]] = []

    def frames_to_send(self) -> list[Iterable[bytes | memoryview]]:
        """What to write now, frame by frame, each in pieces. Take all of it: each is handed out once."""
        out, self._out = self._out, []
        return out

    def close(self, code: int = CloseCode.DONE) -> None:
        """Queue CLOSE, our last frame. Without effect where the connection has ended or is not established."""
        if self.state is State.OPEN:
            self._send(Kind.CLOSE, Close(code, self._last()).pack())
        self.state = State.ENDED

    # For the two sides

    @abstractmethod
    def _handshake(self, frame: Frame) -> Event | None:
        """A frame before the connection is established."""

    @abstractmethod
    def _message(self, frame: Frame) -> Event | None:
        """A frame of a kind that only one side sends, the connection being established."""

    @abstractmethod
    def _last(self) -> int:
        """``last`` of our CLOSE."""

    def _establish(self, *, sending: Mac, receiving: Mac, peer_max_frame: int) -> None:  # noqa: ARG002 - the carrier's
        self._sealer = Sealer(sending, max_frame=peer_max_frame, sequence=1, taken=self._taken)
        self.state = State.OPEN

    def _send(self, kind: int, payload: Payload, *, wait: int = 0, reply_to: int = 0) -> int:
        sealer = self._sealer
        if sealer is None or self.state is not _OPEN:
            raise InvalidState("the connection is not established, or has ended; nothing more can be sent on it")
        sequence = sealer.sequence
        self._out.append(sealer.seal(kind, payload, wait=wait, reply_to=reply_to))
        return sequence

    # For the carriers

    def _frame(self, frame: Frame) -> Event | None:
        """A frame whose tag is right, the connection being established."""
        self._opener.check(frame)
        if frame.kind != _CLOSE:
            return self._message(frame)
        close = Close.unpack(frame.payload)
        assert self._sealer is not None  # noqa: S101 - the state is OPEN
        if close.last >= self._sealer.sequence:
            raise RemoteProtocolError(f"CLOSE that names sequence {close.last}, which was never sent")
        self.close()
        return Closed(*close)

    def _fail(self) -> None:
        self.close(CloseCode.PROTOCOL_ERROR)
