"""``msgspec.Struct``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from sealwire.errors import InvalidValue
from sealwire.pickling.adapters.adapter import Adapter, names_of, spelling
from sealwire.pickling.adapters.record import MISSING, Record
from sealwire.pickling.annotations import Types, hints
from sealwire.pickling.grants import CALL, CALL_EMPTY, DEFERRED, REBUILDS, Grant


class StructAdapter(Adapter):
    """A struct's constructor checks nothing; its annotations are checked here, ``__post_init__`` runs."""

    kind = "msgspec struct"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        found = hints(cls, spelling(cls))
        super().__init__(cls, {name: found[name] for name in cls.__struct_fields__})
        self._shallow: Final = shallow
        self.functions = (_rebuild_function(),)

    def grants(self, types: Types) -> Iterator[Grant]:
        """REDUCE with the fields or, where some are keyword-only, ``msgspec._utils.rebuild`` with a dict of them."""
        where, cls, names = self.spelling, self.cls, tuple(self.fields)

        def construct(*values: Any) -> Any:
            return cls(**dict(zip(names, values, strict=True)))

        record = Record(where, self.checks(types, shallow=self._shallow), construct)

        def load(*values: Any) -> Any:
            if len(values) != len(names):
                raise InvalidValue(f"{where}: not exactly its declared fields")
            return record.make(values)

        def load_by_name(fields: Any = MISSING, *more: Any) -> Any:
            if type(fields) is not dict or more:
                raise InvalidValue(f"{where}: not exactly its declared fields")
            return record.make_from(fields)

        function = _rebuild_function()
        rebuild = (function.__module__, function.__qualname__)
        by_position = self.grant(CALL | CALL_EMPTY | DEFERRED, load)
        yield by_position
        yield Grant(
            spelling=where,
            names=(),
            rebuilt=((rebuild, names_of(cls.__module__, cls.__qualname__)[0]),),
            powers=by_position.powers,
            load=load_by_name,
            memory=by_position.memory,
        )
        yield Grant(spelling="msgspec's rebuild", names=(rebuild,), powers=REBUILDS, load=load)

    def notes(self) -> Iterator[str]:
        """The user's own code that runs."""
        if hasattr(self.cls, "__post_init__"):
            yield "runs __post_init__ on values that a peer chose"


def _rebuild_function() -> Any:
    return sys.modules["msgspec._utils"].rebuild  # imported by whoever made the struct
