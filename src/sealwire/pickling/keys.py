"""The keys of one dict, or the elements of one set, as the vetting pass meets them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from sealwire.errors import DecodeError, InvalidValue, MalformedPickle
from sealwire.pickling.probes import Probes, check_hashes, free_keys

MANY_KEYS: Final = 8
"""The least that ``Limits.max_probes`` may be: so few keys cannot need more probes than that."""
_TWICE: Final = "a key occurs twice in a dict or set"
_NUMBERS: Final = frozenset((int, float, complex, Decimal, Fraction))
_MINUS_ONE: Final = 0x5EA1
_MOST_ALIKE: Final = 8
"""Keys of three parts that are -1 or -2, in all combinations."""
_LONG_DIGITS: Final = 64
_LONG_BITS: Final = 256
_KEYED_HASH: Final = frozenset((str, bytes))


def check_few_keys(keys: list[Any]) -> None:
    """At most MANY_KEYS keys. Raises MalformedPickle for a duplicate."""
    if len(set(keys)) != len(keys):
        raise MalformedPickle(_TWICE)


Pair = tuple[int, int, int]
"""A hash, and the pair of integers that has it."""


def check_pairs(pairs: list[Pair], max_probes: int) -> None:
    """Pairs that CPython searches one table of the whole process by, as from 3.12 on it does for hashes of Fractions.

    Different pairs of one hash are refused: no honest Fractions have them but those of -1 and -2, of equal hashes.
    Raises MalformedPickle, or LimitExceeded (max_probes).
    """
    hashes: list[int] = []
    before: Pair | None = None
    for pair in sorted(pairs):
        if pair == before:
            continue
        if before is None or pair[0] != before[0]:
            hashes.append(pair[0])
        elif (before[1], pair[1]) != (-2, -1):
            raise MalformedPickle("two fractions collide: their hashes are equal")
        before = pair
    check_hashes(hashes, is_set=False, max_probes=max_probes)


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
    if any(map(_has_nan, keys)):
        raise InvalidValue("NaN as a key")
    check_hashes(map(hash, keys), is_set=is_set, max_probes=max_probes)
    _check_numbers(keys)


def by_hash(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call what asks keys for their hashes, or compares them: by methods of their own, which may raise what they like.

    A TypeError is left to the caller: it says that a key is not hashable.
    """
    try:
        return function(*arguments, **keywords)
    except (DecodeError, TypeError, RecursionError, MemoryError):
        raise
    except Exception as error:
        raise InvalidValue(f"a key that cannot be hashed or compared ({type(error).__name__})") from None


def _check_numbers(keys: list[Any]) -> None:
    """Refuse Decimals and Fractions of equal hashes, which no honest keys have but for -1 and -2.

    To compare a long Decimal with a Fraction takes a millisecond.
    """
    alike: dict[int, list[Any]] = {}
    for key in keys:
        if _has_number(key):
            alike.setdefault(hash(key), []).append(key)
    for group in alike.values():
        if len(group) > 1 and (
            len(group) > _MOST_ALIKE or any(map(_is_long, group)) or len(set(map(_told_apart, group))) < len(group)
        ):
            raise MalformedPickle(f"{_TWICE}, or two numbers that are keys have the same hash")


def _has_number(key: Any) -> bool:
    if type(key) is tuple or type(key) is frozenset:
        return any(map(_has_number, key))
    return type(key) is Decimal or type(key) is Fraction


def _is_long(key: Any) -> bool:
    """Whether there is a number in it that takes long to be compared with one of the other type."""
    if type(key) is tuple or type(key) is frozenset:
        return any(map(_is_long, key))
    if type(key) is Decimal:
        return abs(key.adjusted()) > _LONG_DIGITS or len(key.as_tuple().digits) > _LONG_DIGITS
    return type(key) is Fraction and max(key.numerator.bit_length(), key.denominator.bit_length()) > _LONG_BITS


def _told_apart(key: Any) -> int:
    """Its hash, but of another -1, which in CPython has the hash of -2."""
    if type(key) is tuple or type(key) is frozenset:
        return hash(type(key)(map(_told_apart, key)))
    return _MINUS_ONE if type(key) in _NUMBERS and key == -1 else hash(key)


def _has_nan(key: Any) -> bool:
    if type(key) is tuple or type(key) is frozenset:
        return any(map(_has_nan, key))
    return bool(key != key)
