"""Enumerations: members are looked up by value, flags are combinations of known bits."""

from __future__ import annotations

import enum
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import compress
from typing import Any, Final

from sealwire.errors import ConfigurationError, InvalidValue
from sealwire.pickling.adapters.base import Adapter, qualified_name
from sealwire.pickling.adapters.record import built
from sealwire.pickling.adapters.same import same
from sealwire.pickling.adapters.shapes import MEMBER, Shape, enum_members
from sealwire.pickling.annotations import Types
from sealwire.pickling.globals import CALL, DEFERRED, LEAVES, GlobalRule

MAX_COMBINATIONS: Final = 4096
"""Combinations of one flag type that messages made, above which those that are no longer in use are forgotten."""


class _Probe(enum.Enum):
    MEMBER = 0


_WRITTEN_BY_NAME: Final = _Probe.MEMBER.__reduce_ex__(5)[0] is getattr
"""True on CPython 3.11.0 to 3.11.3, where the pickle of a member is a call of ``getattr``."""


class EnumAdapter(Adapter):
    """``Enum``, ``IntEnum`` and ``StrEnum``. Members are never made, and ``_missing_`` is not called."""

    kind = "enum"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        if not len(cls):
            raise ConfigurationError(f"{qualified_name(cls)} has no members")

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """REDUCE with the member's value."""
        for member in self.cls:
            kind = _foreign_type(member.value, types.all)
            if kind is not None:
                raise ConfigurationError(
                    f"{self.qualified_name}.{member.name} can never be sent: its value has the type "
                    f"{qualified_name(kind)}, which is not on the allowlist; give it another value, or allow the type"
                )
        # Values are compared by type as well: True is not the member of value 1.
        hashable: dict[tuple[type, Any], Any] = {}
        others: list[tuple[Any, Any]] = []
        for member in self.cls:
            value = member.value
            try:
                hashable[type(value), value] = member
            except TypeError:
                others.append((value, member))
        name = self.qualified_name

        def load(*arguments: Any) -> Any:
            if len(arguments) == 1:
                value = arguments[0]
                try:
                    member = hashable.get((type(value), value))
                except TypeError:
                    member = None
                if member is not None and same(value, member.value):
                    return member
                for known, member in others:
                    if same(value, known):
                        return member
            raise InvalidValue(f"{name}: not the value of a member")

        # A member's value may be of a configured type itself.
        plain = all(map(_is_plain, (member.value for member in self.cls)))
        members = enum_members(self.cls, load) if plain else None
        shape = None if members is None else Shape(self.cls, MEMBER, {}, is_called=True, members=members)
        permissions = CALL if plain else CALL | DEFERRED
        yield self.rule(permissions, lambda *arguments: built(name, load, *arguments), shape=shape)

    def reduce(self, value: Any) -> Any:
        """Reduce a member to its value, on every CPython."""
        return (self.cls, (value.value,)) if _WRITTEN_BY_NAME else NotImplemented

    def parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield nothing: a member is one value."""
        del value
        return iter(())


class FlagAdapter(EnumAdapter):
    """``Flag`` and ``IntFlag``."""

    kind = "flag"

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """REDUCE with the bits."""
        del types
        cls: Any = self.cls
        name = self.qualified_name
        known = {member.value: member for member in cls.__members__.values()}
        bits = 0
        for value in known:
            bits |= value
        combinations = _Combinations(cls)

        def load(*arguments: Any) -> Any:
            value = arguments[0] if len(arguments) == 1 else None
            if type(value) is not int or value & ~bits or value < 0:
                raise InvalidValue(f"{name}: not a combination of its flags")
            member = known.get(value)
            return combinations.member(value) if member is None else member

        # Making a combination takes time for each flag.
        memory = 2048 + 64 * len(known)
        yield self.rule(CALL, lambda *arguments: built(name, load, *arguments), memory=memory)


_TABLE: Final = {0: object()}
_IN_NO_USE: Final = next(map(sys.getrefcount, map(_TABLE.get, (0,))))
"""The references to a value that only a table has, as :meth:`_Combinations._forget` counts them."""


class _Combinations:
    """Combinations of the flags of one type.

    Flags are compared by identity, so that CPython keeps each combination in a table of the class, for ever; a type of
    30 flags has 2**30. Those that messages made are taken out of it when nothing else refers to them, so that no peer
    can fill the table, or use up what others may have of it.
    """

    def __init__(self, cls: Any) -> None:
        self._cls: Final = cls
        self._values: set[int] = set()
        self._room = MAX_COMBINATIONS

    def member(self, value: int) -> Any:
        """Return the combination of these bits."""
        member = self._cls._value2member_map_.get(value)
        if member is None:
            if len(self._values) >= self._room:
                self._forget()
            member = self._cls(value)
            self._values.add(value)
        return member

    def _forget(self) -> None:
        members = self._cls._value2member_map_
        values = list(self._values)
        # All of it is one call in C: no other thread can take a combination between the count and the removal.
        are_unused = map(_IN_NO_USE.__eq__, map(sys.getrefcount, map(members.get, values)))
        deque(map(members.pop, compress(values, are_unused)), maxlen=0)
        self._values.difference_update([value for value in values if value not in members])
        self._room = max(MAX_COMBINATIONS, 2 * len(self._values))


def _foreign_type(value: Any, known: Collection[type]) -> type | None:
    """Return the type of a part of a value that no message can contain, or None."""
    kind = type(value)
    if kind not in known:
        return kind
    parts: Iterable[Any] = value if kind in (list, tuple, set, frozenset) else ()
    if kind is dict:
        parts = (*value, *value.values())
    return next((found for part in parts if (found := _foreign_type(part, known)) is not None), None)


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if type(value) is tuple else type(value) in LEAVES
