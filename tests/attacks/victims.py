"""Types that an attacker may name: the targets of the pickles in test_pickles.py. Nothing but the standard library."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import NamedTuple

RAN: list[str] = []
"""Code that has run and should not have: a message that is refused must leave this empty."""


@dataclass
class Order:
    item: str
    count: int = 1
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("a negative count")

    def append(self, item: object) -> None:
        RAN.append("Order.append")

    def extend(self, items: object) -> None:
        RAN.append("Order.extend")

    def __setitem__(self, key: object, value: object) -> None:
        RAN.append("Order.__setitem__")

    def delete(self) -> None:
        RAN.append("Order.delete")


@dataclass(frozen=True)
class Account:
    owner: str
    admin: bool = False
    since: date = date(2024, 1, 1)
    balance: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Key:
    number: int


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


class Refused(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


TYPES = (Order, Account, Key, Color, Rights, Point, Refused)


def fingerprint() -> str:
    """Everything of these types that a message could have changed."""
    parts: list[object] = [RAN, sorted(Color.__members__)]
    for cls in TYPES:
        parts += sorted((name, repr(value)) for name, value in vars(cls).items() if name not in _CACHES)
    parts += [(member.name, member.value) for each in (Color, Rights) for member in each]
    parts += [value for value in Rights._value2member_map_ if value & ~3]  # flags that nobody declared
    return repr(parts)


_CACHES = ("__slotnames__", "_value2member_map_")
"""Of copyreg, and of combinations of flags."""
