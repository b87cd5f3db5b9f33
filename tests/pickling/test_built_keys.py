"""Keys that can be hashed only after they were built."""

from __future__ import annotations

import pickle
from decimal import Decimal
from fractions import Fraction

import pytest

from pickling import shop
from pickling.assembler import call, dict_, integer, list_, message, text, tuple_
from sealwire import Allowlist, Codec, Limits
from sealwire.errors import InvalidValue, LimitExceeded
from sealwire.pickling import opcodes as op
from sealwire.pickling.built_keys import BuiltKeyCosts, check_built_keys

PRIME = 2**61 - 1


def check(keys, allowed=4_000_000, *, is_set=True):
    costs = BuiltKeyCosts(allowed, {}, {})
    for key in keys:
        costs.remember(key, None)
    check_built_keys(keys, costs, is_set=is_set, max_probes=8)


def test_built_keys():
    check([1, 2.5, (3, frozenset([4]))])
    for key in (float("nan"), (1, float("nan")), frozenset([(float("nan"),)])):
        with pytest.raises(InvalidValue, match="NaN"):
            check([key])
    with pytest.raises(TypeError):
        check([[]])
    with pytest.raises(LimitExceeded, match="max_probes"):
        check([n * PRIME for n in range(1, 99)], is_set=False)


CODEC = Codec(Allowlist(*shop.TYPES))
SHOP = "pickling.shop"
NONE = b"N"
HERE = __name__


def fraction(numerator: int, denominator: int) -> bytes:
    return call("fractions", "Fraction", integer(numerator), integer(denominator))


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


WEIGHTS = {
    "an int": (5, 1), "a wide int": (1 << 12_799, 1 + 100 + 100 * 100), "None": (None, 1), "a bool": (True, 1),
    "a float": (1.5, 64), "a complex": (1j, 64), "a str": ("x" * 160, 11), "bytes": (b"x" * 160, 11),
    "a bytearray": (bytearray(160), 11), "a tuple": ((1, 2), 3), "a frozenset": (frozenset((1, 2)), 3),
    "a frozenset of one hash": (frozenset((-1, -2)), 5), "a list": ([1, (2,)], 4), "a dict": ({"a": 1}, 3),
    "a Decimal": (Decimal(5), 17), "a long Decimal": (Decimal("1E+3840"), 17 + 100 + 100 * 100),
    "a Fraction": (Fraction(1, 3), 18), "another object": (object(), 16),
}  # fmt: skip


@pytest.mark.parametrize("what", WEIGHTS)
def test_the_weight_of(what: str) -> None:
    value, weight = WEIGHTS[what]
    costs = BuiltKeyCosts(1, {}, {})
    costs.remember(Decimal(1), None)
    assert costs.weight(value) == weight
    assert costs.weight(value) == weight


def test_numbers_that_take_long_to_compare_are_charged() -> None:
    """With ints or numbers of other types of the same hash."""
    costs = BuiltKeyCosts(1, {}, {})
    assert costs.weight((1 << 12_799, 1.5)) == 1 + 101 + 1
    costs.remember(Fraction(1), None)
    assert costs.weight((1 << 12_799, 1.5)) == 1 + 10_101 + 64
    wide = [5 + PRIME * (1 << 12_000) * n for n in range(1, 40)]
    assert len(set(map(hash, [*wide, Decimal(5)]))) == 1
    with pytest.raises(LimitExceeded, match="max_expanded_nodes: hashing and comparing"):
        check([*wide, Decimal(5)])


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


def test_hashing_converts_no_numbers() -> None:
    value = {shop.Pair(1 << 12_799, Decimal(n)): n for n in range(500)}
    codec = Codec(Allowlist(shop.Pair), limits=Limits(max_expanded_nodes=100_000))
    assert codec.decode(pickle.dumps(value)) == value


class Same:
    """All of its instances have one hash, and are compared by all their parts."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.parts == other.parts


def test_objects_weigh_as_much_as_their_parts() -> None:
    """Also after the parts were made, and where they are shared."""
    allowlist = Allowlist(shop.Pair).register(Same, dump=lambda value: value.parts, load=Same)
    shared = [shop.Pair(n, "x") for n in range(1000)]
    for parts in (
        ("x" * 160_000,), (Decimal("1E+3840"),), ([0] * 10_000,), (dict.fromkeys(range(5000), 0),), (shared,),
        (Same(Same(Decimal("1E+3840"))),), (bytearray(160_000),),
    ):  # fmt: skip
        value = [shared, {Same(*parts, n): n for n in range(3)}]
        data = Codec(allowlist).encode(value)
        with pytest.raises(LimitExceeded, match="max_expanded_nodes"):
            Codec(allowlist, limits=Limits(max_expanded_nodes=40_000)).decode(data)
        few = Codec(allowlist).encode([shared, {Same(*parts, n): n for n in range(1)}])
        assert Codec(allowlist, limits=Limits(max_expanded_nodes=40_000)).decode(few)


class Incomparable:
    """Fails where it is compared; comparing a Decimal with a wide int takes half a millisecond."""

    def __lt__(self, _: object) -> bool:
        raise AssertionError

    __gt__ = __lt__


def test_keys_of_other_types_are_not_compared_with_ints() -> None:
    check([1, 2**14_000, *(Incomparable() for _ in range(10))])
