"""Keys as they come in batches."""

from __future__ import annotations

import pytest

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


def test_pairs_of_fractions_that_collide_are_charged() -> None:
    """From CPython 3.12 on the hashes of all of them are kept in one table, found by a pair that a peer chooses."""
    pairs = [(hash((3 + PRIME * n * 7, 7)), 3 + PRIME * n * 7, 7) for n in range(8)]
    assert len({pair[0] for pair in pairs}) == 1
    check_pairs(pairs, KeyCosts(8 * 7 // 2 * 2 * 3 + 100), 8)
    with pytest.raises(LimitExceeded, match="max_expanded_nodes"):
        check_pairs(pairs, KeyCosts(8 * 7 // 2 * 2), 8)
    check_pairs(pairs[:1] * 99, KeyCosts(0), 8)


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
    with pytest.raises(LimitExceeded, match="max_probes"):
        add(KeyTable(is_set, 8), keys)
