"""The cost of hashing and comparing the keys of a message, which ``max_expanded_nodes`` bounds.

Neither has a bound of its own. CPython keeps the hash of a str, bytes or frozenset, but computes that of an int or
tuple each time that it goes into a dict or set. It compares keys of equal hashes until the first difference, which can
be the last of many parts; and a frozenset compares each element with all those of the same hash in the other one. The
hashes of numbers, tuples and frozensets are public, so that a peer can choose any number of keys with one hash.

docs/reference/key-costs.md states the rule exactly, and why it is enough: hashing a key costs its parts and its bytes;
in one dict or set each key costs its weight times the number of other keys there with the same hash. It is charged
when the keys arrive, before any two are compared.
"""

from __future__ import annotations

from typing import Any, Final

from sealwire.errors import LimitExceeded

_SIZED: Final = frozenset((str, bytes))
_INT: Final = frozenset((int,))
_NARROW: Final = 1 << 127
_FEW: Final = 8


def _are_narrow_ints(keys: list[Any]) -> bool:
    """Return True if all keys are ints that cost nothing to hash. No others are compared: a Decimal takes long."""
    return _INT.issuperset(map(type, keys)) and bool(min(keys) > -_NARROW and max(keys) < _NARROW)


class KeyCosts:
    """Charges for the keys of one message. The values of keys are kept, so that no id is used twice."""

    def __init__(self, max_expanded_nodes: int) -> None:
        self._remaining = max_expanded_nodes
        self._weights: dict[int, tuple[Any, int]] = {}
        self._hashing: dict[int, tuple[Any, int]] = {}

    def charge(self, cost: int) -> None:
        """Raise LimitExceeded if this is more than remains."""
        self._remaining -= cost
        if self._remaining < 0:
            raise LimitExceeded(
                "max_expanded_nodes: hashing and comparing the keys of the message takes more steps than this limit"
            )

    def charge_hashing(self, keys: list[Any]) -> None:
        """Charge for hashing keys, whose values need not be hashable."""
        cost = self.hashing_cost(keys)
        if cost:
            self.charge(cost)

    def hashing_cost(self, keys: list[Any]) -> int:
        """Return the cost of hashing keys."""
        cost = 0
        if len(keys) > _FEW and _are_narrow_ints(keys):
            return cost
        for key in keys:
            kind = type(key)
            if kind is int:
                cost += key.bit_length() >> 7
            elif kind is not str and kind is not bytes:
                cost += self._hashing_cost(key)
        return cost

    def _hashing_cost(self, key: Any) -> int:
        kind = type(key)
        if kind is int:
            bits: int = key.bit_length()
            return bits >> 7
        if kind is not tuple:
            return self.other_hashing_cost(key)
        known = self._hashing.get(id(key))
        if known is None:
            cost = len(key)
            for item in key:
                cost += self._hashing_cost(item)
            known = self._hashing[id(key)] = (key, cost)
        return known[1]

    def other_hashing_cost(self, key: Any) -> int:
        """Return the cost of hashing a key that is neither an int nor a tuple."""
        del key
        return 0

    def weight(self, key: Any) -> int:
        """Return the weight of a key."""
        kind = type(key)
        if kind is tuple or kind is frozenset:
            known = self._weights.get(id(key))
            if known is None:
                total = 1
                for item in key:
                    total += self.weight(item)
                if kind is frozenset:
                    total += self.alike_cost(list(key), list(map(hash, key)))
                known = self._weights[id(key)] = (key, total)
            return known[1]
        if kind is int:
            return self.int_weight(key)
        if kind in _SIZED:
            return 1 + (len(key) >> 4)
        return self.other_weight(key)

    def int_weight(self, value: int) -> int:
        """Return the weight of an int."""
        return 1 + (value.bit_length() >> 7)

    def other_weight(self, key: Any) -> int:
        """Return the weight of a key of another type."""
        del key
        return 1

    def alike_cost(self, keys: list[Any], hashes: list[int]) -> int:
        """Return the cost of comparing the keys of equal hashes in one dict or set."""
        if len(set(hashes)) == len(hashes):
            return 0
        groups: dict[int, list[Any]] = {}
        for value, key in zip(hashes, keys, strict=True):
            groups.setdefault(value, []).append(key)
        cost = 0
        for group in groups.values():
            if len(group) > 1:
                cost += (len(group) - 1) * sum(map(self.weight, group))
        return cost
