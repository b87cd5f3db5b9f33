"""The file from which the unpickler reads a long message: in pieces, so that other threads get their turn.

``pickle.loads`` is one call in C, which holds the interpreter's lock until the whole value is built: 15 ms for each
megabyte of small objects, in which no other connection is served. Reading from a file in Python, the unpickler comes
back for the next piece, and the interpreter can then pass its lock to another thread.

CPython's unpickler reads a whole frame at once. It gets to see none that is longer than a piece: the file leaves the
FRAME opcode out, which is optional (PEP 3154). The vetting pass has checked the frames, and says where these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sealwire.pickling.elide import FRAME_SIZE, Memory

PIECE: Final = 8192
"""Bytes of a piece, which take about 0.1 ms."""
LONG_MESSAGE: Final = 2 * PIECE
"""Bytes from which on a message is read in pieces."""
_COPIED_AT_ONCE: Final = 1 << 18
give_way: Callable[[], None] | None = None
"""Waits for threads that go first, between two pieces. A server sets it."""


class MessageFile:
    """A file over a message, which is not copied. The unpickler reads large bytes from it straight into their place.

    Args:
        message: The message.
        frames: The offsets of its FRAME opcodes that the unpickler must not see, ascending.
    """

    def __init__(self, message: bytes | memoryview, frames: Iterable[int] = ()) -> None:
        self._message = memoryview(message)
        self._at = 0
        self._frames = iter(frames)
        self._stop = next(self._frames, len(message))

    def peek(self, _: int) -> bytes:
        """Return the next piece without reading it."""
        if give_way is not None:
            give_way()
        if self._at == self._stop:
            self._at = min(self._at + FRAME_SIZE, len(self._message))
            self._stop = next(self._frames, len(self._message))
        return bytes(self._message[self._at : min(self._at + PIECE, self._stop)])

    def read(self, size: int) -> bytes:
        """Read bytes: those of a piece, or the content of a long str or bytes."""
        start = self._at
        self._at = start + size
        return bytes(self._message[start : self._at])

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer, as far as there are bytes; return their number."""
        size = min(len(buffer), len(self._message) - self._at)
        for start in range(0, size, _COPIED_AT_ONCE):
            stop = min(start + _COPIED_AT_ONCE, size)
            buffer[start:stop] = self._message[self._at + start : self._at + stop]
        self._at += size
        return size

    def readline(self) -> bytes:
        """Read a module's or a type's name, at protocol 2 or 3."""
        line = bytes(self._message[self._at : self._at + 512])
        line = line[: line.find(b"\n") + 1]
        self._at += len(line)
        return line


def with_large_buffers(frames: Iterable[int], large_buffers: Mapping[int, Memory]) -> list[int]:
    """Return the offsets of frames in a message, given those in the message without its large bytes."""
    remaining = sorted(large_buffers.items())
    moved = []
    added = 0
    for frame in frames:
        while remaining and remaining[0][0] < frame:
            added += len(remaining.pop(0)[1])
        moved.append(frame + added)
    return moved
