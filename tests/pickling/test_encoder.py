"""encode refuses what decode would, and says where it is."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import pickle
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pickling.values import texts
from sealwire.codec import Codec
from sealwire.errors import DecodeError, EncodeError
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder, Encoder
from support.titles import title

DECODER = Decoder(Allowlist(), Limits())
ENCODER = Encoder(Allowlist(), Limits(), DECODER)
NAN = float("nan")


@dataclass(frozen=True)
class Money:
    amount: int


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


class Blob(bytes):
    pass


class Mapping(dict):
    pass


class Zone(datetime.tzinfo):
    def utcoffset(self, _):
        return datetime.timedelta(0)


class Dated(datetime.tzinfo):
    """Like most zones, without an offset if there is no date."""

    def utcoffset(self, moment):
        return moment and datetime.timedelta(hours=moment.month)


def nameless():
    """A ZoneInfo that was read from a file: it has no key."""
    path = next(found for place in zoneinfo.TZPATH if (found := pathlib.Path(place, "Europe/Lisbon")).exists())
    with path.open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file)


class Hostile:
    def __reduce__(self):
        raise AssertionError("no method of it may run")

    __reduce_ex__ = __eq__ = __hash__ = None


def nest(levels, kind):
    value = None
    for _ in range(levels):
        value = kind(value)
    return value


cycle_list = [1]
cycle_list.append(cycle_list)
cycle_dict = {"a": [{}]}
cycle_dict["a"][0]["b"] = cycle_dict
cycle_tuple = ([],)
cycle_tuple[0].append(cycle_tuple)
with_attribute = OrderedDict(a=1)
with_attribute.extra = 5
NOT_LISTED = f"{__name__}.%s is not on the allowlist"

REFUSED = {
    "the example": ({"items": [1, 2, 3, {"price": Money(1)}]}, "$.items[3].price: " + NOT_LISTED % "Money"),
    "IntEnum": ([Number.ONE], "$[0]: " + NOT_LISTED % "Number"),
    "IntEnum as a key": ({Number.ONE: 1, 2: 3}, "$.<key 0>: " + NOT_LISTED % "Number"),
    "str subclass": ({"a": Text("x")}, "$.a: " + NOT_LISTED % "Text"),
    "str subclass as a key": ({Text("a"): 1}, "$.<key 0>: " + NOT_LISTED % "Text"),
    "bytes subclass": ((1, Blob(b"x")), "$[1]: " + NOT_LISTED % "Blob"),
    "dict subclass": (deque([Mapping()]), "$[0]: " + NOT_LISTED % "Mapping"),
    "no method runs": ([[Hostile()]], "$[0][0]: " + NOT_LISTED % "Hostile"),
    "a class": ({"t": int}, "$.t: the class int is not on the allowlist"),
    "a function": (
        [len],
        "$[0]: builtin_function_or_method is not on the allowlist; send plain data, such as its name, in its place",
    ),
    "getattr": (
        [getattr],
        "$[0]: builtin_function_or_method is not on the allowlist; send plain data, such as its name, in its place",
    ),
    "an object": (object(), "$: object is not on the allowlist; send plain data, such as its name, in its place"),
    "NotImplemented": (NotImplemented, "$: NotImplementedType is not on the allowlist"),
    "an exception": (ValueError(), "$: ValueError is not on the allowlist"),
    "range": ({"a": range(3)}, "$.a: range is not on the allowlist; send a list or dict of what is in it"),
    "a key that is no name": ({"a b": Money(1)}, "$.<value 0>: " + NOT_LISTED % "Money"),
    "a key that is long": ({"k" * 65: Money(1)}, "$.<value 0>: " + NOT_LISTED % "Money"),
    "a key that is a number": ({5: 1, 6: Money(1)}, "$.<value 1>: " + NOT_LISTED % "Money"),
    "in a set": ({Money(1)}, "$[0]: " + NOT_LISTED % "Money"),
    "in an OrderedDict": (OrderedDict(x=Counter(y=Money(1))), "$.x.y: " + NOT_LISTED % "Money"),
    "in a defaultdict": (defaultdict(list, x=Money(1)), "$.x: " + NOT_LISTED % "Money"),
    "factory": ({"x": defaultdict(Money)}, f"$.x: the class {NOT_LISTED % 'Money'}"),
    "factory that is a function": ([defaultdict(lambda: 1)], "$[0]: function is not on the allowlist"),
    "factory that needs arguments": ([defaultdict(uuid.UUID)], "$[0]: the factory uuid.UUID cannot be sent; "),
    "time zone": ([Zone()], "$[0]: " + NOT_LISTED % "Zone"),
    "time zone without an offset": ([datetime.time(1, tzinfo=Dated())], "$[0]: datetime.time: its zone of type "),
    "attribute": ([with_attribute], "$[0]: an OrderedDict with attributes of its own"),
    "cycle of a list": ({"x": cycle_list}, "$.x[1]: a cycle: it contains itself"),
    "cycle of a dict": (cycle_dict, "$.a[0].b: a cycle: it contains itself"),
    "cycle of a tuple": (cycle_tuple, "$[0][0]: a cycle: it contains itself"),
    "too deep": (nest(101, lambda value: [value]), "nested deeper than max_depth (100 levels)"),
    "too deep for pickle": (nest(5000, lambda value: {"a": value}), "nested deeper than max_depth (100 levels)"),
    "lone surrogate": ({"x": ["ok", "\ud800"]}, "$.x[1]: a str is not UTF-8, or has a lone surrogate"),
    "lone surrogate in a key": ({"\udc00": 1}, "$.<key 0>: a str is not UTF-8, or has a lone surrogate"),
    "lone surrogate in a large str": ({"x": ["ok", "a" * 2**20 + "\ud800"]}, "$.x[1]: a str is not UTF-8"),
    "lone surrogate beside a large str": (["a" * 2**20, {"\ud800"}], "$[1]"),
    "lone surrogate in a key beside a large str": ({"\udc00": "a" * 2**20}, "$.<key 0>: a str is not UTF-8"),
    "lone surrogate of a date": ([datetime.timezone(datetime.timedelta(1 / 2), "\ud800")], "$[0]: a str is not"),
    "NaN as a key": ({"x": {NAN: 1}}, "$.x: NaN as a key"),
    "NaN in a set": ([{NAN}], "$[0]: NaN as a key"),
    "NaN in a tuple as a key": ({(1, NAN): 1}, "$: NaN as a key"),
    "NaN of Decimal as a key": ({decimal.Decimal("NaN"): 1}, "$: NaN as a key"),
    "signalling NaN": ([decimal.Decimal("sNaN")], "$[0]: decimal.Decimal: a signalling NaN"),
    "exponent": ([decimal.Decimal("1E+6145")], "$[0]: decimal.Decimal: an exponent over 6144"),
    "integer": ({"x": {"y": 2**14_284}}, "$.x.y: max_integer_bits: "),
    "integer in a key": ({2**14_284: 1}, "$.<key 0>: max_integer_bits: "),
    "integer in a set": ({1, -(2**14_284)}, ": max_integer_bits: "),
    "bytes": ([bytes(17 * 2**20)], "$[0]: max_frame: the message has 178"),
    "colliding keys": ({"x": {n * (2**61 - 1): 1 for n in range(1, 2000)}}, "$.x: max_probes: "),
    "colliding elements": ([{n * (2**61 - 1) for n in range(1, 2000)}], "$[0]: max_probes: "),
    "shared over and over": (nest(40, lambda value: (value, value)), "$: max_expanded_nodes: "),
}


@pytest.mark.parametrize(("value", "expected"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("encode", [ENCODER.encode, Codec().encode], ids=["encoder", "codec"])
def test_refused(value, expected, encode):
    with pytest.raises(EncodeError) as error:
        encode(value)
    message = str(error.value)
    assert expected in message
    assert message.startswith("$")
    assert len(message) < 400


@pytest.mark.parametrize("zone", [Zone(), Dated(), nameless()], ids=title)
def test_zones_of_other_types_are_sent_as_offsets(zone):
    for value in (datetime.datetime(2027, 3, 1, 2, tzinfo=zone, fold=1), datetime.time(1, tzinfo=zone)):
        if value.utcoffset() is not None:
            (found,) = DECODER.decode(ENCODER.encode([value]))
            assert (found.replace(tzinfo=None), found.utcoffset()) == (value.replace(tzinfo=None), value.utcoffset())
            assert found.fold == value.fold


def test_a_long_path_is_cut_in_the_middle():
    with pytest.raises(EncodeError) as error:
        ENCODER.encode(nest(90, lambda value: {"identifier": value or Money(1)}))
    path, _, why = str(error.value).partition(": ")
    assert why.startswith(NOT_LISTED % "Money")
    assert path.startswith("$.identifier.")
    assert path.endswith(".identifier")
    assert len(path) < 170


@pytest.mark.parametrize(
    ("limits", "value"),
    [
        ({"max_depth": 3}, [[[[]]]]),
        ({"max_nodes": 50}, ["x"] * 60),
        ({"max_expanded_nodes": 50}, list(range(60))),
        ({"max_memory": 10_000}, [[] for _ in range(60)]),
        ({"max_memory": 10_000}, "x" * 9000),
        ({"max_integer_bits": 40}, [2**40]),
        ({"max_integer_bits": 40}, ["x", 2**40]),
        ({"max_integer_bits": 3000}, [2**3000]),
        ({"max_integer_bits": 3000}, {2**3000: "x"}),
        ({"max_string": 10}, ["x" * 11]),
        ({"max_string": 1000}, ["x" * 1001]),
        ({"max_string": 1000}, [b"x" * 1001]),
        ({"max_frame": 1200}, b"x" * 1200),
        ({"max_probes": 8}, {n * (2**61 - 1) for n in range(1, 200)}),
        ({"max_probes": 8}, {n * (2**61 - 1): 1 for n in range(1, 40)}),
        ({"max_probes": 8}, {n << 40: 1 for n in range(1, 4000)}),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) and isinstance(next(iter(each)), str) else "",
)
def test_limits(limits, value):
    Codec(limits=Limits(max_probes=1024)).encode(value)
    codec = Codec(limits=replace(Limits(), **limits))
    with pytest.raises(EncodeError, match=f"{next(iter(limits))}"):
        codec.encode(value)
    with pytest.raises(DecodeError):
        codec.decode(pickle.dumps(value, 5))


# What is near each limit of a small codec, so that both sides of each are met.
SMALL = Limits(
    max_depth=4,
    max_nodes=60,
    max_expanded_nodes=50,
    max_memory=9000,
    max_integer_bits=70,
    max_string=40,
    max_probes=8,
    max_frame=1184,
)
small = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**75), 2**75)
    | st.floats()
    | texts
    | st.text(max_size=5)
    | st.binary(max_size=45)
    | st.just("퟿")
    | st.just(b"\xed\xa0\x80")
    | st.decimals()
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=12)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.integers(0, 40).map(lambda n: n * (2**61 - 1)) | st.floats() | st.text(max_size=3), inner, max_size=30
        )
        | st.sets(st.integers(0, 2**70) | st.floats() | st.booleans() | st.tuples(st.floats()), max_size=12)
        | st.frozensets(st.binary(max_size=3), max_size=5)
        | inner.map(lambda item: [item, item, item])
    ),
    max_leaves=30,
)


@settings(max_examples=250)
@example([2**71])
@given(small)
def test_encode_refuses_exactly_what_decode_refuses(value):
    codec = Codec(limits=SMALL)
    data = pickle.dumps(value, 5)
    try:
        codec.decode(data)
    except DecodeError:
        with pytest.raises(EncodeError):
            codec.encode(value)
        with pytest.raises(EncodeError):
            codec._encoder.encode(value)
    else:
        assert codec.encode(value) == codec._encoder.encode(value) == data


class Dated(datetime.tzinfo):
    """Like most zones, without an offset if there is no date."""

    def utcoffset(self, moment):
        return moment and datetime.timedelta(hours=moment.month)


class Hostile:
    """Misbehaves whatever it is asked for."""

    asked: ClassVar[list[str]] = []

    def __getattribute__(self, name):
        Hostile.asked.append(name)
        raise ZeroDivisionError

    def __reduce_ex__(self, protocol):
        raise AssertionError

    __eq__ = __hash__ = __repr__ = __bool__ = __len__ = __iter__ = __reduce_ex__


class HostileType(type):
    def __hash__(cls):
        raise ZeroDivisionError

    def __instancecheck__(cls, instance):
        raise ZeroDivisionError


class OfHostileType(metaclass=HostileType):
    pass


@pytest.mark.parametrize("make", [Hostile, lambda: Hostile, OfHostileType, lambda: OfHostileType])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [1, v], lambda v: {"k": (v,)}])
def test_none_of_a_values_own_code_runs(make, wrap):
    with pytest.raises(EncodeError):
        Codec().encode(wrap(make()))
    assert Hostile.asked == []


@pytest.mark.parametrize("value", [pickle.PickleBuffer(b"abc"), memoryview(b"abc")])
def test_buffers_are_their_bytes(value):
    assert Codec().decode(Codec().encode([value])) == [b"abc"]
