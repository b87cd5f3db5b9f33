"""Keys as they come in batches."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pickling.assembler import call, integer, list_, message
from sealwire import Codec, Limits
from sealwire.errors import LimitExceeded, MalformedPickle
from sealwire.pickling.dict_keys import KeyTable, check_pairs
from sealwire.pickling.hash_collisions import check_hashes
from sealwire.pickling.key_costs import KeyCosts

PRIME = 2**61 - 1


def add(table, keys, allowed=4_000_000):
    table.add(keys, KeyCosts(allowed))


@pytest.mark.parametrize("is_set", [False, True])
def test_duplicates(is_set):
    table = KeyTable(is_set, 32)
    add(table, ["a", 1, None])
    add(table, ["b"])
    for again in (["a"], [1.0], [True], ["c", "c"]):
        with pytest.raises(MalformedPickle, match="twice"):
            add(table, again)
        table = KeyTable(is_set, 32)
        add(table, ["a", 1, None])


@pytest.mark.parametrize("is_set", [False, True])
def test_collisions_over_batches(is_set):
    table = KeyTable(is_set, 8)
    add(table, ["str first", b"bytes"])
    batches = [[n * PRIME for n in range(start, start + 10)] for start in range(1, 2000, 10)]
    with pytest.raises(LimitExceeded):
        [add(table, batch) for batch in batches]


@pytest.mark.parametrize("is_set", [False, True])
def test_collisions_after_dense_keys(is_set):
    table = KeyTable(is_set, 8)
    add(table, list(range(3000)))
    add(table, list(range(3000, 3500)))
    assert table._counter is None
    batches = [[n * PRIME for n in range(start, start + 1000)] for start in range(4000, 24_000, 1000)]
    with pytest.raises(LimitExceeded):
        [add(table, batch) for batch in batches]


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("is_set", [False, True])
@pytest.mark.parametrize("max_probes", [8, 10, 14, 40])
@pytest.mark.parametrize("count", [9, 20, 40, 66, 90, 130])
def test_a_table_bounds_collisions_as_one_of_its_kind(is_set, max_probes, count, batch):
    """Those of a set are other ones than those of a dict."""
    keys = [n << 40 for n in range(1, count)]

    def accepted(check):
        try:
            check()
        except LimitExceeded as error:
            return str(error)
        return None

    table = KeyTable(is_set, max_probes)
    found = accepted(lambda: [add(table, keys[at : at + batch]) for at in range(0, len(keys), batch)])
    assert found == accepted(lambda: check_hashes(keys, is_set=is_set, max_probes=max_probes))


@pytest.mark.parametrize("is_set", [False, True])
def test_keys_with_keyed_hashes_are_not_counted(is_set):
    table = KeyTable(is_set, 8)
    for start in range(0, 5000, 1000):
        add(table, [str(n) for n in range(start, start + 1000)])
        add(table, [b"%d" % n for n in range(start, start + 1000)])
    assert table._counter is None


@pytest.mark.parametrize("is_set", [False, True])
def test_benign_keys_over_batches(is_set):
    table = KeyTable(is_set, 32)
    for start in range(0, 50_000, 1000):
        add(table, [n * 7919 for n in range(start, start + 1000)])
    assert table._counter is not None


def pairs_of_one_hash(count: int, denominator: int = 7) -> list[tuple[int, int, int]]:
    numerators = [3 + PRIME * n * denominator for n in range(count)]
    return [(hash((numerator, denominator)), numerator, denominator) for numerator in numerators]


@pytest.mark.parametrize(
    ("pairs", "cost"),
    [
        (pairs_of_one_hash(2), 2 * 3),
        (pairs_of_one_hash(8), 8 * 7 * 3),
        (pairs_of_one_hash(8)[::-1] * 3, 8 * 7 * 3),
        (pairs_of_one_hash(1) * 99, 0),
        (pairs_of_one_hash(4) + pairs_of_one_hash(3, 11), 4 * 3 * 3 + 3 * 2 * 3),
        (pairs_of_one_hash(3, 7 + (PRIME << 600)), 2 * (8 + 13 + 13)),
        ([(n, n, 1) for n in range(99)], 0),
    ],
)
def test_pairs_of_fractions_are_charged_as_keys_of_one_set(pairs, cost) -> None:
    """From CPython 3.12 on the hashes of all of them are kept in one table, found by a pair that a peer chooses."""
    distinct = list(dict.fromkeys(pairs))
    assert cost == KeyCosts(0).alike_cost([pair[1:] for pair in distinct], [pair[0] for pair in distinct])
    check_pairs(pairs, KeyCosts(cost), 1024)
    if cost:
        with pytest.raises(LimitExceeded, match="max_expanded_nodes"):
            check_pairs(pairs, KeyCosts(cost - 1), 1024)


def test_a_message_with_fractions_of_one_hash() -> None:
    pairs = pairs_of_one_hash(4)
    made = [call("fractions", "Fraction", integer(first), integer(second)) for _, first, second in pairs]
    data = message(list_(*made, *made))
    value = Codec(limits=Limits(max_expanded_nodes=4 * 3 * 3)).decode(data)
    assert value == [Fraction(first, second) for _, first, second in pairs] * 2
    with pytest.raises(LimitExceeded, match="max_expanded_nodes: hashing and comparing"):
        Codec(limits=Limits(max_expanded_nodes=4 * 3 * 3 - 1)).decode(data)


@pytest.mark.parametrize("count", [9, 40, 80])
def test_a_few_pairs_of_fractions_that_meet_in_one_slot(count) -> None:
    """The bound is that of a dict."""
    pairs = [(n << 40, n, 1) for n in range(count)]
    with pytest.raises(LimitExceeded, match="max_probes"):
        check_pairs(pairs, KeyCosts(0), 2)


def test_pairs_of_fractions_that_follow_one_another() -> None:
    """No two have the same hash, but they meet in the same slots."""
    pairs = [(hash((n, 7)) & -(1 << 40) | 1, n, 7) for n in range(1, 3000)]
    with pytest.raises(LimitExceeded, match="max_probes"):
        check_pairs(pairs, KeyCosts(4_000_000), 8)


@pytest.mark.parametrize("is_set", [False, True])
def test_keys_of_one_hash_are_charged_in_any_batches(is_set: bool) -> None:
    """Each of the 32 weighs four, times 31 others of its hash."""
    keys = [(1, 2, n * PRIME) for n in range(32)]
    cost = 32 * 31 * (1 + 3)
    for size in (1, 3, 8, 32):
        for allowed in (cost, cost - 1):
            table, costs = KeyTable(is_set, 32), KeyCosts(allowed)
            try:
                for start in range(0, 32, size):
                    table.add(keys[start : start + size], costs)
            except LimitExceeded:
                assert allowed < cost
            else:
                assert allowed == cost == table.alike_cost


class Counted(int):
    """Counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == int(other)

    __hash__ = int.__hash__


def test_nothing_is_compared_before_it_is_charged() -> None:
    Counted.compared = 0
    table = KeyTable(True, 32)
    with pytest.raises(LimitExceeded):
        table.add([Counted(n * PRIME) for n in range(200)], KeyCosts(100))
    assert Counted.compared <= 50
    Counted.compared = 0
    KeyTable(True, 32).add([Counted(7 * n) for n in range(200)], KeyCosts(0))
    assert Counted.compared == 0


@pytest.mark.parametrize("is_set", [False, True])
def test_hashes_that_collide_as_keys_themselves(is_set: bool) -> None:
    """The hash of a tuple has 64 bits, that of an int 61: hashes far apart can have the same first slots as ints."""

    class Hashed:
        def __init__(self, value: int) -> None:
            self.value = value

        def __hash__(self) -> int:
            return self.value

    # Eight low bits each as 64 bits, the same 44 as ints.
    values = [(n << 44) % PRIME + n % 8 * PRIME for n in range(1, 641 if is_set else 101)]
    keys = [Hashed(value - (1 << 64) if value >> 63 else value) for value in values]
    check_hashes(map(hash, keys), is_set=is_set, max_probes=8)
    add(KeyTable(True, 8), keys[:100])  # too many for a dict, and not for a set
    with pytest.raises(LimitExceeded, match="max_probes"):
        add(KeyTable(is_set, 8), keys)
