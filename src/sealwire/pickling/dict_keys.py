"""Checks the keys of one dict, or the elements of one set, while the message is vetted.

The keys are stand-in values with the equality and hash of the future keys. Keys that can be hashed only after they were
built are checked then (:mod:`.built_keys`).

CPython compares keys only if their hashes are equal, and that can take long (:mod:`.key_costs`). Therefore a table of
hashes tells most keys apart here, and those of equal hashes are charged before any two are compared.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sealwire.errors import MalformedPickle
from sealwire.pickling.hash_collisions import CollisionCounter, check_hashes, uncounted_keys
from sealwire.pickling.key_costs import KeyCosts

MANY_KEYS: Final = 8
"""The minimum of ``Limits.max_probes``: this many keys never need more probes."""
DUPLICATE: Final = "a key occurs twice in a dict or set"
_KEYED_HASH: Final = frozenset((str, bytes))

HashedPair = tuple[int, int, int]
"""A hash, and the pair of integers that has it."""


def check_pairs(pairs: list[HashedPair], costs: KeyCosts, max_probes: int) -> None:
    """Check the arguments of all Fractions of a message, each once.

    CPython 3.12 and later cache the hashes of Fractions in one table of the process, with these pairs as keys.
    Raises LimitExceeded: max_probes, if they collide too often; max_expanded_nodes, if comparing them costs too much.
    """
    hashes: list[int] = []
    for value, group in groupby((pair for pair, _ in groupby(sorted(pairs))), itemgetter(0)):
        hashes.append(value)
        weights = [1 + costs.int_weight(first) + costs.int_weight(second) for _, first, second in group]
        costs.charge((len(weights) - 1) * sum(weights))
    check_hashes(hashes, is_set=False, max_probes=max_probes)


class KeyTable:
    """The keys of one dict or set so far. Refuses duplicates, and keys that collide too often.

    Hashes are told apart in a table of the kind that will be built, a dict or a set, so that one bound on collisions
    protects both.
    """

    def __init__(self, is_set: bool, max_probes: int) -> None:
        self._is_set: Final = is_set
        self._max_probes: Final = max_probes
        self._uncounted: Final = uncounted_keys(is_set, max_probes)
        self._keys: list[Any] = []
        self._hashes: list[int] = []
        self._dict: dict[int, None] = {}
        self._set: set[int] = set()
        self._are_dense = True
        """The keys so far are 0, 1, 2, …, so that each has a slot of its own."""
        self._are_keyed = True
        """The keys so far are str and bytes; a peer cannot choose their hashes."""
        self._counter: CollisionCounter | None = None
        self._counter_of_hashes: CollisionCounter | None = None
        """Of the table here, if the hashes are not their own hashes: those of tuples have more bits than an int's."""
        self.alike_cost = 0
        """The cost so far of comparing keys of equal hashes."""
        self._groups: dict[int, Any] = {}
        """All keys by their hashes, from the first two of one hash on; a list of those of one hash, which no key is."""
        self._weights: dict[int, int] = {}
        """The sum of the weights of the keys of each hash, for those of two or more."""

    def add(self, keys: list[Any], costs: KeyCosts) -> None:
        """Add the next keys, at least one.

        Raises LimitExceeded (max_probes, or max_expanded_nodes by ``costs``) or MalformedPickle (a duplicate).
        """
        have = len(self._keys)
        total = have + len(keys)
        hashes = list(map(hash, keys))
        if self._are_keyed:
            self._are_keyed = _KEYED_HASH.issuperset(map(type, keys))
        if self._are_dense:
            self._are_dense = type(keys[0]) is int and keys == list(range(have, total))
        self._hashes += hashes
        if self._counter is not None:
            self._count(self._counter, hashes)
        elif total > self._uncounted and not self._are_keyed and not self._are_dense:
            self._counter = CollisionCounter(self._is_set, self._max_probes)
            self._count(self._counter, self._hashes)
        self._keys += keys
        if not self._groups:
            if self._is_set:
                self._set.update(hashes)
                distinct = len(self._set)
            else:
                self._dict.update(dict.fromkeys(hashes))
                distinct = len(self._dict)
            if distinct == total:
                return
            self._groups.update(zip(self._hashes[:have], self._keys, strict=False))
        for value, key in zip(hashes, keys, strict=True):
            self._add_alike(value, key, costs)

    def _count(self, counter: CollisionCounter, hashes: list[int]) -> None:
        """Count the probes of the next hashes, or of all."""
        counter.add(hashes)
        again = list(map(hash, hashes))
        if self._counter_of_hashes is not None:
            self._counter_of_hashes.add(again)
        elif again != hashes:
            self._counter_of_hashes = CollisionCounter(self._is_set, self._max_probes)
            self._counter_of_hashes.add(list(map(hash, self._hashes)))

    def _add_alike(self, value: int, key: Any, costs: KeyCosts) -> None:
        if value not in self._groups:
            self._groups[value] = key
            return
        group = self._groups[value]
        if type(group) is not list:
            group = self._groups[value] = [group]
            self._weights[value] = costs.weight(group[0])
        weight = costs.weight(key)
        cost = len(group) * weight + self._weights[value]
        costs.charge(cost)
        self.alike_cost += cost
        self._weights[value] += weight
        if key in group:
            raise MalformedPickle(DUPLICATE)
        group.append(key)
