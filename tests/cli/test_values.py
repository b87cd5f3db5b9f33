"""Values of allowed types out of JSON."""

from __future__ import annotations

import datetime
import ipaddress
import json
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

from sealwire import Allowlist, Codec
from sealwire.cli.replies import as_json
from sealwire.cli.texts import Number
from sealwire.cli.values import Builder
from sealwire.errors import InvalidValue

T = TypeVar("T")
Cents = NewType("Cents", int)


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Size(IntEnum):
    SMALL = 1


class Extras(Flag):
    LID = 1
    BAG = 2


class Place(NamedTuple):
    shelf: int
    room: str = "cellar"


class Note(TypedDict):
    text: str
    at: datetime.date


@dataclass
class Item:
    name: str
    price: Decimal
    colour: Colour = Colour.RED


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    id: int
    items: list[Item] = field(default_factory=list)
    at: datetime.datetime | None = None
    token: bytes = b""
    place: Place | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    note: Note | None = None
    cents: Cents = Cents(0)
    kind: Literal["gift", 3] = "gift"
    parts: tuple[int, uuid.UUID] | None = None


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Crate:
    dates: Box[datetime.date]
    either: Item | Place | int | None = None
    several: Sequence[Annotated[datetime.time, "local"]] = ()


@attrs.define
class Parcel:
    id: int
    sent: datetime.date


class Packet(msgspec.Struct):
    id: int
    network: ipaddress.IPv4Network


class Letter(pydantic.BaseModel):
    id: int
    address: ipaddress.IPv4Address


class Money:
    def __init__(self, amount: int, currency: str) -> None:
        self.amount, self.currency = amount, currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(other) == vars(self)

    __hash__ = None


ALLOWED = Allowlist(Order, Item, Colour, Size, Extras, Place, Crate, Box, Parcel, Packet, Letter)
ALLOWED.register(Money, dump=lambda money: (money.amount, money.currency), load=Money)
CODEC = Codec(ALLOWED)
HERE = __name__


def build(value: Any, cls: Any = Any) -> Any:
    return Builder(ALLOWED).build(json.loads(json.dumps(value), parse_float=Number), cls)


ORDER = Order(
    id=1,
    items=[Item("tea", Decimal("12.50"), Colour.GREEN)],
    at=datetime.datetime(2026, 11, 24, 8, tzinfo=datetime.UTC),
    token=b"\0\xff",
    place=Place(3, "attic"),
    weights={"gross": 1.0, "net": 0.5},
    note={"text": "ä", "at": datetime.date(2026, 1, 2)},
    cents=Cents(5),
    kind=3,
    parts=(1, uuid.UUID(int=1)),
)


@pytest.mark.parametrize(
    "value",
    [
        ORDER,
        Crate(Box(datetime.date(2026, 1, 2)), Item("tea", Decimal(1)), [datetime.time(8, 30)]),
        Parcel(1, datetime.date(2026, 1, 2)),
        Packet(1, ipaddress.IPv4Network("10.0.0.0/8")),
        Letter(id=1, address=ipaddress.IPv4Address("10.0.0.1")),
        Place(1),
    ],
)
def test_what_a_reply_prints_can_be_sent(value: Any) -> None:
    said = as_json(value)
    if isinstance(value, Crate):
        said["either"] |= {"$type": f"{HERE}:Item"}
    made = build(said, type(value))
    assert made == value
    assert CODEC.decode(CODEC.encode(made)) == value


def test_defaults_may_be_left_out() -> None:
    assert build({"$type": f"{HERE}:Order", "id": 7}) == Order(id=7)


def test_types_inside_plain_data() -> None:
    made = build([{"$type": f"{HERE}:Item", "name": "tea", "price": 12.50}, {"a": 0.1}])
    assert made == [Item("tea", Decimal("12.50")), {"a": 0.1}]
    assert type(made[1]["a"]) is float


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("decimal:Decimal", "1E+3", Decimal("1E+3")),
        ("decimal:Decimal", 0.1, Decimal("0.1")),
        ("datetime:timedelta", "1 day, 0:00:02.5", datetime.timedelta(days=1, seconds=2.5)),
        ("datetime:timedelta", str(datetime.timedelta(seconds=-1)), datetime.timedelta(seconds=-1)),
        ("datetime:timedelta", 1.5, datetime.timedelta(seconds=1.5)),
        ("fractions:Fraction", "1/3", Fraction(1, 3)),
        ("builtins:complex", "(1+2j)", 1 + 2j),
        ("builtins:bytearray", "AA==", bytearray(b"\0")),
        ("builtins:float", "-inf", float("-inf")),
        ("builtins:set", [1, 2], {1, 2}),
        ("builtins:tuple", [1, [2]], (1, [2])),
        ("builtins:dict", [[1, "a"], ["1", "b"]], {1: "a", "1": "b"}),
        ("collections:deque", [1], deque([1])),
        ("collections:OrderedDict", {"a": 1}, OrderedDict(a=1)),
        ("collections:Counter", {"a": 2}, Counter("aa")),
        ("pathlib:PosixPath", "/etc", Path("/etc")),
        ("zoneinfo:ZoneInfo", "Europe/Berlin", ZoneInfo("Europe/Berlin")),
        (f"{HERE}:Colour", "Colour.RED", Colour.RED),
        (f"{HERE}:Colour", "GREEN", Colour.GREEN),
        (f"{HERE}:Colour", "green", Colour.GREEN),
        (f"{HERE}:Size", 1, Size.SMALL),
        (f"{HERE}:Extras", "LID|BAG", Extras.LID | Extras.BAG),
        (f"{HERE}:Extras", 3, Extras.LID | Extras.BAG),
        (f"{HERE}:Money", [5, "EUR"], Money(5, "EUR")),
    ],
)
def test_values_without_fields(name: str, value: Any, expected: Any) -> None:
    made = build({"$type": name, "$value": value})
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("cls", "value", "says"),
    [
        (Any, {"$type": "os:system"}, "os:system is not a type of the configuration's allowlist, which has "),
        (Any, {"$type": 5}, "$type is not the name of a type of the configuration's allowlist"),
        (Order, {}, f"{HERE}.Order lacks id"),
        (Order, {"id": 1, "ids": 2}, f"{HERE}.Order has no field 'ids'; it has id, items, at, "),
        (Order, {"id": "1"}, "$.id: expected a whole number, got a string"),
        (Order, {"id": True}, "$.id: expected a whole number, got true"),
        (Order, [1], f"expected an object with the fields of {HERE}.Order: id, items, "),
        (Order, {"id": 1, "items": {}}, "$.items: expected an array, got an object"),
        (Order, {"id": 1, "items": [{"name": "t", "price": "x"}]}, '$.items[0].price: expected a decimal number, like'),
        (Order, {"id": 1, "at": "yesterday"}, '$.at: expected a date and time, like "2026-'),
        (Order, {"id": 1, "token": "?"}, "$.token: expected base64, got a string"),
        (Order, {"id": 1, "kind": 4}, "$.kind: expected Literal['gift', 3], got a whole number"),
        (Order, {"id": 1, "parts": [1]}, "$.parts: expected an array of 2, got one of 1"),
        (Order, {"id": 1, "note": {"txt": ""}}, "$.note: it has no field 'txt'; it has text, at"),
        (Order, {"id": 1, "place": [1, "a", 2]}, "$.place: expected at most 2 items"),
        (Item, {"name": "t", "price": "1", "colour": "BLUE"}, "$.colour: expected a member of Colour: RED, GREEN, got"),
        (Crate, {"dates": {"content": 1}}, '$.dates.content: expected a date, like "2026-11-24", got a whole number'),
        (Crate, {"dates": {"content": "2026-01-02"}, "either": {}}, '$.either: expected an object with "$type", as it'),
        (Crate, {"dates": {"content": "2026-01-02"}, "either": "x"}, "$.either: expected "),
        (Letter, {"id": 1, "address": "x"}, "$.address: expected an IPv4 address"),
        (set[Any], [[1]], "an array or object cannot be a key, or in a set"),
    ],
)  # fmt: skip
def test_errors_name_the_field_and_what_was_wanted(cls: Any, value: Any, says: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        build(value, cls)
    assert says in str(raised.value)


def test_errors_show_no_values() -> None:
    with pytest.raises(InvalidValue) as raised:
        build({"id": "secret"}, Order)
    assert "secret" not in str(raised.value)


def test_a_group_that_is_switched_off_is_not_made() -> None:
    with pytest.raises(InvalidValue, match="decimal:Decimal is not a type of the configuration's allowlist"):
        Builder(Allowlist(without=["numbers"])).build({"$type": "decimal:Decimal", "$value": "1"})
