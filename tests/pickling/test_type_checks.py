"""Unions are searched in few steps, which are bounded."""

from __future__ import annotations

import pickle
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

import pytest
import typing_extensions

from sealwire import Allowlist, Codec, EncodeError, InvalidValue, LimitExceeded, Limits
from sealwire.pickling.type_checks import Examining, Mismatch, charge, once

T = TypeVar("T")


class Number(TypedDict):
    value: int
    kind: Literal["number"]


class Sum(TypedDict):
    left: Tagged
    right: Tagged
    kind: Literal["sum"]


class Product(TypedDict):
    left: Tagged
    right: Tagged
    kind: Literal["product"]


Tagged = Number | Sum | Product


class OfInts(TypedDict):
    inner: Untagged
    last: int


class OfTexts(TypedDict):
    inner: Untagged
    last: str


Untagged = OfInts | OfTexts | None
Pairs = typing.Union[  # names itself
    int, tuple["Pairs", "Pairs", Literal["a"]], tuple["Pairs", "Pairs", Literal["b"]], tuple["Pairs", "Pairs", None]
]
Short = typing_extensions.TypeAliasType("Short", "list[int] | dict[str, Short]")
Named = typing_extensions.TypeAliasType("Named", Short | tuple[Short, ...] | Annotated[int, "positive"])
Lists = typing.Union[list["Lists"], tuple["Lists", ...], "list[Lists | str]", dict[str, "Lists"], int]


@dataclass
class Link(Generic[T]):
    value: T
    next: Link[T] | None


@dataclass
class Held:
    tagged: Tagged | None = None
    untagged: Untagged = None
    pairs: Pairs = 0
    lists: Lists = 0
    named: Named = 1
    links: Link[int] | Link[str] | None = None


ALLOWLIST = Allowlist(Held, Link)
CODEC = Codec(ALLOWLIST)


def repeated(depth: int, value: Any, wrap: Any) -> Any:
    for _ in range(depth):
        value = wrap(value)
    return value


ONE: Number = {"value": 1, "kind": "number"}
DEPTH = 90
DEEP = {
    "a tag at the end": Held(tagged=repeated(DEPTH, ONE, lambda x: {"left": x, "right": ONE, "kind": "product"})),
    "no tag": Held(untagged=repeated(DEPTH, None, lambda x: {"inner": x, "last": "x"})),
    "tuples with tags": Held(pairs=repeated(DEPTH, 1, lambda x: (x, 2, "b"))),
    "tuples without": Held(pairs=repeated(DEPTH, 1, lambda x: (x, 2, None))),
    "lists": Held(lists=repeated(DEPTH, 1, lambda x: [x])),
    "lists of str at the end": Held(lists=repeated(DEPTH, ["x"], lambda x: [1, x])),
    "names for unions": Held(named=repeated(DEPTH, [1], lambda x: {"x": x, "y": {}})),
    "dicts": Held(lists=repeated(DEPTH, 1, lambda x: {"x": x, "y": [1]})),
    "generic": Held(links=repeated(DEPTH // 2, None, lambda x: Link("x", x))),
    "shared": Held(lists=repeated(12, 1, lambda x: [x, x, x])),
}


@pytest.mark.parametrize("name", DEEP)
def test_a_deep_value_takes_few_steps(name: str) -> None:
    value = DEEP[name]
    codec = Codec(ALLOWLIST, limits=Limits(max_expanded_nodes=800_000 if name == "shared" else 5000))
    assert codec.decode(pickle.dumps(value, 5)) == value
    assert codec.decode(codec.encode(value)) == value


def as_sum(value: Any) -> Any:
    return {"left": value, "right": ONE, "kind": "sum"}


def test_shared_parts_are_checked_once() -> None:
    """Each value has 2**18 paths to its last part, and a hundred bytes."""
    for value in (
        Held(pairs=repeated(18, 1, lambda x: (x, x, "a"))),
        Held(lists=repeated(18, 1, lambda x: [x, x])),
        Held(lists=repeated(18, 1, lambda x: {"x": x, "y": x})),
        Held(tagged=repeated(18, ONE, lambda x: {"left": x, "right": x, "kind": "sum"})),
    ):
        steps = Counted()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sealwire.pickling.compound_checks.charge", steps)
            assert CODEC.decode(pickle.dumps(value, 5)) == value
        assert 10 < steps.calls < 500


WRONG = {
    "a tag": Held(tagged=repeated(DEPTH, {"value": 1, "kind": "x"}, as_sum)),
    "a value below a tag": Held(tagged=repeated(DEPTH, {"value": "1", "kind": "number"}, as_sum)),
    "no tag": Held(untagged=repeated(DEPTH, {"inner": None, "last": None}, lambda x: {"inner": x, "last": "x"})),
    "tuples": Held(pairs=repeated(DEPTH, "x", lambda x: (x, 2, None))),
    "lists": Held(lists=repeated(DEPTH, None, lambda x: [x])),
    "generic": Held(links=repeated(DEPTH // 2, Link(1, None), lambda x: Link("x", x))),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_deep_value_that_is_wrong_is_refused_in_few_steps(name: str) -> None:
    codec = Codec(ALLOWLIST, limits=Limits(max_expanded_nodes=5000))
    with pytest.raises(InvalidValue, match="expected"):
        codec.decode(pickle.dumps(WRONG[name], 5))
    with pytest.raises(EncodeError, match="expected"):
        codec.encode(WRONG[name])


def test_wide_values_are_refused_with_the_name_of_the_limit() -> None:
    value = Held(lists=[[[n], (n,), {"x": [n]}] for n in range(2000)])
    codec = Codec(ALLOWLIST, limits=Limits(max_expanded_nodes=20_000))
    with pytest.raises(LimitExceeded, match="max_expanded_nodes: checking the values"):
        codec.decode(pickle.dumps(value, 5))
    assert Codec(ALLOWLIST).decode(pickle.dumps(value, 5)) == value


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, value: object) -> None:
        self.calls += 1
        charge(1)  # the real one, also in its place
        if value == "bad":
            raise Mismatch("good", type(value))


def test_results_are_kept_for_one_message() -> None:
    check = Counted()
    for _ in range(2):
        once(check, ["good"])
    assert check.calls == 2  # no message is decoded
    value, bad = ["good"], "bad"
    with Examining(10):
        for _ in range(3):
            once(check, value)
            with pytest.raises(Mismatch) as caught:
                once(check, bad)
            assert caught.value.path == []
            caught.value.path.append("changed")
        assert check.calls == 4
        with Examining(10):  # of another message
            once(check, value)
        assert check.calls == 5
        once(check, value)
        assert check.calls == 5
        with pytest.raises(LimitExceeded):
            charge(100)
    once(check, value)
    assert check.calls == 6
