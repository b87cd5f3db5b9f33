"""A field more or less at one end: the error names it, and defaults fill it where the type allows it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import attrs
import msgspec
import numpy as np
import pydantic
import pytest

from pickling import shop
from pickling.assembler import call, dict_, instance, integer, list_, message, name, text, tuple_
from sealwire import Allowlist, Codec, ConfigurationError, DecodeError, InvalidValue

HERE = __name__


@dataclass
class Plain:
    a: int
    b: int = 2
    c: list[int] = field(default_factory=list)
    d: int = field(init=False, default=4)


@dataclass(slots=True)
class Slots:
    a: int
    b: int = 2


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    a: int
    b: int = 2


@dataclass
class Empty:
    b: int = 2


@dataclass
class Failing:
    a: int
    b: int = field(default_factory=lambda: 1 // 0)


@dataclass
class Computed:
    a: int
    b: list[int] = field(init=False, default_factory=list)


@attrs.define
class Attrs:
    a: int
    b: int = 2
    c: list[int] = attrs.Factory(list)
    d: int = attrs.Factory(lambda made: made.a, takes_self=True)
    e: int = attrs.field(init=False, default=5)


class Struct(msgspec.Struct):
    a: int
    b: int = 2
    c: list[int] = []


class Keywords(msgspec.Struct, kw_only=True):
    a: int
    b: int = 2


class Tuple(NamedTuple):
    a: int
    b: int = 2


class Model(pydantic.BaseModel):
    a: int
    b: int = 2
    c: list[int] = pydantic.Field(default_factory=list)


KINDS: list[type] = [Plain, Slots, FrozenSlots, Empty, Failing, Computed, Attrs, Struct, Keywords, Tuple, Model]
STRICT = Codec(Allowlist(*KINDS))
LENIENT = Codec(Allowlist().allow(*KINDS, missing="default"))


def fields(**values: int) -> bytes:
    return dict_(*((text(key), integer(value)) for key, value in values.items()))


def model(**values: int) -> bytes:
    parts = {"__dict__": fields(**values), "__pydantic_fields_set__": b"\x8f(" + b"".join(map(text, values)) + b"\x90"}
    return instance(HERE, "Model", dict_(
        *((text(key), part) for key, part in parts.items()),
        (text("__pydantic_extra__"), b"N"), (text("__pydantic_private__"), b"N"),
    ))  # fmt: skip


def state(cls: str, form: Callable[..., bytes] = fields) -> Callable[..., bytes]:
    return lambda **values: instance(HERE, cls, form(**values))


def slots(**values: int) -> bytes:
    return tuple_(b"N", fields(**values))


def items(**values: int) -> bytes:
    return list_(*map(integer, values.values()))


def struct(**values: int) -> bytes:
    return call(HERE, "Struct", *map(integer, values.values()))


def keywords(**values: int) -> bytes:
    return name("msgspec._utils", "rebuild") + tuple_(name(HERE, "Keywords"), fields(**values)) + b"R"


def named_tuple(**values: int) -> bytes:
    return name(HERE, "Tuple") + tuple_(*map(integer, values.values())) + b"\x81"


SHORT: dict[str, tuple[Callable[..., bytes], dict[str, int], Any]] = {
    "dataclass": (state("Plain"), {"a": 1}, Plain(1)),
    "dataclass with slots": (state("Slots", slots), {"a": 1}, Slots(1)),
    "frozen dataclass with slots": (state("FrozenSlots", items), {"a": 1}, FrozenSlots(1)),
    "dataclass that had no field": (lambda: instance(HERE, "Empty"), {}, Empty()),
    "attrs": (state("Attrs"), {"a": 1, "d": 3, "e": 5}, Attrs(1, d=3)),
    "struct": (struct, {"a": 1}, Struct(1)),
    "struct of keywords": (keywords, {"a": 1}, Keywords(a=1)),
    "named tuple": (named_tuple, {"a": 1}, Tuple(1)),
    "model": (model, {"a": 1}, Model(a=1)),
}


@pytest.mark.parametrize(("made", "values", "expected"), SHORT.values(), ids=SHORT)
def test_a_missing_field_is_named_or_filled(made: Callable[..., bytes], values: dict[str, int], expected: Any) -> None:
    data = message(made(**values))
    with pytest.raises(InvalidValue, match="not exactly its declared fields: it lacks b"):
        STRICT.decode(data)
    found = LENIENT.decode(data)
    assert (type(found), found) == (type(expected), expected)
    assert LENIENT.decode(LENIENT.encode(expected)) == expected
    if "a" in values:
        with pytest.raises(InvalidValue, match=r"^\$\.a: .*expected int, got |pydantic does not accept"):
            LENIENT.decode(message(made(**values).replace(b"K\x01", b"G" + bytes(8), 1)))


LONG: dict[str, tuple[bytes, str]] = {
    "dataclass": (state("Plain")(a=1, b=2, c=3, d=4, tax=5), "it has tax as well"),
    "dataclass, one of each": (state("Plain")(a=1, b=2, tax=5), "it has tax as well"),
    "frozen dataclass with slots": (state("FrozenSlots", items)(a=1, b=2, c=3), "it has 1 more as well"),
    "attrs": (state("Attrs")(a=1, b=2, c=3, d=4, e=5, tax=5), "it has tax as well"),
    "struct": (struct(a=1, b=2, c=3, d=4), "it has 1 more as well"),
    "struct of keywords": (keywords(a=1, b=2, tax=4), "it has tax as well"),
    "named tuple": (named_tuple(a=1, b=2, c=3), "it has 1 more as well"),
    "model": (model(a=1, b=2, c=3, tax=5), "it has tax as well"),
    "a key that is no name": (instance(HERE, "Empty", dict_((integer(1), integer(1)))), "a key of type int"),
    "many": (state("Empty")(b=1, **{f"f{n}": n for n in range(9)}), "it has f0, f1, f2, f3, f4 and others as well"),
}


@pytest.mark.parametrize(("data", "expected"), LONG.values(), ids=LONG)
def test_a_field_too_many_is_named(data: bytes, expected: str) -> None:
    for codec in (STRICT, LENIENT):
        with pytest.raises(InvalidValue, match=expected):
            codec.decode(message(data))


NEVER: dict[str, tuple[bytes, str]] = {
    "dataclass": (state("Plain")(b=2), "it lacks a;"),
    "a field that is no argument": (state("Computed")(a=1), "it lacks b;"),
    "a factory that takes the instance": (state("Attrs")(a=1, e=5), "it lacks d;"),
    "struct": (struct(), "it lacks a;"),
    "model": (model(b=2), "it lacks a;"),
    "a factory that fails": (state("Failing")(a=1), r"does not accept these values \(ZeroDivisionError\)"),
    "struct of other arguments": (
        name("msgspec._utils", "rebuild") + tuple_(name(HERE, "Keywords"), fields(a=1), b"N") + b"R",
        "other arguments",
    ),
    "a list": (instance(HERE, "Plain", list_(integer(1))), "declared fields"),
    "a list of attributes": (instance(HERE, "Attrs", list_(integer(1))), "no dict of them"),
}


@pytest.mark.parametrize(("data", "expected"), NEVER.values(), ids=NEVER)
def test_what_defaults_do_not_fill(data: bytes, expected: str) -> None:
    with pytest.raises(InvalidValue, match=expected):
        LENIENT.decode(message(data))


@pytest.mark.parametrize("evil", ["a\nb", "\x1b[31m", "x" * 10_000, "\N{RIGHT-TO-LEFT OVERRIDE}"])
def test_names_of_fields_are_bounded_and_escaped(evil: str) -> None:
    with pytest.raises(InvalidValue, match="as well") as refused:
        STRICT.decode(message(instance(HERE, "Empty", dict_((text(evil), integer(1))))))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_a_default_is_made_again_each_time() -> None:
    first, second = (LENIENT.decode(message(state("Plain")(a=1))) for _ in range(2))
    assert first.c is not second.c


@pytest.mark.parametrize("cls", [shop.Color, shop.Access, shop.Plain, np.ndarray], ids=repr)
def test_types_without_fields_have_no_defaults(cls: type) -> None:
    with pytest.raises(ConfigurationError, match="is for classes with fields"):
        Allowlist().allow(cls, missing="default")


def test_the_option_in_python_and_toml() -> None:
    with pytest.raises(ConfigurationError, match="missing must be 'refuse' or 'default', not 'fill'"):
        Allowlist().allow(Plain, missing="fill")
    option = f"{HERE}:Tuple"
    table: dict[str, Any] = {"types": [option, f"{HERE}:Empty"], "missing": {option: "default"}}
    codec = Codec(Allowlist.from_table(table))
    assert codec.decode(message(named_tuple(a=1))) == Tuple(1)
    with pytest.raises(InvalidValue, match="it lacks b"):
        codec.decode(message(instance(HERE, "Empty")))
    assert Codec(Allowlist.from_table(table) | Allowlist(Plain)).decode(message(named_tuple(a=1))) == Tuple(1)
    for wrong, reason in (
        ({option: "fill"}, "expected a table like"), ([option], "expected a table like"),
        ({f"{HERE}:Plain": "default"}, "allowlist.missing: .*:Plain is not in types or shallow"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=reason):
            Allowlist.from_table(table | {"missing": wrong})


def test_a_pickle_of_the_old_version() -> None:
    old = Plain(1)
    del old.__dict__["c"]
    data = pickle.dumps(old, 5)
    assert LENIENT.decode(data) == Plain(1)
    with pytest.raises(DecodeError, match="it lacks c"):
        STRICT.decode(data)


def test_a_field_that_stays_an_attribute_of_the_class() -> None:
    """CPython does not put the default of a field that is no argument into the instance."""
    value = Plain(1)
    assert "d" not in vars(value)
    assert STRICT.decode(STRICT.encode(value)) == STRICT.decode(pickle.dumps(value, 5)) == value
    value.d = 5
    with pytest.raises(InvalidValue, match="the class made another value"):
        STRICT.decode(pickle.dumps(value, 5))
