"""Types of an imaginary shop, one of each kind that can be allowed."""

from __future__ import annotations

import collections
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)

import attrs
import msgspec
import pydantic

T = TypeVar("T")
Cents = NewType("Cents", int)


class Color(enum.Enum):
    RED = 1
    GREEN = "green"
    PAIR = (1, "two")
    LIST = [1, 2]  # not hashable


class Size(enum.IntEnum):
    S = 1
    L = 2


class Country(enum.StrEnum):
    PT = "pt"
    NO = "no"


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Mode(enum.IntFlag):
    A = 1
    B = 2


@dataclass
class Money:
    amount: Decimal
    currency: str = "EUR"

    def __post_init__(self) -> None:
        if len(self.currency) != 3:
            raise ValueError(f"no currency: {self.currency}")


@dataclass(frozen=True)
class Frozen:
    name: str
    size: int


@dataclass(slots=True)
class Slotted:
    a: int
    b: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    a: int
    b: tuple[int, ...] = ()


@dataclass(kw_only=True)
class Keywords:
    a: int
    b: str = "x"


@dataclass
class Base:
    a: int
    c: int = field(default=0, kw_only=True)


@dataclass
class Derived(Base):
    b: str = "b"


@dataclass(slots=True)
class DerivedSlotted(Base):
    b: str = "b"


@dataclass
class Total:
    price: int
    count: int
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = self.price * self.count


@dataclass
class Cached:
    a: int

    @cached_property
    def twice(self) -> int:
        return 2 * self.a


@dataclass
class Nothing:
    pass


@dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = field(default_factory=list)


@dataclass
class Node:
    value: int
    children: list[Node] = field(default_factory=list)
    parent_name: Optional[str] = None  # both spellings are read


class Point(NamedTuple):
    x: int
    y: float = 0.0


Pair = collections.namedtuple("Pair", ["a", "b"])


class Label(TypedDict):
    text: str
    lang: NotRequired[str]


@dataclass
class Order:
    number: Cents
    items: list[Point]
    price: Decimal | None
    colors: Mapping[Color, Sequence[int]]
    due: date
    kind: Literal["a", "b", 3] = "a"
    labels: list[Label] = field(default_factory=list)
    box: Box[int] | None = None
    note: Annotated[str, "free text"] = ""
    weight: float = 0
    ratio: complex = 0
    fixed: Final[int] = 1
    anything: Any = None
    pairs: tuple[int, str] = (1, "a")
    tags: frozenset[str] = frozenset()
    maybe: dict[str, list[int | None]] = field(default_factory=dict)


@attrs.define
class Crate:
    a: int
    _b: list[int] = attrs.Factory(list)


@attrs.frozen
class Sealed:
    a: int = attrs.field(validator=attrs.validators.gt(0))


@attrs.define(slots=False)
class Loose:
    a: int
    b: str = attrs.field(init=False, default="b")


class Struct(msgspec.Struct):
    a: int
    b: str = "x"


class KeywordStruct(msgspec.Struct, kw_only=True):
    a: int
    b: list[int] = []


class FrozenStruct(msgspec.Struct, frozen=True):
    a: int


class Model(pydantic.BaseModel):
    a: int
    b: list[int] = []
    c: str = pydantic.Field(default="c", alias="sea")


class OpenModel(pydantic.BaseModel, extra="allow"):
    a: int


class OutOfStock(Exception):
    def __init__(self, name: str, left: int = 0) -> None:
        super().__init__(name, left)
        self.name = name
        self.left = left


class Plain(Exception):
    pass


class Temperature:
    def __init__(self, kelvin: float) -> None:
        self.kelvin = kelvin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Temperature) and self.kelvin == other.kelvin

    def __hash__(self) -> int:
        return hash(self.kelvin)


class Outer:
    @dataclass
    class Inner:
        a: int

        class Deepest(enum.Enum):
            ONE = 1


TYPES = (
    Color, Size, Country, Access, Mode, Money, Frozen, Slotted, FrozenSlotted, Keywords, Base, Derived, DerivedSlotted,
    Total, Cached, Nothing, Box, Node, Point, Pair, Label, Order, Crate, Sealed, Loose, Struct, KeywordStruct,
    FrozenStruct, Model, OpenModel, OutOfStock, Plain, ValueError, FileNotFoundError, Outer.Inner, Outer.Inner.Deepest,
)  # fmt: skip


def order(**changes: Any) -> Order:
    """A good one, but for the changes."""
    values: dict[str, Any] = {
        "number": Cents(1), "items": [Point(1, 2.5), Point(3)], "price": Decimal("1.5"),
        "colors": {Color.RED: [1], Color.GREEN: (2, 3)}, "due": date(2027, 1, 31), "labels": [{"text": "x"}],
        "box": Box(1, [2]), "maybe": {"a": [1, None]}, "tags": frozenset({"a"}),
    }  # fmt: skip
    return Order(**values | changes)


def noted() -> ValueError:
    """An exception with a note."""
    error = ValueError("a", 1)
    error.add_note("a note")
    return error


VALUES: list[Any] = [
    *Color, *Size, *Country, *Access, Access.READ | Access.RUN, Access(0), Mode.A | Mode.B,
    Money(Decimal("1.50")), Frozen("a", 1), Slotted(1, ["a"]), FrozenSlotted(1, (2, 3)), Keywords(a=1), Base(1, c=2),
    Derived(1, b="x", c=3), DerivedSlotted(1, "z", c=4), Total(3, 4), Cached(1), Nothing(), Box("a", ["b"]), Box(1.5),
    Node(1, [Node(2), Node(3, [Node(4)])]), Point(1), Point(1, 2.5), Pair(1, [2]), order(), order(price=None, box=None),
    Crate(1, [2]), Sealed(3), Loose(1), Struct(1), KeywordStruct(a=1, b=[2]), FrozenStruct(1), Model(a=1),
    Model(a=1, b=[2], sea="x"), OpenModel(a=1, z=[2]), Outer.Inner(1), Outer.Inner.Deepest.ONE,
    {Frozen("a", 1): 1, Frozen("b", 1): 2}, {Point(1): 1}, {Color.RED, Size.L}, {FrozenSlotted(1), FrozenStruct(2)},
    [Money(Decimal(1))] * 3, {"a": (Frozen("a", 1), [Struct(1)])}, (Access.READ, {"k": Access.WRITE}),
]  # fmt: skip
"""Values that are equal to what is decoded."""

ERRORS: list[Exception] = [
    OutOfStock("nails", 3),
    Plain("a", 1),
    Plain(),
    ValueError("x"),
    noted(),
    FileNotFoundError(2, "no", "f"),
]
