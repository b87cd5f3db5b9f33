"""What every adapter has: how a configured type is named, checked, taken apart and made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from sealwire.pickling.adapters.record import MISSING, Load
from sealwire.pickling.annotations import Types
from sealwire.pickling.checks import Check
from sealwire.pickling.grants import UNHASHABLE, Grant, Name, unsettled


class Adapter(ABC):
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

    @abstractmethod
    def grants(self, types: Types) -> Iterator[Grant]:
        """What a message may do with the type's name. Raises ConfigurationError."""

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

    def grant(self, powers: int, load: Load, *, memory: int = 0, quick: Load = unsettled) -> Grant:
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
            quick=quick,
            memory=memory or 128 + 64 * len(self.fields),
        )

    def checks(self, types: Types, *, shallow: bool = False) -> dict[str, Check]:
        """The check of each field. Raises ConfigurationError."""
        found = {name: types.check(hint, f"{self.spelling}.{name}") for name, hint in self.fields.items()}
        return {name: check.shallow() for name, check in found.items()} if shallow else found


def spelling(cls: Any) -> str:
    """A type as its owner would write it."""
    return str(cls.__qualname__) if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def names_of(module: str, name: str) -> tuple[Name, ...]:
    """The names under which a pickle may name a type of this module."""
    if module == "builtins":
        # Protocol 2 names builtins as Python 2 did.
        return (module, name), ("__builtin__", name), ("exceptions", name)
    return ((module, name),)
