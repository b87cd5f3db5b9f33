"""Elides large bytes from a message, for the vetting pass, which never examines their content.

CPython's pickler writes 64 KiB of bytes or more outside of its frames, right after their opcode and length. Therefore
they are found by stepping from one frame to the next, and over the few opcodes between two frames. If anything else
occurs, the rest of the message is left as it is: eliding saves time, and the vetting pass decides either way.
"""

from __future__ import annotations

from typing import Final

from sealwire.errors import LimitExceeded
from sealwire.pickling import opcodes as op

LARGE: Final = 65_536
"""Bytes from which on CPython's picklers write bytes outside of frames."""
FRAME_SIZE: Final = 9
"""Bytes of the opcode FRAME and its length."""
Memory = bytes | bytearray | memoryview

_ONE_BYTE: Final = (op.OPENS_CONTAINER, op.SETS_ITEMS, op.ADDS_ITEMS, op.MAKES_CONTAINER)
_LENGTHS: Final = {opcode: max(group, 1) for opcode, group in enumerate(op.DISPATCH) if group > 0 or group in _ONE_BYTE}
_LENGTHS.update({op.MARK: 1, op.MEMOIZE: 1, op.REDUCE: 1, op.NEWOBJ: 1, op.BUILD: 1, op.BINGET: 2})
"""Opcodes that may stand between large bytes and the next frame, with their lengths."""
_MAX_UNFRAMED: Final = 4
"""Such opcodes in a row; the pickler begins a frame for four bytes or more."""


def placeholder_opcode(opcode: int) -> bytes | None:
    """Return the empty bytes or bytearray that stands for elided bytes of this opcode; None for other opcodes."""
    if opcode == op.BINBYTES:
        return bytes((opcode, *bytes(4)))
    return bytes((opcode, *bytes(8))) if opcode in (op.BINBYTES8, op.BYTEARRAY8) else None


def elide(message: memoryview, max_string: int) -> tuple[bytes, dict[int, Memory]]:
    """Return a message without its large bytes, and these by the offset of the opcode that stands for each of them.

    Raises LimitExceeded (max_string).
    """
    pieces: list[bytes | memoryview] = []
    large_buffers: dict[int, Memory] = {}
    size = len(message)
    elided_size = 0
    start = 0  # of the bytes that are not in pieces yet
    at = 2  # after PROTO
    unframed = 0
    while at + 9 <= size and unframed < _MAX_UNFRAMED:
        opcode = message[at]
        if opcode == op.FRAME:
            unframed = 0
            at += FRAME_SIZE + int.from_bytes(message[at + 1 : at + FRAME_SIZE], "little")
            continue
        replacement = placeholder_opcode(opcode)
        if replacement is None:
            if opcode not in _LENGTHS:
                break
            unframed += 1
            at += _LENGTHS[opcode]
            continue
        content = at + (5 if opcode == op.BINBYTES else 9)
        length = int.from_bytes(message[at + 1 : content], "little")
        if length < LARGE or length > size - content:
            break
        if length > max_string:
            raise LimitExceeded(f"max_string: {length} bytes of one str or bytes exceed the limit (byte {at})")
        elided_size += at - start
        large_buffers[elided_size] = message[content : content + length]
        pieces += message[start:at], replacement
        elided_size += len(replacement)
        start = at = content + length
        unframed = 0
    pieces.append(message[start:])
    return b"".join(pieces), large_buffers
