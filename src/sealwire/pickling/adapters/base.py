"""The base class of adapters: how a configured type is named, checked, taken apart and made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from sealwire.errors import ConfigurationError
from sealwire.pickling.adapters.record import MISSING, Load, Record
from sealwire.pickling.adapters.shapes import Shape
from sealwire.pickling.annotations import Types
from sealwire.pickling.globals import UNHASHABLE, GlobalRule, Name
from sealwire.pickling.type_checks import Check


class Adapter(ABC):
    """One type on an allowlist. Made when the type is registered; immutable.

    Args:
        cls: The type.
        fields: The annotations of its values' parts, by name, in order.
        shallow: Do not check the items of containers in its fields.
    """

    kind: str = "type"
    """The kind of type, in a word or two."""
    runs_foreign_code: bool = True
    """Code outside of this library sees the parts of a value when it is made."""

    checks_itself: bool = False
    """The type's own library checks its fields, and may read their annotations otherwise."""

    def __init__(self, cls: type, fields: Mapping[str, Any] | None = None, *, shallow: bool = False) -> None:
        self._shallow: Final = shallow
        self.fills = False
        self.cls: Final[Any] = cls
        self.qualified_name: Final = qualified_name(cls)
        self.fields: Final[Mapping[str, Any]] = dict(fields or {})
        self.value_types: frozenset[type] = frozenset((cls,))
        """The exact types of its values."""
        self.functions: tuple[Any, ...] = ()
        """The functions that pickles of its values name beside the type."""

    @abstractmethod
    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """Yield the rules for the names in pickles of its values. Raises ConfigurationError."""

    def parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield the parts of a value, each with its segment of a path."""
        for name in self.fields:
            part = getattr(value, name, MISSING)
            if part is not MISSING:
                yield f".{name}", part

    def annotations(self) -> Mapping[str, Any]:
        """Return the annotations that say which types its values need on the allowlist, by name."""
        return self.fields

    def reduce(self, value: Any) -> Any:
        """Reduce a value like ``__reduce_ex__``, or return NotImplemented if its own is right."""
        del value
        return NotImplemented

    def argument_check(self, arguments: tuple[Any, ...]) -> Callable[[Any], bool] | None:
        """Return a check of values against the arguments of the type in an annotation, beyond those of its fields.

        Raises TypeError if the arguments are not understood.
        """
        del arguments
        return None

    def notes(self) -> Iterator[str]:
        """Yield cautions for users, before they let peers send values of the type."""
        return iter(())

    def rule(
        self,
        permissions: int,
        load: Load,
        *,
        memory: int = 0,
        record: Record | None = None,
        states: int = 0,
        shape: Shape | None = None,
    ) -> GlobalRule:
        """Return the rule for the type's name."""
        module, name = self.cls.__module__, self.cls.__qualname__
        members: tuple[tuple[Name, str], ...] = ()
        if "." in name:
            # Protocols 2 and 3 write getattr(Outer, "Inner"). The allowlist adds rules for the outer classes.
            outer, _, inner = name.rpartition(".")
            members = (((module, outer), inner),)
        if self.cls.__hash__ is None:
            permissions |= UNHASHABLE
        return GlobalRule(
            qualified_name=self.qualified_name,
            names=((module, name),),
            members=members,
            permissions=permissions,
            load=load,
            record=record,
            states=states,
            memory=memory or 128 + 64 * len(self.fields),
            shape=shape,
        )

    def shape(self, form: int | None, record: Record, *, is_called: bool = False) -> Shape | None:
        """Return the shape of values of this form; None if there is none."""
        return None if form is None else Shape(self.cls, form, record.checks, is_called=is_called)

    def record(self, types: Types, construct: Load) -> Record:
        """Return a maker of instances out of the values of their fields. Raises ConfigurationError."""
        defaults = self.unset() | (self.defaults() if self.fills else {})
        return Record(self.qualified_name, self.checks(types), construct, defaults)

    def unset(self) -> dict[str, Callable[[], Any]]:
        """Return what makes the values of fields that an instance usually does not have itself, by their names."""
        return {}

    def defaults(self) -> dict[str, Callable[[], Any]]:
        """Return what makes the values of fields that a message may lack, by their names."""
        raise ConfigurationError(f'{self.qualified_name}: missing="default" is for classes with fields')

    def fill(self) -> None:
        """Let messages lack fields that have a default. Raises ConfigurationError if there cannot be any."""
        self.defaults()
        self.fills = True

    def checks(self, types: Types) -> dict[str, Check]:
        """Return the check of each field. Raises ConfigurationError."""
        found = {
            name: types.check(hint, f"{self.qualified_name}.{name}", self.cls) for name, hint in self.fields.items()
        }
        return {name: check.shallow() for name, check in found.items()} if self._shallow else found


def qualified_name(cls: Any) -> str:
    """Return the name of a class with its module, except for builtins."""
    return str(cls.__qualname__) if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
