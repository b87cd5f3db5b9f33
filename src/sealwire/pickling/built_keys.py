"""Checks keys that were built already, before they go into a dict or set.

These are the keys of a dict or set that has objects among its keys: their hashes were not known while the message was
vetted. They are charged by the rule of :mod:`.key_costs`, once more and with the same bound. Objects weigh as much as
the parts that the message made them of. A number weighs by the square of its length once there are Decimals or
Fractions, because CPython converts it before it compares it with one of them.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, Final

from sealwire.errors import DecodeError, InvalidValue, MalformedPickle
from sealwire.pickling.dict_keys import DUPLICATE
from sealwire.pickling.hash_collisions import check_hashes
from sealwire.pickling.key_costs import KeyCosts
from sealwire.pickling.placeholders import Placeholder

_OBJECT: Final = 16
_FLOAT: Final = 64
_CONSTANTS: Final = frozenset((type(None), bool))
_KEPT: Final = frozenset((type(None), bool, float, str, bytes, frozenset))
"""Types with hashes that CPython keeps, or computes in no time."""
_NUMBERS: Final = frozenset((complex, Decimal, Fraction))
_SEQUENCES: Final = frozenset((list, set, deque))
_MAPPINGS: Final = frozenset((dict, OrderedDict, defaultdict, Counter))


class BuiltKeyCosts(KeyCosts):
    """The costs of keys that were built.

    Args:
        max_expanded_nodes: As in Limits.
        made: The value that was made of each placeholder, by the placeholder's id.
        origins: The placeholder of each value, by the value's id; filled here.
    """

    def __init__(self, max_expanded_nodes: int, made: Mapping[int, Any], origins: dict[int, Any]) -> None:
        super().__init__(max_expanded_nodes)
        self._made = made
        self._origins = origins
        self._unconverted: BuiltKeyCosts | None = None
        """The weights without conversion."""
        self._converts = False
        """Some numbers are converted when they are compared."""

    def remember(self, value: Any, placeholder: Any) -> None:
        """Note the placeholder of a value: its parts say how much the value weighs."""
        if not self._converts and (type(value) is Decimal or type(value) is Fraction):
            self._converts = True
            self._weights.clear()
        kind = type(placeholder)
        if kind is partial or issubclass(kind, Placeholder):
            self._origins[id(value)] = placeholder

    def other_hashing_cost(self, key: Any) -> int:
        """Return the cost of hashing a key that is neither an int nor a tuple."""
        if type(key) in _KEPT:
            return 0
        if self._unconverted is None:
            self._unconverted = BuiltKeyCosts(0, self._made, self._origins)
        return self._unconverted.weight(key)

    def int_weight(self, value: int) -> int:
        """Return the weight of an int."""
        size = value.bit_length() >> 7
        return 1 + size + size * size if self._converts else 1 + size

    def other_weight(self, key: Any) -> int:
        """Return the weight of a key, or of a part of one, that is not a plain value."""
        kind = type(key)
        if kind in _CONSTANTS:
            return 1
        if kind is float or kind is complex:
            return _FLOAT if self._converts else 1
        if kind is bytearray:
            return 1 + (len(key) >> 4)
        known = self._weights.get(id(key))
        if known is None:
            known = self._weights[id(key)] = (key, self._compound_weight(key))
        return known[1]

    def _compound_weight(self, key: Any) -> int:
        kind = type(key)
        if kind is Fraction:
            return _OBJECT + self.int_weight(key.numerator) + self.int_weight(key.denominator)
        if kind is Decimal:
            digits = len(key.as_tuple().digits) + abs(key.adjusted())
            return _OBJECT + self.int_weight((1 << digits * 10 // 3) - 1)
        if kind in _SEQUENCES:
            return 1 + sum(map(self.weight, key))
        if kind in _MAPPINGS:
            return 1 + sum(map(self.weight, key)) + sum(map(self.weight, key.values()))
        if kind is partial:
            made = self._made.get(id(key))
            if type(made) in _NUMBERS:
                return self.weight(made)
            return _OBJECT + sum(map(self.weight, key.args))
        if isinstance(key, Placeholder):
            return _OBJECT + sum(map(self.weight, key))
        origin = self._origins.get(id(key))
        return _OBJECT if origin is None else self.weight(origin)


def check_built_keys(keys: list[Any], costs: KeyCosts, *, is_set: bool, max_probes: int) -> None:
    """Check keys that were built already, before they go into a dict or set.

    Raises:
        LimitExceeded: max_probes; they collide too often. max_expanded_nodes; comparing them costs too much.
        InvalidValue: NaN is a key.
        TypeError: A key is not hashable.
    """
    costs.charge_hashing(keys)
    if any(map(_has_nan, keys)):
        raise InvalidValue("NaN as a key")
    hashes = list(map(hash, keys))
    check_hashes(hashes, is_set=is_set, max_probes=max_probes)
    check_hashes(map(hash, hashes), is_set=True, max_probes=max_probes)
    if len(set(hashes)) != len(hashes):
        costs.charge(costs.alike_cost(keys, hashes))


def check_distinct(made: Any, keys: list[Any]) -> None:
    """Raise MalformedPickle if a dict or set has fewer keys than were put into it."""
    if len(made) != len(keys):
        raise MalformedPickle(DUPLICATE)


def call_hashing_keys(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a function that hashes or compares keys, and make an InvalidValue of any error in the keys' own methods.

    A TypeError passes: it says that a key is not hashable.
    """
    try:
        return function(*arguments, **keywords)
    except (DecodeError, TypeError, RecursionError, MemoryError):
        raise
    except Exception as error:
        raise InvalidValue(f"a key that cannot be hashed or compared ({type(error).__name__})") from None


def _has_nan(key: Any) -> Any:  # NumPy's scalars compare to a type of their own
    if type(key) is tuple or type(key) is frozenset:
        return any(map(_has_nan, key))
    return key != key
