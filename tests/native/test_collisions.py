"""The twin of the count of probes, against the one in Python."""

from __future__ import annotations

import random

import pytest

from sealwire.errors import LimitExceeded
from sealwire.pickling.hash_collisions import CollisionCounter

collisions = pytest.importorskip("sealwire.native.collisions", reason="the native core is not there")

KINDS = {
    "random": lambda source: source.getrandbits(61),
    "negative": lambda source: -source.getrandbits(20) - 2,
    "extreme": lambda source: source.choice((2**63 - 1, -(2**63), 0, -2)),
    "few": lambda source: source.randrange(40),
    "one slot": lambda source: source.randrange(100) << 40,
    "slots in a row": lambda source: source.randrange(8) << 50 | source.randrange(30),
}


def verdict(counter: CollisionCounter, hashes: list[int]) -> bool:
    try:
        counter.add(hashes)
    except LimitExceeded:
        return False
    return True


@pytest.mark.parametrize("is_set", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_twin_refuses_at_the_same_key(kind: str, *, is_set: bool) -> None:
    source = random.Random(f"{kind} {is_set}")
    found = []
    for max_probes in (8, 9, 32):
        for _ in range(20):
            one, twin = CollisionCounter(is_set, max_probes), collisions.CollisionCounter(is_set, max_probes)
            for _ in range(source.randrange(1, 300)):
                hashes = [KINDS[kind](source) for _ in range(source.choice((1, 1, 7, 40)))]
                good = verdict(one, hashes)
                assert twin.add(hashes) == good
                found.append(good)
                if not good:
                    break
    assert any(found)
    assert all(found) == (kind in ("random", "negative"))
