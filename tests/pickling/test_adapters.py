"""Corners of the adapters: state that no instance has, and code of the user's own that fails."""

from __future__ import annotations

import enum
import itertools
import pickle
import types
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import attrs
import msgspec
import numpy as np
import pydantic
import pytest

from pickling import shop
from pickling.assembler import blob, call, dict_, instance, integer, list_, message, name, text, tuple_
from sealwire import Allowlist, Codec, ConfigurationError, DecodeError, EncodeError, InvalidValue, LimitExceeded, Limits
from sealwire.errors import MalformedPickle
from sealwire.pickling import opcodes as op
from sealwire.pickling.adapters.exceptions import MAX_ARGUMENTS
from sealwire.pickling.keys import check_built_keys, check_pairs

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


class Priced(pydantic.BaseModel):
    price: float = 0


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
    A = [1]  # noqa: RUF012 - a value that is not hashable
    B = {"x": 1}  # noqa: RUF012 - what the test is about


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


class AsDtype:
    """Pickles as a dtype with that state."""

    def __init__(self, form: str, *state: Any) -> None:
        self.form = form
        self.state = state

    def __reduce__(self) -> Any:
        return np.dtype, (self.form, False, True), self.state


@dataclass
class Late:
    a: int

    def __setattr__(self, key: str, value: Any) -> None:
        object.__setattr__(self, key, value)


TYPES = (
    ImportError,
    ModuleNotFoundError,
    AttributeError,
    NameError,
    Priced,
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


def test_a_default_that_is_an_int_of_a_float_field() -> None:
    """Pydantic does not validate defaults, and takes an int for a float where it validates."""
    for value in (Priced(), Priced(price=2.5), Priced(price=3)):
        for data in (OWN.encode(value), *(pickle.dumps(value, protocol) for protocol in range(2, 6))):
            found = OWN.decode(data)
            assert (found, type(found.price)) == (value, type(value.price))


def raised(function: Callable[[], Any]) -> Exception:
    try:
        function()
    except Exception as error:
        return error.with_traceback(None)
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        ImportError("x"),
        ImportError("x", name="m", path="p"),
        raised(lambda: __import__("not_installed_anywhere")),
        raised(lambda: None.foo),  # type: ignore[attr-defined]  # what the test is about
        raised(lambda: not_defined),  # type: ignore[name-defined]  # noqa: F821 - wrong, as the test wants it
        AttributeError("x"),
    ],
    ids=repr,
)
def test_exceptions_of_cpython_that_have_a_name(error: Any) -> None:
    for data in (OWN.encode(error), *(pickle.dumps(error, protocol) for protocol in (3, 4, 5))):
        found, expected = OWN.decode(data), pickle.loads(data)
        assert (type(found), found.args) == (type(error), error.args)
        assert getattr(found, "name", None) == getattr(expected, "name", None)
        assert getattr(found, "path", None) == getattr(expected, "path", None)


def test_notes() -> None:
    """What `sealwire allowlist check` says of each."""
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
        (Module, "modules are no data"),
        (Bare, "has no members"),
        (Reduced, "__reduce_ex__ of its own"),
    ],
)
def test_types_that_cannot_be(thing: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Allowlist(thing)


def test_a_model_is_always_validated_deeply() -> None:
    with pytest.raises(ConfigurationError, match="always deeply"):
        Allowlist().allow(Hooked, validate="shallow")


def test_the_parts_of_an_exception_are_in_the_path() -> None:
    error = ValueError("a", object())
    error.detail = 1  # type: ignore[attr-defined]  # what the test is about
    with pytest.raises(EncodeError, match=r"^\$\.args\[1\]: object is not on the allowlist"):
        CODEC.encode(error)
    error = ValueError("a")
    error.detail = [object()]  # type: ignore[attr-defined]  # wrong, as the test wants it
    with pytest.raises(EncodeError, match=r"^\$\.detail\[0\]: object"):
        CODEC.encode(error)


def test_a_field_that_is_not_there() -> None:
    value = shop.Frozen("a", 1)
    del value.__dict__["size"]
    with pytest.raises(EncodeError, match="not exactly its declared fields"):
        CODEC.encode(value)


def fraction(numerator: int, denominator: int) -> bytes:
    return call("fractions", "Fraction", integer(numerator), integer(denominator))


PRIME = 2**61 - 1
ALIKE = [fraction(3 + PRIME * n * 7, 7) for n in (0, 1)]
FRACTIONS = {
    "in one set": bytes((op.EMPTY_SET, op.MARK)) + ALIKE[0] + ALIKE[1] + bytes((op.ADDITEMS,)),
    "in two sets": list_(*(bytes((op.EMPTY_SET, op.MARK)) + each + bytes((op.ADDITEMS,)) for each in ALIKE)),
    "in a set that is called": call("builtins", "set", list_(*ALIKE)),
    "in two sets that are called": list_(*(call("builtins", "set", list_(each)) for each in ALIKE)),
    "in tuples": dict_(*((tuple_(each), NONE) for each in ALIKE)),
    "in tuples of two frozensets": list_(
        *(bytes((op.MARK,)) + tuple_(each) + bytes((op.FROZENSET,)) for each in ALIKE)
    ),
    "in named tuples": dict_(
        *((name(SHOP, "Pair") + tuple_(integer(1), each) + bytes((op.NEWOBJ,)), NONE) for each in ALIKE)
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", FRACTIONS)
def test_fractions_that_collide(where: str) -> None:
    """From CPython 3.12 on the hashes of all of them are kept in one table, found by a pair that a peer chooses."""
    assert hash((3, 7)) == hash((3 + PRIME * 7, 7))
    with pytest.raises(MalformedPickle, match="fractions collide"):
        CODEC.decode(message(FRACTIONS[where]))


def test_fractions_whose_pairs_follow_one_another() -> None:
    """No two have the same hash, but they meet in the same slots."""
    pairs = [(hash((n, 7)) & -(1 << 40) | 1, n, 7) for n in range(1, 3000)]
    with pytest.raises(LimitExceeded, match="max_probes"):
        check_pairs(pairs, 8)


def test_numbers_of_equal_hashes_that_are_honest_keys() -> None:
    """CPython gives -1 the hash of -2."""
    for protocol in range(2, 6):
        for value in (
            {Fraction(-1, 3), Fraction(-2, 3)},
            [{Fraction(-1, 3): 1}, {Fraction(-2, 3): 1}, {Fraction(-1, 3): 1}],
            {Fraction(-1), Fraction(-2), Decimal("0.5")},
            {(Decimal(-1), 1): 0, (Decimal(-2), 1): 1},
            {(-1, Decimal(5)), (-2, Decimal(5))},
            {(Fraction(x), Decimal(y), z) for x in range(-3, 3) for y in range(-3, 3) for z in range(-3, 3)},
        ):
            assert CODEC.decode(pickle.dumps(value, protocol)) == value
            assert CODEC.decode(CODEC.encode(value)) == value


def test_numbers_of_equal_hashes_that_take_long_to_compare() -> None:
    long = Decimal("9" * 4000)
    for pair in (
        (long, Fraction(9 * (10**4000 - 1) // 9)),
        ((long, Decimal(-1)), (long, Decimal(-2))),
        ((Fraction(10**300, 7), -1), (Fraction(10**300, 7), -2)),
        ((Decimal("1E+300"), -1), (Decimal("1E+300"), -2)),
        tuple(Decimal(3 + PRIME * n) for n in range(2)),
    ):
        assert hash(pair[0]) == hash(pair[1])
        with pytest.raises(MalformedPickle, match="the same hash"):
            check_built_keys(list(pair), is_set=False, max_probes=32)
    many = [(*map(Decimal, each), 7) for each in itertools.product((-1, -2), repeat=4)]
    with pytest.raises(MalformedPickle, match="the same hash"):
        check_built_keys(many, is_set=False, max_probes=32)


class Moody:
    """Its hash, or comparison, raises what it likes."""

    def __init__(self, error: str) -> None:
        self.error = error

    def __hash__(self) -> int:
        if self.error == "hash":
            raise RuntimeError("secret")
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("secret")


@pytest.mark.parametrize("errors", [["hash"], ["eq", "eq "]])
def test_keys_whose_own_methods_raise(errors: list[str]) -> None:
    codec = Codec(Allowlist().register(Moody, dump=lambda value: (value.error,), load=Moody))
    keys = [call(HERE, "Moody", text(error)) for error in errors]
    for data in (
        dict_(*((key, NONE) for key in keys)),
        bytes((op.MARK,)) + b"".join(keys) + bytes((op.FROZENSET,)),
        dict_(*((tuple_(key), NONE) for key in keys)),
        call("builtins", "set", list_(*keys)),
        # Where an object is a key, all calls are made at the end.
        tuple_(dict_((fraction(1, 3), NONE)), call("builtins", "frozenset", list_(*keys))),
    ):
        with pytest.raises(InvalidValue, match=r"a key that cannot be hashed or compared \(RuntimeError\)$"):
            codec.decode(message(data))


def test_large_keys_are_charged_each_time() -> None:
    """A tuple of many objects is hashed by both passes, in each dict that it is a key of."""
    key = tuple_(*[NONE] * 5000) + bytes((op.MEMOIZE,))
    again = bytes((op.BINGET, 0))
    dicts = b"".join(
        bytes((op.EMPTY_DICT,)) + (key if not n else again) + NONE + bytes((op.SETITEM,)) for n in range(99)
    )
    data = message(op.EMPTY_LIST, op.MARK, dicts, op.APPENDS)
    with pytest.raises(LimitExceeded, match="max_expanded_nodes: its keys"):
        Codec(limits=Limits(max_expanded_nodes=1_000_000)).decode(data)


def test_instances_unfold_within_the_limit() -> None:
    state = dict_((text("name"), text("a")), (text("size"), integer(1)))
    data = message(instance(SHOP, "Frozen", state))
    assert Codec(Allowlist(shop.Frozen), limits=Limits(max_expanded_nodes=6)).decode(data) == shop.Frozen("a", 1)
    with pytest.raises(LimitExceeded, match="max_expanded_nodes"):
        Codec(Allowlist(shop.Frozen), limits=Limits(max_expanded_nodes=5)).decode(data)


def test_dtypes_of_unknown_shape() -> None:
    good = pickle.dumps(np.dtype("M8[s]"), 4)
    assert OWN.decode(good) == np.dtype("M8[s]")
    for bad in (good.replace(b"M8", b"M9"), pickle.dumps(np.dtype(("i4", (2,))), 4).replace(b"V8", b"V9")):
        with pytest.raises(DecodeError):
            OWN.decode(bad)


BASE = np.dtype("i4")
DTYPES = {
    "a subarray without shape": ("V8", (3, "|", (BASE, 2), None, None, 8, 1, 0)),
    "a subarray of another size": ("V8", (3, "|", (BASE, (3,)), None, None, 8, 1, 0)),
    "a field with a title": ("V4", (3, "|", None, ("a",), {"a": (BASE, 0, "title")}, 4, 1, 0)),
}


@pytest.mark.parametrize(("form", "state"), DTYPES.values(), ids=DTYPES)
def test_odd_dtypes(form: str, state: Any) -> None:
    with pytest.raises(InvalidValue):
        OWN.decode(pickle.dumps(AsDtype(form, *state), 4))


def test_a_class_that_was_replaced_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    value = Late(1)
    monkeypatch.setitem(globals(), "Late", HookedStruct)
    with pytest.raises(EncodeError, match="cannot be pickled"):
        OWN.encode(value)


def test_two_types_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Allowlist(Late)
    other = dataclass(type("Late", (), {"__annotations__": {"a": int}, "__module__": HERE}))
    monkeypatch.setitem(globals(), "Late", other)
    with pytest.raises(ConfigurationError, match="two types of the name"):
        first.allow(other)


def test_a_copy_of_a_cached_instance() -> None:
    """What stands in a pickle for copyreg's function makes an instance, if somebody calls it."""
    value = shop.Cached(2)
    assert value.twice == 4
    (adapter,) = Allowlist(shop.Cached).adapters
    function, arguments, state = adapter.reduce(value)
    made = function(*arguments)
    made.__dict__.update(state)
    assert made == value


def test_no_memory_for_the_vetting_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("sealwire.pickling.unpickler.outline", exhausted)
    with pytest.raises(LimitExceeded, match="max_memory: there is not enough memory"):
        CODEC.decode(memoryview(bytearray(pickle.dumps(bytes(100_000), 5))))


def test_bytes_as_an_array() -> None:
    assert OWN.decode(OWN.encode(np.frombuffer(b"abc", "u1"))).tobytes() == b"abc"
    with pytest.raises(InvalidValue):
        OWN.decode(message(call("numpy._core.numeric", "_frombuffer", blob(b"abc"), NONE, NONE, NONE)))


class Lax(pydantic.BaseModel):
    """Defaults that are not of their annotated types, which pydantic does not mind."""

    rate: float = 1
    name: str = None  # type: ignore[assignment]  # as people write it
    items: list[int] = pydantic.Field(default=[])
    token: uuid.UUID = pydantic.Field(default_factory=uuid.uuid4)


def test_defaults_that_a_model_does_not_validate() -> None:
    codec = Codec(Allowlist(Lax))
    shared: list[int] = []
    value = Lax()
    value.__dict__["items"] = shared
    for protocol in range(2, 6):
        got, other = codec.decode(pickle.dumps([value, shared], protocol))
        assert (got, type(got.rate), got.name, got.model_fields_set) == (value, int, None, set())
        assert got.items is other
        assert got.items is not Lax.model_fields["items"].default
    state = pickle.dumps(value, 3)
    assert codec.decode(state) == value
    for bad in (b"K\2", b"\x88"):
        with pytest.raises(InvalidValue, match=r"these values|values of these"):
            codec.decode(state.replace(b"K\1", bad))
    with pytest.raises(InvalidValue, match="other values of these"):
        codec.decode(pickle.dumps(Lax.model_construct(rate=1, name="a"), 3))


def test_exceptions_with_the_attributes_of_their_kind() -> None:
    codec = Codec(Allowlist(ImportError, ModuleNotFoundError, AttributeError))
    values: list[Exception] = [ImportError("a", name="b", path="c"), ModuleNotFoundError("a", name="b"), ImportError()]
    try:
        None.missing  # type: ignore[attr-defined]  # noqa: B018 - wrong, as the test wants it
    except AttributeError as error:
        values.append(error)
    for value in values:
        for protocol in range(3, 6):
            got = codec.decode(pickle.dumps(value, protocol))
            assert type(got) is type(value)
            assert got.__reduce__() == value.__reduce__()
        assert repr(codec.decode(codec.encode(value))) == repr(value)
    data = pickle.dumps(ImportError("a", name="b"), 3)
    with pytest.raises(InvalidValue, match="its name must be str"):
        codec.decode(data.replace(b"X\1\0\0\0b", b"]"))
    with pytest.raises(InvalidValue, match="another exception"):
        codec.decode(data.replace(b"name", b"mane"))


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
