"""Classes made with attrs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sealwire.errors import InvalidValue
from sealwire.pickling.adapters.adapter import Adapter, spelling
from sealwire.pickling.adapters.record import MISSING, Record
from sealwire.pickling.annotations import Types, hints
from sealwire.pickling.grants import NEW, Grant


class AttrsAdapter(Adapter):
    """An instance is its attributes; its validators, converters and ``__attrs_post_init__`` run, and must keep
    what was sent.
    """

    kind = "attrs class"

    def __init__(self, cls: Any, *, shallow: bool = False) -> None:
        found = hints(cls, spelling(cls))
        attributes = cls.__attrs_attrs__
        super().__init__(cls, {each.name: found.get(each.name, each.type or Any) for each in attributes})
        self._shallow: Final = shallow
        self._arguments = [(index, each.alias) for index, each in enumerate(attributes) if each.init]

    def grants(self, types: Types) -> Iterator[Grant]:
        """NEWOBJ, and state in the form that attrs gives it."""
        where, cls, arguments, empty = self.spelling, self.cls, self._arguments, not self.fields

        def construct(*values: Any) -> Any:
            return cls(**{name: values[index] for index, name in arguments})

        record = Record(where, self.checks(types, shallow=self._shallow), construct)

        def load(state: Any = MISSING) -> Any:
            if type(state) is dict:
                return record.make_from(state)
            if state is MISSING and empty:
                return record.make(())
            raise InvalidValue(f"{where}: not exactly its declared fields")

        yield self.grant(NEW, load)

    def notes(self) -> Iterator[str]:
        """The user's own code that runs."""
        if any(each.validator or each.converter for each in self.cls.__attrs_attrs__):
            yield "runs validators and converters on values that a peer chose"
        if not self.cls.__init__.__code__.co_filename.startswith("<attrs generated"):
            yield "runs __init__ on values that a peer chose"
        for name in ("__attrs_pre_init__", "__attrs_post_init__"):
            if hasattr(self.cls, name):
                yield f"runs {name} on values that a peer chose"
