"""Classes that are made with attrs."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from sealwire.pickling.adapters.base import Adapter, qualified_name
from sealwire.pickling.adapters.shapes import attrs_form
from sealwire.pickling.annotations import Types
from sealwire.pickling.globals import IN_DICT, NEW, GlobalRule
from sealwire.pickling.hints import hints


class AttrsAdapter(Adapter):
    """Takes an instance as its attributes. Validators, converters and ``__attrs_post_init__`` run, and must keep the
    values as sent.
    """

    kind = "attrs class"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        found = hints(cls, qualified_name(cls))
        attributes = cls.__attrs_attrs__
        super().__init__(
            cls, {each.name: found.get(each.name, each.type or Any) for each in attributes}, shallow=shallow
        )
        self._arguments = [(index, each.alias) for index, each in enumerate(attributes) if each.init]

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """NEWOBJ, and state: a dict of the attributes."""
        cls, arguments = self.cls, self._arguments

        def construct(*values: Any) -> Any:
            return cls(**{alias: values[index] for index, alias in arguments})

        record = self.record(types, construct)
        shape = self.shape(attrs_form(cls, self.fields), record)
        yield self.rule(NEW, record.make_from, record=record, states=IN_DICT, shape=shape)

    def defaults(self) -> dict[str, Callable[[], Any]]:
        """Return the defaults and factories of its attributes."""
        found: dict[str, Callable[[], Any]] = {}
        for each in self.cls.__attrs_attrs__:
            factory = getattr(each.default, "factory", None)  # of attrs.Factory
            if each.init and factory is not None and not each.default.takes_self:
                found[each.name] = factory
            elif each.init and factory is None and each.default is not sys.modules["attr"].NOTHING:
                found[each.name] = functools.partial(getattr, each, "default")
        return found

    def notes(self) -> Iterator[str]:
        """Yield which code of the class runs."""
        if any(each.validator or each.converter for each in self.cls.__attrs_attrs__):
            yield "runs validators and converters on values that a peer chose"
        if not self.cls.__init__.__code__.co_filename.startswith("<attrs generated"):
            yield "runs __init__ on values that a peer chose"
        for name in ("__attrs_pre_init__", "__attrs_post_init__"):
            if hasattr(self.cls, name):
                yield f"runs {name} on values that a peer chose"
