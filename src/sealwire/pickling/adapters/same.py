"""Tells whether two values are the same: equal, and of the same types throughout. ``True`` is not 1, and 1 is not 1.0.

A constructor must keep the values that were sent. ``==`` does not tell, because it ignores the types of numbers, the
digits of a Decimal, the zone of a datetime; and a class can define it as it likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from operator import is_
from typing import Any, Final

from sealwire.pickling.globals import LEAVES

_EXACT: Final = LEAVES - {float, complex}
"""Leaves that are the same if they are equal and of one type."""


def same(value: Any, other: Any, *, promoted: bool = False) -> bool:
    """Return True if two values are the same.

    Args:
        value: A value from a message. It contains no cycle.
        other: The value to compare it with.
        promoted: A float in ``other`` may be an equal int in ``value``, since a type checker takes an int for a float.
    """
    if value is other:
        return True
    kind = type(value)
    if kind is not type(other):
        return promoted and kind is int and type(other) is float and value == other
    if kind in _EXACT:
        return bool(value == other)
    if kind is float or kind is complex:
        return bool(value == other) or repr(value) == repr(other)  # NaN
    if kind is list or kind is tuple or kind is deque:
        return _same_items(value, other, promoted=promoted) and (kind is not deque or value.maxlen == other.maxlen)
    if kind is dict:
        return _same_entries(value, other, promoted=promoted)
    if kind is set or kind is frozenset:
        return _same_entries(dict.fromkeys(value), dict.fromkeys(other), promoted=promoted)
    return _same_objects(value, other, promoted=promoted)


def _same_items(items: Collection[Any], others: Collection[Any], *, promoted: bool) -> bool:
    if len(items) != len(others):
        return False
    # At the speed of C, where a constructor has copied a container of the values that were sent.
    if all(map(is_, items, others)):
        return True
    return all(same(item, other, promoted=promoted) for item, other in zip(items, others, strict=True))


def _same_entries(entries: Mapping[Any, Any], others: Mapping[Any, Any], *, promoted: bool) -> bool:
    """Compare two dicts, whatever the order of their keys."""
    if len(entries) != len(others):
        return False
    keys = {key: key for key in others}
    return all(
        key in keys and same(key, keys[key]) and same(item, others[key], promoted=promoted)
        for key, item in entries.items()
    )


def _same_objects(value: Any, other: Any, *, promoted: bool) -> bool:
    """Compare two objects of one type by what CPython would pickle; by ``==`` if it would not pickle them."""
    try:
        parts, others = _parts(value), _parts(other)
    except TypeError:
        return bool(value == other)
    return _same_items(parts, others, promoted=promoted)


def _parts(value: Any) -> tuple[Any, ...]:
    parts = value.__reduce_ex__(4)
    if type(parts) is not tuple:  # a name: a class, a singleton
        return (parts,)
    return tuple(list(part) if hasattr(part, "__next__") else part for part in parts)  # items and pairs are iterators
