"""Bounds hash collisions, by counting the probes of CPython's own tables before any key is inserted.

The hashes of int, float, tuple, Decimal and many other types are public. A peer can choose keys that meet in the same
slots: 50,000 multiples of 2**61 - 1 keep a dict busy for 20 seconds. Counting equal hashes, or equal first slots, is
not enough, because keys of distinct hashes can follow one another through the table. The time is spent on the slots
that are examined, so that their number is bounded.

To count them, :class:`CollisionCounter` replays the insertions on a bytearray of used slots: the same first slot, the
same sequence of probes (``perturb >>= 5; slot = slot * 5 + perturb + 1``), the same growth at the same fill, as in
Objects/dictobject.c and Objects/setobject.c of CPython 3.11 to 3.13. No key is compared or inserted. The bound is
``Limits.max_probes`` for each key on average, and eight times as many in a set, because a set examines ten neighbouring
slots for each that a dict examines. Benign data need at most 10 and 87. A replay stops as soon as the bound is passed,
so that refusing is quick.

The hashes of str and bytes are keyed (SipHash, PEP 456): a peer cannot choose them, and they need no bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sealwire.errors import LimitExceeded

_UNSIGNED: Final = (1 << 64) - 1
_SET_FACTOR: Final = 8
_LINEAR: Final = 9  # LINEAR_PROBES of Objects/setobject.c


def uncounted_keys(is_set: bool, max_probes: int) -> int:
    """Return the number of keys that cannot pass the bound: n keys of one hash need about n / 2 probes each."""
    return max_probes * (_SET_FACTOR if is_set else 1)


def check_hashes(hashes: Iterable[int], *, is_set: bool, max_probes: int) -> None:
    """Raise LimitExceeded if keys of these hashes collide too often in one new dict or set."""
    hashes = list(hashes)
    if len(hashes) > uncounted_keys(is_set, max_probes):
        CollisionCounter(is_set, max_probes).add(hashes)


class CollisionCounter:
    """The slots of one dict or set as keys are inserted, and the probes that this takes."""

    def __init__(self, is_set: bool, max_probes: int) -> None:
        self._is_set = is_set
        self._max_average = max_probes * (_SET_FACTOR if is_set else 1)
        self._hashes: list[int] = []
        self._slots = bytearray(8)
        self._probes = 0
        """Probes since the table last grew, including those of growing: each growth is bounded by itself."""

    def add(self, hashes: list[int]) -> None:
        """Insert keys in this order. Raises LimitExceeded."""
        bound = self._max_average * (len(self._hashes) + len(hashes))
        position = 0
        while position < len(hashes):
            used = len(self._hashes)
            size = len(self._slots)
            if self._is_set:
                # A set grows when it is three fifths full, fourfold and, above 50,000, twofold.
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
