"""The bytes of a message: the leaves that the stack refers to, and the bounds on each."""

from __future__ import annotations

from struct import unpack_from
from typing import Any, Final

from sealwire.errors import LimitExceeded, MalformedPickle
from sealwire.limits import Limits
from sealwire.pickling.grants import GrantTable
from sealwire.pickling.opcodes import (
    BINBYTES,
    BINBYTES8,
    BINFLOAT,
    BININT,
    BININT1,
    BININT2,
    BINUNICODE,
    BINUNICODE8,
    BYTEARRAY8,
    EMPTY_TUPLE,
    LONG1,
    LONG4,
    NAMES,
    NEWFALSE,
    NEWTRUE,
    NONE,
    SHORT_BINBYTES,
    SHORT_BINUNICODE,
)

_SCAN: Final = 4096
"""Bytes that are searched for surrogates at a time."""
_MAX_NAME: Final = 256
"""Bytes of a module's or a class's name in GLOBAL."""

_HEADERS: Final = {
    SHORT_BINUNICODE: 2, BINUNICODE: 5, BINUNICODE8: 9, SHORT_BINBYTES: 2, BINBYTES: 5, BINBYTES8: 9, BYTEARRAY8: 9,
}  # fmt: skip
NUMBERS: Final = frozenset((BININT1, BININT2, BININT, LONG1, BINFLOAT))
INTEGERS: Final = frozenset((BININT1, BININT2, BININT, LONG1, LONG4))
_TEXTS: Final = frozenset((SHORT_BINUNICODE, BINUNICODE, BINUNICODE8))


class Rules:
    """The table of grants and the bounds of one codec, as the vetting pass reads them."""

    def __init__(self, table: GrantTable, limits: Limits) -> None:
        self.numbers: Final = table.numbers
        self.members: Final = table.members
        self.rebuilt: Final = table.rebuilt
        self.powers: Final = table.powers
        self.memory: Final = table.memory
        self.stretch: Final = table.stretch
        self.spellings: Final = [grant.spelling for grant in table.grants]
        self.max_nodes: Final = limits.max_nodes
        self.max_depth: Final = limits.max_depth
        self.max_expanded_nodes: Final = limits.max_expanded_nodes
        self.max_memory: Final = limits.max_memory
        self.max_integer_bits: Final = limits.max_integer_bits
        self.max_string: Final = limits.max_string
        self.max_probes: Final = limits.max_probes


class Leaves:
    """The leaves of one message, each known by the offset of its opcode.

    ``aside``: the bytes of what stands at an offset without them (:mod:`.outline`).
    """

    def __init__(self, data: bytes, rules: Rules, aside: dict[int, Any]) -> None:
        self._aside = aside
        self._data = data
        self._rules = rules

    def _leaf_key(self, entry: int) -> Any:
        """A value that is equal to the leaf, and has its hash."""
        data = self._data
        opcode = data[entry]
        if opcode == LONG1:
            return int.from_bytes(data[entry + 2 : entry + 2 + data[entry + 1]], "little", signed=True)
        if opcode == BININT1:
            return data[entry + 1]
        if opcode == BININT2:
            return data[entry + 1] | data[entry + 2] << 8
        if opcode == BININT:
            return integer(data[entry + 1 : entry + 5])
        if opcode == LONG4:
            return integer(data[entry + 5 : entry + 5 + int.from_bytes(data[entry + 1 : entry + 5], "little")])
        if opcode == BINFLOAT:
            value: float = unpack_from(">d", data, entry + 1)[0]
            if value != value:
                raise MalformedPickle(f"NaN as a key (BINFLOAT at byte {entry})")
            return value
        if opcode == NONE:
            return None
        if opcode in (NEWTRUE, NEWFALSE):
            return opcode == NEWTRUE
        if opcode == EMPTY_TUPLE:
            return ()
        if entry in self._aside:
            return bytes(self._aside[entry])
        start = entry + _HEADERS[opcode]
        piece = self._cut(start, start + int.from_bytes(data[entry + 1 : start], "little"))
        return piece if opcode in (SHORT_BINBYTES, BINBYTES, BINBYTES8) else piece.decode()

    def _size(self, entry: int) -> int:
        """Bytes of a leaf that has a length; 0 for others."""
        if entry in self._aside:
            return len(self._aside[entry])
        opcode = self._data[entry]
        width = _HEADERS.get(opcode, 2 if opcode == LONG1 else 5 if opcode == LONG4 else 0)
        return int.from_bytes(self._data[entry + 1 : entry + width], "little") if width else 0

    def _cut(self, start: int, stop: int) -> bytes:
        return self._data[start:stop]

    def _length(self, at: int, start: int) -> int:
        """The length of the str or bytes whose length field ends at ``start``."""
        length = int.from_bytes(self._data[at + 1 : start], "little")
        if length > self._rules.max_string:
            raise limit("max_string", self._data[at], at)
        if length > len(self._data) - start:
            raise MalformedPickle(f"the pickle is truncated ({NAMES[self._data[at]]} at byte {at})")
        return length

    def _check_text(self, start: int, stop: int) -> int:
        """Refuse lone surrogates in a str; return the offset up to which there are none."""
        rules = self._rules
        if stop - start > rules.max_string:
            raise limit("max_string", SHORT_BINUNICODE, start)
        # A surrogate begins with this byte; as a rule there is none far and wide.
        horizon = max(stop, start + _SCAN)
        data = self._data
        found = data.find(b"\xed", start, horizon)
        if 0 <= found < stop:
            self._cut(start, stop).decode()
            return stop
        if rules.max_string < 255:
            return 0
        return horizon if found < 0 else found

    def _text(self, entry: int, opcode: int, at: int) -> str:
        """The text of a name: a str leaf."""
        start = entry + _HEADERS.get(self._data[entry], 0) if entry >= 0 else 0
        if entry < 0 or self._data[entry] not in _TEXTS:
            raise MalformedPickle(f"a str is wanted ({NAMES[opcode]} at byte {at})")
        return self._cut(start, start + int.from_bytes(self._data[entry + 1 : start], "little")).decode()

    def _find_line(self, start: int) -> int:
        """The offset of the next newline, which ends a name of GLOBAL."""
        found = self._cut(start, start + _MAX_NAME).find(b"\n")
        if found < 0:
            raise MalformedPickle(f"a name without an end (GLOBAL before byte {start})")
        return start + found


def integer(data: bytes) -> int:
    """The value of a little-endian two's complement."""
    return int.from_bytes(data, "little", signed=True)


def limit(name: str, opcode: int, at: int) -> LimitExceeded:
    """The error for a limit, by the name that it has in Limits."""
    return LimitExceeded(f"{name}: the message goes beyond the limit ({NAMES[opcode]} at byte {at})")
