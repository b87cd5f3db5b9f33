"""Values of configured types, made at random and put into one another: decoded, they are what CPython makes of them.

Both of CPython's picklers, both of its unpicklers, every protocol; the values, their types, and what is shared. Then
the same of mutants of those pickles: what is accepted, CPython reads in the same way.
"""

from __future__ import annotations

import enum
import io
import pickle
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from pickling import shop
from sealwire import Allowlist, Codec, DecodeError, Limits

LIMITS = Limits(max_depth=40, max_nodes=20_000, max_memory=1 << 23, max_expanded_nodes=100_000)
CODEC = Codec(Allowlist(*shop.TYPES, np.ndarray, np.generic), limits=LIMITS)
PROTOCOLS = range(3, 6)
"""Exceptions are named otherwise at protocol 2, which has tests of its own."""
LEAVES: list[Any] = [
    *[value for value in shop.VALUES if not isinstance(value, dict | list | tuple | set)],
    *shop.ERRORS[:-1], None, True, 0, -1.5, "x", b"y", 1 << 70, Decimal("1.5"), Fraction(1, 3), 2j,
    np.arange(6).reshape(2, 3), np.float32(1.5), np.array(["a", "b"]), np.zeros(3, [("a", "i4"), ("b", "f8")]),
]  # fmt: skip
HASHABLE = [
    *shop.Color, *shop.Size, shop.Access.READ | shop.Access.RUN, shop.Frozen("a", 1), shop.FrozenSlotted(1, (2, 3)),
    shop.Point(1), shop.FrozenStruct(1), "k", 7, (1, "x"), frozenset({1, 2}),
]  # fmt: skip


def value(source: random.Random, depth: int = 0) -> Any:
    """A value of some depth, in which some parts are shared."""
    kind = source.randrange(9) if depth < 4 else 0
    if kind <= 2:
        return source.choice(LEAVES)
    if kind == 3:
        return [value(source, depth + 1) for _ in range(source.randrange(4))]
    if kind == 4:
        return tuple(value(source, depth + 1) for _ in range(source.randrange(4)))
    if kind == 5:
        keys = source.sample(HASHABLE, source.randrange(4))
        return {key: value(source, depth + 1) for key in keys}
    if kind == 6:
        return set(source.sample(HASHABLE, source.randrange(4)))
    shared = value(source, depth + 1)
    if kind == 7:
        return [shared, {"again": shared}, (shared,)]
    return shop.Box(shared, [shared, value(source, depth + 1)])


def shape(part: Any, seen: dict[int, int]) -> Any:
    """Return a form that is equal for equal values, with the number of each object that can be met twice."""
    kind = type(part)
    if isinstance(part, type(None) | bool | int | str | bytes | enum.Enum):
        return kind.__name__, repr(part)
    number = seen.setdefault(id(part), len(seen))
    if isinstance(part, np.ndarray):
        return number, part.dtype, part.shape, part.tobytes()
    if kind is dict:
        return number, [(shape(key, seen), shape(item, seen)) for key, item in part.items()]
    if kind in (list, tuple):
        return number, kind, [shape(item, seen) for item in part]
    if kind in (set, frozenset):
        return kind, sorted(map(repr, part))
    if kind is shop.Box:
        return number, shape(part.content, seen), shape(part.more, seen)
    if isinstance(part, Exception):
        return kind, part.args, vars(part)
    return kind, repr(part)


def described(found: Any) -> Any:
    """Of the root; nothing is kept that is not part of the value, so that no two objects have one id."""
    return shape(found, {})


def readings(data: bytes) -> list[Any]:
    """Return the values that CPython's unpicklers make of it."""
    return [described(load(io.BytesIO(data))) for load in (pickle.load, pickle._load)]  # CPython's own in Python


@pytest.mark.parametrize("seed", range(120))
def test_what_is_decoded_is_what_cpython_makes(seed: int) -> None:
    made = value(random.Random(seed))
    own = CODEC.encode(made)
    expected = described(pickle.loads(own))
    picklers = (pickle.dumps, pickle._dumps)  # CPython's own in Python
    for data in (own, *(dumps(made, protocol) for dumps in picklers for protocol in PROTOCOLS)):
        found = described(CODEC.decode(data))
        assert [found] * 2 == readings(data)
        assert found == expected


def test_mutants_are_read_alike() -> None:
    source = random.Random(20_261_125)
    accepted = refused = 0
    for seed in range(60):
        data = pickle.dumps(value(random.Random(seed)), source.choice(PROTOCOLS))
        at = 11 if data[2:3] == b"\x95" else 2
        for _ in range(60):
            mutant = bytearray(data)
            for _ in range(source.randint(1, 2)):
                mutant[source.randrange(at, len(data))] ^= 1 << source.randrange(8)
            try:
                found = CODEC.decode(bytes(mutant))
            except DecodeError:
                refused += 1
                continue
            accepted += 1
            assert [described(found)] * 2 == readings(bytes(mutant)), bytes(mutant)
            assert described(CODEC.decode(CODEC.encode(found))) == described(found)
    assert accepted > 100
    assert refused > 1000
