"""The constraints of ``msgspec.Meta`` in an annotation. A struct's constructor checks none of them."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

_NUMBERS: Final = (int, float, Decimal)
_SIZED: Final = (str, bytes, bytearray, list, tuple, set, frozenset, dict)


def constraint(metadata: Iterable[Any]) -> Callable[[Any], bool] | None:
    """Return a function that tells if a value meets the constraints in an ``Annotated``; None if there are none."""
    msgspec: Any = sys.modules.get("msgspec")
    checks = [] if msgspec is None else [_check(each) for each in metadata if type(each) is msgspec.Meta]
    return (lambda value: all(check(value) for check in checks)) if checks else None


def _check(meta: Any) -> Callable[[Any], bool]:
    search = None if meta.pattern is None else re.compile(meta.pattern).search

    def check(value: Any) -> bool:
        if isinstance(value, _NUMBERS):
            return _is_in_range(meta, value)
        if isinstance(value, datetime.datetime | datetime.time):
            return meta.tz is None or meta.tz is (value.tzinfo is not None)
        if isinstance(value, _SIZED):
            size = len(value)
            return (meta.min_length is None or size >= meta.min_length) and (
                (meta.max_length is None or size <= meta.max_length)
                and (search is None or not isinstance(value, str) or search(value) is not None)
            )
        return True

    return check


def _is_in_range(meta: Any, value: Any) -> bool:
    try:
        return (
            (meta.gt is None or value > meta.gt)
            and (meta.ge is None or value >= meta.ge)
            and (meta.lt is None or value < meta.lt)
            and (meta.le is None or value <= meta.le)
            and (meta.multiple_of is None or _is_multiple(value, meta.multiple_of))
        )
    except ArithmeticError:  # a Decimal that is not a number is in no range
        return False


def _is_multiple(value: Any, factor: Any) -> bool:
    if isinstance(value, float):
        return bool(value % factor == 0)
    try:
        # Exactly: a remainder of Decimals has a bounded number of digits, and not every int has a float.
        return Fraction(value) % Fraction(factor) == 0
    except (ValueError, OverflowError):  # a Decimal that is not a finite number
        return False
