"""Instances out of the values of their declared fields: checked, and made by the class's own constructor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, is_, itemgetter
from typing import Any, Final

from sealwire.errors import DecodeError, InvalidValue, LimitExceeded
from sealwire.pickling.checks import Check, Mismatch
from sealwire.pickling.grants import LEAVES, UNSETTLED

Load = Callable[..., Any]
MISSING: Final = object()
"""The state of an instance that was given none."""


class Record:
    """Makes instances out of the values of their declared fields: checked, and by the class's own constructor.

    ``construct``: called with the values, in the order of the checks. What it made must have what it was given.
    """

    def __init__(self, where: str, checks: Mapping[str, Check], construct: Load) -> None:
        self._spelling = where
        self._names = tuple(checks)
        self._checks = tuple(checks.values())
        self._construct = construct
        self._read = _reader(attrgetter, self._names)
        self._pick = _reader(itemgetter, self._names)
        self._known: set[tuple[type, ...]] = set()
        """Types of fields' values of which all values are right: most instances have the same."""
        self._settled: set[tuple[type, ...]] = set()
        """Those of them that are leaves all."""

    def make(self, values: tuple[Any, ...]) -> Any:
        """The instance. Raises InvalidValue."""
        kinds = (*map(type, values),)
        if kinds not in self._known:
            self._look(values)
            if len(self._known) < _KNOWN and all(map(_is_whole, self._checks, kinds)):
                self._known.add(kinds)
                if LEAVES.issuperset(kinds):
                    self._settled.add(kinds)
        return self._built(values)

    def make_from(self, fields: Any = MISSING) -> Any:
        """The instance out of a dict of exactly the fields. Raises InvalidValue."""
        try:
            values = self._pick(fields) if type(fields) is dict else None
        except KeyError:
            values = None
        if values is None or len(fields) != len(values):
            raise InvalidValue(f"{self._spelling}: not exactly its declared fields")
        return self.make(values)

    def make_settled(self, fields: dict[Any, Any]) -> Any:
        """As make_from, where the values are of types that were good before, and nothing in them is to be resolved.

        Otherwise UNSETTLED.
        """
        try:
            values = self._pick(fields)
        except KeyError:
            return UNSETTLED
        if (*map(type, values),) not in self._settled or len(fields) != len(values):
            return UNSETTLED
        return self._built(values)

    def _built(self, values: tuple[Any, ...]) -> Any:
        try:
            made = self._construct(*values)
            got = self._read(made)
        except Exception as error:
            raise refused(self._spelling, error) from None
        if not all(map(is_, values, got)):
            self._compare(values, got)
        return made

    def _look(self, values: Sequence[Any]) -> None:
        for name, value, check in zip(self._names, values, self._checks, strict=True):
            try:
                check(value)
            except Mismatch as mismatch:
                error = InvalidValue(f"{self._spelling}.{name}: {mismatch.expected} is wanted")
                error.inside(*mismatch.path, f".{name}")
                raise error from None

    def _compare(self, values: Sequence[Any], got: Sequence[Any]) -> None:
        for name, value, result in zip(self._names, values, got, strict=True):
            if value is result:
                continue
            if type(value) is not type(result) or not built(self._spelling, _same, value, result):
                error = InvalidValue(
                    f"{self._spelling}.{name}: the class made another value of it than was sent; register an adapter"
                )
                error.inside(f".{name}")
                raise error


_KNOWN: Final = 64


def _is_whole(check: Check, kind: type) -> bool:
    return kind in check.whole


def _reader(getter: Callable[..., Load], names: tuple[str, ...]) -> Load:
    """A function that gives the tuple of what is there under these names."""
    if len(names) == 1:
        one = getter(names[0])
        return lambda made: (one(made),)
    return getter(*names) if names else lambda _: ()


def _same(value: Any, result: Any) -> bool:
    return bool(value == result)


def built(where: str, function: Load, *arguments: Any, **keywords: Any) -> Any:
    """Call the user's own code; whatever it raises becomes a DecodeError without its text.

    Foreign code that runs on a message's values, constructors and adapters, may raise what it likes, so that
    everything is caught: here, and in :meth:`Record.make`.
    """
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        raise refused(where, error) from None


def refused(where: str, error: Exception) -> DecodeError:
    """What to raise for what the user's own code raised."""
    if isinstance(error, DecodeError):
        return error
    if isinstance(error, RecursionError):
        return LimitExceeded("max_depth: nested too deeply for what is left of Python's stack")
    if isinstance(error, MemoryError):
        return LimitExceeded("max_memory: there is not enough memory for the message")
    return InvalidValue(f"{where} does not accept these values ({type(error).__name__})")
