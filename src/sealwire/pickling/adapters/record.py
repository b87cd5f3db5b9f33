"""Makes instances out of the values of their declared fields: checked, and by the class's own constructor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter, contains, is_, itemgetter
from typing import Any, Final

from sealwire.errors import DecodeError, InvalidValue, LimitExceeded
from sealwire.pickling.adapters.same import same
from sealwire.pickling.type_checks import Check, Mismatch, difference

Load = Callable[..., Any]
MISSING: Final = object()
"""The state of an instance that was given none."""


class Record:
    """Makes the instances of one class.

    Each field is checked against its annotation, and the instance must have the values that its constructor was given.

    Args:
        name: The class's qualified name, for errors.
        checks: The check of each field, by name.
        construct: Makes an instance out of the values, in the order of the checks.
        defaults: Makes the values of fields that a message may lack.
    """

    def __init__(
        self, name: str, checks: Mapping[str, Check], construct: Load, defaults: Mapping[str, Callable[[], Any]]
    ) -> None:
        self._qualified_name = name
        self.checks = checks
        self._names = tuple(checks)
        self._checks = tuple(checks.values())
        self.construct = construct
        self._defaults = defaults
        self._read = _reader(attrgetter, self._names)
        self._pick = _reader(itemgetter, self._names)
        self._exact_types = tuple(check.exact_types for check in self._checks)

    def make(self, values: tuple[Any, ...]) -> Any:
        """Return the instance of these values. Raises DecodeError."""
        # Nothing is remembered of earlier instances: a peer could fill such a memory with types that no other uses.
        if not all(map(contains, self._exact_types, map(type, values))):
            self._check(values)
        return self._built(values)

    def make_from(self, fields: Any = MISSING) -> Any:
        """Return the instance of a dict of the fields; no state is an empty one. Raises DecodeError."""
        try:
            values = self._pick(fields) if type(fields) is dict else None
        except KeyError:
            values = None
        if values is None or len(fields) != len(values):
            return self._filled({} if fields is MISSING else fields)
        return self.make(values)

    def make_from_some(self, values: Sequence[Any]) -> Any:
        """Return the instance of the values of its first fields, usually of all. Raises DecodeError."""
        if len(values) == len(self._names):
            return self.make(tuple(values))
        if len(values) > len(self._names):
            raise not_its_fields(self._qualified_name, (), [f"{len(values) - len(self._names)} more"])
        return self._filled(dict(zip(self._names, values, strict=False)))

    def _filled(self, fields: Any) -> Any:
        """Return the instance of a dict with default values for the fields that it lacks."""
        if type(fields) is not dict:
            raise InvalidValue(f"{self._qualified_name}: not exactly its declared fields, but no dict of them")
        lacks = [name for name in self._names if name not in fields]
        more = [name for name in fields if name not in self._names]
        if more or not self._defaults.keys() >= set(lacks):
            raise not_its_fields(self._qualified_name, [name for name in lacks if name not in self._defaults], more)
        for name, check in zip(self._names, self._checks, strict=True):
            if name in fields:
                self._check_one(name, check, fields[name])
        filled = {name: built(self._qualified_name, self._defaults[name]) for name in lacks}
        return self._built(tuple(fields[name] if name in fields else filled[name] for name in self._names))

    def _built(self, values: tuple[Any, ...]) -> Any:
        try:
            made = self.construct(*values)
            got = self._read(made)
        except Exception as error:
            raise refused(self._qualified_name, error) from None
        if not all(map(is_, values, got)):
            self._compare(values, got)
        return made

    def _check(self, values: Sequence[Any]) -> None:
        for name, value, check in zip(self._names, values, self._checks, strict=True):
            self._check_one(name, check, value)

    def _check_one(self, name: str, check: Check, value: Any) -> None:
        try:
            check(value)
        except Mismatch as mismatch:
            error = InvalidValue(f"{self._qualified_name}.{name}: {described(mismatch)}")
            error.inside(*mismatch.path, f".{name}")
            raise error from None

    def _compare(self, values: Sequence[Any], got: Sequence[Any]) -> None:
        for name, value, result in zip(self._names, values, got, strict=True):
            if value is result:
                continue
            if not built(self._qualified_name, same, value, result):
                error = InvalidValue(
                    f"{self._qualified_name}.{name}: the class made another value of it than was sent; "
                    "register an adapter"
                )
                error.inside(f".{name}")
                raise error


_MAX_EXPECTED: Final = 160
"""Characters of an annotation in an error."""


def described(mismatch: Mismatch, place: str = "") -> str:
    """Return the type that was expected in a place, and the one that came."""
    expected = mismatch.expected
    if len(expected) > _MAX_EXPECTED:
        expected = f"{expected[:_MAX_EXPECTED]}…"
    kind = mismatch.kind
    found = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
    return f"expected {expected}{place}, got {found}{mismatch.detail}"


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def not_its_fields(name: str, lacks: Collection[str], more: Collection[Any]) -> InvalidValue:
    """Return the error for an instance with other fields than its class; a peer chose the names in ``more``."""
    return InvalidValue(
        f"{name}: not exactly its declared fields: {difference(lacks, more)}; both sides need one definition, or a "
        'default and missing="default" where it is received'
    )


def _reader(getter: Callable[..., Load], names: tuple[str, ...]) -> Load:
    """Return a function that returns the tuple of an object's values under these names."""
    if len(names) == 1:
        one = getter(names[0])
        return lambda made: (one(made),)
    return getter(*names) if names else lambda _: ()


def built(qualified_name: str, function: Load, *arguments: Any, **keywords: Any) -> Any:
    """Call a user's own code, and make a DecodeError without its text of any exception.

    Constructors and adapters run on the values of a message and may raise anything. Therefore everything is caught:
    here, and in :meth:`Record.make`.
    """
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        raise refused(qualified_name, error) from None


def refused(name: str, error: Exception) -> DecodeError:
    """Return the DecodeError for an exception that a user's own code raised."""
    if isinstance(error, DecodeError):
        return error
    if isinstance(error, RecursionError):
        return LimitExceeded("max_depth: nested too deeply for the space that is left on Python's stack")
    if isinstance(error, MemoryError):
        return LimitExceeded("max_memory: there is not enough memory for the message")
    return InvalidValue(f"{name} does not accept these values ({type(error).__name__})")
