"""What every adapter has: how a configured type is named, checked, taken apart and made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter, is_, itemgetter
from typing import Any, Final

from sealwire.errors import DecodeError, InvalidValue, LimitExceeded
from sealwire.pickling.annotations import Check, Mismatch, Types
from sealwire.pickling.grants import UNHASHABLE, Grant, Name

Load = Callable[..., Any]
MISSING: Final = object()
"""The state of an instance that was given none."""


class Adapter:
    """One type on an allowlist. Made when the type is registered; immutable.

    cls: the type. spelling: its name as its owner would write it. fields: the annotations that its values' parts have,
    by name, in order. covers: the exact types of its values. functions: what their pickles name beside the type.
    """

    kind: str = "type"
    """What it is, in a word or two."""
    runs: bool = True
    """Whether code that is not this library's sees the parts of a value when it is made."""

    def __init__(self, cls: type, fields: Mapping[str, Any] | None = None) -> None:
        self.cls: Final[Any] = cls
        self.spelling: Final = spelling(cls)
        self.fields: Final[Mapping[str, Any]] = dict(fields or {})
        self.covers: frozenset[type] = frozenset((cls,))
        self.functions: tuple[Any, ...] = ()

    def grants(self, types: Types) -> Iterator[Grant]:
        """What a message may do with the type's name. Raises ConfigurationError."""
        raise NotImplementedError

    def parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Segments of a path, and what is there in a value."""
        for name in self.fields:
            part = getattr(value, name, MISSING)
            if part is not MISSING:
                yield f".{name}", part

    def reduce(self, value: Any) -> Any:
        """As the ``__reduce_ex__`` of the type; NotImplemented: pickled as it would be anyway."""
        del value
        return NotImplemented

    def narrow(self, arguments: tuple[Any, ...]) -> Callable[[Any], bool] | None:
        """What the arguments of the type in an annotation say of a value that its fields do not.

        Raises TypeError where they say nothing that is understood.
        """
        del arguments
        return None

    def notes(self) -> Iterator[str]:
        """What to know before a peer may send values of the type."""
        return iter(())

    def grant(self, powers: int, load: Load, *, memory: int = 0) -> Grant:
        """The grant for the type's name."""
        module, name = self.cls.__module__, self.cls.__qualname__
        members: tuple[tuple[Name, str], ...] = ()
        if "." in name:
            # Protocols 2 and 3 say getattr(Outer, "Inner"); the outer ones are named in the allowlist's own grants.
            outer, _, inner = name.rpartition(".")
            members = (((module, outer), inner),)
        if self.cls.__hash__ is None:
            powers |= UNHASHABLE
        return Grant(
            spelling=self.spelling,
            names=names_of(module, name),
            members=members,
            powers=powers,
            load=load,
            memory=memory or 128 + 64 * len(self.fields),
        )

    def checks(self, types: Types, *, shallow: bool = False) -> dict[str, Check]:
        """The check of each field. Raises ConfigurationError."""
        found = {name: types.check(hint, f"{self.spelling}.{name}") for name, hint in self.fields.items()}
        return {name: check.shallow() for name, check in found.items()} if shallow else found


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

    def make(self, values: tuple[Any, ...]) -> Any:
        """The instance. Raises InvalidValue."""
        kinds = (*map(type, values),)
        if kinds not in self._known:
            self._look(values)
            if len(self._known) < _KNOWN and all(map(_is_whole, self._checks, kinds)):
                self._known.add(kinds)
        try:
            made = self._construct(*values)
            got = self._read(made)
        except Exception as error:
            raise refused(self._spelling, error) from None
        if not all(map(is_, values, got)):
            self._compare(values, got)
        return made

    def make_from(self, fields: Mapping[str, Any]) -> Any:
        """The instance out of a dict of exactly the fields. Raises InvalidValue."""
        if len(fields) != len(self._names) or not all(map(fields.__contains__, self._names)):
            raise InvalidValue(f"{self._spelling}: not exactly its declared fields")
        return self.make(self._pick(fields))

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


def spelling(cls: Any) -> str:
    """A type as its owner would write it."""
    return str(cls.__qualname__) if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def names_of(module: str, name: str) -> tuple[Name, ...]:
    """The names under which a pickle may name a type of this module."""
    if module == "builtins":
        # Protocol 2 names builtins as Python 2 did.
        return (module, name), ("__builtin__", name), ("exceptions", name)
    return ((module, name),)
