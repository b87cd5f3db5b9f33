"""Carries frames over a stream, in order (docs/protocol.md, section 2).

The contract with the pump, the same for every stream::

    view = protocol.get_buffer()            read into it, then call
    protocol.buffer_updated(count)          0 if there was nothing to read; at the end, protocol.eof_received()
    protocol.next_event()                   call it until it returns None; it raises an error of the peer once
    protocol.data_to_send()                 write all of it, in order, after every call that may have queued bytes

``next_event`` raises an error of the peer after the events that preceded the error. By then the answer to it, if there
is one, is among the bytes to send.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final

from sealwire.errors import ConnectionClosed, RemoteProtocolError
from sealwire.wire.events import Event
from sealwire.wire.frame_reader import Frame, Reader
from sealwire.wire.keys import Mac
from sealwire.wire.protocol import Protocol, State

# Looking a member up in its Enum takes longer than comparing it.
_HANDSHAKE: Final = State.HANDSHAKE
_ENDED: Final = State.ENDED


class StreamProtocol(Protocol):
    """One side of a connection over a stream."""

    def __init__(self, max_frame: int) -> None:
        super().__init__(max_frame)
        self.reader = Reader()
        self._eof = False

    # Bytes

    def get_buffer(self, _sizehint: int = -1) -> memoryview:
        """Return the buffer to read into; it is not empty, and valid until the next call of this object."""
        if self.state is _ENDED:
            self.reader.discard()
        return self.reader.get_buffer()

    def buffer_updated(self, count: int) -> None:
        """Note that ``count`` bytes were read into the buffer from get_buffer; 0 if none were there."""
        if self.state is _ENDED:
            return
        self.reader.buffer_updated(count)

    def eof_received(self) -> None:
        """Note the end of the stream."""
        self._eof = True

    def data_to_send(self) -> Iterable[bytes | memoryview]:
        """Return the bytes to write now, in pieces. They are returned once, so write them all."""
        out = self.frames_to_send()
        return out[0] if len(out) == 1 else chain.from_iterable(out)

    @property
    def inside_frame(self) -> bool:
        """True if part of a frame has arrived."""
        return not self.reader.empty

    @property
    def pending(self) -> int:
        """Bytes that were read and belong to no frame taken or begun."""
        return self.reader.pending

    @property
    def buffered(self) -> int:
        """Bytes of memory that an incomplete large frame has."""
        return self.reader.buffered

    @property
    def missing(self) -> int:
        """Bytes that an incomplete large frame lacks; 0 if there is none."""
        return self.reader.missing

    @property
    def room(self) -> int:
        """Bytes that may be read before events must be taken; 0 inside a large frame."""
        return self.reader.room

    @property
    def next_kind(self) -> int | None:
        """The kind that the next frame claims to have; None until its header is here, and inside a large frame."""
        return self.reader.next_kind

    # Events

    def next_event(self) -> Event | None:
        """Return the next event, or None if more bytes are needed or the connection has ended.

        Raises:
            RemoteProtocolError: The peer broke the protocol.
            ConnectionClosed: The stream ended without CLOSE; TruncatedFrame if it ended inside a frame.
        """
        reader, checker = self.reader, self._header_checker
        while self.state is not _ENDED:
            try:
                opener = reader.opener
                frame: Frame | None = None if opener is None else opener.next(checker.sequence)
                if frame is None:
                    if reader.empty and not self._eof:
                        return None
                    frame = reader.next_message(checker.sequence)
                if frame is not None:
                    checker.sequence += 1
                    event = self._message(frame)
                else:
                    frame = reader.next_frame()
                    if frame is None:
                        if self._eof:
                            self.reader.eof()
                            # Handled apart from the errors of next_frame.
                            raise ConnectionClosed("the peer ended the connection without CLOSE")
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

    def _begin_sealing(self, sending: Mac, receiving: Mac, peer_max_frame: int) -> None:
        super()._begin_sealing(sending, receiving, peer_max_frame)
        self.reader.establish(receiving, self._max_frame, from_client=not self._is_client)
