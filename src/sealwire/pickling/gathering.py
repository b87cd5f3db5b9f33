"""The file that the encoder's pickler writes to: large bytes stay pieces of their own.

CPython's pickler hands 64 KiB of bytes or more to ``write`` as they are, outside of its frames, right after their
opcode and length. They are kept: immutable ones as the very object, others copied, once, since what is being sent may
change meanwhile. To prove such a message nobody has to read them, either: the vetting pass gets an outline, and the
building pass a message that takes them from a list (NEXT_BUFFER, PEP 574).
"""

from __future__ import annotations

import pickle
from typing import Final

from sealwire.errors import LimitExceeded
from sealwire.limits import FRAME_OVERHEAD, Limits
from sealwire.pickling.opcodes import BYTEARRAY8, FRAME, PROTO
from sealwire.pickling.outline import Memory, stub

Piece = bytes | bytearray

_NEXT_BUFFER: Final = b"\x97"


class Gathering:
    """One message as it is written.

    pieces: the message. outline: the message for the vetting pass, without buffers. skeleton: the message for the
    building pass, which takes them from elsewhere. buffers: the large bytes and bytearrays. aside: the same by the
    offset in the outline of what stands for each (:mod:`.outline`).
    """

    def __init__(self, limits: Limits) -> None:
        self._max_size = limits.max_frame - FRAME_OVERHEAD
        self._max_string = limits.max_string
        self._size = 0
        self._header = b""
        """The opcode and length that the last piece ended with, of large bytes or str to come."""
        self.pieces: list[Piece] = []
        self.outline: list[Piece] = []
        self.skeleton: list[Piece] = []
        self.buffers: list[Piece] = []
        self.aside: dict[int, Memory] = {}
        self._outlined = 0

    def write(self, data: bytes | memoryview | pickle.PickleBuffer) -> int:
        """The next piece. Raises LimitExceeded before it is copied."""
        if isinstance(data, pickle.PickleBuffer):
            data = data.raw()
        self._size += len(data)
        if self._size > self._max_size:
            raise LimitExceeded(f"max_frame: the message has {self._size} bytes or more, {self._max_size} are allowed")
        if self._header:
            self._large(data)
        else:
            self._small(bytes(data))
        return len(data)

    def _small(self, data: bytes) -> None:
        self.pieces.append(data)
        size = trailing_header(data)
        self._header = data[len(data) - size :]
        rest = data[: len(data) - size]
        self._outline(rest)
        self.skeleton.append(rest)

    def _outline(self, data: Piece) -> None:
        self.outline.append(data)
        self._outlined += len(data)

    def _large(self, data: bytes | memoryview) -> None:
        header, self._header = self._header, b""
        if len(data) > self._max_string:
            raise LimitExceeded(f"max_string: {len(data)} bytes of one str or bytes go beyond the limit")
        piece = bytearray(data) if header[0] == BYTEARRAY8 else bytes(data)
        self.pieces.append(piece)
        stands = stub(header[0])
        if stands is None:
            self._outline(header + piece)
            self.skeleton += header, piece
            return
        self.aside[self._outlined] = piece
        self._outline(stands)
        self.buffers.append(piece)
        self.skeleton.append(_NEXT_BUFFER)


def trailing_header(data: bytes) -> int:
    """The length of an opcode and a length of 4 or 8 bytes, after whole frames and less than 4 bytes without one."""
    at = 2 if data[0] == PROTO else 0
    while at < len(data) and data[at] == FRAME:
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    rest = len(data) - at
    return 9 if rest >= 9 else 5 if rest >= 5 else 0
