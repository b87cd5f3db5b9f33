"""The cost of keys, against comparisons and hashes that are counted."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickling.assembler import blob, call, dict_, integer, list_, message, text, tuple_
from sealwire import Codec, EncodeError, LimitExceeded, Limits
from sealwire.errors import MalformedPickle
from sealwire.pickling import opcodes as op
from sealwire.pickling.dict_keys import KeyTable
from sealwire.pickling.key_costs import KeyCosts

PRIME = 2**61 - 1
NONE = b"N"


class Leaf:
    """Counts how often leaves are compared and hashed. Few hashes, so that many are equal."""

    counted = 0

    def __init__(self, value: int) -> None:
        self.value = value

    def __hash__(self) -> int:
        Leaf.counted += 1
        return self.value % 3

    def __eq__(self, other: object) -> bool:
        Leaf.counted += 1
        return isinstance(other, Leaf) and self.value == other.value

    def __repr__(self) -> str:
        return f"Leaf({self.value})"


LEAVES = [Leaf(n) for n in range(24)]
PARTS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6).map(tuple),
        st.lists(inner, max_size=6).map(lambda items: ("alike", items)),
    ),
    max_leaves=24,
)


def frozen(shape: Any) -> Any:
    """Make frozensets of the lists, and of the tuples equal ones that are not the same."""
    if isinstance(shape, tuple) and len(shape) == 2 and shape[0] == "alike":
        return frozenset(map(frozen, shape[1]))
    return tuple(map(frozen, shape)) if isinstance(shape, tuple) else shape


def charged(keys: list[Any], *, is_set: bool) -> int:
    allowed = 1 << 60
    costs = KeyCosts(allowed)
    costs.charge_hashing(keys)
    KeyTable(is_set, 1024).add(keys, costs)
    return allowed - costs._remaining


@given(st.lists(PARTS, min_size=1, max_size=12), st.booleans())
def test_the_charge_covers_what_is_compared_and_hashed(shapes: list[Any], is_set: bool) -> None:
    keys = [frozen(shape) for shape in shapes]
    try:
        charge = charged(keys, is_set=is_set)
    except MalformedPickle:  # two are equal
        return
    # A frozenset keeps its hash, which the sender's copy has, so that only its elements are compared.
    list(map(hash, keys))
    Leaf.counted = 0
    made = set(keys) if is_set else dict.fromkeys(keys)
    assert len(made) == len(keys)
    assert Leaf.counted <= charge + len(keys)


def test_comparing_two_frozensets_costs_the_product_of_their_parts() -> None:
    alike = [frozenset(Leaf(3 * n) for n in (*range(20), 20 + which)) for which in range(2)]
    weight = KeyCosts(1).weight(alike[0])
    assert weight == 1 + 21 * 21
    assert charged(alike, is_set=True) == 2 * weight
    Leaf.counted = 0
    assert len(set(alike)) == 2
    assert 0 < Leaf.counted <= 2 * weight


WIDE = (1 << 14_000) | 1
COSTS = {
    "dense ints": (list(range(1000)), 0),
    "str": ([str(n) * 100 for n in range(1000)], 0),
    "minus one and minus two": ([-1, -2], 2),
    "pairs of them": (list(itertools.product((-1, -2), repeat=2)), 4 * 2 + 4 * 3 * 3),
    "wide ints": ([1 << 1280, 1 << 1281], 20),
    "wide ints of one hash": ([1 << 1281, 1 << 1342], 20 + 2 * 11),
    "long str in tuples of one hash": ([("x" * 160, -1), ("x" * 160, -2)], 2 * 2 + 2 * 13),
    "wide ints among others": ([*range(1, 20), 1 << 128], 1),
    "the narrowest wide int among others": ([*range(1, 20), 1 << 127], 1),
    "the narrowest negative one among others": ([*range(1, 20), -(1 << 127)], 1),
    "a tuple among ints": ([*range(1, 20), (1, 2)], 2),
    "many wide ints": ([(1 << 127) + n for n in range(20)], 20),
    "many narrow ints": ([n - (1 << 127) for n in range(1, 20)], 0),
    "tuples": ([(n, str(n), (n,)) for n in range(10)], 40),
    "a tuple of a wide int": ([(WIDE, None)], 2 + 109),
    "a frozenset of wide ints": ([frozenset((WIDE,))], 0),
    "powers of two": ([1 << n for n in range(122)], 122),
}


@pytest.mark.parametrize("what", COSTS)
def test_the_cost_of(what: str) -> None:
    keys, cost = COSTS[what]
    for is_set in (False, True):
        assert charged(keys, is_set=is_set) == cost


WEIGHTS = {
    "an int": (5, 1),
    "a wide int": (1 << 1279, 11),
    "a str": ("x" * 160, 11),
    "bytes": (b"x" * 160, 11),
    "None": (None, 1),
    "a float": (1.5, 1),
    "a tuple": ((1, 2.0, "x" * 32), 6),
    "a frozenset": (frozenset((1, 2)), 3),
    "a frozenset of two of one hash": (frozenset((-1, -2)), 3 + 2),
    "a frozenset of two hashes of two": (frozenset((-1, -2, (1, -1), (1, -2), 7)), 10 + 2 + 6),
    "a frozenset of three of one hash": (frozenset((0, PRIME, 2 * PRIME)), 4 + 6),
    "a frozenset of frozensets": (frozenset((frozenset((1, 2)), frozenset((3,)))), 6),
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_the_weight_of(what: str) -> None:
    value, weight = WEIGHTS[what]
    costs = KeyCosts(0)
    assert costs.weight(value) == weight
    assert costs.weight(value) == weight
    assert costs.weight((value, value)) == 1 + 2 * weight


class Noted(KeyCosts):
    """Notes the keys of other types that it is asked about."""

    def __init__(self) -> None:
        super().__init__(0)
        self.hashed: list[Any] = []
        self.weighed: list[Any] = []

    def other_hashing_cost(self, key: Any) -> int:
        self.hashed.append(key)
        return 5

    def other_weight(self, key: Any) -> int:
        self.weighed.append(key)
        return 7


def test_shared_parts_of_keys_are_looked_at_once() -> None:
    """Otherwise a short message could have a key of a million million parts."""
    leaf = Leaf(1)
    key: Any = (leaf,)
    for _ in range(12):
        key = (key, key)
    costs = Noted()
    assert costs.hashing_cost([key]) == 2**12 * 6 + 2 * (2**12 - 1)
    assert costs.weight(key) == 2**12 * 8 + (2**12 - 1)
    assert [id(each) for each in costs.hashed] == [id(each) for each in costs.weighed] == [id(leaf)]
    shared = frozenset((leaf,))
    costs = Noted()
    assert costs.weight((shared, shared)) == 1 + 2 * 8
    assert costs.weighed == [leaf]


def frozenset_(*items: bytes) -> bytes:
    return bytes((op.MARK,)) + b"".join(items) + bytes((op.FROZENSET,))


def set_(*items: bytes) -> bytes:
    return bytes((op.EMPTY_SET, op.MARK)) + b"".join(items) + bytes((op.ADDITEMS,))


class Shared:
    """Parts that are written once and referred to from then on."""

    def __init__(self) -> None:
        self._number = 0

    def __call__(self, part: bytes) -> tuple[bytes, bytes]:
        """The part itself, and a reference to it."""
        number, self._number = self._number, self._number + 1
        reference = bytes((op.LONG_BINGET,)) + number.to_bytes(4, "little")
        return part + bytes((op.MEMOIZE,)), reference


def repeated(makers: list[bytes], keys: list[bytes], again: list[bytes], container: Any, times: int) -> bytes:
    """A message of a list: what is referred to, the keys in one container, and containers of references to them."""
    return message(list_(*makers, container(*keys), *(container(*again) for _ in range(times - 1))))


def as_dict(*keys: bytes) -> bytes:
    return dict_(*((key, NONE) for key in keys))


def alike_frozensets(container: Any, size: int, number: int, times: int) -> bytes:
    shared = Shared()
    ints = [shared(integer(n * PRIME)) for n in range(1, size + number)]
    keys = [
        shared(frozenset_(*(one for _, one in ints[: size - 1]), ints[size - 1 + which][1])) for which in range(number)
    ]
    return repeated([one for one, _ in ints], [one for one, _ in keys], [one for _, one in keys], container, times)


def tuples_of(leaves: list[bytes], container: Any, number: int, times: int, width: int = 60) -> bytes:
    """Tuples of one hash that differ only in the last part."""
    shared = Shared()
    parts = [shared(leaves[n % len(leaves)]) for n in range(number)]
    keys = [shared(tuple_(*[parts[n][1]] * width, integer((n + 1) * PRIME))) for n in range(number)]
    return repeated([one for one, _ in parts], [one for one, _ in keys], [one for _, one in keys], container, times)


def one_wide_key(times: int) -> bytes:
    shared = Shared()
    wide, again = shared(integer(WIDE))
    key, reference = shared(tuple_(*[again] * 62))
    return repeated([wide], [key], [reference], as_dict, times)


def numbers(number: bytes, others: list[int], times: int) -> bytes:
    shared = Shared()
    keys = [shared(number), *(shared(integer(other)) for other in others)]
    return repeated([], [one for one, _ in keys], [one for _, one in keys], set_, times)


FLOAT_ONE = bytes((op.BINFLOAT, 0x3F, 0xF0)) + bytes(6)
TEN = hash(10**4000)
ATTACKS = {
    "frozensets in sets": alike_frozensets(set_, 58, 80, 40),
    "frozensets as keys of dicts": alike_frozensets(as_dict, 58, 30, 40),
    "frozensets in one set": alike_frozensets(set_, 200, 20, 1),
    "a wide key of many dicts": one_wide_key(16_000),
    "eight keys in many sets": tuples_of([integer(WIDE)], set_, 8, 3000),
    "eight keys in many dicts": tuples_of([integer(WIDE)], as_dict, 8, 3000),
    "ints against floats": tuples_of([integer(1), FLOAT_ONE], set_, 200, 40),
    "long str": tuples_of([text("x" * 50_000)], set_, 8, 300),
    "long bytes": tuples_of([blob(b"x" * 50_000)], as_dict, 8, 300),
    "a Decimal and ints": numbers(
        call("decimal", "Decimal", text("1E+4000")),
        [TEN + PRIME * ((10**4000) // PRIME + n) for n in range(1, 100)],
        4,
    ),
    "a short Decimal and wide ints": numbers(
        call("decimal", "Decimal", text("5")), [5 + PRIME * (2**13_000 + n) for n in range(100)], 4
    ),
    "a Fraction and wide ints": numbers(
        call("fractions", "Fraction", integer(1), integer(3)),
        [hash(pickle.loads(b"cfractions\nFraction\n(K\x01K\x03tR.")) + PRIME * (2**13_000 + n) for n in range(100)],
        4,
    ),
    "one dict copied by Counters": message(
        list_(
            *(integer(WIDE) + bytes((op.MEMOIZE,)) for _ in range(30)),
            dict_(*((tuple_(*[bytes((op.BINGET, n))] * 20, integer((n + 1) * PRIME)), integer(1)) for n in range(30)))
            + bytes((op.MEMOIZE,)),
            *(call("collections", "Counter", bytes((op.BINGET, 30))) for _ in range(100)),
        )
    ),
    "sets that are called": message(
        list_(
            *(integer(WIDE) + bytes((op.MEMOIZE,)) for _ in range(30)),
            list_(*(tuple_(*[bytes((op.BINGET, n))] * 20, integer((n + 1) * PRIME)) for n in range(30)))
            + bytes((op.MEMOIZE,)),
            *(call("builtins", kind, bytes((op.BINGET, 30))) for kind in ("set", "frozenset") * 20),
        )
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_by_keys_are_refused(name: str) -> None:
    """Each takes from half a second to many when it is accepted."""
    assert len(ATTACKS[name]) < 500_000
    with pytest.raises(LimitExceeded, match=r"^max_expanded_nodes: hashing and comparing"):
        Codec().decode(ATTACKS[name])


HONEST = {
    "a grid": {(x, y, z): None for x in range(-9, 9) for y in range(-9, 9) for z in range(-9, 9)},
    "powers of two": {1 << n for n in range(2000)} | {2.0**-n for n in range(1, 1000)},
    "sets of frozensets": {frozenset(range(n, n + 20)) for n in range(2000)},
    "sets of small frozensets": {frozenset(pair) for pair in itertools.combinations(range(-20, 20), 2)},
    "moduli": {(1 << 2047) + n: n for n in range(500)},
    "tuples of moduli": {((1 << 2047) + n, n): n for n in range(500)},
    "many dicts of one key": [{("user", n % 7): n} for n in range(3000)],
    "str and bytes": {"a", b"a", "", b"", 0, None, ()},
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_keys_are_accepted(name: str) -> None:
    value = HONEST[name]
    for protocol in (2, 4, 5):
        assert Codec().decode(pickle.dumps(value, protocol)) == value
    assert Codec().decode(Codec().encode(value)) == value


def test_the_encoder_refuses_keys_that_the_decoder_refuses() -> None:
    alike = {1 << 61 * n for n in range(10)}
    for allowed, is_accepted in ((249, False), (250, True)):
        codec = Codec(limits=Limits(max_expanded_nodes=allowed))
        if is_accepted:
            assert codec.decode(codec.encode(alike)) == alike
        else:
            with pytest.raises(EncodeError, match="max_expanded_nodes: hashing and comparing"):
                codec.encode(alike)
    for value in ({-1, -2}, {PRIME, 0}, {-1.0, -2.0}, {1 << 128}, [{1 << 256: 0}], {(1, 2)}):
        for allowed in range(1, 12):
            codec = Codec(limits=Limits(max_expanded_nodes=allowed))
            try:
                data = codec.encode(value)
            except Exception:
                with pytest.raises(LimitExceeded):
                    codec.decode(pickle.dumps(value, 5))
            else:
                assert codec.decode(data) == value
