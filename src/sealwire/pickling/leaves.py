"""Leaves: the numbers, str, bytes and constants of a message, each known by the offset of its opcode.

The vetting pass does not decode leaves. It checks their lengths when it meets them and reads a value only if the leaf
is used as a key, as a name, or as an integer near a limit.
"""

from __future__ import annotations

from struct import unpack_from
from typing import Any, Final

from sealwire.errors import LimitExceeded, MalformedPickle
from sealwire.limits import Limits
from sealwire.pickling import opcodes as op
from sealwire.pickling.globals import GlobalTable

_SURROGATE_SCAN: Final = 4096
"""Bytes to search for surrogates at a time; one search of many short str costs less than many searches."""
_MAX_NAME: Final = 256
"""Bytes of a module's or a class's name in GLOBAL."""

HEADERS: Final = {
    op.SHORT_BINUNICODE: 2, op.BINUNICODE: 5, op.BINUNICODE8: 9, op.SHORT_BINBYTES: 2, op.BINBYTES: 5,
    op.BINBYTES8: 9, op.BYTEARRAY8: 9, op.LONG1: 2, op.LONG4: 5,
}  # fmt: skip
"""Opcodes of variable length to the size of the opcode and its length field; the content follows."""
NUMBERS: Final = frozenset((op.BININT1, op.BININT2, op.BININT, op.LONG1, op.BINFLOAT))
INTEGERS: Final = frozenset((op.BININT1, op.BININT2, op.BININT, op.LONG1, op.LONG4))
TEXTS: Final = frozenset((op.SHORT_BINUNICODE, op.BINUNICODE, op.BINUNICODE8))


class VettingRules:
    """The table of globals and the limits of one codec, as the vetting pass reads them."""

    def __init__(self, table: GlobalTable, limits: Limits) -> None:
        self.numbers: Final = table.numbers
        self.old_numbers: Final = table.old_numbers
        self.members: Final = table.members
        self.rebuilt: Final = table.rebuilt
        self.permissions: Final = table.permissions
        self.memory: Final = table.memory
        self.memory_per_byte: Final = table.memory_per_byte
        self.qualified_names: Final = [rule.qualified_name for rule in table.rules]
        self.max_nodes: Final = limits.max_nodes
        self.max_depth: Final = limits.max_depth
        self.max_expanded_nodes: Final = limits.max_expanded_nodes
        self.max_memory: Final = limits.max_memory
        self.max_integer_bits: Final = limits.max_integer_bits
        self.max_string: Final = limits.max_string
        self.max_probes: Final = limits.max_probes


class Leaves:
    """Reads and checks the leaves of one message.

    Args:
        data: The message, or the message without its large bytes (:mod:`.elide`).
        rules: The table and the limits to check against.
        large_buffers: The bytes that were elided, by the offset of the opcode that stands for them.
    """

    def __init__(self, data: bytes, rules: VettingRules, large_buffers: dict[int, Any]) -> None:
        self._large_buffers = large_buffers
        self._data = data
        self._rules = rules
        self._checked_until = 0
        """No str that ends at or before this offset has a lone surrogate, or is too long."""

    def _leaf_value(self, entry: int) -> Any:
        """Return the value of a leaf; for a bytearray, bytes. Raises MalformedPickle for NaN, which cannot be a key."""
        data = self._data
        opcode = data[entry]
        if opcode == op.LONG1:
            return signed_integer(data[entry + 2 : entry + 2 + data[entry + 1]])
        if opcode == op.BININT1:
            return data[entry + 1]
        if opcode == op.BININT2:
            return data[entry + 1] | data[entry + 2] << 8
        if opcode == op.BININT:
            return signed_integer(data[entry + 1 : entry + 5])
        if opcode == op.BINFLOAT:
            value: float = unpack_from(">d", data, entry + 1)[0]
            if value != value:
                raise MalformedPickle(f"NaN as a key (BINFLOAT at byte {entry})")
            return value
        header = HEADERS.get(opcode, 0)
        if not header:
            return _CONSTANTS[opcode]
        if entry in self._large_buffers:
            return bytes(self._large_buffers[entry])
        start = entry + header
        content = data[start : start + int.from_bytes(data[entry + 1 : start], "little")]
        if opcode == op.LONG4:
            return signed_integer(content)
        return content.decode() if opcode in TEXTS else content

    def _leaf_length(self, entry: int) -> int:
        """Return the length of a leaf's content in bytes; 0 for leaves of a fixed size."""
        if entry in self._large_buffers:
            return len(self._large_buffers[entry])
        header = HEADERS.get(self._data[entry], 0)
        return int.from_bytes(self._data[entry + 1 : entry + header], "little") if header else 0

    def _checked_length(self, at: int, start: int) -> int:
        """Return the length of the str or bytes at ``at``, if it is acceptable; its content begins at ``start``."""
        length = int.from_bytes(self._data[at + 1 : start], "little")
        if length > self._rules.max_string:
            raise limit_exceeded("max_string", self._data[at], at)
        if length > len(self._data) - start:
            raise MalformedPickle(f"the pickle is truncated ({op.OPCODE_NAMES[self._data[at]]} at byte {at})")
        return length

    def _check_integer(self, at: int, start: int, length: int) -> None:
        """Refuse an integer of more than max_integer_bits; its bytes are read only if their number leaves a doubt."""
        max_bits = self._rules.max_integer_bits
        if length * 8 <= max_bits:
            return
        if length * 8 > max_bits + 8 or signed_integer(self._data[start : start + length]).bit_length() > max_bits:
            raise limit_exceeded("max_integer_bits", self._data[at], at)

    def _check_text(self, start: int, stop: int) -> None:
        """Refuse a str that is too long or has a lone surrogate, and note how far the text is known to be good."""
        rules = self._rules
        if stop - start > rules.max_string:
            raise limit_exceeded("max_string", op.SHORT_BINUNICODE, start)
        # The UTF-8 of a surrogate begins with 0xed. Text rarely contains that byte, so that one search answers for all
        # str within its reach.
        horizon = max(stop, start + _SURROGATE_SCAN)
        found = self._data.find(b"\xed", start, horizon)
        if 0 <= found < stop:
            self._data[start:stop].decode()
            horizon = stop
        elif found >= 0:
            horizon = found
        if rules.max_string >= 255:  # otherwise the length of each short str must be checked as well
            self._checked_until = horizon

    def _name(self, entry: int, opcode: int, at: int) -> str:
        """Return the text of a str leaf that names a module, a class or an encoding."""
        if entry < 0 or self._data[entry] not in TEXTS:
            raise MalformedPickle(f"a str was expected ({op.OPCODE_NAMES[opcode]} at byte {at})")
        start = entry + HEADERS[self._data[entry]]
        return self._data[start : start + int.from_bytes(self._data[entry + 1 : start], "little")].decode()

    def _find_line(self, start: int) -> int:
        """Return the offset of the newline that ends a name in GLOBAL."""
        found = self._data.find(b"\n", start, start + _MAX_NAME)
        if found < 0:
            raise MalformedPickle(f"a name without an end (GLOBAL before byte {start})")
        return found


_CONSTANTS: Final[dict[int, Any]] = {op.NONE: None, op.NEWTRUE: True, op.NEWFALSE: False, op.EMPTY_TUPLE: ()}


def signed_integer(data: bytes) -> int:
    """Return the value of a little-endian integer in two's complement."""
    return int.from_bytes(data, "little", signed=True)


def limit_exceeded(name: str, opcode: int, at: int) -> LimitExceeded:
    """Return the error for a limit, which begins with the limit's name in Limits."""
    return LimitExceeded(f"{name}: the message exceeds this limit ({op.OPCODE_NAMES[opcode]} at byte {at})")
