"""On a stream: bytes in and out, each frame exactly the next (docs/protocol.md, section 2).

The pump contract, the same for every carrier that is a stream::

    view = protocol.get_buffer()            read into it, then
    protocol.buffer_updated(count)          or, at the stream's end, protocol.eof_received()
    protocol.next_event()                   again and again until None; raises what the peer did wrong, once
    protocol.data_to_send()                 write all of it, in order, after every call that may have queued something

An error of the peer comes out of ``next_event`` after all that was good before it. By then the answer to it, if there
is one, is among the bytes to send.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final

from sealwire.errors import ConnectionClosed, RemoteProtocolError
from sealwire.wire.events import Event
from sealwire.wire.keys import Mac
from sealwire.wire.protocol import Protocol, State
from sealwire.wire.reader import Reader

# Looking a member up in its Enum takes longer than comparing it.
_HANDSHAKE: Final = State.HANDSHAKE
_ENDED: Final = State.ENDED


class StreamProtocol(Protocol):
    """One side of a connection over a stream."""

    def __init__(self, max_frame: int) -> None:
        super().__init__(max_frame)
        self._reader = Reader()
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
                        raise ConnectionClosed("the peer ended the connection without CLOSE")  # noqa: TRY301 - told apart from what next_frame raises
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

    def _establish(self, *, sending: Mac, receiving: Mac, peer_max_frame: int) -> None:
        super()._establish(sending=sending, receiving=receiving, peer_max_frame=peer_max_frame)
        self._reader.establish(receiving, self._max_frame)
