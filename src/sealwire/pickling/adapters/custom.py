"""Any other type, through a pair of functions that its user gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from sealwire.errors import InvalidValue
from sealwire.pickling.adapters.adapter import Adapter
from sealwire.pickling.adapters.record import built
from sealwire.pickling.annotations import Types
from sealwire.pickling.grants import CALL, CALL_EMPTY, DEFERRED, Grant


class CustomAdapter(Adapter):
    """``dump(value)`` gives a tuple of accepted values, and ``load(*parts)`` makes the value again.

    On the wire that is a call of the type with those parts, as a ``__reduce__`` that returns ``(cls, parts)`` would
    write it; so a plain pickle of a type that has such a ``__reduce__`` is read by ``load`` as well.
    """

    kind = "adapter"

    def __init__(self, cls: type, dump: Callable[[Any], tuple[Any, ...]], load: Callable[..., Any]) -> None:
        super().__init__(cls)
        self._dump: Final = dump
        self._load: Final = load

    def grants(self, types: Types) -> Iterator[Grant]:
        """REDUCE with the parts."""
        del types
        cls, load, where = self.cls, self._load, self.spelling

        def made(*parts: Any) -> Any:
            value = built(where, load, *parts)
            if type(value) is not cls:
                raise InvalidValue(f"{where}: load returned a value of another type")
            return value

        yield self.grant(CALL | CALL_EMPTY | DEFERRED, made, memory=512)

    def parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        """What dump gives."""
        for index, part in enumerate(self._dump(value)):
            yield f".<part {index}>", part

    def reduce(self, value: Any) -> Any:
        """A call of the type."""
        parts = self._dump(value)
        if type(parts) is not tuple:
            raise TypeError(f"{self.spelling}: dump must return a tuple, not {type(parts).__name__}")
        return self.cls, parts

    def notes(self) -> Iterator[str]:
        """The user's own code that runs."""
        yield "runs load on values that a peer chose"
