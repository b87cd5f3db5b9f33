"""The native vetting pass against the reference: values, mutants of their pickles, programs of opcodes, limits."""

from __future__ import annotations

import pickle
import random
import re
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sealwire.native
from pickling import shop
from pickling.assembler import dict_, integer, list_, message, text, tuple_
from pickling.test_fuzz import PICKLES, mutant
from sealwire import Allowlist, Limits
from sealwire.native import NATIVE
from sealwire.pickling import Decoder, calls, dict_keys, leaves, message_file, nodes
from sealwire.pickling import globals as names
from sealwire.pickling import opcodes as op
from support.twins import compare

pytestmark = pytest.mark.skipif(not NATIVE, reason="the native core is not installed")

TYPES = Allowlist(*shop.TYPES)
DECODER = Decoder(TYPES, Limits())
LIMITED = {
    "max_nodes": (1, 3, 10, 30, 100),
    "max_depth": (1, 2, 3, 4),
    "max_expanded_nodes": (1, 2, 5, 20, 60),
    "max_memory": (100, 1000, 3000, 10_000, 30_000),
    "max_integer_bits": (32, 40, 69, 70, 71),
    "max_string": (1, 4, 20, 254, 255, 256, 299, 300),
    "max_probes": (8,),
}
TIGHT = [Decoder(TYPES, Limits(**{name: bound})) for name, bounds in LIMITED.items() for bound in bounds]
"""Each limit where it decides about many messages."""

LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=300)
    | st.binary(max_size=300) | st.decimals(allow_nan=False) | st.fractions()
    | st.sampled_from([*shop.VALUES[:9], "a", "b", "c", 0, 1, 2**61 - 1, 2 * (2**61 - 1), -1, -2])
)  # fmt: skip
HASHABLE = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)


def _dict(pairs: list[Any]) -> Any:
    try:
        return dict(pairs)
    except TypeError:
        return pairs


def _set(items: list[Any]) -> Any:
    try:
        return frozenset(items)
    except TypeError:
        return items


VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(st.tuples(HASHABLE, inner), max_size=12).map(_dict)
        | st.lists(HASHABLE, max_size=12).map(_set)
        | inner.map(lambda shared: [shared, {"again": shared}, (shared, shared)])
    ),
    max_leaves=20,
)


def compare_all(data: bytes) -> None:
    for decoder in (DECODER, *TIGHT):
        compare(decoder, data)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.integers(2, 5))
def test_values(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    compare_all(data)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.integers(2, 5), st.integers(0, 2**32))
def test_mutants_of_values(value: Any, protocol: int, seed: int) -> None:
    source = random.Random(seed)
    data = pickle.dumps(value, protocol)
    for _ in range(8):
        changed = bytearray(data)
        for _ in range(source.randint(1, 3)):
            changed[source.randrange(len(changed))] = source.choice(
                (source.randrange(256), source.choice(list(op.OPCODE_NAMES)), changed[source.randrange(len(changed))])
            )
        compare(DECODER, bytes(changed))
        compare(source.choice(TIGHT), bytes(changed))


def test_mutants_of_all_types() -> None:
    source = random.Random(2026)
    accepted = 0
    for _ in range(6000):
        data = mutant(source)
        accepted += compare(DECODER, data) >= 0
        compare(source.choice(TIGHT), data)
    assert accepted > 300


PIECES = [
    b"\x94", b"N", b"]", b"}", b"\x8f", b"(", b")", b"t", b"u", b"s", b"e", b"a", b"K\1", b"\x85", b"\x86", b"\x87",
    b"\x91", b"\x90", b"h\0", b"h\1", b"q\0", b"\x8c\1x", b"\x8c\1y", b"C\0", b"\x8a\1\5", b"\x96" + bytes(8), b"b",
    text("builtins") + text("set") + b"\x93", text("collections") + text("deque") + b"\x93", b"R", b"\x81",
    text("pickling.shop") + text("Point") + b"\x93",
]  # fmt: skip


def test_programs_of_random_opcodes() -> None:
    source = random.Random(2027)
    accepted = 0
    for _ in range(20_000):
        program = b"".join(source.choices(PIECES, k=source.randint(1, 14))) + b"."
        accepted += compare(DECODER, b"\x80\4" + program) >= 0
    assert accepted > 30


def test_programs_that_are_mostly_right() -> None:
    """Every value has its place, so that more of them are accepted and limits decide."""
    source = random.Random(2028)

    def part(depth: int) -> bytes:
        kind = source.randrange(9 if depth < 5 else 4)
        if kind < 4:
            return source.choice((b"N", integer(source.choice((0, 1, 2**31, -(2**61)))), text("ab"[kind % 2]), b"h\0"))
        inner = [part(depth + 1) for _ in range(source.randrange(4))]
        if kind == 4:
            return list_(*inner) + source.choice((b"", b"\x94"))
        if kind == 5:
            return tuple_(*inner)
        if kind == 6:
            return dict_(*[(source.choice((text(chr(97 + n)), integer(n))), each) for n, each in enumerate(inner)])
        if kind == 7:
            return b"\x8f(" + b"".join(inner) + b"\x90"
        return b"(" + b"".join(inner) + b"\x91"

    accepted = 0
    for _ in range(2000):
        data = message(b"]\x94(", *[part(0) for _ in range(source.randint(1, 6))], b"e")
        accepted += compare(DECODER, data) >= 0
        for decoder in source.sample(TIGHT, 4):
            compare(decoder, data)
    assert accepted > 300


BATCHES = {
    "str": lambda n: text(f"k{n}"),
    "str that is not ASCII": lambda n: text(f"é{n}"),
    "long str": lambda n: text(f"{n}" * 300),
    "int": integer,
    "multiples": lambda n: integer(n * (2**61 - 1)),
    "tuple": lambda n: tuple_(integer(n), text("x")),
    "bytes": lambda n: b"C\1" + bytes([n % 256]),
}


@pytest.mark.parametrize("seed", range(6))
def test_keys_in_several_batches(seed: int) -> None:
    """Of one kind or of several, in dicts and sets, some of them twice."""
    source = random.Random(seed)
    kinds = source.sample(sorted(BATCHES), source.choice((1, 1, 2)))
    for _ in range(40):
        number, batches = 0, []
        for _ in range(source.randint(1, 6)):
            keys = []
            for _ in range(source.choice((1, 2, 7, 8, 9, 40))):
                number += 1
                keys.append(BATCHES[source.choice(kinds)](number if source.random() < 0.998 else number // 2))
            batches.append(keys)
        as_dict = b"".join(b"(" + b"".join(key + b"N" for key in keys) + b"u" for keys in batches)
        as_set = b"".join(b"(" + b"".join(keys) + b"\x90" for keys in batches)
        for data in (message(b"}", as_dict), message(b"\x8f", as_set)):
            compare_all(data)


ALIKE = [{"id": n, "name": f"item{n}", "price": n * 1.5, "seen": n % 2 == 0, "of": None} for n in (1, 300, 70_000, -1)]
FIRST = dict_((text("a") + b"\x94", b"N"), (text("b") + b"\x94", b"N"))  # the keys are 1 and 2 in the memo
FIELDS = [
    b"N", b"\x88", b")", integer(5), integer(1 << 40), text("x"), text("x" * 255), text("\ud800"),
    b"\x8c\1\xff", b"\x8c\1x\x94", b"h\0", b"h\2", b"h\3", b"h\4", b"h\xff", b"K\1\x94", b"]", b"]\x94", b"}",
    b"G" + bytes(8), b"M\1\2", b"J" + bytes(4), b"", b"NN", b"C\1x", b"(", b"\x95" + bytes(8), b"j\0\0\0\0",
]  # fmt: skip


def test_dicts_of_one_form() -> None:
    """Which the twin reads in one turn each: with fields of all kinds, and each limit, wherever it decides."""
    for one in FIELDS:
        for other in FIELDS:
            like = b"}\x94(h\1" + one + b"h\2" + other
            for body in (
                like + b"u",
                like + b"u" + like + b"u",
                like + b"s",
                like,
                like + b"h\1Nu",
                b"(" + like + b"ue",
            ):
                compare(DECODER, message(b"]\x94(", FIRST, body, b"e"))
    data = pickle.dumps([ALIKE, {"alike": ALIKE[0]}], 5)
    assert compare(DECODER, data) == 0
    for name, most in {"max_nodes": 90, "max_expanded_nodes": 60, "max_string": 9, "max_depth": 4}.items():
        for bound in range(1, most):
            compare(Decoder(Allowlist(), Limits(**{name: bound})), data)
    low, high = 1, 1 << 20
    while low < high:  # to the edge
        middle = (low + high) // 2
        accepted = compare(Decoder(Allowlist(), Limits(max_memory=middle)), data) == 0
        low, high = (low, middle) if accepted else (middle + 1, high)
    assert low < 1 << 20


def test_dicts_of_one_form_across_frames() -> None:
    data = pickle.dumps(ALIKE, 5)
    body = data[11:]
    for stop in range(1, len(body) + 1):
        compare(DECODER, b"\x80\5\x95" + stop.to_bytes(8, "little") + body)
        rest = body[stop:]
        framed = b"\x95" + len(rest).to_bytes(8, "little") + rest
        compare(DECODER, b"\x80\5\x95" + stop.to_bytes(8, "little") + body[:stop] + framed)


def test_each_text_is_told_from_each_other() -> None:
    """Of all lengths, of few letters and in one dict; and one of them twice is found."""
    source = random.Random(5)
    texts = {"".join(source.choices("ab", k=source.randrange(256))) for _ in range(2000)}
    good = pickle.dumps(dict.fromkeys(texts), 5)
    assert compare(DECODER, good) == 0
    for one in source.sample(sorted(each for each in texts if len(each) > 3), 20):
        twice = dict_(*[(text(each), b"N") for each in [*texts, one]])
        assert compare(DECODER, message(twice)) == -1


def test_what_wraps_around_or_is_cut_off() -> None:
    """Lengths and indices of all sizes, and every beginning of a message."""
    for size in (2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1):
        four, eight = (size % 2**32).to_bytes(4, "little"), size.to_bytes(8, "little")
        for body in (
            b"X" + four, b"B" + four, b"\x8b" + four, b"r" + four, b"j" + four, b"\x8d" + eight, b"\x8e" + eight,
            b"\x96" + eight, b"\x95" + eight,
        ):  # fmt: skip
            for rest in (b"", b"a.", b"N."):
                assert compare(DECODER, b"\x80\4" + body + rest) == -1
    whole = [*PICKLES, pickle.dumps([Decimal(1), Fraction(1, 3), deque([1], 2), OrderedDict(a=1), Counter("ab")], 4)]
    for data in whole:
        assert compare(DECODER, data) >= 0
        for stop in range(len(data)):
            assert compare(DECODER, data[:stop]) == -1


CONSTANTS = Path(sealwire.native.__file__).with_name("constants.pxd")


@pytest.mark.skipif(not CONSTANTS.exists(), reason="the sources are not installed")
def test_constants_are_the_same() -> None:
    found = re.findall(r"^    ([A-Z][A-Z0-9_]*) = (0x[0-9A-F]+|\d+)$", CONSTANTS.read_text(), re.MULTILINE)
    assert len(found) > 80
    for name, value in found:
        values = {
            getattr(module, spelling)
            for module in (op, names, nodes, calls, dict_keys, leaves, message_file)
            for spelling in (name, f"_{name}")
            if hasattr(module, spelling)
        }
        assert values == {int(value, 0)}, name


def test_no_item_of_typed_memory_is_changed_without_a_check() -> None:
    """Cython does not check ``items[i] += x`` for overflow."""
    for source in CONSTANTS.parent.glob("*.pyx"):
        for line in source.read_text().splitlines():
            assert not re.search(r"(items|marks|owners|slots)\[.*\] *[-+*|&]=", line), line
