"""Handlers and types whose signatures the tests read."""

from __future__ import annotations

import enum
import functools
from abc import ABC
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NewType, NoReturn, TypedDict, TypeVar

import attrs
import msgspec
import numpy as np
import pydantic

from sealwire import RequestHandler, Service

if TYPE_CHECKING:
    from pickling.shop import Money as Unseen

T = TypeVar("T")


class Status(enum.Enum):
    NEW = "new"


@dataclass
class Item:
    name: str
    price: Decimal


@dataclass
class Box(Generic[T]):
    inside: T


@dataclass
class Deep:
    number: int


@attrs.define
class Note:
    text: str


class Labels(TypedDict):
    note: Note


class Point(msgspec.Struct):
    x: int
    weights: np.ndarray[Any, Any] | None = None


class Inner(pydantic.BaseModel):
    number: int


class Model(pydantic.BaseModel):
    name: str | None = None
    inner: list[Inner] = []


class Lost(Exception):
    note: Note

    def __init__(self, where: Point) -> None:
        super().__init__(where)


@dataclass
class Order:
    items: list[Item]
    status: Status = Status.NEW
    then: Order | None = None
    box: Box[Deep] | None = None
    labels: dict[str, Labels] = field(default_factory=dict)


@dataclass
class Special(Order):
    """Listed by none of the handlers here."""


@dataclass
class Cancel:
    number: int


@dataclass
class Receipt:
    total: Decimal


class Plain:
    def __init__(self, number: int) -> None:
        self.number = number


class Shape(ABC):  # noqa: B024 - has no methods here
    pass


@dataclass
class Circle(Shape):
    radius: int


Alias = NewType("Alias", Cancel)


class Orders(RequestHandler):
    def respond(self, message: Order | Cancel) -> Receipt | None:
        return None


class Shop(Service):
    def place(self, message: Order) -> Receipt:
        return Receipt(sum((item.price for item in message.items), Decimal(0)))

    def cancel(self, wanted: Cancel) -> None:
        return None

    def _helper(self) -> None:
        return None

    @staticmethod
    def of_no_message(number: str) -> str:
        return number


class Unannotated(RequestHandler):
    def respond(self, message):
        return message


class ByHand(RequestHandler):
    def handle(self) -> None:
        return None


class Static(RequestHandler):
    @staticmethod
    def respond(message: Cancel) -> int:
        return message.number


class Called:
    def __call__(self, message: Cancel) -> Receipt:
        return Receipt(Decimal(message.number))


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


@decorated
def wrapped(message: Cancel) -> Receipt:
    return Receipt(Decimal(message.number))


def with_context(message: Cancel, context: Unseen) -> Receipt:
    return Receipt(Decimal(message.number))


async def coroutine(message: "Cancel") -> "Receipt":  # a str in the str
    return Receipt(Decimal(message.number))


def generated(message: Cancel) -> Iterator[Receipt]:
    yield Receipt(Decimal(message.number))


def progress(message: Cancel) -> Generator[int, None, Receipt]:
    yield 1
    return Receipt(Decimal(message.number))


async def generated_on_the_loop(message: Cancel) -> AsyncIterator[Receipt]:
    yield Receipt(Decimal(message.number))


def iterable(message: Iterator[Cancel]) -> Iterable[Receipt]:
    yield from (Receipt(Decimal(each.number)) for each in message)


def a_list(message: Sequence[Cancel]) -> Iterable[Receipt]:
    return [Receipt(Decimal(each.number)) for each in message]


def forms(
    message: Annotated[Alias, "x"] | dict[str, tuple[Item, ...]] | Literal[Status.NEW] | Labels | date | Model | Lost,
) -> NoReturn:
    raise NotImplementedError


def shapes(message: Shape) -> np.ndarray[Any, Any] | memoryview:
    return np.zeros(1)


def plain(message: Plain) -> Any:
    return None


def unseen(message: Unseen) -> None:
    return None


def a_class(message: type[Order]) -> None:
    return None
