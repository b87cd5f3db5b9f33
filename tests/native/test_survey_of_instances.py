"""Instances that the survey is sure of, the decoder accepts; and no class with code of its own is surveyed."""

from __future__ import annotations

import abc
import copyreg
import enum
import pickle
import random
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import attrs
import msgspec
import pytest

from pickling import shop, test_differential
from sealwire import Allowlist, Codec, DecodeError, EncodeError, Limits
from sealwire.native import NATIVE

if not NATIVE:
    pytest.skip("the native core is not there", allow_module_level=True)

ALLOWED = Allowlist(*shop.TYPES)
CODEC = Codec(ALLOWED)


def surely(value: object, codec: Codec = CODEC) -> Any:
    return codec._encoder.encode_surely(value)


def checked(codec: Codec) -> Codec:
    """The codec without the survey."""
    codec._encoder.encode_surely = lambda _: None  # switched off
    object.__setattr__(codec, "_encode_surely", codec._encoder.encode_surely)
    return codec


def outcome(codec: Codec, value: object) -> Any:
    try:
        return codec.encode(value)
    except EncodeError as error:
        return str(error)


SURE = [
    *shop.Size, *shop.Country, shop.Frozen("a", 1), shop.Slotted(1, ["a"]), shop.FrozenSlotted(1, (2, 3)),
    shop.Keywords(a=1), shop.Base(1, c=2), shop.Derived(1, b="x", c=3), shop.Cached(1), shop.Nothing(),
    shop.Box("a", ["b"]), shop.Node(1, [shop.Node(2), shop.Node(3, [shop.Node(4)])]), shop.Point(1),
    shop.Point(1, 2.5), shop.Pair(1, [2]), shop.Crate(1, [2]), shop.Struct(1), shop.KeywordStruct(a=1, b=[2]),
    shop.FrozenStruct(1), shop.Outer.Inner(1), shop.Outer.Inner.Deepest.ONE, shop.Box(shop.Size.L, [None, {"a": 1}]),
    [shop.Box(shop.Struct(n, "x" * n), [shop.Point(n)]) for n in range(99)], [shop.Node(1)] * 50,
]  # fmt: skip


@pytest.mark.parametrize("value", SURE, ids=lambda value: type(value).__name__)
def test_classes_without_code_of_their_own(value: object) -> None:
    data = surely(value)
    assert data == pickle.dumps(value, 5) == checked(Codec(ALLOWED)).encode(value)
    assert CODEC.decode(data) == value


@dataclass
class Plain:
    a: Any
    b: list[int] = field(default_factory=list)
    c: Literal["x", "y"] = "x"


def altered(*, frozen: bool = False, **space: Any) -> type:
    """A dataclass with more in it."""
    return dataclass(frozen=frozen)(
        type("Altered", (), {"__annotations__": {"a": int}, "__module__": __name__, **space})
    )


class Meta(type):
    def __call__(cls, *arguments: Any) -> Any:
        return super().__call__(*arguments)


def initialise(self: Any, a: int) -> None:
    self.a = abs(a)


def new(cls: Any, *_: Any) -> Any:
    return object.__new__(cls)


WITH_CODE = {
    "__init__": altered(__init__=initialise),
    "__post_init__": altered(__post_init__=lambda _: None),
    "__new__": altered(__new__=new),
    "__setattr__": altered(__setattr__=lambda self, name, value: object.__setattr__(self, name, value)),
    "__getattribute__": altered(__getattribute__=lambda self, name: object.__getattribute__(self, name)),
    "__getattr__": altered(__getattr__=lambda _, __: 1),
    "a property": altered(a=property(lambda _: 1, lambda _, __: None)),
    "a metaclass": dataclass(Meta("Altered", (), {"__annotations__": {"a": int}, "__module__": __name__})),
    "an abstract class": dataclass(
        abc.ABCMeta(
            "Altered", (), {"__annotations__": {"a": int}, "__module__": __name__, "f": abc.abstractmethod(initialise)}
        )
    ),
    "a field that is no argument": altered(a=field(init=False, default=1)),
    "a subclass with another constructor": type("Altered", (Plain,), {"__init__": initialise, "__module__": __name__}),
    "a dict of its own": altered(__dict__=property(lambda _: {"a": 1})),
}


@pytest.mark.parametrize("cls", WITH_CODE.values(), ids=WITH_CODE)
def test_classes_with_code_of_their_own_have_no_shape(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "Altered", cls)
    rules = Codec(Allowlist(cls))._decoder.rules
    assert [rule.shape for rule in rules if rule.qualified_name.endswith(".Altered")] == [None]


class Doubled(NamedTuple("Pair", [("a", int)])):
    def __new__(cls, a: int) -> Doubled:
        return super().__new__(cls, a)


class WithDict(NamedTuple("Pair", [("a", int)])):
    pass


@attrs.define
class Converted:
    a: int = attrs.field(converter=abs)


@attrs.define
class After:
    a: int

    def __attrs_post_init__(self) -> None:
        pass


@attrs.define(init=False)
class Initialised:
    a: int

    def __init__(self, a: int) -> None:
        self.a = abs(a)


@attrs.define
class SetsAttributes:
    a: int

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


@attrs.define
class GetsAttributes:
    a: int

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@attrs.define(slots=False)
class WithoutSlots:
    a: int


class Prepared(NamedTuple("Pair", [("a", int)])):
    __slots__ = ()

    def __init__(self, _: int) -> None:
        pass


class Composed(enum.Enum):
    A = (1, 2)


class Long(enum.Enum):
    A = "x" * 1001


class StructAfter(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        pass


class Named(enum.Enum):
    A = 1

    def __reduce_ex__(self, _: Any) -> Any:
        return getattr, (Named, "A")


def test_an_attrs_class_without_slots() -> None:
    codec = Codec(Allowlist(WithoutSlots))
    assert surely(WithoutSlots(1), codec) == pickle.dumps(WithoutSlots(1), 5)
    assert surely(WithoutSlots("a"), codec) is None


OTHERS = [
    Doubled, WithDict, Prepared, Converted, After, Initialised, SetsAttributes, GetsAttributes, StructAfter, Composed,
    Long, shop.Money, shop.Total, shop.Sealed,
]  # fmt: skip


@pytest.mark.parametrize("cls", OTHERS)
def test_other_classes_with_code_of_their_own(cls: Any) -> None:
    rules = Codec(Allowlist(cls))._decoder.rules
    assert [rule.shape for rule in rules if rule.qualified_name.endswith("." + cls.__qualname__)][:1] == [None]


def with_state(value: Any, **state: Any) -> Any:
    vars(value).update(state)
    return value


def without_state(value: Any, *names: str) -> Any:
    for name in names:
        delattr(value, name)
    return value


def with_attributes(value: Any, attributes: dict[str, Any]) -> Any:
    value.__dict__ = attributes
    return value


DOUBT = {
    "another type": shop.Frozen("a", "b"),
    "another type in a list": shop.Slotted(1, ["a", 2]),
    "another type in a tuple": shop.FrozenSlotted(1, (1, "x")),
    "another literal": Plain(1, [], "z"),
    "a bool in another place": shop.Point(1, "x"),
    "an attribute more": with_state(shop.Box(1), other=2),
    "an attribute less": without_state(shop.Box(1), "more"),
    "another attribute": with_state(without_state(shop.Box(1), "more"), other=[]),
    "a slot that is not set": without_state(shop.Slotted(1), "a"),
    "a cached value": (lambda value: (value.twice, value)[1])(shop.Cached(1)),
    "a surrogate": shop.Box("\ud800"),
    "a type that is not listed": shop.Box(Named.A),
    "an instance as a key": {shop.Frozen("a", 1): 1},
    "another enum's value": shop.Box(shop.Color.RED),
    "attributes in a dict of another type": with_attributes(shop.Box(1), OrderedDict(content=1, more=[])),
    "a cycle": (lambda box: with_state(box, content=box))(shop.Box(1)),
    "a cycle of state": (lambda box: with_state(box, content=vars(box)))(shop.Box(1)),
}


@pytest.mark.parametrize("value", DOUBT.values(), ids=DOUBT)
def test_in_doubt(value: object) -> None:
    """Both forms then write or say the same."""
    codec = Codec(ALLOWED | Allowlist(Plain))
    assert surely(value, codec) is None
    assert surely([[value]], codec) is None
    assert outcome(codec, [value]) == outcome(checked(Codec(ALLOWED | Allowlist(Plain))), [value])


def test_a_class_that_gets_a_pickling_function_later_is_in_doubt() -> None:
    value = shop.Frozen("a", 1)
    assert surely(value)
    copyreg.pickle(shop.Frozen, lambda found: (shop.Frozen, ("other", found.size)))
    try:
        assert surely(value) is None
        assert surely(value, Codec(ALLOWED)) is None
    finally:
        del copyreg.dispatch_table[shop.Frozen]
    assert surely(value)


@dataclass
class Tried:
    a: list[list[Literal["x"]] | tuple[Literal["y"]] | Literal[1]]


@pytest.mark.parametrize(("nodes", "sure"), [(30_000, False), (200_000, True)])
def test_checks_of_a_value_are_bounded(nodes: int, *, sure: bool) -> None:
    value = [Tried([1] * 200) for _ in range(100)]  # four steps for each
    codec = Codec(Allowlist(Tried), limits=Limits(max_expanded_nodes=nodes))
    assert (surely(value, codec) is not None) == sure
    assert (type(outcome(checked(codec), value)) is bytes) == sure


@pytest.mark.parametrize("value", SURE[:-1], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", ["max_memory", "max_depth", "max_nodes", "max_expanded_nodes"])
def test_limits(name: str, value: object) -> None:
    """A value that is surely accepted is accepted, and six times what it needs is surely enough."""
    value = [value, [value], {"a": value}]
    data = pickle.dumps(value, 5)
    # Of no more classes than it takes, as most of the time is taken by making codecs.
    allowed = Allowlist(*(cls for cls in shop.TYPES if cls.__name__.encode() in data))
    most = 500 if name == "max_depth" else 1 << 22
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        try:
            Codec(allowed, limits=replace(Limits(), **{name: middle})).decode(data)
        except DecodeError:
            low = middle + 1
        else:
            high = middle
    if low > 1:
        assert surely(value, Codec(allowed, limits=replace(Limits(), **{name: low - 1}))) is None
    enough = low + 1 if name == "max_depth" else min(6 * low + 2000, most)
    assert surely(value, Codec(allowed, limits=replace(Limits(), **{name: enough}))) == data


class Nested(msgspec.Struct):
    a: Any


def test_arguments_that_calls_share_are_charged_for_each_call() -> None:
    nested: Any = list(range(1000))
    for _ in range(8):
        nested = Nested([nested])
    text = "x" * 5000
    allowed = Allowlist(Nested)
    for value in (nested, [Nested(text) for _ in range(50)]):
        data = pickle.dumps(value, 5)
        low, high = 1, 1 << 27
        while low < high:
            middle = (low + high) // 2
            try:
                Codec(allowed, limits=Limits(max_memory=middle)).decode(data)
            except DecodeError:
                low = middle + 1
            else:
                high = middle
        assert surely(value, Codec(allowed, limits=Limits(max_memory=low - 1))) is None
        assert surely(value, Codec(allowed, limits=Limits(max_memory=6 * low))) == data


def test_what_only_looks_like_a_member_is_in_doubt() -> None:
    assert surely([shop.Size.S])
    other = int.__new__(shop.Size, 7)
    other._value_ = 7
    assert surely([other]) is None


def test_values_at_random() -> None:
    """The survey surely accepts only what the other form writes, under limits that many values exceed."""
    source = random.Random(20)
    sure = 0
    for limits in (test_differential.LIMITS, Limits(max_depth=4, max_nodes=60, max_memory=9000, max_expanded_nodes=40)):
        codec, other = Codec(ALLOWED, limits=limits), checked(Codec(ALLOWED, limits=limits))
        leaves = [value for value in SURE if not isinstance(value, list)]
        for _ in range(1500):
            value = [source.choice(leaves), test_differential.value(source), {"k": source.choice(leaves)}]
            if source.randrange(2):
                value[1] = (source.choice(leaves), [source.choice(leaves), source.random(), "x" * source.randrange(9)])
            data = surely(value, codec)
            if data is not None:
                sure += 1
                assert data == other.encode(value)
    assert sure > 500


def test_the_names_of_a_class_are_text_of_the_message() -> None:
    for max_string in (3, 1000):
        codec = Codec(ALLOWED | Allowlist(Plain), limits=Limits(max_string=max_string))
        assert outcome(codec, [Plain(1)]) == outcome(checked(codec), [Plain(1)])
