"""The decoder accepts all that the survey is sure of; and the survey is in doubt only near a limit."""

from __future__ import annotations

import pickle
import random
import uuid
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pickling.values import same
from pickling.values import values as any_values
from sealwire.codec import Codec
from sealwire.errors import DecodeError, EncodeError
from sealwire.limits import Limits
from sealwire.native import NATIVE

if not NATIVE:
    pytest.skip("the native core is not there", allow_module_level=True)

PRIME = 2**61 - 1
SOURCE = random.Random(7)
CODEC = Codec()


def surely(value: object, **limits: int) -> Any:
    """The pickle, or its pieces, if the survey is sure."""
    codec = Codec(limits=replace(Limits(), **limits)) if limits else CODEC
    return codec._encoder.encode_surely(value)


SURE = {
    "None": None,
    "a request": {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5, "é": "\ud7ff\ue000"},
    "each kind": [(1, 2.5, None), {3, 4}, frozenset([b"x"]), bytearray(b"y"), {1: 2, None: 3, 2.5: 4, b"k": 5}],
    "dense keys": {n: n for n in range(2000)},
    "sparse keys": {SOURCE.getrandbits(40): n for n in range(3000)},
    "negative keys": {-n: n for n in range(300)},
    "float keys": {SOURCE.random(): n for n in range(500)},
    "mixed keys": {key: key for n in range(99) for key in (n, f"{n}", n + 0.5, bytes([n]))},
    "wide keys": {(1 << 120) + n: n for n in range(9)},
    "a large set": {SOURCE.getrandbits(30) for _ in range(3000)},
    "many dicts": [{"id": n, "name": f"item{n}", "price": n * 1.5} for n in range(5000)],
    "many ints": list(range(50_000)),
    "wide ints": [1 << 63, -(1 << 63), 1 << 14_000, -(1 << 14_000)],
    "floats": [float("nan"), float("inf"), -0.0],
    "bytes": [b"x" * 5000, bytes(70_000), bytearray(70_000), bytes([0xED, 0xA0, 0x80])],
    "shared": [[1, "x"]] * 100,
    "empty": [{}, [], (), set(), frozenset(), "", b"", bytearray()],
    "deep": [[[[[[[{"x": ([[{1: ()}]],)}]]]]]]],
}


@pytest.mark.parametrize("value", SURE.values(), ids=SURE)
def test_plain_data_is_sure(value: object) -> None:
    assert surely(value) == pickle.dumps(value, 5)
    assert same(CODEC.decode(surely(value)), value)


class Hostile:
    """Misbehaves whatever it is asked for."""

    asked: ClassVar[list[str]] = []

    def __getattribute__(self, name: str) -> Any:
        Hostile.asked.append(name)
        raise ZeroDivisionError

    __eq__ = __hash__ = __repr__ = __bool__ = __len__ = __iter__ = __reduce_ex__ = None  # nothing may be called


class OfHostileType(type):
    def __hash__(cls) -> int:
        raise ZeroDivisionError

    def __eq__(cls, other: object) -> bool:
        raise ZeroDivisionError


class Text(str):
    __slots__ = ()


cycle: list[Any] = [1]
cycle.append(cycle)
twice: list[Any] = []
twice += [twice, twice]

DOUBT = {
    "surrogate": "\ud800",
    "surrogate in a key": {"\udfff": 1},
    "surrogate in a set": {"x", "\udfff"},
    "surrogate in a long str": ["é" * 70_000 + "\ud800"],
    "NaN as a key": {float("nan"): 1},
    "NaN in a set": {1, float("nan")},
    "colliding keys": {n * PRIME: n for n in range(1, 2000)},
    "colliding elements": {n * PRIME for n in range(1, 3000)},
    "a tuple as a key": {(1, 2): 3},
    "a key that is wide": {1 << 128: 1},
    "an integer": [1 << 14_284],
    "an integer as a key": {1 << 14_284: 1},
    "a cycle": cycle,
    "a cycle that doubles": twice,
    "another type": [uuid.UUID(int=1)],
    "a subclass": [Text("x")],
    "a subclass as a key": {Text("x"): 1},
    "an object": [object()],
    "a hostile object": [1, Hostile()],
    "a hostile class": [OfHostileType("X", (), {})()],
    "a class": [int],
    "large strs": ["x" * (6 << 20), "y" * (6 << 20), "z" * (6 << 20)],
}


@pytest.mark.parametrize("value", DOUBT.values(), ids=DOUBT)
def test_all_else_is_in_doubt(value: object) -> None:
    assert surely(value) is None
    assert Hostile.asked == []


@pytest.mark.parametrize(
    ("name", "enough", "value"),
    [
        ("max_depth", 3, [[[1]]]),
        ("max_depth", 4, {"a": ({"b": {1}},)}),
        ("max_depth", 2, [[bytearray(b"x"), ()]]),
        ("max_expanded_nodes", 4, [1, 2, 3]),
        ("max_expanded_nodes", 7, {"a": [1, 2], 3: 4}),
        ("max_expanded_nodes", 9, [[(1, 2)] * 2, 1]),
        ("max_nodes", 10_050, list(range(10_000))),
        ("max_string", 300, "x" * 300),
        ("max_string", 300, "é" * 150),
        ("max_string", 3, ["abc"]),
        ("max_string", 300, [bytes(300)]),
        ("max_string", 4, {bytes(4): bytearray(4)}),
        ("max_integer_bits", 70, [1 << 69, -(1 << 70) + 1]),
        ("max_integer_bits", 40, [(1 << 40) - 1]),
        ("max_integer_bits", 40, {(1 << 40) - 1: 1}),
        ("max_integer_bits", 62, frozenset([1 << 61, 7])),
        ("max_frame", 1300, bytes(1300 - 52 - 18)),
    ],
)
def test_limits(name: str, enough: int, value: object) -> None:
    """With one less of each limit, the decoder refuses; with enough, it accepts."""
    data = pickle.dumps(value, 5)
    Codec(limits=replace(Limits(), **{name: enough})).decode(data)
    with pytest.raises(DecodeError, match=name):
        Codec(limits=replace(Limits(), **{name: 7_000 if name == "max_nodes" else enough - 1})).decode(data)
    assert surely(value, **{name: 7_000 if name == "max_nodes" else enough - 1}) is None
    if name == "max_nodes":
        enough *= 3  # it counts two opcodes for a number
    elif name == "max_expanded_nodes" and type(value) is dict:
        enough += 1  # the decoder does not count the dict itself
    assert surely(value, **{name: enough}) == data


@pytest.mark.parametrize(
    "value",
    [
        [(f"a{n}", f"b{n}", f"c{n}") for n in range(300)], {f"a{n}": f"b{n}" for n in range(999)}, {"a": 1},
        [[]] * 3, [[] for _ in range(50)], [{} for _ in range(50)], [{n: n} for n in range(50)],
        {n: str(n) for n in range(99)}, set(range(99)), [frozenset([n]) for n in range(50)], [(n,) for n in range(300)],
        [bytearray(3) for _ in range(50)], "x" * 3000, bytes(3000), "é" * 2000, [b"x" * 200 for _ in range(30)],
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_memory(value: object) -> None:
    """A value that is surely accepted is accepted, at any limit; and four times what it needs is surely enough."""
    data = pickle.dumps(value, 5)
    low, high = 1, 1 << 30
    while low < high:
        middle = (low + high) // 2
        try:
            Codec(limits=replace(Limits(), max_memory=middle)).decode(data)
        except DecodeError:
            low = middle + 1
        else:
            high = middle
    assert surely(value, max_memory=low - 1) is None
    assert surely(value, max_memory=4 * low) == data


TIGHT = Limits(
    max_depth=5, max_nodes=120, max_expanded_nodes=150, max_memory=20_000, max_string=300, max_integer_bits=100,
    max_probes=8, max_frame=1500,
)  # fmt: skip
small = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**110), 2**110) | st.floats() | st.text(max_size=100)
    | st.binary(max_size=400) | st.binary(max_size=400).map(bytearray) | st.text("é\ud800", max_size=40),
    lambda inner: (
        st.lists(inner, max_size=12)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(
            st.integers(-40, 40).map(lambda n: n * PRIME) | st.integers(-3, 40) | st.floats() | st.text(max_size=3),
            inner, max_size=40,
        )
        | st.sets(st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.integers(-90, 90).map(PRIME.__mul__))
        | st.frozensets(st.binary(max_size=3) | st.none(), max_size=5)
        | inner.map(lambda item: [item, item, item])
    ),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@example({-1: 0, -2: 0})
@example([2**101])
@given(small)
def test_what_is_surely_accepted_is_accepted(value: object) -> None:
    for limits in (TIGHT, Limits()):
        codec = Codec(limits=limits)
        data = codec._encoder.encode_surely(value)
        if data is not None:
            assert data == pickle.dumps(value, 5)
            assert same(codec.decode(data), value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(any_values)
def test_both_ways_write_the_same_bytes_and_the_same_errors(value: object) -> None:
    def outcome(codec: Codec) -> Any:
        try:
            return codec.encode(value)
        except EncodeError as error:
            return str(error)

    checked = Codec()
    checked._encoder.encode_surely = lambda _: None  # switched off
    object.__setattr__(checked, "_encode_surely", lambda _: None)
    assert outcome(CODEC) == outcome(checked)


def test_large_bytes_are_not_copied() -> None:
    content = bytes(1 << 20)
    pieces = surely({"a": [content, bytearray(1 << 17), "x"]})
    assert any(piece is content for piece in pieces)
    assert CODEC.decode(b"".join(pieces)) == {"a": [content, bytearray(1 << 17), "x"]}
    assert type(surely([bytes(1 << 17)])) is bytes
    assert surely(content, max_frame=1 << 20) is None


def test_a_value_that_changes_while_it_is_pickled_does_no_harm() -> None:
    value: list[Any] = [[1]]
    survey = CODEC._encoder.encode_surely
    assert survey(value) == pickle.dumps(value, 5)
    value[0].append(value)
    assert survey(value) is None


@pytest.mark.parametrize("make", [dict.fromkeys, set, frozenset])
def test_keys_of_other_hashes_that_meet_in_one_slot(make: Any) -> None:
    value = make([n << 40 for n in range(2000)])
    with pytest.raises(DecodeError, match="max_probes"):
        Codec(limits=Limits(max_probes=8)).decode(pickle.dumps(value))
    assert surely(value, max_probes=8) is None


def test_str_and_bytes_of_one_content_are_comparable_keys() -> None:
    for value in ({"x" * 9000: 1, b"x" * 9000: 2}, {"x" * 9000, b"x" * 9000, 1}, {5: 1, "x" * 9000: 2, b"x" * 9000: 3}):
        with pytest.raises(DecodeError, match="max_expanded_nodes"):
            Codec(limits=Limits(max_expanded_nodes=1000)).decode(pickle.dumps(value, 5))
        assert surely(value, max_expanded_nodes=1000) is None
        assert surely(value) is not None
