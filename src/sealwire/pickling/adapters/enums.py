"""Enumerations: members by look-up, flags of known bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sealwire.errors import ConfigurationError, InvalidValue
from sealwire.pickling.adapters.adapter import Adapter, spelling
from sealwire.pickling.adapters.record import built
from sealwire.pickling.annotations import Types
from sealwire.pickling.grants import CALL, DEFERRED, LEAVES, Grant

MAX_COMBINATIONS: Final = 4096
"""Combinations of flags of one type that messages may bring into being. CPython keeps each for ever, since flags are
compared by identity; a type of 30 flags has 2**30."""


class EnumAdapter(Adapter):
    """``Enum``, ``IntEnum``, ``StrEnum``: no member is made, ``_missing_`` is not asked."""

    kind = "enum"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        if not len(cls):
            raise ConfigurationError(f"{spelling(cls)} has no members")

    def grants(self, types: Types) -> Iterator[Grant]:
        """REDUCE with the member's value."""
        del types
        # Values are compared by type as well: True is not the member of value 1.
        hashable: dict[tuple[type, Any], Any] = {}
        others: list[tuple[Any, Any]] = []
        for member in self.cls:
            value = member.value
            try:
                hashable[type(value), value] = member
            except TypeError:
                others.append((value, member))
        where = self.spelling

        def load(*arguments: Any) -> Any:
            if len(arguments) == 1:
                value = arguments[0]
                try:
                    member = hashable.get((type(value), value))
                except TypeError:
                    member = None
                if member is not None:
                    return member
                for known, member in others:
                    if type(known) is type(value) and known == value:
                        return member
            raise InvalidValue(f"{where}: not the value of a member")

        # A member's value may be of a configured type itself.
        plain = all(map(_is_plain, (member.value for member in self.cls)))
        yield self.grant(CALL if plain else CALL | DEFERRED, lambda *arguments: built(where, load, *arguments))

    def parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        """None: a member is one value."""
        del value
        return iter(())


class FlagAdapter(EnumAdapter):
    """``Flag`` and ``IntFlag``."""

    kind = "flag"

    def grants(self, types: Types) -> Iterator[Grant]:
        """REDUCE with the bits."""
        del types
        cls: Any = self.cls
        where = self.spelling
        known = {member.value: member for member in cls.__members__.values()}
        bits = 0
        for value in known:
            bits |= value
        made: dict[int, Any] = {}

        def load(*arguments: Any) -> Any:
            value = arguments[0] if len(arguments) == 1 else None
            if type(value) is not int or value & ~bits or value < 0:
                raise InvalidValue(f"{where}: not a combination of its flags")
            member = known.get(value)
            if member is None:
                member = made.get(value)
            if member is None:
                if len(made) >= MAX_COMBINATIONS and value not in cls._value2member_map_:
                    raise InvalidValue(f"{where}: more than {MAX_COMBINATIONS} combinations of its flags")
                member = made[value] = cls(value)
            return member

        yield self.grant(CALL, lambda *arguments: built(where, load, *arguments))


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if type(value) is tuple else type(value) in LEAVES
