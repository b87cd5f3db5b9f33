"""The short way for small messages of plain data, which most requests and replies are.

The vetting pass follows the unpickler's stack in Python; for a message of a hundred bytes that costs more than sealing
and sending it. Two things that run in C stand in for it where they can:

1. A regular expression admits only opcodes that make ``None``, ``bool``, small ``int``, ``float``, ``str``, ``bytes``,
   ``list``, ``tuple`` and ``dict``. None of them names, calls, imports or refers back to anything, so nothing is
   shared, nothing is a cycle, and whatever such bytes do to CPython's unpickler costs time and memory in proportion
   to their number, which is bounded.
2. What comes out is pickled again, and must give the very same bytes. So what else the vetting pass refuses (left-over
   stack, trailing bytes, duplicate keys, any second spelling of a value) differs, and goes the long way.

Nothing is refused here. What is not shown to be good is judged by the vetting pass, which also has the words for it.
"""

from __future__ import annotations

import pickle
import re
from typing import Any, Final

from sealwire.limits import FRAME_OVERHEAD, Limits
from sealwire.pickling.gathering import trailing_header
from sealwire.pickling.opcodes import STOP

PROTOCOL: Final = 5
SMALL: Final = 2048
"""Bytes of a message that may go the short way: what crafted keys can cost by colliding stays below a millisecond."""
NOT_PLAIN: Final = object()
"""What :meth:`Plain.decode` returns for a message that has to go the long way."""

LARGE: Final = 1 << 20
"""Bytes of a pickle beyond which it is not made in passing."""
_MEMORY: Final = 256
"""Bytes of memory that one byte of such a message can make, at most: an empty dict with its place in the memo."""
_LONGEST: Final = 64
"""Bytes of one str or bytes that goes the short way."""


def _sized(opcode: bytes, byte: bytes) -> bytes:
    """A pattern for an opcode with one byte of length, and that many bytes."""
    lengths = b"|".join(re.escape(bytes([n])) + byte + b"{%d}" % n for n in range(_LONGEST + 1))
    return opcode + b"(?:" + lengths + b")"


_MESSAGE: Final = re.compile(
    rb"\x80\x05\x95.{8}(?:"  # PROTO 5, FRAME
    + b"|".join(
        (
            _sized(rb"\x8c", rb"[^\xed]") + rb"\x94?",  # SHORT_BINUNICODE; the first byte of a lone surrogate is 0xed
            rb"[\x94N\x88\x89\]}()tusea\x85\x86\x87]++",  # MEMOIZE, constants, containers and what fills them
            rb"K.|M..|J.{4}",  # BININT1, BININT2, BININT
            rb"G[^\x7f\xff].{7}",  # BINFLOAT; not NaN, which is no key, and here nobody knows what is one
            _sized(b"C", b"."),  # SHORT_BINBYTES
        )
    )
    + rb")*+\.",  # STOP
    re.DOTALL,
)
_LONE: Final = b"\x80\x05B"  # PROTO 5, BINBYTES
_NESTING: Final = (b"]", b"}", b"(", b"\x85", b"\x86", b"\x87")


class Plain:
    """The short way under one set of limits. Immutable; threads may share it."""

    def __init__(self, limits: Limits) -> None:
        generous = (
            min(limits.max_nodes, limits.max_expanded_nodes, limits.max_string) >= SMALL
            and limits.max_memory >= SMALL * _MEMORY
        )
        self._size = min(SMALL, limits.max_frame - FRAME_OVERHEAD) if generous else 0
        # The vetting pass would charge little more than the bytes themselves.
        largest = min(limits.max_frame - FRAME_OVERHEAD, limits.max_string, limits.max_memory // 4)
        self._largest = largest if generous else 0
        self._max_depth = limits.max_depth
        self._idle: list[_PlainPickler] = []

    def encode(self, value: object) -> tuple[bytes | None, bool]:
        """The pickle of a value of plain data, and whether that can be sent as it is.

        Where not, it has to go the long way; None where it is not plain data, or is large.
        """
        # Making a pickler costs as much as its work on a small message. Taking one off a list and putting it back are
        # atomic, so that no two threads (and no value that is encoded while another one is) share it.
        try:
            pickler = self._idle.pop()
        except IndexError:
            pickler = _PlainPickler()
        data = pickler.dumps(value)
        if data is None:
            return None, False  # and the pickler, which stopped half-way, is not used again
        self._idle.append(pickler)
        return data, len(data) <= self._size and _MESSAGE.fullmatch(data) is not None and self._is_shallow(data)

    def decode(self, data: bytes) -> Any:
        """The value, or NOT_PLAIN where the message has to go the long way."""
        if len(data) > self._size:
            return pickle.loads(data) if self._is_lone(data) else NOT_PLAIN  # noqa: S301 - one bytes, and nothing else
        if _MESSAGE.fullmatch(data) is None or not self._is_shallow(data):
            return NOT_PLAIN
        try:
            value = pickle.loads(data)  # noqa: S301 - admitted: no opcode here names anything
            same = pickle.dumps(value, PROTOCOL) == data
        except Exception:  # the long way says what is wrong with it
            return NOT_PLAIN
        return value if same else NOT_PLAIN

    def _is_lone(self, data: bytes) -> bool:
        """Whether it is one large bytes alone: a file, an image."""
        return (
            data.startswith(_LONE)
            and int.from_bytes(data[3:7], "little") == len(data) - 9
            and data.endswith(b"\x94.")
            and len(data) <= self._largest
        )

    def _is_shallow(self, data: bytes) -> bool:
        # Each level of nesting takes one of these bytes and another one.
        return len(data) <= 2 * self._max_depth or sum(map(data.count, _NESTING)) < self._max_depth


class _NotPlain(Exception):  # never seen outside
    """The value has something that is not plain data, or is too large."""


class _PlainPickler(pickle.Pickler):
    """Pickles plain values, and stops at whatever is not plain data before any method of it runs."""

    def __init__(self) -> None:
        super().__init__(self, PROTOCOL)  # all of a file that it needs is write
        self._pieces: list[bytes] = []
        self._left = LARGE

    def dumps(self, value: object) -> bytes | None:
        """The pickle, or None."""
        try:
            self.dump(value)
        except (_NotPlain, pickle.PicklingError, RecursionError, UnicodeEncodeError):
            return None
        self.clear_memo()
        self._left = LARGE
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, data: bytes) -> int:
        """A part of the pickle, which comes in one if it is small."""
        self._left -= len(data)
        if self._left < 0 or (not self._pieces and data[-1] != STOP and _announced(data) > self._left):
            raise _NotPlain
        self._pieces.append(data)
        return len(data)

    def reducer_override(self, _: Any) -> Any:
        raise _NotPlain


def _announced(data: bytes) -> int:
    """The bytes of the large str or bytes to come, which for a str is not copied yet; 0 where there is none."""
    return int.from_bytes(data[len(data) - trailing_header(data) :][1:], "little")
