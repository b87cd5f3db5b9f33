"""A quick proof that a value of plain data is within the limits, for the encoder.

The decoder is the judge of what may be sent, but asking it costs ten times what pickling does. Here whole levels of a
value are examined at once, by iterators that run at the speed of C: first the value, then its items, then the items of
those. The answer is either that the decoder would certainly accept the pickle, or that it has to be asked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Any, Final

from sealwire.errors import LimitExceeded
from sealwire.limits import FRAME_OVERHEAD, Limits
from sealwire.pickling.probes import check_hashes, free_keys

_LEAVES: Final = frozenset((type(None), bool, int, float, str, bytes, bytearray))
_CONTAINERS: Final = frozenset((dict, list, tuple, set, frozenset))
_SURVEYED: Final = _LEAVES | _CONTAINERS
_KEYED: Final = frozenset((str, bytes))
_PLAIN_KEYS: Final = frozenset((str, bytes, int, float, bool, type(None)))
_LONG1_BITS: Final = 255 * 8
_LIKE_LONG4: Final = re.compile(rb"\x8b(?=(...\x00))", re.DOTALL)
"""The opcode LONG4 with a length of less than 2**24 bytes, or any other bytes that look so."""
_LIKE_SURROGATE: Final = re.compile(rb"\xed[\xa0-\xbf]")
"""The UTF-8 of a surrogate, or any other bytes that look so; valid UTF-8 does not."""


class Survey:
    """What is known of one value."""

    __slots__ = ("_containers", "_integers", "_limits", "_nodes", "_texts")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._nodes = 0
        self._containers = 0
        self._integers: list[Collection[Any]] = []
        """Levels with int in them."""
        self._texts: list[Collection[Any]] = []
        """Levels with str in them."""

    def is_plain(self, value: object) -> bool:
        """Whether the value is plain data, not too deep, of few enough nodes, and its keys are good.

        What is shared counts each time it is met, so a cycle shows as too deep.
        """
        limits = self._limits
        level: Collection[Any] = (value,)
        for _ in range(limits.max_depth + 1):
            kinds = {*map(type, level)}
            if not kinds <= _SURVEYED:
                return False
            self._nodes += len(level)
            if self._nodes > limits.max_expanded_nodes:
                return False
            if int in kinds:
                self._integers.append(level)
            if str in kinds:
                self._texts.append(level)
            below: list[Iterable[Any]] = []
            for kind in kinds & _CONTAINERS:
                these = level if len(kinds) == 1 else [item for item in level if type(item) is kind]
                self._containers += len(these)
                if kind is list or kind is tuple:
                    below += these
                elif not self._good_keys(these, kind is not dict):
                    return False
                elif kind is dict:
                    below += map(dict.values, these)
            if not below:
                return True
            level = below[0] if len(below) == 1 else [*chain.from_iterable(below)]  # type: ignore[assignment]
        return False

    def _good_keys(self, keyed: Collection[Any], is_set: bool) -> bool:
        kinds = {*map(type, chain.from_iterable(keyed))}
        self._nodes += sum(map(len, keyed))
        if str in kinds:
            self._texts += keyed
        if kinds <= _KEYED:
            return True
        if not kinds <= _PLAIN_KEYS:
            return False
        if float in kinds and any(key != key for key in chain.from_iterable(keyed)):
            return False
        if int in kinds:
            self._integers += keyed
        max_probes = self._limits.max_probes
        free = free_keys(is_set, max_probes)
        try:
            for each in keyed:
                if len(each) > free:
                    check_hashes(map(hash, each), is_set=is_set, max_probes=max_probes)
        except LimitExceeded:
            return False
        return True

    def fits(self, data: bytes) -> bool:
        """Whether the decoder would certainly accept ``data``, the pickle of the value, which is plain."""
        limits = self._limits
        size = len(data)
        # A leaf and its MEMOIZE; a container, its MEMOIZE, and a mark and its end for each batch of 1,000; frames.
        opcodes = 2 * self._nodes + 6 * self._containers + self._nodes // 400 + size // 16_384 + 8
        memory = 4 * size + 64 * opcodes + 420 * self._containers + 140 * self._nodes
        return (
            size <= limits.max_frame - FRAME_OVERHEAD
            and size <= limits.max_string
            and min(size, opcodes) <= limits.max_nodes
            and memory <= limits.max_memory
            and not (self._integers and self._has_large_integer(data))
            and not (self._texts and self._has_surrogate(data))
        )

    def _has_large_integer(self, data: bytes) -> bool:
        """Whether there may be an integer over the limit. In what LONG1 takes there is none, as a rule."""
        size = len(data)
        if self._limits.max_integer_bits >= _LONG1_BITS and size < 1 << 24:
            lengths = [int.from_bytes(found[1], "little") for found in _LIKE_LONG4.finditer(data)]
            if not any(255 < length < size for length in lengths):
                return False
        most = self._limits.max_integer_bits
        return any(type(item) is int and item.bit_length() > most for item in chain.from_iterable(self._integers))

    def _has_surrogate(self, data: bytes) -> bool:
        if _LIKE_SURROGATE.search(data) is None:
            return False
        try:
            "".join([item for item in chain.from_iterable(self._texts) if type(item) is str]).encode()
        except UnicodeEncodeError:
            return True
        return False
