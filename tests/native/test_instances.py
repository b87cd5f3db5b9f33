"""Instances that are made natively are those that the reference makes, and what it refuses has the same error."""

from __future__ import annotations

import gc
import pickle
import random
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from pickling import shop, test_differential
from sealwire import Allowlist, Codec, DecodeError, Limits
from sealwire.errors import InvalidValue
from sealwire.native import NATIVE

if not NATIVE:
    pytest.skip("the native core is not there", allow_module_level=True)


@dataclass
class Tree:
    name: str
    parts: list[Tree] = field(default_factory=list)
    any: Any = None


@dataclass
class Changing:
    a: list[int]

    def __post_init__(self) -> None:
        self.a = [each + 1 for each in self.a]


@dataclass
class Copying:
    a: list[int]

    def __post_init__(self) -> None:
        self.a = list(self.a)


@dataclass
class Failing:
    a: int

    def __post_init__(self) -> None:
        if self.a:
            raise ZeroDivisionError


ALLOWED = Allowlist(*shop.TYPES, Tree, Changing, Copying, Failing)


def codec(*, native: bool, **limits: int) -> Codec:
    made = Codec(ALLOWED, limits=Limits(**limits))
    if not native:
        made._decoder._twin = None
    return made


NATIVELY, REFERENCE = codec(native=True), codec(native=False)


def outcome(reader: Codec, data: bytes) -> Any:
    """Return the value, with the identity of everything that is shared in it; or the error."""
    try:
        return test_differential.described(reader.decode(data))
    except DecodeError as error:
        return type(error), str(error), getattr(error, "path", None)


def agree(value: object) -> Any:
    data = pickle.dumps(value, 5)
    found = outcome(NATIVELY, data)
    assert found == outcome(REFERENCE, data)
    return found


@pytest.fixture(autouse=True)
def natively(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test of good values if one of them was left to the reference."""
    if request.node.get_closest_marker("parametrize") and "good" in request.fixturenames:
        twin = NATIVELY._decoder._twin
        assert twin is not None

        def resolve(value: Any) -> Any:
            try:
                return twin(value)
            except Exception as error:
                raise AssertionError from error

        monkeypatch.setattr(NATIVELY._decoder, "_twin", resolve)


SHARED = Tree("shared")
LIST = [Tree("in a list")]
GOOD = [
    *[value for value in shop.VALUES if not isinstance(value, dict | set)],
    Copying([1, 2]), Failing(0),
    Tree("a", [Tree("b", [Tree("c")]), Tree("d")], {"x": [Tree("e")], "y": (Tree("f"), 1)}),
    [SHARED, SHARED, Tree("a", [SHARED], SHARED), (SHARED,)], [LIST, LIST, Tree("a", LIST, LIST)], (LIST, (LIST,)),
    [Tree("a", [], each(x=SHARED, y=Tree("b"))) for each in (OrderedDict, Counter, dict)],
    deque([SHARED, Tree("x")], 3),
    defaultdict(list, {"x": [SHARED], 1: SHARED}), [shop.Struct(1), shop.Point(1, 2.5), (shop.Point(2),)] * 2,
    [vars(SHARED), SHARED], {"a": {"b": {"c": ({1: SHARED},)}}}, [[]] * 3, [()] * 2, {},
]  # fmt: skip


@pytest.mark.parametrize("good", GOOD, ids=lambda value: type(value).__name__)
def test_good_values(good: Any) -> None:
    if isinstance(agree([good, 1]), tuple):
        assert type(NATIVELY.decode(pickle.dumps(good, 5))) is type(good)


def bad(value: Any, **state: Any) -> Any:
    vars(value).update(state)
    return value


BAD = {
    "a type": bad(Tree("x"), name=1),
    "a type in a list": bad(Tree("x"), parts=[Tree("y"), 2]),
    "a type far down": Tree("x", [Tree("y", [bad(Tree("z"), parts=None)])]),
    "in a tuple": {"k": (1, [bad(Tree("x"), name=b"")])},
    "a field less": (lambda tree: (delattr(tree, "any"), tree)[1])(Tree("x")),
    "a field more": bad(Tree("x"), more=1),
    "another field": (lambda tree: (delattr(tree, "any"), bad(tree, more=1))[1])(Tree("x")),
    "a value that is changed": (lambda each: bad(each, a=[1]))(Changing([])),
    "a constructor that fails": bad(Failing(0), a=1),
    "an item of a struct": [shop.Struct("x")],
    "an item of a named tuple": {"a": shop.Point("x")},
    "a slot": [shop.Slotted("x")],
    "a frozen slot": [shop.FrozenSlotted("x")],
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_bad_values_have_the_error_of_the_reference(value: Any) -> None:
    assert issubclass(agree(value)[0], InvalidValue)
    assert issubclass(agree([0, {"a": value}])[0], InvalidValue)


def test_what_is_shared_stays_shared_and_is_made_once() -> None:
    made: list[int] = []

    class Counted:
        def __init__(self, name: str) -> None:
            self.name = name
            made.append(1)

    Counted.__qualname__ = "Counted"
    globals()["Counted"] = Counted
    allowed = Allowlist(Tree).register(Counted, dump=lambda each: (each.name,), load=Counted)
    reader = Codec(allowed)
    one = Counted("x")
    data = reader.encode([one, Tree("a", [], one), (one,), {"k": one}])
    made.clear()
    first, tree, (third,), mapping = reader.decode(data)
    assert first is tree.any is third is mapping["k"]
    assert made == [1]


def test_shared_state_of_slots() -> None:
    """A tuple that is the state of two instances, and the dict in it, are resolved once."""
    inner = Tree("x")
    data = pickle.dumps([shop.Slotted(1, ["a"]), inner, inner], 5)
    assert outcome(NATIVELY, data) == outcome(REFERENCE, data)
    other = pickle.dumps([Tree("p", [], inner), Tree("q", [], inner)], 5)
    found = NATIVELY.decode(other)
    assert found[0].any is found[1].any


def test_depth_is_bounded() -> None:
    data = pickle.dumps(Tree("x", [Tree("y", [Tree("z")])]), 5)
    assert outcome(codec(native=True, max_depth=8), data) == outcome(codec(native=False, max_depth=8), data)
    deep = Tree("x")
    for _ in range(60):
        deep = Tree("x", [deep])
    data = pickle.dumps(deep, 5)
    assert outcome(codec(native=True, max_depth=500), data) == outcome(codec(native=False, max_depth=500), data)


def test_the_deepest_value_needs_little_of_the_stack() -> None:
    deep: Any = Tree("x")
    for _ in range(165):
        deep = Tree("x", [deep])
    data = pickle.dumps(deep, 5)
    found = codec(native=True, max_depth=500).decode(data)
    for _ in range(165):
        found = found.parts[0]
    assert found == Tree("x")
    with pytest.raises(DecodeError, match="max_depth"):
        codec(native=True, max_depth=494).decode(data)


def test_values_at_random_and_mutants_of_their_pickles() -> None:
    source = random.Random(5)
    accepted = refused = 0
    for _ in range(400):
        data = bytearray(pickle.dumps([test_differential.value(source), source.choice(GOOD)], 5))
        for mutant in range(4):
            if mutant:
                data[source.randrange(len(data))] = source.choice(b"\x94NK]}()tuse\x85\x86\x87\x88h\x8c\x01\x00R\x81b")
            one, other = outcome(NATIVELY, bytes(data)), outcome(REFERENCE, bytes(data))
            assert one == other
            refused += isinstance(one, tuple) and isinstance(one[0], type) and issubclass(one[0], DecodeError)
            accepted += not mutant
    gc.collect()
    assert accepted
    assert refused
