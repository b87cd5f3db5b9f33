"""``msgspec.Struct``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from sealwire.errors import InvalidValue
from sealwire.pickling.adapters.base import Adapter, qualified_name
from sealwire.pickling.adapters.record import MISSING
from sealwire.pickling.adapters.shapes import struct_form
from sealwire.pickling.annotations import Types
from sealwire.pickling.globals import CALL, CALL_EMPTY, CALL_REBUILD, DEFERRED, IN_ORDER, GlobalRule
from sealwire.pickling.hints import hints


class StructAdapter(Adapter):
    """Checks annotations, because a struct's constructor checks nothing. ``__post_init__`` runs."""

    kind = "msgspec struct"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        found = hints(cls, qualified_name(cls))
        super().__init__(cls, {name: found[name] for name in cls.__struct_fields__}, shallow=shallow)
        self.functions = (_rebuild_function(),)

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """REDUCE with the fields or, if some are keyword-only, of ``msgspec._utils.rebuild`` with a dict of them."""
        name, cls, names = self.qualified_name, self.cls, tuple(self.fields)

        def construct(*values: Any) -> Any:
            return cls(**dict(zip(names, values, strict=True)))

        record = self.record(types, construct)

        def load(*values: Any) -> Any:
            return record.make_from_some(values)

        def load_by_name(fields: Any = MISSING, *more: Any) -> Any:
            if more:
                raise InvalidValue(f"{name}: not exactly its declared fields, but other arguments as well")
            return record.make_from(fields)

        function = _rebuild_function()
        rebuild = (function.__module__, function.__qualname__)
        shape = self.shape(struct_form(cls, names), record, is_called=True)
        by_position = self.rule(CALL | CALL_EMPTY | DEFERRED, load, record=record, states=IN_ORDER, shape=shape)
        yield by_position
        yield GlobalRule(
            qualified_name=name,
            names=(),
            rebuilt=((rebuild, (cls.__module__, cls.__qualname__)),),
            permissions=by_position.permissions,
            load=load_by_name,
            memory=by_position.memory,
        )
        yield GlobalRule(qualified_name="msgspec's rebuild", names=(rebuild,), permissions=CALL_REBUILD, load=load)

    def defaults(self) -> dict[str, Callable[[], Any]]:
        """Return the defaults and factories of its fields."""
        found: dict[str, Callable[[], Any]] = {}
        nothing = sys.modules["msgspec"].NODEFAULT
        for field in sys.modules["msgspec.structs"].fields(self.cls):
            if field.default_factory is not nothing:
                found[field.name] = field.default_factory
            elif field.default is not nothing:
                found[field.name] = functools.partial(getattr, field, "default")
        return found

    def notes(self) -> Iterator[str]:
        """Yield which code of the struct runs."""
        if hasattr(self.cls, "__post_init__"):
            yield "runs __post_init__ on values that a peer chose"


def _rebuild_function() -> Any:
    return sys.modules["msgspec._utils"].rebuild  # msgspec is imported, since there is a struct
