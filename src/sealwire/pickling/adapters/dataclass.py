"""Dataclasses: frozen, with slots, inherited, keyword-only, with defaults and fields that are not arguments."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

from sealwire.errors import ConfigurationError, InvalidValue
from sealwire.pickling.adapters.base import Adapter, qualified_name
from sealwire.pickling.adapters.record import MISSING, Load, Record
from sealwire.pickling.adapters.shapes import dataclass_form
from sealwire.pickling.annotations import Types
from sealwire.pickling.globals import IN_DICT, IN_ORDER, IN_SLOTS, NEW, GlobalRule
from sealwire.pickling.hints import hints


class DataclassAdapter(Adapter):
    """Takes an instance as its fields; ``__init__`` and ``__post_init__`` run and must keep the values as sent."""

    kind = "dataclass"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        name = qualified_name(cls)
        every = cls.__dataclass_fields__.values()
        if any(field._field_type.name == "_FIELD_INITVAR" for field in every):
            raise ConfigurationError(
                f"{name} has an InitVar, which an instance does not keep, so that it cannot be made again; "
                "register an adapter"
            )
        found = dataclasses.fields(cls)
        resolved = hints(cls, name)
        super().__init__(cls, {field.name: resolved[field.name] for field in found}, shallow=shallow)
        self._arguments = [field.name for field in found if field.init]
        self._keywords = frozenset(field.name for field in found if field.init and field.kw_only)
        # A frozen dataclass with slots gives a list of its fields as its state.
        self._by_position = cls.__getstate__ is dataclasses._dataclass_getstate  # type: ignore[attr-defined]  # not in typeshed
        self._with_slots = any("__slots__" in vars(base) for base in cls.__mro__)
        self._cached = cached_properties(cls)

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """NEWOBJ, and state in the form that CPython gives to this dataclass."""
        record = self.record(types, self._constructor())
        shape = self.shape(dataclass_form(self.cls, self.fields), record)
        states = IN_ORDER if self._by_position else IN_DICT | IN_SLOTS if self._with_slots else IN_DICT
        yield self.rule(NEW, self._loader(record), record=record, states=states, shape=shape)

    def _loader(self, record: Record) -> Load:
        """Return a loader that accepts the forms of state which CPython gives to instances of this class."""
        cached = self._cached
        not_its_fields = f"{self.qualified_name}: not exactly its declared fields"

        def load_slots(state: tuple[Any, ...]) -> Any:  # the dict of a base without slots, if it has one, and the slots
            if len(state) != 2 or type(state[0]) not in (dict, type(None)) or type(state[1]) is not dict:
                raise InvalidValue(not_its_fields)
            of_base = state[0] or {}
            if not of_base.keys().isdisjoint(state[1]):
                raise InvalidValue(not_its_fields)
            return record.make_from(of_base | state[1])

        loaders: dict[type, Load] = {dict: lambda state: record.make_from(_without(state, cached))}
        if self._by_position:
            loaders = {list: record.make_from_some, tuple: record.make_from_some}  # as CPython reads both
        elif self._with_slots:
            loaders[tuple] = load_slots
        loaders[type(MISSING)] = record.make_from

        def load(state: Any = MISSING) -> Any:
            found = loaders.get(type(state))
            if found is None:
                raise InvalidValue(not_its_fields)
            return found(state)

        return load

    def unset(self) -> dict[str, Callable[[], Any]]:
        """Return the defaults of fields that are not arguments: they stay attributes of the class."""
        return {
            field.name: functools.partial(getattr, field, "default")
            for field in dataclasses.fields(self.cls)
            if not field.init and field.default is not dataclasses.MISSING
        }

    def defaults(self) -> dict[str, Callable[[], Any]]:
        """Return the defaults and factories of its fields."""
        found: dict[str, Callable[[], Any]] = {}
        for field in dataclasses.fields(self.cls):
            if field.init and field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory
            elif field.init and field.default is not dataclasses.MISSING:
                found[field.name] = functools.partial(getattr, field, "default")
        return found

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
        """Leave out the values of cached properties, which are not fields and are computed again."""
        if self._cached and not self._cached.isdisjoint(vars(value)):
            return _new_object, (self.cls,), _without(vars(value), self._cached)
        return NotImplemented

    def notes(self) -> Iterator[str]:
        """Yield which code of the class runs."""
        owner = next(base for base in self.cls.__mro__ if "__init__" in vars(base))
        if "__dataclass_params__" not in vars(owner) or not owner.__dataclass_params__.init:
            yield "runs __init__ on values that a peer chose"
        for name in ("__post_init__", "__setattr__", "__new__"):
            if getattr(self.cls, name, None) not in (None, getattr(object, name, None)):
                if name == "__setattr__" and self.cls.__dataclass_params__.frozen:
                    continue
                yield f"runs {name} on values that a peer chose"


def cached_properties(cls: type) -> frozenset[str]:
    """Return the names under which ``functools.cached_property`` keeps values in the dicts of instances."""
    attributes = [item for base in cls.__mro__ for item in vars(base).items()]
    return frozenset(name for name, value in attributes if isinstance(value, functools.cached_property))


def _without(state: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: part for name, part in state.items() if name not in names} if names else state


def _new_object(cls: Any, *arguments: Any) -> Any:  # named and marked as copyreg's, so that NEWOBJ is written
    return cls.__new__(cls, *arguments)


_new_object.__name__ = "__newobj__"
