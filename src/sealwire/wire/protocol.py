"""What both sides share: states, errors and the end of a connection (docs/protocol.md, section 5).

The pump contract, the same for every carrier that is a stream::

    view = protocol.get_buffer()            read into it, then
    protocol.buffer_updated(count)          or, at the stream's end, protocol.eof_received()
    protocol.next_event()                   again and again until None; raises what the peer did wrong, once
    protocol.data_to_send()                 write all of it, in order, after every call that may have queued something

An error of the peer comes out of ``next_event`` after all that was good before it. By then the answer to it, if there
is one, is among the bytes to send.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import Enum, auto
from itertools import chain
from typing import Final

from sealwire.errors import ConnectionClosed, InvalidState, RemoteProtocolError
from sealwire.wire.events import Closed, Event
from sealwire.wire.frames import Close, CloseCode, Kind, Payload
from sealwire.wire.keys import Mac
from sealwire.wire.reader import Frame, Reader
from sealwire.wire.sealing import Opener, Sealer


class State(Enum):
    """Where a connection is."""

    HANDSHAKE = auto()
    OPEN = auto()
    ENDED = auto()
    """Our last frame is sent or queued, or none can be: whatever still comes is read and discarded."""


# Looking a member up in its Enum takes longer than comparing it.
_HANDSHAKE: Final = State.HANDSHAKE
_OPEN: Final = State.OPEN
_ENDED: Final = State.ENDED
_CLOSE: Final = Kind.CLOSE


class Protocol(ABC):
    """One side of one connection; ClientProtocol and ServerProtocol are the two."""

    _is_client: bool

    def __init__(self, max_frame: int) -> None:
        self.state = State.HANDSHAKE
        self._max_frame = max_frame
        self._reader = Reader()
        self._opener = Opener(from_client=not self._is_client, sequence=0)
        self._sealer: Sealer | None = None
        self._out: list[Iterable[bytes | memoryview]] = []
        self._eof = False

    # Bytes

    def get_buffer(self, sizehint: int = -1) -> memoryview:  # noqa: ARG002 - the shape of asyncio's BufferedProtocol
        """Where to read into: never empty, valid until the next call of this object."""
        if self.state is _ENDED:
            self._reader.discard()
        return self._reader.get_buffer()

    def buffer_updated(self, count: int) -> None:
        """``count`` bytes are at the front of what get_buffer handed out."""
        if self.state is _ENDED:
            return
        self._reader.buffer_updated(count)

    def eof_received(self) -> None:
        """The stream ended."""
        self._eof = True

    def data_to_send(self) -> Iterable[bytes | memoryview]:
        """The bytes to write now, in pieces. Take all of them: each is handed out once."""
        out = self.frames_to_send()
        return out[0] if len(out) == 1 else chain.from_iterable(out)

    def frames_to_send(self) -> list[Iterable[bytes | memoryview]]:
        """The same, frame by frame."""
        out, self._out = self._out, []
        return out

    @property
    def inside_frame(self) -> bool:
        """Whether a frame of the peer has begun and not ended."""
        return not self._reader.empty

    # Events

    def next_event(self) -> Event | None:
        """What happened next, or None until more bytes come (or the connection is over).

        Raises RemoteProtocolError for what the peer did wrong, ConnectionClosed or TruncatedFrame at the end of the
        stream without CLOSE.
        """
        while self.state is not _ENDED:
            try:
                frame = self._reader.next_frame()
                if frame is None:
                    if self._eof:
                        self._reader.eof()
                        raise ConnectionClosed("the peer ended the connection without CLOSE")  # noqa: TRY301
                    return None
                event = self._handshake(frame) if self.state is _HANDSHAKE else self._frame(frame)
            except RemoteProtocolError:
                self._fail()
                raise
            except ConnectionClosed:
                self.state = State.ENDED
                raise
            if event is not None:
                return event
        return None

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

    def _establish(self, *, sending: Mac, receiving: Mac, peer_max_frame: int) -> None:
        self._sealer = Sealer(sending, max_frame=peer_max_frame, sequence=1)
        self._reader.establish(receiving, self._max_frame)
        self.state = State.OPEN

    def _send(self, kind: int, payload: Payload, *, wait: int = 0, reply_to: int = 0) -> int:
        sealer = self._sealer
        if sealer is None or self.state is not _OPEN:
            raise InvalidState("the connection is not established, or has ended; nothing more can be sent on it")
        sequence = sealer.sequence
        self._out.append(sealer.seal(kind, payload, wait=wait, reply_to=reply_to))
        return sequence

    # Inside

    def _frame(self, frame: Frame) -> Event | None:
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
