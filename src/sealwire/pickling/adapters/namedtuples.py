"""``typing.NamedTuple`` and ``collections.namedtuple``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from sealwire.pickling.adapters.base import Adapter, qualified_name
from sealwire.pickling.adapters.shapes import named_tuple_form
from sealwire.pickling.annotations import Types
from sealwire.pickling.globals import IN_ORDER, NEW_WITH, GlobalRule
from sealwire.pickling.hints import hints


class NamedTupleAdapter(Adapter):
    """Accepts any value for a field without an annotation; ``collections.namedtuple`` has no annotations."""

    kind = "named tuple"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        found = hints(cls, qualified_name(cls))
        super().__init__(cls, {name: found.get(name, Any) for name in cls._fields}, shallow=shallow)

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """NEWOBJ with a tuple of the fields."""
        record = self.record(types, self.cls)
        shape = self.shape(named_tuple_form(self.cls, self.fields), record)
        yield self.rule(NEW_WITH, record.make_from_some, record=record, states=IN_ORDER, shape=shape)

    def defaults(self) -> dict[str, Callable[[], Any]]:
        """Return the defaults of its fields."""
        defaults = self.cls._field_defaults
        return {name: functools.partial(defaults.__getitem__, name) for name in defaults}
