"""Every accepted value comes back: from each protocol, from both of CPython's picklers, by every form of buffer."""

from __future__ import annotations

import datetime
import decimal
import fractions
import pathlib
import pickle
import uuid
from collections import Counter, OrderedDict, defaultdict, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pickling.values import DUMPS, PROTOCOLS, hashable, same, values
from sealwire import EncodeError, Limits
from sealwire.codec import Codec, decode, encode

LONG_WAY = Codec()._decoder.decode


@settings(max_examples=120)
@given(values)
def test_encode_then_decode(value):
    data = encode(value)
    assert same(decode(data), value)
    assert same(LONG_WAY(data), value)
    assert same(pickle.loads(data), value)


@settings(max_examples=120)
@given(values, st.sampled_from(PROTOCOLS), st.sampled_from(DUMPS))
def test_decode_stands_where_pickle_loads_stood(value, protocol, dumps):
    data = dumps(value, protocol)
    # Protocol 2 and 3 lose the fold of a datetime; pickle itself is the measure.
    assert same(LONG_WAY(data), pickle.loads(data))


SPECIAL = {
    "empty batch": {f"key {n}": n for n in range(5000)},
    "integers as keys": {n: -n for n in range(3000)},
    "sparse integers as keys": {n * 7919: None for n in range(3000)},
    "keys in batches, str first": {**{f"k{n}": n for n in range(1500)}, **{n: n for n in range(1500)}},
    "set in batches": set(range(3000)),
    "set of 1000": set(range(1000)),
    "frozenset": frozenset(range(0, 30_000, 7)),
    "long str": "x" * 70_000,
    "long str in UTF-8": "é\u1234\U0001f600퟿" * 20_000,
    "short str in UTF-8": ["é\u1234\U0001f600\ud7ff"] * 2,
    "long bytes": bytes(range(256)) * 1000,
    "long bytearray": bytearray(bytes(range(256)) * 1000),
    "bytes in Latin-1": b"\x80\xff",
    "empty": [b"", bytearray(), "", (), [], {}, set(), frozenset()],
    "integers": [
        0,
        255,
        256,
        65_535,
        65_536,
        -1,
        2**31 - 1,
        2**31,
        -(2**31),
        -(2**31) - 1,
        2**2039,
        2**2040,
        2**14_283,
    ],
    "alike dicts": [{"id": n, "name": f"n{n}", "price": n / 2} for n in range(300)],
    "many memo entries": [[str(n), (n, str(n))] for n in range(400)],
    "deque in batches": deque(range(2500), 3000),
    "deque that is full": [deque(range(2500), 2500), deque([1], 1), deque(maxlen=0)],
    "OrderedDict in batches": OrderedDict((n, n) for n in range(2500)),
    "defaultdict": defaultdict(frozenset, {(1, 2): [3], uuid.UUID(int=4): 5}),
    "factories": [
        defaultdict(factory, a=factory())
        for factory in (
            Counter,
            OrderedDict,
            defaultdict,
            deque,
            decimal.Decimal,
            fractions.Fraction,
            pathlib.PosixPath,
        )
    ],
    "a factory beside instances as keys": {uuid.UUID(int=1): defaultdict(Counter, {uuid.UUID(int=2): Counter("a")})},
    "counter of objects": Counter({uuid.UUID(int=4): 5, (1, uuid.UUID(int=4)): 6, "x": 7}),
    "counter of tuples and an instance": [Counter({(1, 2): 3}), uuid.UUID(int=4), deque([uuid.UUID(int=1)])],
    "objects as keys": {
        datetime.date(2024, 1, 1): 1,
        decimal.Decimal("1.5"): uuid.UUID(int=9),
        frozenset([uuid.UUID(int=1), b""]): [uuid.UUID(int=1)],
        b"": OrderedDict({uuid.UUID(int=3): 1}),
        b"\xff": {uuid.UUID(int=3), "x", (decimal.Decimal(3),)},
    },
    "set of instances": {uuid.UUID(int=n) for n in range(50)},
    "tuples with instances": (1, (2, (uuid.UUID(int=1),))),
    "decimals": [
        decimal.Decimal(text) for text in ("0", "-0.00", "1E+6144", "1E-6144", "NaN", "-Infinity", "9" * 4300)
    ],
    "a path": pathlib.Path("/var/log"),
}


@pytest.mark.parametrize("value", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dumps", DUMPS, ids=["C", "Python"])
def test_special_cases(value, protocol, dumps):
    data = dumps(value, protocol)
    assert same(LONG_WAY(data), value)
    assert same(LONG_WAY(bytearray(data)), value)
    assert same(LONG_WAY(memoryview(b"head" + data + b"tail")[4:-4]), value)
    assert same(LONG_WAY(memoryview(bytearray(b"head" + data + b"tail"))[4:-4]), value)


@pytest.mark.parametrize("value", SPECIAL.values(), ids=SPECIAL)
def test_special_cases_are_encoded(value):
    assert same(pickle.loads(encode(value)), value)


def test_a_buffer_that_is_not_contiguous():
    data = pickle.dumps({"x": [1, 2]}, 5)
    spread = bytes(byte for each in data for byte in (each, 0))
    assert decode(memoryview(spread)[::2]) == {"x": [1, 2]}


def test_a_view_of_whole_bytes_is_read_as_the_bytes():
    data = pickle.dumps(["x" * 100_000, {"y": 1}], 5)
    assert decode(memoryview(data)) == ["x" * 100_000, {"y": 1}]


def test_what_is_shared_stays_shared():
    shared, key = [1], uuid.UUID(int=7)
    for value in ([shared, shared, (shared,)], {"a": shared, "b": shared, "c": (shared,)}):
        made = list(decode(encode(value)).values()) if isinstance(value, dict) else decode(encode(value))
        assert made[0] is made[1] is made[2][0]
    first, second, counted = decode(encode([key, key, {key: key}]))
    assert first is second is next(iter(counted)) is counted[key]


@settings(max_examples=100)
@given(st.lists(hashable, max_size=30))
def test_objects_as_keys_are_found_again(keys):
    value = dict.fromkeys(keys, 1)
    made = decode(encode(value))
    assert all(made[key] == 1 for key in keys)
    assert made == value


def test_a_million_ints_by_default() -> None:
    value = list(range(1_000_000))
    assert Codec().decode(Codec().encode(value)) == value


def test_the_error_names_the_option() -> None:
    with pytest.raises(EncodeError, match=r"max_nodes: .*; set the limit max_nodes higher"):
        Codec(limits=Limits(max_nodes=1000)).encode([0] * 2000)
