"""A bound on hash collisions: CPython's own probe sequences, counted before anything is inserted.

The hashes of int, float, tuple, Decimal and many others are public, so that a peer can choose keys that meet in the
same slots: 50,000 multiples of 2**61 - 1 keep a dict busy for 20 seconds. To count the keys of one hash, or of one
first slot, is not enough, for keys with distinct hashes can follow one another through the table. What costs time is
the number of slots that are looked at, and that is what is bounded: ``Limits.max_probes`` for each key on average,
eight times as many in a set, which looks at ten neighbours in a row where a dict looks at one. Benign data peak at 10
and 87.

The hashes of str and bytes are keyed (SipHash, PEP 456), hence not a peer's to choose, and need no bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sealwire.errors import LimitExceeded

_UNSIGNED: Final = (1 << 64) - 1
_SET_FACTOR: Final = 8
_LINEAR: Final = 9  # LINEAR_PROBES of Objects/setobject.c


def free_keys(is_set: bool, max_probes: int) -> int:
    """So many keys need not be counted: n keys of one hash need about n / 2 probes each."""
    return max_probes * (_SET_FACTOR if is_set else 1)


def check_hashes(hashes: Iterable[int], *, is_set: bool, max_probes: int) -> None:
    """Raise LimitExceeded where keys of these hashes collide too often in one new dict or set."""
    hashes = list(hashes)
    if len(hashes) > free_keys(is_set, max_probes):
        Probes(is_set, max_probes).add(hashes)


class Probes:
    """The slots of one dict or set as they fill (Objects/dictobject.c and setobject.c, the same in 3.11 to 3.13)."""

    def __init__(self, is_set: bool, max_probes: int) -> None:
        self._is_set = is_set
        self._per_key = max_probes * (_SET_FACTOR if is_set else 1)
        self._hashes: list[int] = []
        self._slots = bytearray(8)
        self._probes = 0
        """Of the insertions since the table grew, those of growing included: each growth is bounded by itself."""

    def add(self, hashes: list[int]) -> None:
        """Insert keys in this order. Raises LimitExceeded."""
        bound = self._per_key * (len(self._hashes) + len(hashes))
        position = 0
        while position < len(hashes):
            used = len(self._hashes)
            size = len(self._slots)
            if self._is_set:
                # A set grows when it is three fifths full, fourfold and later twofold.
                room = ((size - 1) * 3 + 4) // 5 - used
                wanted = used * (2 if used > 50_000 else 4) + 1
            else:
                room = (size << 1) // 3 - used
                wanted = used * 3
            if room <= 0:
                while size < wanted:
                    size <<= 1
                self._slots = bytearray(size)
                self._probes = 0
                self._insert(self._hashes, bound)
                continue
            batch = hashes[position : position + room]
            self._insert(batch, bound)
            self._hashes += batch
            position += room

    def _insert(self, hashes: list[int], bound: int) -> None:
        slots = self._slots
        mask = len(slots) - 1
        probes = self._probes + len(hashes)
        for value in hashes:
            slot = value & mask
            if slots[slot]:
                perturb = value & _UNSIGNED
                while slots[slot]:
                    if self._is_set and slot + _LINEAR <= mask:
                        free = slots.find(0, slot + 1, slot + _LINEAR + 1)
                        if free >= 0:
                            probes += free - slot
                            slot = free
                            break
                        probes += _LINEAR
                    perturb >>= 5
                    slot = (slot * 5 + perturb + 1) & mask
                    probes += 1
                    if probes > bound:
                        break
                if probes > bound:
                    raise LimitExceeded(
                        f"max_probes: the keys of a {'set' if self._is_set else 'dict'} collide too often"
                    )
            slots[slot] = 1
        self._probes = probes
