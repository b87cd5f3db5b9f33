"""The keys of one dict, or the elements of one set, as the vetting pass meets them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from sealwire.errors import InvalidValue, MalformedPickle
from sealwire.pickling.probes import Probes, check_hashes, free_keys

MANY_KEYS: Final = 8
"""The least that ``Limits.max_probes`` may be: so few keys cannot need more probes than that."""
_TWICE: Final = "a key occurs twice in a dict or set"
_SAME_HASH: Final = (-1, -2)
_KEYED_HASH: Final = frozenset((str, bytes))


def check_few_keys(keys: list[Any]) -> None:
    """At most MANY_KEYS keys. Raises MalformedPickle for a duplicate."""
    if len(set(keys)) != len(keys):
        raise MalformedPickle(_TWICE)


class KeyTable:
    """Refuses duplicates, and keys that collide too often.

    A key comes as a value that is equal to, and has the hash of, the key that will be built. The table in which
    duplicates are found is of the kind that will be built, a dict or a set, so that the one bound protects both.
    """

    def __init__(self, is_set: bool, max_probes: int) -> None:
        self._is_set: Final = is_set
        self._max_probes: Final = max_probes
        self._free: Final = free_keys(is_set, max_probes)
        self._keys: list[Any] = []
        self._dict: dict[Any, None] = {}
        self._set: set[Any] = set()
        self._dense = True
        """So far keys are 0, 1, 2, …: each has a slot of its own."""
        self._keyed = True
        """So far keys are str and bytes, whose hashes are not a peer's to choose."""
        self._probes: Probes | None = None

    def add(self, keys: list[Any]) -> None:
        """The next keys, at least one. Raises LimitExceeded (max_probes) or MalformedPickle (a duplicate)."""
        have = len(self._keys)
        total = have + len(keys)
        if self._keyed:
            self._keyed = _KEYED_HASH.issuperset(map(type, keys))
        if self._dense:
            self._dense = type(keys[0]) is int and keys == list(range(have, total))
        if self._probes is not None:
            self._probes.add(list(map(hash, keys)))
        elif total > self._free and not self._keyed and not self._dense:
            self._probes = Probes(self._is_set, self._max_probes)
            self._probes.add(list(map(hash, self._keys + keys)))
        self._keys += keys
        if self._is_set:
            self._set.update(keys)
            distinct = len(self._set)
        else:
            self._dict.update(dict.fromkeys(keys))
            distinct = len(self._dict)
        if distinct != total:
            raise MalformedPickle(_TWICE)


def check_built_keys(keys: list[Any], *, is_set: bool, max_probes: int) -> None:
    """The same for keys that are built already, before they go into a dict or set; what is made of them may be smaller.

    Raises LimitExceeded (max_probes), InvalidValue (NaN), or TypeError where a key is not hashable.
    """
    _check_fractions(keys)
    if any(map(_has_nan, keys)):
        raise InvalidValue("NaN as a key")
    check_hashes(map(hash, keys), is_set=is_set, max_probes=max_probes)
    _check_numbers(keys)


def _check_fractions(keys: list[Any]) -> None:
    """Refuse Fractions whose pairs of numbers have equal hashes.

    From 3.12 on the hashes of all Fractions are kept in one table for the whole process, which is searched by that pair
    before there is a hash.
    """
    pairs = [(key.numerator, key.denominator) for key in keys if type(key) is Fraction]
    if len(set(map(hash, pairs))) != len(pairs):
        raise MalformedPickle(f"{_TWICE}, or two fractions that are keys collide")


def _check_numbers(keys: list[Any]) -> None:
    """Refuse Decimals and Fractions of equal hashes, which no honest keys have but -1 and -2.

    To compare a long Decimal with a Fraction takes a millisecond.
    """
    numbers = [key for key in keys if _has_number(key)]
    if len(numbers) > 1:
        hashes = [hash(key) for key in numbers if key not in _SAME_HASH]
        if len(set(hashes)) != len(hashes):
            raise MalformedPickle(f"{_TWICE}, or two numbers that are keys have the same hash")


def _has_number(key: Any) -> bool:
    if type(key) is tuple or type(key) is frozenset:
        return any(map(_has_number, key))
    return type(key) is Decimal or type(key) is Fraction


def _has_nan(key: Any) -> bool:
    if type(key) is tuple or type(key) is frozenset:
        return any(map(_has_nan, key))
    return bool(key != key)
