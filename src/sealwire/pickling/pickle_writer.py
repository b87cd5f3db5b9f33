"""The file that the encoder's pickler writes to, which keeps large bytes as pieces of their own.

CPython's pickler passes 64 KiB of bytes or more to ``write`` as they are, outside of its frames, right after their
opcode and length. A piece of bytes is kept without a copy; bytearrays and views are copied once, since they may change
before they are sent. The check of such a message does not read the pieces either: the vetting pass gets the message
with large bytes elided (:mod:`.elide`), and the building pass a message that takes them from a list (NEXT_BUFFER,
PEP 574).
"""

from __future__ import annotations

import pickle
from typing import Final

from sealwire.errors import LimitExceeded
from sealwire.limits import FRAME_OVERHEAD, Limits
from sealwire.pickling.elide import Memory, placeholder_opcode
from sealwire.pickling.opcodes import BYTEARRAY8, FRAME, PROTO

Piece = bytes | bytearray

_NEXT_BUFFER: Final = b"\x97"


class PieceWriter:
    """One message as it is written."""

    def __init__(self, limits: Limits) -> None:
        self._max_size = limits.max_frame - FRAME_OVERHEAD
        self._max_string = limits.max_string
        self._size = 0
        self._header = b""
        """The opcode and length at the end of the last piece, if large bytes or a large str come next."""
        self._elided_size = 0
        self.pieces: list[Piece] = []
        """The message."""
        self.elided: list[Piece] = []
        """The message for the vetting pass, without large bytes."""
        self.building_message: list[Piece] = []
        """The message for the building pass, which takes large bytes from ``buffers``."""
        self.buffers: list[Piece] = []
        """The large bytes and bytearrays."""
        self.large_buffers: dict[int, Memory] = {}
        """The same, by the offset in ``elided`` of the opcode that stands for each of them."""

    def write(self, data: bytes | memoryview | pickle.PickleBuffer) -> int:
        """Add the next piece. Raises LimitExceeded before a piece that is too long is copied."""
        if isinstance(data, pickle.PickleBuffer):
            data = data.raw()
        self._size += len(data)
        if self._size > self._max_size:
            raise LimitExceeded(
                f"max_frame: the message has {self._size} bytes or more, {self._max_size} are allowed; raise the limit "
                "at both ends, or send it in parts"
            )
        if self._header:
            self._write_large(data)
        else:
            self._write_small(bytes(data))
        return len(data)

    def _write_small(self, data: bytes) -> None:
        self.pieces.append(data)
        size = trailing_header(data)
        self._header = data[len(data) - size :]
        rest = data[: len(data) - size]
        self._write_elided(rest)
        self.building_message.append(rest)

    def _write_elided(self, data: Piece) -> None:
        self.elided.append(data)
        self._elided_size += len(data)

    def _write_large(self, data: bytes | memoryview) -> None:
        header, self._header = self._header, b""
        if len(data) > self._max_string:
            raise LimitExceeded(f"max_string: {len(data)} bytes of one str or bytes exceed the limit")
        piece = bytearray(data) if header[0] == BYTEARRAY8 else bytes(data)
        self.pieces.append(piece)
        replacement = placeholder_opcode(header[0])
        if replacement is None:
            self._write_elided(header + piece)
            self.building_message += header, piece
            return
        self.large_buffers[self._elided_size] = piece
        self._write_elided(replacement)
        self.buffers.append(piece)
        self.building_message.append(_NEXT_BUFFER)


def trailing_header(data: bytes) -> int:
    """Return the size of the opcode and length field at the end of a piece; 0 if there is none.

    The pickler writes whole frames, then less than four bytes without a frame, then the header of large bytes: one byte
    of opcode, and a length of four or eight bytes.
    """
    at = 2 if data[0] == PROTO else 0
    while at < len(data) and data[at] == FRAME:
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    rest = len(data) - at
    return 9 if rest >= 9 else 5 if rest >= 5 else 0
