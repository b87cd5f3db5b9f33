"""Corners of the adapters: state that no instance has, and code of the user's own that fails."""

from __future__ import annotations

import enum
import pickle
import types
from dataclasses import dataclass
from typing import Any

import attrs
import msgspec
import numpy as np
import pydantic
import pytest

from pickling import shop
from pickling.assembler import blob, call, dict_, instance, integer, list_, message, name, text, tuple_
from sealwire import Allowlist, Codec, ConfigurationError, DecodeError, EncodeError, InvalidValue, LimitExceeded
from sealwire.pickling import opcodes as op
from sealwire.pickling.adapters.exceptions import MAX_ARGUMENTS

CODEC = Codec(Allowlist(*shop.TYPES))
SHOP = "pickling.shop"
NONE = b"N"


@attrs.define
class Empty:
    pass


@attrs.define
class Checked:
    a: int = attrs.field(validator=attrs.validators.gt(0))

    def __attrs_post_init__(self) -> None:
        pass


class Hooked(pydantic.BaseModel):
    a: int

    @pydantic.field_validator("a")
    @classmethod
    def double(cls, value: int) -> int:
        return value * 2 if value > 100 else value

    def model_post_init(self, context: Any) -> None:
        del context


class Secretive(pydantic.BaseModel):
    a: int
    _hidden: int = 7


class Root(pydantic.RootModel[list[int]]):
    pass


class HookedStruct(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        if self.a == 13:
            raise MemoryError
        if self.a == 14:
            raise RecursionError


class Unhashable(enum.Enum):
    A = [1]
    B = {"x": 1}


class Varied(Exception):
    def __init__(self, first: int, *more: str) -> None:
        super().__init__(first, *more)


class Module(types.ModuleType):
    pass


class Bare(enum.Enum):
    pass


class Reduced(enum.Enum):
    A = 1

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Reduced, (1,)


@dataclass
class Late:
    a: int

    def __setattr__(self, key: str, value: Any) -> None:
        object.__setattr__(self, key, value)


TYPES = (
    Empty,
    Checked,
    Hooked,
    Secretive,
    HookedStruct,
    Unhashable,
    Varied,
    Late,
)
OWN = Codec(Allowlist(*TYPES, np.ndarray, np.generic))
HERE = __name__


def model(cls: str, fields: bytes, *, extra: bytes = NONE, private: bytes = NONE, chosen: bytes | None = None) -> bytes:
    """The state of a pydantic model by hand."""
    return instance(
        HERE,
        cls,
        dict_(
            (text("__dict__"), fields),
            (text("__pydantic_extra__"), extra),
            (text("__pydantic_fields_set__"), chosen or bytes((op.EMPTY_SET,))),
            (text("__pydantic_private__"), private),
        ),
    )


def test_values_of_these_types() -> None:
    assert OWN.decode(message(instance(HERE, "Empty"))) == Empty()
    for value in (Empty(), Checked(1), Hooked(a=1), HookedStruct(1), *Unhashable, Late(2)):
        assert OWN.decode(OWN.encode(value)) == OWN.decode(pickle.dumps(value, 5)) == value
    found = OWN.decode(OWN.encode(Varied(1, "a", "b")))
    assert (type(found), found.args) == (Varied, (1, "a", "b"))


FIELD = dict_((text("a"), integer(1)))
BAD = {
    "attrs: no state": message(instance(HERE, "Checked")),
    "attrs: state that is no dict": message(instance(HERE, "Checked", list_(integer(1)))),
    "attrs: a field of none": message(instance(HERE, "Empty", dict_((text("a"), NONE)))),
    "dataclass: no state": message(instance(SHOP, "Frozen")),
    "dataclass with slots: a tuple of three": message(instance(SHOP, "Slotted", tuple_(NONE, NONE, NONE))),
    "dataclass with slots: a field in both": message(
        instance(SHOP, "DerivedSlotted", tuple_(dict_((text("a"), NONE)), dict_((text("a"), NONE))))
    ),
    "frozen dataclass with slots: too few": message(instance(SHOP, "FrozenSlotted", list_(integer(1)))),
    "pydantic: no state": message(instance(HERE, "Hooked")),
    "pydantic: fields that are a list": message(model("Hooked", list_(NONE))),
    "pydantic: a field set that is not there": message(
        model("Hooked", FIELD, chosen=bytes((op.EMPTY_SET, op.MARK)) + text("b") + bytes((op.ADDITEMS,)))
    ),
    "pydantic: a validator that changes": message(model("Hooked", dict_((text("a"), integer(101))))),
    "pydantic: private attributes": message(model("Secretive", FIELD, private=dict_((text("_hidden"), integer(8))))),
    "msgspec: a field too many": message(call(HERE, "HookedStruct", integer(1), integer(2))),
    "msgspec: rebuild of a list": message(
        name("msgspec._utils", "rebuild"), tuple_(name(SHOP, "KeywordStruct"), list_(NONE)), op.REDUCE
    ),
    "enum: a value that is not hashable": message(call(HERE, "Unhashable", list_(integer(2)))),
    "enum: two values": message(call(HERE, "Unhashable", integer(1), integer(2))),
    "exception: too many arguments": message(call("builtins", "ValueError", *[NONE] * (MAX_ARGUMENTS + 1))),
    "exception: too few arguments": message(call(HERE, "Varied")),
    "named tuple: no arguments": message(name(SHOP, "Point"), b")", op.NEWOBJ),
    "exception: another type among the rest": message(call(HERE, "Varied", integer(1), text("a"), integer(2))),
    "exception: notes that are no list": message(
        name("builtins", "ValueError"), b")", op.REDUCE, dict_((text("__notes__"), text("x"))), op.BUILD
    ),
    "named tuple: too few": message(name(SHOP, "Point"), tuple_(integer(1)), op.NEWOBJ),
    "bytes of text": message(call("builtins", "bytes", text("x"))),
    "a path of many slashes": message(call("pathlib", "PurePosixPath", text("a/" * 2000))),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_refused(data: bytes) -> None:
    for codec in (CODEC, OWN):
        with pytest.raises(DecodeError):
            codec.decode(data)


@pytest.mark.parametrize(("number", "limit"), [(13, "max_memory"), (14, "max_depth")])
def test_what_a_constructor_raises_for_lack_of_room(number: int, limit: str) -> None:
    with pytest.raises(LimitExceeded, match=limit):
        OWN.decode(message(call(HERE, "HookedStruct", integer(number))))


def test_notes() -> None:
    """`sealwire allowlist check` shows these notes for each kind."""
    said = {adapter.cls: list(adapter.notes()) for adapter in Allowlist(*TYPES).adapters}
    assert said[Empty] == []
    assert said[Checked] == [
        "runs validators and converters on values that a peer chose",
        "runs __attrs_post_init__ on values that a peer chose",
    ]
    assert said[Hooked] == [
        "runs validators on values that a peer chose",
        "runs model_post_init on values that a peer chose",
    ]
    assert said[HookedStruct] == ["runs __post_init__ on values that a peer chose"]
    assert said[Late] == ["runs __setattr__ on values that a peer chose"]


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        (Root, "is a RootModel"),
        (Module, "modules cannot be sent"),
        (Bare, "has no members"),
        (Reduced, "__reduce_ex__ of its own"),
    ],
)
def test_types_that_cannot_be(thing: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Allowlist(thing)


def test_a_class_that_was_replaced_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    value = Late(1)
    monkeypatch.setitem(globals(), "Late", HookedStruct)
    with pytest.raises(EncodeError, match="cannot be pickled"):
        OWN.encode(value)


def test_two_types_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Allowlist(Late)
    other = dataclass(type("Late", (), {"__annotations__": {"a": int}, "__module__": HERE}))
    monkeypatch.setitem(globals(), "Late", other)
    with pytest.raises(ConfigurationError, match="two types have the name"):
        first.allow(other)


def test_bytes_as_an_array() -> None:
    assert OWN.decode(OWN.encode(np.frombuffer(b"abc", "u1"))).tobytes() == b"abc"
    with pytest.raises(InvalidValue):
        OWN.decode(message(call("numpy._core.numeric", "_frombuffer", blob(b"abc"), NONE, NONE, NONE)))


@dataclass(init=False)
class Handmade:
    a: int

    def __init__(self, a: int) -> None:
        self.a = a


class Further(Handmade):
    def __init__(self, a: int) -> None:
        self.a = a


@attrs.define(init=False)
class HandmadeAttrs:
    a: int

    def __init__(self, a: int) -> None:
        self.a = a

    def __attrs_pre_init__(self) -> None:
        pass


def test_notes_of_constructors_of_their_own() -> None:
    said = {adapter.cls: list(adapter.notes()) for adapter in Allowlist(Handmade, Further, HandmadeAttrs).adapters}
    own = "runs __init__ on values that a peer chose"
    assert said[Handmade] == said[Further] == [own]
    assert own in said[HandmadeAttrs]
    assert list(Allowlist(shop.Derived).adapters[0].notes()) == []
