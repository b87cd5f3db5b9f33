"""Checks of values against annotations, which are one set lookup if the exact type alone decides.

A union of annotations whose values look alike is a search: each member is tried to its end, and where the annotation
contains itself, a search of this kind is part of each try. A value whose parts are shared is another: in 150 bytes a
tuple can have half a million paths to its last part. Without a bound either takes 2**depth steps. Therefore members are
first asked if a value can be theirs at all, by its keys, its length and its literals; and the result of each check of a
container's content is kept for the object until the end of the message. :class:`Examining` is the duration of a
message, and bounds its steps.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection
from typing import Any, Final, Self

from sealwire.errors import LimitExceeded
from sealwire.pickling.globals import shown
from sealwire.pickling.key_costs import KeyCosts

ValueCheck = Callable[[Any], None]
"""Raises Mismatch for a value that is not acceptable."""


class Mismatch(Exception):  # never leaves this package
    """A value does not match its annotation. ``path`` leads to the part at fault, innermost segment first."""

    def __init__(self, expected: str, kind: type, detail: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.kind = kind
        """The type of the value."""
        self.detail = detail
        """Text that follows the type in an error."""
        self.path: list[str] = []

    def copy(self) -> Mismatch:
        """Return another one that can be raised."""
        made = Mismatch(self.expected, self.kind, self.detail)
        made.path = self.path.copy()
        return made


_KEYED: Final = frozenset((str,))
_MAX_NAMED: Final = 5
"""Names that an error has."""


def difference(lacks: Collection[str], more: Collection[Any]) -> str:
    """Return which names a value lacks, and which it has as well; a peer chose the latter."""
    parts = []
    if lacks:
        parts.append(f"it lacks {_listed([str(each) for each in lacks])}")
    if more:
        names = [each if type(each) is str else f"a key of type {type(each).__name__}" for each in more]
        parts.append(f"it has {_listed(names)} as well")
    return " and ".join(parts)


def _listed(names: list[str]) -> str:
    return shown(", ".join(names[:_MAX_NAMED])) + (" and others" if len(names) > _MAX_NAMED else "")


class _Current(threading.local):
    examination: Examining | None = None


_current: Final = _Current()


class Examining:
    """A context in which the checks of this thread are those of one message, and their steps are bounded."""

    __slots__ = ("_outer", "key_costs", "remaining", "results")

    def __init__(self, max_expanded_nodes: int) -> None:
        self.remaining = max_expanded_nodes
        self.key_costs = KeyCosts(max_expanded_nodes)
        """Knows the weight of the message's keys."""
        self.results: dict[ValueCheck, dict[int, Any]] = {}
        """For each check, by the id of an object: the object itself if it is acceptable, or a Refusal. Both keep it, so
        that no id is used again."""

    def __enter__(self) -> Self:
        self._outer = _current.examination  # if an adapter decodes another message
        _current.examination = self
        return self

    def __exit__(self, *_: object) -> None:
        _current.examination = self._outer


class Refusal:
    """An object that a check does not accept, and why."""

    __slots__ = ("mismatch", "value")

    def __init__(self, value: Any, mismatch: Mismatch) -> None:
        self.value = value
        self.mismatch = mismatch


def charge(steps: int) -> None:
    """Count steps. Raises LimitExceeded."""
    examination = _current.examination
    if examination is not None:
        examination.remaining -= steps
        if examination.remaining < 0:
            raise LimitExceeded(
                "max_expanded_nodes: checking the values of the message against their annotations takes more steps "
                "than this limit"
            )


def cost_of_keys(keys: Collection[Any]) -> int:
    """Return the steps of putting the keys of a dict or set into another one."""
    found = list(keys)
    if _current.examination is None or _KEYED.issuperset(map(type, found)):
        return 0
    costs = _current.examination.key_costs
    return costs.hashing_cost(found) + costs.alike_cost(found, list(map(hash, found)))


def once(check: ValueCheck, value: Any) -> None:
    """Check a value, once for each object of a message."""
    if _current.examination is None:
        return check(value)
    results = _current.examination.results.setdefault(check, {})
    known = results.get(id(value))
    if known is value:
        return None
    if known is not None:
        raise known.mismatch.copy()
    try:
        check(value)
    except Mismatch as mismatch:
        results[id(value)] = Refusal(value, mismatch.copy())
        raise
    results[id(value)] = value
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """The check of one annotation."""

    expected: str
    """The annotation as its author would write it."""
    exact_types: frozenset[type]
    """The types with no unacceptable values."""
    check_value: ValueCheck
    """Judges values of other types."""
    container_types: frozenset[type]
    """The types that an acceptable value may have, if its content is ignored."""
    fits: Callable[[Any], bool]
    """Returns False, in few steps, for values of other types that ``check_value`` would not accept."""
    is_literal: bool = False

    def __call__(self, value: Any) -> None:
        """Raise Mismatch if the value is not acceptable."""
        if type(value) not in self.exact_types:
            self.check_value(value)

    def shallow(self) -> Check:
        """Return a check that ignores the content of containers."""
        return exactly(self.expected, self.container_types)


class RejectAll:
    """The ``check_value`` of an annotation that is decided by ``exact_types`` alone."""

    __slots__ = ("_expected",)

    def __init__(self, expected: str) -> None:
        self._expected = expected

    def __call__(self, value: Any) -> None:
        raise Mismatch(self._expected, type(value))


def exactly(expected: str, types: frozenset[type]) -> Check:
    """Return a check that accepts all values of these types and no others."""
    return Check(expected, types, RejectAll(expected), types, is_one_of(types))


def is_one_of(types: frozenset[type]) -> Callable[[Any], bool]:
    """Return a function that returns True for a value of exactly one of these types."""
    return lambda value: type(value) in types


def check_inside(check: Check, value: Any, segment: str) -> None:
    """Check a part of a value; ``segment`` is its place in the path of a Mismatch."""
    if type(value) in check.exact_types:
        return
    try:
        check.check_value(value)
    except Mismatch as mismatch:
        mismatch.path.append(segment)
        raise


def check_each(values: Collection[Any], check: Check, prefix: str) -> None:
    """Check every item, beginning with the types of all of them at the speed of C."""
    if check.exact_types.issuperset(map(type, values)):
        return
    charge(len(values))
    exact_types, check_value = check.exact_types, check.check_value
    index = 0
    try:
        for value in values:
            if type(value) not in exact_types:
                check_value(value)
            index += 1
    except Mismatch as mismatch:
        mismatch.path.append(f"[{prefix}{index}]")
        raise
