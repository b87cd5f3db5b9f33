"""Annotations that are read when a type is allowed: what they accept, and which cannot be checked."""

from __future__ import annotations

import abc
import collections.abc
import os
import pickle
import typing
from dataclasses import dataclass, field, make_dataclass
from typing import Any, ClassVar, Generic, NewType, Protocol, TypeVar

import numpy as np
import pytest
import typing_extensions

from pickling import shop
from sealwire import Allowlist, Codec, ConfigurationError, InvalidValue

T = TypeVar("T")
Small = TypeVar("Small", int, str)
Shape = TypeVar("Shape", bound=shop.Frozen)
UserId = NewType("UserId", int)


Alias = typing_extensions.TypeAliasType("Alias", int | list[int])
"""As ``type Alias = int | list[int]`` makes it from Python 3.12 on."""
Listed = typing_extensions.TypeAliasType("Listed", list[T], type_params=(T,))
SomeFloat = typing_extensions.TypeAliasType("SomeFloat", np.dtype[np.floating])
Floats = typing_extensions.TypeAliasType("Floats", np.ndarray[Any, SomeFloat])


class Tree(typing.TypedDict):
    value: int
    children: typing.NotRequired[list[Tree]]


class Unfriendly(abc.ABCMeta):
    def __subclasscheck__(cls, subclass: type) -> bool:
        raise TypeError


class Closed(metaclass=Unfriendly):
    pass


class Named(Protocol):
    name: str


@dataclass
class Held(Generic[Small]):
    content: Small


@dataclass
class Pictured(Generic[Shape]):
    shape: Shape


@dataclass
class Lists(Generic[T]):
    items: list[T]
    inner: Held[int] | None = None
    by_name: dict[str, list[T]] = field(default_factory=dict)


@dataclass
class Ordered:
    lists: Lists[UserId]
    pair: tuple[int, str]
    anything: dict[Any, Any]
    nothing: None = None


@dataclass
class Aliased:
    alias: Alias = 1
    listed: Listed[int] = field(default_factory=list)
    tree: Tree | None = None
    nothing: tuple[int, None] = (1, None)
    mixed: list[int | list[str]] = field(default_factory=list)


@dataclass
class Arrays(Generic[T]):
    floats: Floats | None = None
    doubles: np.ndarray[Any, np.dtypes.Float64DType] | None = None
    anything: np.ndarray[Any, Any] | None = None
    some: np.ndarray[Any, np.dtype[T]] | None = None


CODEC = Codec(Allowlist(Aliased, Arrays, np.ndarray, Held, Pictured, Lists, Ordered, shop.Frozen))
GOOD: list[Any] = [
    Held(1),
    Held("x"),
    Pictured(shop.Frozen("a", 1)),
    Lists([1, "x", None]),
    Lists([], Held(3)),
    Aliased([1, 2], [3], {"value": 1, "children": [{"value": 2}]}, (1, None), [1, ["a"], 2]),
    Ordered(Lists([UserId(1)], None, {"a": [UserId(2)]}), (1, "x"), {1: [2]}),
]
BAD: dict[str, tuple[Any, str]] = {
    "a constraint": (Held(1.5), r"\$\.content"),
    "a bound": (Pictured(1), r"\$\.shape"),
    "what a variable stands for": (Ordered(Lists(["x"]), (1, "x"), {}), r"\$\.lists\.items"),
    "deeper": (Ordered(Lists([], None, {"a": ["x"]}), (1, "x"), {}), r"\$\.lists\.by_name"),
    "a list for a mapping of lists": (Lists([], None, []), r"\$\.by_name"),
    "a variable of a field's type": (Lists([], Held("x")), r"\$\.inner"),
    "another length": (Ordered(Lists([]), (1, "x", 2), {}), r"\$\.pair"),
    "a list for a tuple": (Ordered(Lists([]), [1, "x"], {}), r"\$\.pair"),
    "a list for a mapping": (Ordered(Lists([]), (1, "x"), []), r"\$\.anything"),
    "an alias": (Aliased("x"), r"\$\.alias"),
    "an alias with an argument": (Aliased(1, ["x"]), r"\$\.listed\[0\]"),
    "a tree": (Aliased(1, [], {"value": 1, "children": [{"value": "x"}]}), r"\$\.tree"),
    "after good ones": (Aliased(1, [], None, (1, None), [1, ["a"], [2]]), r"\$\.mixed"),
    "an array of another type": (Arrays(np.zeros(2, "i4")), r"\$\.floats"),
    "an array of another dtype": (Arrays(None, np.zeros(2, "f4")), r"\$\.doubles"),
    "something for None": (Ordered(Lists([]), (1, "x"), {}, 0), r"\$\.nothing"),
}


@pytest.mark.parametrize("value", GOOD, ids=repr)
def test_accepted(value: Any) -> None:
    assert CODEC.decode(pickle.dumps(value, 5)) == CODEC.decode(CODEC.encode(value)) == value


@pytest.mark.parametrize(("value", "path"), BAD.values(), ids=BAD)
def test_refused_with_the_path(value: Any, path: str) -> None:
    with pytest.raises(InvalidValue, match=path):
        CODEC.decode(pickle.dumps(value, 5))


UNCHECKABLE: dict[str, Any] = {
    "a protocol": Named,
    "a class of classes": type[int],
    "a function": collections.abc.Callable[[int], int],
    "an unpacked tuple": tuple[int, *tuple[str, ...]],
    "an iterator": collections.abc.Iterator,
    "a generic of two": collections.abc.Generator[int, str, None],
    "a special form": typing.LiteralString,
    "no value": typing.Never,
    "a literal of a type variable tuple": typing.Unpack[tuple[int, ...]],
    "a path": os.PathLike[str],
    "an array of what is no dtype": np.ndarray[Any, int],
    "a class that does not say what is of it": Closed,
    "an awaitable": collections.abc.Awaitable[int],
    "a text that is no annotation": "list[",
    "a name that is not there": "NotThere",
    "a class without values here": shop.Money,
}


@pytest.mark.parametrize("annotation", UNCHECKABLE.values(), ids=UNCHECKABLE)
def test_what_cannot_be_checked(monkeypatch: pytest.MonkeyPatch, annotation: Any) -> None:
    cls = make_dataclass("Made", [("field", annotation)], namespace={"__module__": __name__})
    monkeypatch.setitem(globals(), "Made", cls)
    with pytest.raises(ConfigurationError, match=r"Made(\.field)?: (?!there)"):
        Codec(Allowlist(cls, np.ndarray))


def test_arrays_by_annotation() -> None:
    value = Arrays(np.ones(2, "f4"), np.ones(2), np.ones(2, "i2"), np.ones(1))
    found = CODEC.decode(CODEC.encode(value))
    assert [each.dtype.str[1:] for each in vars(found).values()] == ["f4", "f8", "i2", "f8"]


def test_class_variables_are_not_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = make_dataclass("Counted", [("a", int), ("count", ClassVar[type[int]])], namespace={"__module__": __name__})
    monkeypatch.setitem(globals(), "Counted", cls)
    assert Codec(Allowlist(cls)).decode(pickle.dumps(cls(1), 5)) == cls(1)


@dataclass
class Grouped:
    numbers: collections.defaultdict[str, list[int]]
    anything: typing.Mapping[str, Any] = field(default_factory=dict)


def test_factories_that_make_other_values_than_are_declared() -> None:
    codec = Codec(Allowlist(Grouped))
    for factory in (None, list):
        assert codec.decode(pickle.dumps(Grouped(collections.defaultdict(factory, x=[1])))).numbers["x"] == [1]
    for other in (int, dict, tuple, collections.deque):
        made = Grouped(collections.defaultdict(other, x=[1]))
        with pytest.raises(InvalidValue, match=r"^\$\.numbers: .* with a factory of its values or None, got "):
            codec.decode(pickle.dumps(made))
        free = Grouped(collections.defaultdict(list), collections.defaultdict(other))
        assert codec.decode(pickle.dumps(free)).anything.default_factory is other


@dataclass
class Bare:
    of_any: typing.List | typing.Dict | typing.Tuple | typing.Mapping | typing.FrozenSet | None  # in its old form
    empty: typing.Tuple[()] = ()


def test_old_names_without_arguments() -> None:
    codec = Codec(Allowlist(Bare))
    for value in ([1, "x"], {"x": 1}, (1, "x"), frozenset([1]), None):
        assert codec.decode(pickle.dumps(Bare(value))) == Bare(value)
    for other in (Bare({1}), Bare(None, (1,))):
        with pytest.raises(InvalidValue, match="expected "):
            codec.decode(pickle.dumps(other))


class Hooked(abc.ABCMeta):
    def __subclasscheck__(cls, subclass: type) -> bool:
        raise RuntimeError


class Answers(metaclass=Hooked):
    pass


def test_the_class_that_is_missing_is_named_without_its_arguments() -> None:
    for annotation, why in (
        (np.ndarray[Any, np.dtype[np.int32]], r"numpy\.ndarray is not on the allowlist"),
        (collections.abc.Iterator[int], r"collections\.abc\.Iterator is not on the allowlist"),
        (Answers, "Answers cannot be checked"),
    ):
        cls = make_dataclass("Made", [("value", annotation)], namespace={"__module__": __name__})
        globals()["Made"] = cls
        with pytest.raises(ConfigurationError, match=why):
            Codec(Allowlist(cls))


class Address(typing.TypedDict):
    street: str
    note: typing.NotRequired[str]


@dataclass
class Letter:
    address: Address
    size: tuple[int, int] = (1, 2)


def test_keys_more_or_less_are_named() -> None:
    codec = Codec(Allowlist(Letter))
    for value, why in (
        (Letter({"note": "x", "town\n": 1}), r"Address, got dict, but it lacks street and it has town\\n as well"),
        (
            Letter({"street": "x", **dict.fromkeys("abcdef", 1)}),
            "got dict, but it has a, b, c, d, e and others as well",
        ),
        (Letter({"street": "x"}, (1, 2, 3)), r"expected tuple\[int, int\], got tuple of 3 items"),
        (Letter({"street": "x"}, [1, 2]), r"expected tuple\[int, int\], got list"),
        (Letter([]), "Address, got list"),
    ):
        with pytest.raises(InvalidValue, match=f"{why}$"):
            codec.decode(pickle.dumps(value))
