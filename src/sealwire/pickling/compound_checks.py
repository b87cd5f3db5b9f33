"""The checks of unions, containers and generic classes, made of the checks of their parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from operator import contains
from typing import Any

from sealwire.pickling.type_checks import (
    Check,
    Mismatch,
    RejectAll,
    charge,
    check_each,
    check_inside,
    difference,
    is_one_of,
    once,
)


def union_of(checks: Sequence[Check], expected: str) -> Check:
    """Return a check that accepts a value if one of these does."""
    exact_types = frozenset[type]().union(*(check.exact_types for check in checks))
    container_types = frozenset[type]().union(*(check.container_types for check in checks))
    fallbacks = [check for check in checks if not isinstance(check.check_value, RejectAll)]

    def check_value(value: Any) -> None:
        found: list[Mismatch] = []
        for check in fallbacks:
            charge(1)
            if check.fits(value):
                try:
                    return check.check_value(value)
                except Mismatch as mismatch:
                    found.append(mismatch)
        # If the value can only be of one member, that one's mismatch has the path to the part at fault.
        raise found[0] if len(found) == 1 and found[0].path else Mismatch(expected, type(value))

    def fits(value: Any) -> bool:
        return type(value) in exact_types or any(check.fits(value) for check in fallbacks)

    return Check(expected, exact_types, check_value if fallbacks else RejectAll(expected), container_types, fits)


def literal(arguments: tuple[Any, ...], expected: str) -> Check:
    """Return a check that accepts these values."""
    values = frozenset((type(argument), argument) for argument in arguments)
    kinds = frozenset(map(type, arguments))

    def fits(value: Any) -> bool:
        return type(value) in kinds and (type(value), value) in values

    def check_value(value: Any) -> None:
        if not fits(value):
            raise Mismatch(expected, type(value))

    return Check(expected, frozenset(), check_value, kinds, fits, is_literal=True)


def items_of(candidates: frozenset[type], item: Check, expected: str) -> Check:
    """Return a check of containers of these types, and of all their items."""

    def check_value(value: Any) -> None:
        if type(value) not in candidates:
            raise Mismatch(expected, type(value))
        if not item.exact_types.issuperset(map(type, value)):
            once(check_items, value)

    def check_items(value: Any) -> None:
        check_each(value, item, "")

    return Check(expected, frozenset(), check_value, candidates, is_one_of(candidates))


def tuple_of(candidates: frozenset[type], items: Sequence[Check], expected: str) -> Check:
    """Return a check of tuples, with a check of its own for each item."""
    literals = [(index, check) for index, check in enumerate(items) if check.is_literal]
    exact_types = [check.exact_types for check in items]

    def fits(value: Any) -> bool:
        return (
            type(value) in candidates
            and len(value) == len(items)
            and all(check.fits(value[index]) for index, check in literals)
        )

    def check_value(value: Any) -> None:
        if type(value) not in candidates or len(value) != len(items):
            detail = f" of {len(value)} items" if type(value) in candidates else ""
            raise Mismatch(expected, type(value), detail)
        if not all(map(contains, exact_types, map(type, value))):
            once(check_items, value)

    def check_items(value: Any) -> None:
        charge(len(items))
        for index, (part, check) in enumerate(zip(value, items, strict=True)):
            check_inside(check, part, f"[{index}]")

    return Check(expected, frozenset(), check_value, candidates, fits)


def mapping_of(candidates: frozenset[type], key: Check, item: Check, expected: str) -> Check:
    """Return a check of dicts of these types, and of all their keys and values.

    The factory of a defaultdict must make such values, since a missing key is one look-up away from being there.
    """

    def check_value(value: Any) -> None:
        if type(value) not in candidates:
            raise Mismatch(expected, type(value))
        factory: Any = value.default_factory if type(value) is defaultdict else None
        if factory is not None and factory not in item.container_types:
            raise Mismatch(f"{expected} with a factory of its values or None", factory)
        if not (
            key.exact_types.issuperset(map(type, value)) and item.exact_types.issuperset(map(type, value.values()))
        ):
            once(check_entries, value)

    def check_entries(value: Any) -> None:
        check_each(value, key, "key ")
        check_each(value.values(), item, "value ")

    return Check(expected, frozenset(), check_value, candidates, is_one_of(candidates))


def instance_of(
    candidates: frozenset[type],
    checks: Mapping[str, Check],
    argument_check: Callable[[Any], bool] | None,
    expected: str,
) -> Check:
    """Return a check of instances of these classes, and of some of their attributes."""

    def check_value(value: Any) -> None:
        if type(value) not in candidates or (argument_check is not None and not argument_check(value)):
            raise Mismatch(expected, type(value))
        charge(len(checks))
        for name, check in checks.items():
            check_inside(check, getattr(value, name), f".{name}")

    return Check(expected, frozenset(), lambda value: once(check_value, value), candidates, is_one_of(candidates))


def typed_dict_of(checks: Mapping[str, Check], required: Set[str], expected: str) -> Check:
    """Return a check of dicts, with a check of its own for each value."""
    literals = [(name, check) for name, check in checks.items() if check.is_literal]

    def has_keys(value: Any) -> bool:
        return type(value) is dict and required <= value.keys() <= checks.keys()

    def fits(value: Any) -> bool:
        return has_keys(value) and all(name not in value or check.fits(value[name]) for name, check in literals)

    def check_value(value: Any) -> None:
        if not has_keys(value):
            detail = ""
            if type(value) is dict:
                lacks = [name for name in checks if name in required and name not in value]
                detail = f", but {difference(lacks, [name for name in value if name not in checks])}"
            raise Mismatch(expected, type(value), detail)
        if not all(type(part) in checks[name].exact_types for name, part in value.items()):
            once(check_entries, value)

    def check_entries(value: Any) -> None:
        charge(len(value))
        for name, part in value.items():
            check_inside(checks[name], part, f".{name}")

    return Check(expected, frozenset(), check_value, frozenset((dict,)), fits)
