"""``typing.NamedTuple`` and ``collections.namedtuple``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sealwire.errors import InvalidValue
from sealwire.pickling.adapters.adapter import Adapter, spelling
from sealwire.pickling.adapters.record import MISSING, Record
from sealwire.pickling.annotations import Types, hints
from sealwire.pickling.grants import NEW_WITH, Grant


class NamedTupleAdapter(Adapter):
    """Fields without an annotation (``collections.namedtuple`` has none) may hold any value."""

    kind = "named tuple"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        found = hints(cls, spelling(cls))
        super().__init__(cls, {name: found.get(name, Any) for name in cls._fields})
        self._shallow: Final = shallow

    def grants(self, types: Types) -> Iterator[Grant]:
        """NEWOBJ with the fields."""
        where, count = self.spelling, len(self.fields)
        record = Record(where, self.checks(types, shallow=self._shallow), self.cls)

        def load(arguments: tuple[Any, ...] = (), state: Any = MISSING) -> Any:
            if len(arguments) != count or state is not MISSING:
                raise InvalidValue(f"{where}: not exactly its declared fields")
            return record.make(arguments)

        yield self.grant(NEW_WITH, load)
