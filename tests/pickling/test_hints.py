"""Annotations of generic bases, and annotations that contain themselves."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, NotRequired, Self, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest
import typing_extensions

from sealwire import Allowlist, Codec, ConfigurationError, InvalidValue
from sealwire.pickling.hints import hints

T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = field(default_factory=list)


@dataclass
class IntBox(Box[int]):
    pass


@dataclass
class Below(IntBox):
    size: int = 0


@dataclass
class Lists(Box[list[T]], Generic[T]):
    last: T | None = None


@dataclass
class IntLists(Lists[int]):
    pass


@dataclass
class Again(Box[int], Generic[T]):
    content: T  # another variable of the same name, as people write it


@dataclass
class Pair(Generic[T, U]):
    first: T
    second: U


@dataclass
class Swapped(Pair[U, T]):
    pass


@dataclass
class TextFirst(Swapped[str, int]):
    pass


@dataclass
class Unbound(Box):  # as people write it
    pass


class StructBox(msgspec.Struct, Generic[T]):
    content: T


class IntStruct(StructBox[int]):
    pass


@attrs.define
class AttrsBox(Generic[T]):
    content: T


@attrs.define
class IntAttrs(AttrsBox[int]):
    pass


class TupleBox(NamedTuple, Generic[T]):
    content: T


class IntTuple(TupleBox[int]):
    pass


class DictBox(TypedDict, Generic[T]):
    content: T
    inner: NotRequired[DictBox[T]]


class IntDict(DictBox[int]):
    note: str


class BelowDict(IntDict):
    pass


class ModelBox(pydantic.BaseModel, Generic[T]):
    content: T


class IntModel(ModelBox[int]):
    pass


@dataclass
class Dicts:
    box: DictBox[int] | None = None
    named: IntDict | None = None


@dataclass
class Nested:
    box: Box[int]


@dataclass
class Tree(Generic[T]):
    value: T
    children: list[Tree[T]] = field(default_factory=list)


@dataclass
class Forest:
    trees: list[Tree[int]]
    more: list[Tree[int]] = field(default_factory=list)


Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]
Alias = typing_extensions.TypeAliasType("Alias", "int | list[Alias]")
Deep = typing_extensions.TypeAliasType("Deep", "T | list[Deep[T]]", type_params=(T,))


@dataclass
class Recursive:
    json: Json = None  # as people write it
    value: pydantic.JsonValue = None
    alias: Alias = 0
    deep: Deep[int] = 0
    itself: Self | None = None
    unhashable: Box[Annotated[int, []]] = field(default_factory=lambda: Box(1))


@dataclass
class Endless(Generic[T]):
    inner: Endless[list[T]] | None = None


@dataclass
class OfEndless:
    endless: Endless[int]


@dataclass
class OfBelow:
    box: BelowDict


TYPES = (
    Box, IntBox, Below, Lists, IntLists, Again, TextFirst, Unbound, IntStruct, IntAttrs, IntTuple, IntModel, Dicts,
    Nested, Tree, Forest, Recursive,
)  # fmt: skip
CODEC = Codec(Allowlist(*TYPES))


@pytest.mark.parametrize(
    "value",
    [
        IntBox(1, [2]), Below(1, [2], 3), Lists(["x"], [[1.5]], None), IntLists([1], [[2]], 3), Again("x", [1]),
        TextFirst("x", 1), Unbound("x"), IntStruct(1), IntAttrs(1), IntTuple(1), IntModel(content=1), Nested(Box(1)),
        Nested(IntBox(1)), Dicts({"content": 1, "inner": {"content": 2}}, {"content": 1, "note": "x"}),
        Forest([Tree(1, [Tree(2)])], [Tree(3)]), Tree("x", [Tree(2)]),
        Recursive([1, {"a": [None, 1.5]}], {"a": [1]}, [1, [2]], [1, [2, [3]]], Recursive(), Box(1)),
    ],
    ids=repr,
)  # fmt: skip
def test_accepted(value: Any) -> None:
    assert CODEC.decode(pickle.dumps(value, 5)) == CODEC.decode(CODEC.encode(value)) == value


REFUSED: dict[str, tuple[Any, str]] = {
    "a dataclass": (IntBox("x"), r"\$\.content"),
    "a list of it": (IntBox(1, ["x"]), r"\$\.more\[0\]"),
    "a class below": (Below(True, [1.5]), r"\$\.more\[0\]"),
    "two levels": (IntLists([1], [["x"]]), r"\$\.more\[0\]"),
    "two levels, its own": (IntLists([1], [], "x"), r"\$\.last"),
    "an inherited field beside one of its own": (Again("x", ["x"]), r"\$\.more\[0\]"),
    "variables in another order": (TextFirst(1, "x"), r"\$\.first"),
    "msgspec": (IntStruct("x"), r"\$\.content"),
    "attrs": (IntAttrs("x"), r"\$\.content"),
    "a named tuple": (IntTuple("x"), r"\$\.content"),
    "pydantic": (IntModel.model_construct(content="x"), r"\$\.content"),
    "a field": (Nested(Box("x")), r"\$\.box\.content"),
    "a TypedDict": (Dicts({"content": "x"}), r"\$\.box"),
    "a TypedDict in itself": (Dicts({"content": 1, "inner": {"content": "x"}}), r"\$\.box"),
    "a TypedDict of a base": (Dicts(None, {"content": "x", "note": "x"}), r"\$\.named"),
    "a tree": (Forest([Tree(1, [Tree("x")])]), r"\$\.trees\[0\]\.children\[0\]\.value"),
    "JSON": (Recursive([{"a": {1}}]), r"\$\.json"),
    "JSON of pydantic": (Recursive(None, [{"a": (1,)}]), r"\$\.value"),
    "an alias": (Recursive(alias=[1, ["x"]]), r"\$\.alias"),
    "an alias with an argument": (Recursive(deep=[1, ["x"]]), r"\$\.deep"),
    "an argument that is not hashable": (Recursive(unhashable=Box("x")), r"\$\.unhashable\.content"),
    "Self": (Recursive(itself=IntBox(1)), r"\$\.itself"),
}


@pytest.mark.parametrize(("value", "path"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_path(value: Any, path: str) -> None:
    with pytest.raises(InvalidValue, match=path):
        CODEC.decode(pickle.dumps(value, 5))


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        ((Endless, OfEndless), "contains itself with ever different arguments"),
        ((OfBelow,), "inherits content with the type variable T; annotate content in .*BelowDict as well"),
    ],
    ids=["endless", "a TypedDict below one"],
)
def test_what_cannot_be_read_is_reported(cls: tuple[type, ...], reason: str) -> None:
    if cls == (OfBelow,) and hints(BelowDict, "")["content"] is int:
        return  # from Python 3.12 on
    with pytest.raises(ConfigurationError, match=reason):
        Codec(Allowlist(*cls))
