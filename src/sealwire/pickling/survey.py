"""Plain data, pickled without asking the decoder.

The decoder is the judge of what may be sent, but asking it costs ten times what pickling does. Here whole levels of a
value are examined at once, by iterators that run at the speed of C: first the value, then its items, then the items of
those. The answer is either the pickle, which the decoder would certainly accept, or None, and then it has to be asked.

It is asked about what is little but for large bytes, too: that is quickly vetted, and written without being copied.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Any, Final, cast

from sealwire.errors import LimitExceeded
from sealwire.limits import FRAME_OVERHEAD, Limits
from sealwire.pickling.probes import check_hashes, free_keys

_LEAVES: Final = frozenset((type(None), bool, int, float, str, bytes, bytearray))
_CONTAINERS: Final = frozenset((dict, list, tuple, set, frozenset))
_KEYED: Final = frozenset((str, bytes))
_PLAIN_KEYS: Final = frozenset((str, bytes, int, float, bool, type(None)))
_MEMORY: Final = 640
"""More than the decoder charges for any byte of a pickle."""
_LONG1_BITS: Final = 255 * 8
_LIKE_LONG4: Final = re.compile(rb"\x8b(?=(...\x00))", re.DOTALL)
"""The opcode LONG4 with a length of less than 2**24 bytes, or any other bytes that look so."""
_LIKE_SURROGATE: Final = re.compile(rb"\xed[\xa0-\xbf]")
"""The UTF-8 of a surrogate, or any other bytes that look so; valid UTF-8 does not."""

_LARGE: Final = 1 << 22
"""Bytes that take longer to be copied than _FEW nodes take to be vetted."""
_FEW: Final = 256
_MANY: Final = 64
_LONG: Final = 1 << 12
"""Bytes of text that are searched in the time in which an item is asked whether it is ASCII."""

_Levels = list[Collection[Any]]


class Surveyor:
    """Pickles plain data within one set of limits."""

    def __init__(self, limits: Limits, protocol: int) -> None:
        self._protocol = protocol
        self._max_size = min(limits.max_frame - FRAME_OVERHEAD, limits.max_string)
        self._max_opcodes = limits.max_nodes
        self._max_nodes = limits.max_expanded_nodes
        self._max_memory = limits.max_memory
        self._max_bits = limits.max_integer_bits
        self._max_probes = limits.max_probes
        self._levels = range(limits.max_depth + 1)
        # No message of so few bytes can pass any of these limits.
        self._small = min(self._max_size, self._max_opcodes, self._max_memory // _MEMORY)

    def encode(self, value: object, data: bytes | None = None) -> bytes | None:
        """The pickle of a value that is plain data within the limits beyond doubt.

        data: that pickle, where it is there already.
        """
        nodes = containers = 0
        seen: _Levels = []
        met: set[type] = set()
        level: Collection[Any] = (value,)
        # What is shared counts each time it is met, as in the decoder, so that a cycle shows as too deep.
        for _ in self._levels:
            if data is not None and _are_numbers(level):
                nodes += len(level)
                seen.append(level)
                met.add(int)
                if nodes > self._max_nodes:
                    return None
                break
            kinds = {*map(type, level)}
            nodes += len(level)
            if nodes > self._max_nodes:
                return None
            seen.append(level)
            met |= kinds
            inner = kinds - _LEAVES
            if not inner:
                break
            if not inner <= _CONTAINERS:
                return None
            below: list[Iterable[Any]] = []
            for kind in inner:
                these: Collection[Any] = level if len(kinds) == 1 else [item for item in level if type(item) is kind]
                containers += len(these)
                if kind is list or kind is tuple:
                    below += these
                    continue
                if not self._good_keys(these, kind is not dict, met):
                    return None
                nodes += sum(map(len, these))
                seen += these
                if kind is dict:
                    below += map(dict.values, these)
            # One list, tuple or view of a dict's values is a level as it is.
            level = cast(Collection[Any], below[0]) if len(below) == 1 else [*chain.from_iterable(below)]
        else:
            return None
        if nodes <= _FEW and (bytes in met or bytearray in met) and any(map(_is_large, chain.from_iterable(seen))):
            return None
        if data is None:
            data = pickle.dumps(value, self._protocol)
        if (
            (len(data) > self._small and self._may_be_too_large(len(data), nodes, containers))
            or (str in met and not (nodes < len(data) // _LONG and _is_ascii(seen)) and self._has_surrogate(data, seen))
            or (int in met and self._has_large_integer(data, seen))
        ):
            return None
        return data

    def _good_keys(self, keyed: Collection[Any], is_set: bool, met: set[type]) -> bool:
        """Whether the keys of dicts, or the elements of sets, are plain, not NaN, and do not collide."""
        kinds = {*map(type, chain.from_iterable(keyed))}
        met |= kinds
        if kinds <= _KEYED:
            return True
        if not kinds <= _PLAIN_KEYS:
            return False
        if float in kinds and any(key != key for key in chain.from_iterable(keyed)):
            return False
        free = free_keys(is_set, self._max_probes)
        try:
            for each in keyed:
                if len(each) > free:
                    check_hashes(map(hash, each), is_set=is_set, max_probes=self._max_probes)
        except LimitExceeded:
            return False
        return True

    def _may_be_too_large(self, size: int, nodes: int, containers: int) -> bool:
        # A leaf and its MEMOIZE; a container, its MEMOIZE, and a mark and its end for each batch of 1,000; frames.
        opcodes = 2 * nodes + 6 * containers + nodes // 400 + size // 16_384 + 8
        memory = 4 * size + 88 * opcodes + 420 * containers + 140 * nodes
        return size > self._max_size or min(size, opcodes) > self._max_opcodes or memory > self._max_memory

    def _has_large_integer(self, data: bytes, seen: _Levels) -> bool:
        # LONG1 has at most 255 bytes; as a rule nothing looks like LONG4 with more.
        size = len(data)
        if self._max_bits >= _LONG1_BITS and size < 1 << 24:
            if b"\x8b" not in data:
                return False
            lengths = [int.from_bytes(found[1], "little") for found in _LIKE_LONG4.finditer(data)]
            if not any(255 < length < size for length in lengths):
                return False
        for level in seen:
            try:
                most = max(map(int.bit_length, level), default=0)
            except TypeError:
                most = max([item.bit_length() for item in level if type(item) is int], default=0)
            if most > self._max_bits:
                return True
        return False

    def _has_surrogate(self, data: bytes, seen: _Levels) -> bool:
        if b"\xed" not in data or _LIKE_SURROGATE.search(data) is None:
            return False
        try:
            "".join([item for item in chain.from_iterable(seen) if type(item) is str]).encode()
        except UnicodeEncodeError:
            return True
        return False


def _are_numbers(level: Collection[Any]) -> bool:
    """Whether all of these are numbers, of values that are known to be plain data: only then they have a sum.

    To add takes a third of the time of asking for types.
    """
    if len(level) < _MANY:
        return False
    try:
        sum(level)
    except (TypeError, OverflowError):
        return False
    return True


def _is_large(item: object) -> bool:
    return isinstance(item, bytes | bytearray) and len(item) >= _LARGE


def _is_ascii(seen: _Levels) -> bool:
    """Whether all str are ASCII, which each of them knows of itself: to search a large one takes its length."""
    return all(item.isascii() for item in chain.from_iterable(seen) if type(item) is str)
