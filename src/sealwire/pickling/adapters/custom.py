"""Other types, by a pair of functions that are registered for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from sealwire.errors import InvalidValue
from sealwire.pickling.adapters.base import Adapter
from sealwire.pickling.adapters.record import built
from sealwire.pickling.annotations import Types
from sealwire.pickling.globals import CALL, CALL_EMPTY, DEFERRED, GlobalRule


class CustomAdapter(Adapter):
    """Takes a value apart by ``dump(value)``, into a tuple of accepted values, and makes it again by ``load(*parts)``.

    On the wire this is a call of the type with those parts, as for a ``__reduce__`` that returns ``(cls, parts)``.
    Therefore ``load`` also reads plain pickles of a type that has such a ``__reduce__``.
    """

    kind = "adapter"

    def __init__(self, cls: type, dump: Callable[[Any], tuple[Any, ...]], load: Callable[..., Any]) -> None:
        super().__init__(cls)
        self._dump: Final = dump
        self._load: Final = load

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """REDUCE with the parts."""
        del types
        cls, load, name = self.cls, self._load, self.qualified_name

        def made(*parts: Any) -> Any:
            value = built(name, load, *parts)
            if type(value) is not cls:
                raise InvalidValue(f"{name}: load returned a value of another type")
            return value

        yield self.rule(CALL | CALL_EMPTY | DEFERRED, made, memory=512)

    def parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield the parts that dump returns."""
        for index, part in enumerate(self._dump(value)):
            yield f".<part {index}>", part

    def reduce(self, value: Any) -> Any:
        """Reduce a value to a call of the type."""
        parts = self._dump(value)
        if type(parts) is not tuple:
            raise TypeError(f"{self.qualified_name}: dump must return a tuple, not {type(parts).__name__}")
        return self.cls, parts

    def notes(self) -> Iterator[str]:
        """Yield which code runs."""
        yield "runs load on values that a peer chose"
