"""The short way admits nothing that the vetting pass refuses, and gives the same values."""

import pickle
import random
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwire.errors import DecodeError
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder
from sealwire.pickling.plain import LARGE, NOT_PLAIN, SMALL, Plain

PLAIN = Plain(Limits())
VETTED = Decoder(Allowlist(), Limits())
REQUEST = {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5, "none": None, "raw": b"\0\xff"}

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=70)
    | st.binary(max_size=70)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(leaves, inner, max_size=5)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=20,
)


def short(plain, value):
    """What goes the short way; None for what does not."""
    data, good = plain.encode(value)
    assert data is None or data == pickle.dumps(value, 5)
    return data if good else None


def vetted(data):
    try:
        return VETTED.decode(data)
    except DecodeError:
        return NOT_PLAIN


def test_a_request_goes_the_short_way():
    data = short(PLAIN, REQUEST)
    assert data == pickle.dumps(REQUEST, 5)
    assert PLAIN.decode(data) == REQUEST


@settings(max_examples=400)
@given(values)
def test_what_it_encodes_is_what_pickle_writes_and_vetting_accepts(value):
    data = short(PLAIN, value)
    if data is not None:
        assert data == pickle.dumps(value, 5)
        assert repr(PLAIN.decode(data)) == repr(vetted(data)) == repr(value)


def agree(data):
    short = PLAIN.decode(data)
    if short is not NOT_PLAIN:
        assert repr(short) == repr(vetted(data)), data
    return short is not NOT_PLAIN


@settings(max_examples=400)
@given(values, st.integers(0, 2**32))
def test_mutants_that_it_admits_vetting_admits(value, seed):
    data = bytearray(pickle.dumps(value, 5))
    random_source = random.Random(seed)
    for _ in range(random_source.randint(1, 3)):
        position = random_source.randrange(len(data))
        kind = random_source.random()
        if kind < 0.4:
            data[position] = random_source.choice(
                b"\x94NKMJ]}()tuseaC\x85\x86\x87\x88\x89.h\x8c" + bytes([data[position] ^ 1])
            )
        elif kind < 0.7:
            del data[position]
        else:
            data.insert(position, random_source.choice(b"\x94N]}()tuseaK."))
    data[3:11] = max(0, len(data) - 11).to_bytes(8, "little")
    agree(bytes(data))


def framed(body):
    return b"\x80\x05\x95" + len(body).to_bytes(8, "little") + body


def test_programs_of_random_opcodes():
    random_source = random.Random(2026)
    pieces = [
        b"\x94",
        b"N",
        b"]",
        b"}",
        b"(",
        b")",
        b"t",
        b"u",
        b"s",
        b"e",
        b"a",
        b"K\1",
        b"\x85",
        b"\x86",
        b"\x8c\1x",
        b"C\0",
    ]
    admitted = sum(
        agree(framed(b"".join(random_source.choices(pieces, k=random_source.randint(1, 9))) + b"."))
        for _ in range(60_000)
    )
    assert admitted > 20


@pytest.mark.parametrize(
    "body",
    [
        b"K\1K\2.",  # left-over stack
        b"N.N.",  # bytes after STOP
        b"}\x94(K\1NK\1Nu.",  # duplicate keys
        b"}\x94(K\1N\x88Nu.",  # 1 and True
        b"}\x94(G\x7f\xf8\0\0\0\0\0\0Nu.",  # NaN as a key
        b"]\x94h\0a.",  # a cycle
        b"]\x94(\x8c\1a\x94h\1e.",  # a reference, good or not
        b"\x8c\3\xed\xa0\x80\x94.",  # a lone surrogate
        b"\x8c\1\xff\x94.",  # not UTF-8
        b"}\x94]\x94Ns.",  # not hashable
        b"]\x94K\0K\1u.",  # items into a list
        b"cos\nsystem\n.",
        b"\x8c\2os\x94\x8c\6system\x94\x93.",
        b"N",  # no STOP
        b"a.",
        b"",
    ],
)
def test_what_is_not_plain_goes_the_long_way(body):
    assert PLAIN.decode(framed(body)) is NOT_PLAIN


@pytest.mark.parametrize(
    "damage",
    [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"\x80\4" + d[2:], lambda d: d[:3] + b"\xff" * 8 + d[11:]],
)
def test_damaged_envelopes_go_the_long_way(damage):
    assert PLAIN.decode(damage(pickle.dumps(REQUEST, 5))) is NOT_PLAIN


def nested(depth, wrap):
    value = None
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: (v, 1, 2, 3)])
def test_depth_is_bounded(wrap):
    plain = Plain(Limits(max_depth=20))
    decoder = Decoder(Allowlist(), Limits(max_depth=20))
    for depth in range(1, 200):
        data = pickle.dumps(nested(depth, wrap), 5)
        if plain.decode(data) is not NOT_PLAIN:
            decoder.decode(data)
    assert short(plain, nested(1000, wrap)) is None


def test_only_small_messages():
    assert short(PLAIN, ["x" * 60 for _ in range(SMALL)]) is None
    assert short(PLAIN, b"x" * (1 << 20)) is None
    assert short(PLAIN, "x" * 65) is None


@pytest.mark.parametrize(
    "tight",
    [
        {"max_nodes": 10},
        {"max_expanded_nodes": 10},
        {"max_string": 10},
        {"max_memory": 1000},
    ],
)
def test_tight_limits_are_for_the_vetting_pass_to_keep(tight):
    plain = Plain(replace(Limits(), **tight))
    assert short(plain, REQUEST) is None
    assert plain.decode(pickle.dumps(REQUEST, 5)) is NOT_PLAIN


def test_no_method_of_the_value_runs():
    class Trap:
        def __reduce_ex__(self, protocol):
            raise AssertionError

    class Text(str):
        pass

    assert short(PLAIN, [Trap()]) is None
    assert short(PLAIN, [Text("x")]) is None
    assert short(PLAIN, "\ud800") is None
    assert short(PLAIN, len) is None


def test_one_large_bytes_goes_the_short_way():
    data = pickle.dumps(b"x" * 100_000, 5)
    assert PLAIN.decode(data) == b"x" * 100_000
    for limits in ({"max_string": 99_999}, {"max_frame": 100_000}, {"max_memory": 99_999}, {"max_nodes": 2}):
        assert Plain(replace(Limits(), **limits)).decode(data) is NOT_PLAIN
    for other in (
        data[:-1],
        data + b".",
        data[:-2] + b"0.",
        b"\x80\x04" + data[2:],
        data[:3] + b"\0" + data[4:],
        pickle.dumps([b"x" * 100_000], 5),
        pickle.dumps(bytearray(100_000), 5),
        pickle.dumps("x" * 100_000, 5),
    ):
        assert PLAIN.decode(other) is NOT_PLAIN


@pytest.mark.parametrize(
    "value", ["x" * LARGE, {"text": "x" * LARGE}, ["x" * 10, "é" * LARGE]], ids=["lone", "dict", "list"]
)
def test_a_large_str_is_given_up_before_it_is_copied(value):
    Plain(Limits()).encode(value)  # non-ASCII text keeps its UTF-8, once there is one
    tracemalloc.start()
    try:
        assert Plain(Limits()).encode(value) == (None, False)
        assert tracemalloc.get_traced_memory()[1] < LARGE // 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [LARGE - 100, 65_536, 65_535])
def test_a_str_that_is_not_so_large_is_pickled_in_passing(size):
    for value in ("x" * size, ["y", "x" * size], {"n": bytes(size)}):
        assert Plain(Limits()).encode(value)[0] == pickle.dumps(value, 5)
