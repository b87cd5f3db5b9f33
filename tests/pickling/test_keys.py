"""Keys as they come in batches."""

from __future__ import annotations

import pytest

from sealwire.errors import InvalidValue, LimitExceeded, MalformedPickle
from sealwire.pickling.keys import KeyTable, check_built_keys

PRIME = 2**61 - 1


@pytest.mark.parametrize("is_set", [False, True])
def test_duplicates(is_set):
    table = KeyTable(is_set, 32)
    table.add(["a", 1, None])
    table.add(["b"])
    for again in (["a"], [1.0], [True], ["c", "c"]):
        with pytest.raises(MalformedPickle, match="twice"):
            table.add(again)
        table = KeyTable(is_set, 32)
        table.add(["a", 1, None])


@pytest.mark.parametrize("is_set", [False, True])
def test_collisions_over_batches(is_set):
    table = KeyTable(is_set, 8)
    table.add(["str first", b"bytes"])
    batches = [[n * PRIME for n in range(start, start + 10)] for start in range(1, 2000, 10)]
    with pytest.raises(LimitExceeded):
        list(map(table.add, batches))


@pytest.mark.parametrize("is_set", [False, True])
def test_collisions_after_dense_keys(is_set):
    table = KeyTable(is_set, 8)
    table.add(list(range(3000)))
    table.add(list(range(3000, 3500)))
    assert table._probes is None
    batches = [[n * PRIME for n in range(start, start + 1000)] for start in range(4000, 24_000, 1000)]
    with pytest.raises(LimitExceeded):
        list(map(table.add, batches))


@pytest.mark.parametrize("is_set", [False, True])
def test_keys_with_keyed_hashes_are_not_counted(is_set):
    table = KeyTable(is_set, 8)
    for start in range(0, 5000, 1000):
        table.add([str(n) for n in range(start, start + 1000)])
        table.add([b"%d" % n for n in range(start, start + 1000)])
    assert table._probes is None


@pytest.mark.parametrize("is_set", [False, True])
def test_benign_keys_over_batches(is_set):
    table = KeyTable(is_set, 32)
    for start in range(0, 50_000, 1000):
        table.add([n * 7919 for n in range(start, start + 1000)])
    assert table._probes is not None


def test_built_keys():
    check_built_keys([1, 2.5, (3, frozenset([4]))], is_set=True, max_probes=8)
    for key in (float("nan"), (1, float("nan")), frozenset([(float("nan"),)])):
        with pytest.raises(InvalidValue, match="NaN"):
            check_built_keys([key], is_set=True, max_probes=8)
    with pytest.raises(TypeError):
        check_built_keys([[]], is_set=True, max_probes=8)
    with pytest.raises(LimitExceeded):
        check_built_keys([n * PRIME for n in range(1, 99)], is_set=False, max_probes=8)
