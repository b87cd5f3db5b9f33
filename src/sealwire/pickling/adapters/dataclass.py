"""Dataclasses: frozen, with slots, inherited, keyword-only, with defaults and fields that are not arguments."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, Final

from sealwire.errors import ConfigurationError, InvalidValue
from sealwire.pickling.adapters.adapter import Adapter, spelling
from sealwire.pickling.adapters.record import MISSING, Load, Record
from sealwire.pickling.annotations import Types, hints
from sealwire.pickling.grants import NEW, Grant


class DataclassAdapter(Adapter):
    """An instance is its fields; ``__init__`` and ``__post_init__`` run and must keep what was sent."""

    kind = "dataclass"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        name = spelling(cls)
        every = cls.__dataclass_fields__.values()
        if any(field._field_type.name == "_FIELD_INITVAR" for field in every):
            raise ConfigurationError(
                f"{name} has an InitVar, which an instance does not keep, so that it cannot be made again; "
                "register an adapter"
            )
        found = dataclasses.fields(cls)
        resolved = hints(cls, name)
        super().__init__(cls, {field.name: resolved[field.name] for field in found})
        self._shallow: Final = shallow
        self._arguments = [field.name for field in found if field.init]
        self._keywords = frozenset(field.name for field in found if field.init and field.kw_only)
        # A frozen dataclass with slots gives a list of its fields as its state.
        self._by_position = cls.__getstate__ is dataclasses._dataclass_getstate  # type: ignore[attr-defined]  # not in typeshed
        self._with_slots = any("__slots__" in vars(base) for base in cls.__mro__)
        # What a cached property keeps in the instance's dict is no field; it is computed again.
        self._cached = frozenset(
            name for base in cls.__mro__ for name, value in vars(base).items()
            if isinstance(value, functools.cached_property)
        )  # fmt: skip

    def grants(self, types: Types) -> Iterator[Grant]:
        """NEWOBJ, and state in one of the forms that dataclasses have."""
        record = Record(self.spelling, self.checks(types, shallow=self._shallow), self._constructor())
        where, names, cached = self.spelling, tuple(self.fields), self._cached
        by_position, with_slots = self._by_position, self._with_slots

        def load(state: Any = MISSING) -> Any:
            if type(state) is dict and not by_position:
                if cached:
                    state = {name: part for name, part in state.items() if name not in cached}
                return record.make_from(state)
            if type(state) is list and by_position:
                if len(state) == len(names):
                    return record.make(tuple(state))
            elif type(state) is tuple and with_slots:  # the dict of a base without slots, if it has one, and the slots
                if len(state) == 2 and type(state[0]) in (dict, type(None)) and type(state[1]) is dict:
                    plain = state[0] or {}
                    if plain.keys().isdisjoint(state[1]):
                        return record.make_from(plain | state[1])
            elif state is MISSING and not names:
                return record.make(())
            raise InvalidValue(f"{where}: not exactly its declared fields")

        if names and not (cached or by_position or with_slots):
            yield self.grant(NEW, record.make_from, quick=record.make_settled)
        else:
            yield self.grant(NEW, load)

    def _constructor(self) -> Load:
        cls: Load = self.cls
        names = tuple(self.fields)
        if self._arguments == list(names) and not self._keywords:
            return cls
        positional = [names.index(name) for name in self._arguments if name not in self._keywords]
        keywords = [(index, name) for index, name in enumerate(names) if name in self._keywords]

        def construct(*values: Any) -> Any:
            return cls(*[values[index] for index in positional], **{name: values[index] for index, name in keywords})

        return construct

    def reduce(self, value: Any) -> Any:
        """Without what cached properties have kept."""
        if self._cached and not self._cached.isdisjoint(vars(value)):
            state = {name: part for name, part in vars(value).items() if name not in self._cached}
            return _new_object, (self.cls,), state
        return NotImplemented

    def notes(self) -> Iterator[str]:
        """The user's own code that runs."""
        owner = next(base for base in self.cls.__mro__ if "__init__" in vars(base))
        if "__dataclass_params__" not in vars(owner) or not owner.__dataclass_params__.init:
            yield "runs __init__ on values that a peer chose"
        for name in ("__post_init__", "__setattr__", "__new__"):
            if getattr(self.cls, name, None) not in (None, getattr(object, name, None)):
                if name == "__setattr__" and self.cls.__dataclass_params__.frozen:
                    continue
                yield f"runs {name} on values that a peer chose"


def _new_object(cls: Any, *arguments: Any) -> Any:  # named and marked as copyreg's, so that NEWOBJ is written
    return cls.__new__(cls, *arguments)


_new_object.__name__ = "__newobj__"
