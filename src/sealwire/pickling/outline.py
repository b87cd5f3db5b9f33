"""A message without its large bytes, for the vetting pass: it looks at none of them, and reads ``bytes`` much faster.

CPython's pickler writes 64 KiB of bytes or more outside of its frames, right after their opcode and length. So where
the frames are, these are too: from one frame to the next the message is followed as the vetting pass follows it, and
what is not understood here at once is left as it is.
"""

from __future__ import annotations

from typing import Final

from sealwire.errors import LimitExceeded
from sealwire.pickling.opcodes import (
    ADDITEMS,
    APPEND,
    APPENDS,
    BINBYTES,
    BINBYTES8,
    BINGET,
    BUILD,
    BYTEARRAY8,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    FRAME,
    FROZENSET,
    MARK,
    MEMOIZE,
    NEWOBJ,
    REDUCE,
    SETITEM,
    SETITEMS,
    TUPLE,
    TUPLE1,
    TUPLE2,
    TUPLE3,
    WIDTHS,
)

LARGE: Final = 65_536
"""Bytes from which on CPython's picklers write a bytes outside of frames."""
Memory = bytes | bytearray | memoryview

_BYTES: Final = frozenset((BINBYTES, BINBYTES8))
_SHORT: Final = (
    EMPTY_LIST, EMPTY_DICT, EMPTY_SET, MARK, MEMOIZE, APPEND, APPENDS, SETITEM, SETITEMS, ADDITEMS, FROZENSET,
    TUPLE, TUPLE1, TUPLE2, TUPLE3, REDUCE, NEWOBJ, BUILD,
)  # fmt: skip
_WIDTHS: Final = [2 if opcode == BINGET else 1 if opcode in _SHORT else max(0, WIDTHS[opcode]) for opcode in range(256)]
"""Of opcodes that may stand between large bytes and the next frame, which is not begun for less than four bytes."""
_UNFRAMED: Final = 4
"""Such opcodes in a row."""


def stub(opcode: int) -> bytes | None:
    """What stands for large bytes of that opcode in an outline; None where there is nothing to leave out."""
    if opcode in _BYTES:
        return bytes((BINBYTES8, *bytes(8)))
    return bytes((BYTEARRAY8, *bytes(8))) if opcode == BYTEARRAY8 else None


def outline(message: memoryview, max_string: int) -> tuple[bytes, dict[int, Memory]]:
    """The message without large bytes, and these, by the offset of what stands for each of them.

    Raises LimitExceeded (max_string).
    """
    pieces: list[bytes | memoryview] = []
    aside: dict[int, Memory] = {}
    size = len(message)
    start = at = 2  # after PROTO; start: of what has not gone into pieces
    outlined = at
    pieces.append(message[:at])
    unframed = 0
    while at + 9 <= size and unframed < _UNFRAMED:
        opcode = message[at]
        if opcode == FRAME:
            unframed = 0
            at += 9 + int.from_bytes(message[at + 1 : at + 9], "little")
            continue
        stands = stub(opcode)
        if stands is None:
            unframed += 1
            if not _WIDTHS[opcode]:
                break
            at += _WIDTHS[opcode]
            continue
        head = at + (5 if opcode == BINBYTES else 9)
        length = int.from_bytes(message[at + 1 : head], "little")
        if length < LARGE or length > size - head:
            break
        if length > max_string:
            raise LimitExceeded(f"max_string: {length} bytes of one str or bytes go beyond the limit (byte {at})")
        outlined += at - start
        aside[outlined] = message[head : head + length]
        pieces += message[start:at], stands
        outlined += len(stands)
        start = at = head + length
        unframed = 0
    pieces.append(message[start:])
    return b"".join(pieces), aside
