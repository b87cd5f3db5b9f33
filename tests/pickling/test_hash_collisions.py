"""The count of probes, against the tables of CPython itself."""

from __future__ import annotations

import random
import time

import pytest

from sealwire.errors import LimitExceeded
from sealwire.pickling.hash_collisions import CollisionCounter, check_hashes, uncounted_keys

PRIME = 2**61 - 1
U64 = 2**64 - 1


class Key:
    """Counts how often a table of CPython's compares it."""

    compared = 0

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return self.value

    def __eq__(self, other):
        Key.compared += 1
        return self is other


CRAFTED = {
    "one hash": [5] * 2000,
    "one first slot": [n << 40 for n in range(2000)],
    "multiples of the prime": [hash(n * PRIME) + (n << 45) for n in range(2000)],
}


@pytest.mark.parametrize("is_set", [False, True])
@pytest.mark.parametrize("hashes", CRAFTED.values(), ids=CRAFTED)
def test_crafted_hashes_are_refused(hashes, is_set):
    with pytest.raises(LimitExceeded, match=r"^max_probes: the keys of a (dict|set) collide"):
        check_hashes(hashes, is_set=is_set, max_probes=8)


BENIGN = {
    "random": random.Random(1).sample(range(2**61), 20_000),
    "multiples of eight": [8 * n for n in range(20_000)],
    "dates": [20_240_101 + n for n in range(20_000)],
    "powers of two": [hash(float(1 << n)) for n in range(61)],
    "addresses": [0x0A000000 + 256 * n for n in range(20_000)],
    "floats": [hash(n / 7) for n in range(20_000)],
    "negative": [-n for n in range(2, 20_000)],
    "tuples": [hash((n, n // 3)) for n in range(20_000)],
}


@pytest.mark.parametrize("is_set", [False, True])
@pytest.mark.parametrize("hashes", BENIGN.values(), ids=BENIGN)
def test_benign_hashes_are_not(hashes, is_set):
    check_hashes(hashes, is_set=is_set, max_probes=32)


@pytest.mark.parametrize("is_set", [False, True])
def test_few_keys_are_free_because_they_cannot_pass_the_bound(is_set):
    for max_probes in (8, 32):
        free = uncounted_keys(is_set, max_probes)
        check_hashes([5] * free, is_set=is_set, max_probes=max_probes)
        probes = CollisionCounter(is_set, max_probes)
        probes.add([5] * free)
        assert probes._probes <= probes._max_average * free


@pytest.mark.parametrize("is_set", [False, True])
@pytest.mark.parametrize("value", [0, 5, 77, -3, 2**60 + 12345, 0x123456789ABCDEF])
def test_the_probes_are_those_of_cpython(is_set, value):
    """Of keys of one hash each slot that is looked at and taken shows as a comparison."""
    table = set() if is_set else {}
    counted = CollisionCounter(is_set, 1024)
    told = 0
    for _ in range(700):
        before, size = counted._probes, len(counted._slots)
        counted.add([value])
        Key.compared = 0
        key = Key(value)
        table.add(key) if is_set else table.__setitem__(key, None)
        if len(counted._slots) == size:
            # The last slot looked at was free.
            assert Key.compared == counted._probes - before - 1
            told += 1
    assert told > 690


@pytest.mark.parametrize(("is_set", "start"), [(False, 0), (True, 0), (True, 4880), (True, 78_600), (True, 629_100)])
def test_the_table_grows_as_in_cpython(is_set, start):
    """A set grows at the end of an insertion, and here before the next one."""
    table = set(range(start)) if is_set else dict.fromkeys(range(start))
    counted = CollisionCounter(is_set, 1024)
    counted.add(list(range(start)))
    for value in range(start, start + 100 if start else 2000):
        size = _size_of(table)
        table.add(value) if is_set else table.__setitem__(value, None)
        counted.add([value])
        assert len(counted._slots) == (size if is_set else _size_of(table)), value


def test_the_bound_is_met_exactly():
    """The second key finds the slot of the first one taken, the third those of two, and so on."""
    CollisionCounter(False, 2).add([5] * 3)
    one_by_one = CollisionCounter(False, 2)
    for _ in range(3):
        one_by_one.add([5])
    with pytest.raises(LimitExceeded):
        one_by_one.add([5])
    with pytest.raises(LimitExceeded):
        CollisionCounter(False, 2).add([5] * 4)
    # The table grows with the sixth key. The first five are in the slots 5, 10, 3, 0 and 1, which takes 15 probes.
    CollisionCounter(False, 3).add([5] * 5 + [0])
    with pytest.raises(LimitExceeded):
        CollisionCounter(False, 3).add([5] * 5 + [3])


def _size_of(table):
    """Slots of a dict or set, from its size in memory."""
    if isinstance(table, set):
        return max(8, (table.__sizeof__() - set().__sizeof__()) // 16)
    # 3.11 to 3.13: an index of one, two or four bytes for each slot, and 24 bytes for two thirds of the slots.
    return next(
        1 << bits
        for bits in range(3, 20)
        if (1 << bits) * (1 if bits < 8 else 2 if bits < 16 else 4) + 24 * ((2 << bits) // 3)
        >= table.__sizeof__() - {}.__sizeof__() - 64
    )


@pytest.mark.parametrize("is_set", [False, True])
def test_one_by_one_is_as_all_at_once(is_set):
    source = random.Random(3)
    hashes = [source.getrandbits(20) for _ in range(5000)]
    whole, parts = CollisionCounter(is_set, 1024), CollisionCounter(is_set, 1024)
    whole.add(hashes)
    while hashes:
        size = source.randint(1, 300)
        parts.add(hashes[:size])
        del hashes[:size]
    assert whole._slots == parts._slots
    assert whole._probes == parts._probes


def test_refusing_is_quick():
    """A message that takes CPython 20 seconds is refused in the time that a few such keys take."""
    start = time.process_time()
    with pytest.raises(LimitExceeded):
        check_hashes([hash(n * PRIME) for n in range(50_000)], is_set=False, max_probes=32)
    assert time.process_time() - start < 5
