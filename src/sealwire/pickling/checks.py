"""What an annotation comes to: a check of values, quick where the type alone says that a value is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

Look = Callable[[Any], None]


class Mismatch(Exception):  # never seen outside of this package
    """A value is not what its annotation says: ``path`` into it, innermost first, and what was ``expected`` there."""

    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.path: list[str] = []


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One annotation.

    ``expected``: how it reads. ``whole``: the exact types of which every value is right. ``look``: judges values of
    other types, and raises Mismatch. ``outer``: the exact types that a right value may have.
    """

    expected: str
    whole: frozenset[type]
    look: Look
    outer: frozenset[type]

    def __call__(self, value: Any) -> None:
        """Raise Mismatch where the value is not right."""
        if type(value) not in self.whole:
            self.look(value)

    def shallow(self) -> Check:
        """The same, but for the content of containers."""
        return only(self.expected, self.outer)


class refuse:  # noqa: N801 - used as a function, and told apart from other ones
    """The look of an annotation that has nothing to say about other types."""

    __slots__ = ("_expected",)

    def __init__(self, expected: str) -> None:
        self._expected = expected

    def __call__(self, _: Any) -> None:
        raise Mismatch(self._expected)


def only(expected: str, whole: frozenset[type]) -> Check:
    """The check of an annotation that looks at nothing but the type."""
    return Check(expected, whole, refuse(expected), whole)


def inside(check: Check, value: Any, segment: str) -> None:
    if type(value) in check.whole:
        return
    try:
        check.look(value)
    except Mismatch as mismatch:
        mismatch.path.append(segment)
        raise


def each_of(values: Iterable[Any], check: Check, what: str) -> None:
    """Check every item. The types of all of them are looked at first, at the speed of C."""
    if check.whole.issuperset(map(type, values)):
        return
    whole, look = check.whole, check.look
    index = 0
    try:
        for value in values:
            if type(value) not in whole:
                look(value)
            index += 1
    except Mismatch as mismatch:
        mismatch.path.append(f"[{what}{index}]")
        raise
