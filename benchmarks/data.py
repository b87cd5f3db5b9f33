"""The values that are sent, the same for every peer."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any


@dataclass
class Item:
    id: int
    name: str
    price: float


SMALL = {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5}
MIB = 1 << 20


def values_of(name: str) -> list[Any]:
    """Return the values of a workload, which are sent in turn; ``size:1000`` is one of so many bytes."""
    source = random.Random(1)
    if name.startswith("size:"):
        return [b"x" * int(name.removeprefix("size:"))]
    if name == "dicts":
        return [[{"id": n, "name": f"item{n}", "price": n * 1.5} for n in range(1000)]]
    if name == "MiB":
        return [source.randbytes(MIB)]
    if name == "instances":
        return [[Item(n, f"item{n}", n * 1.5) for n in range(1000)]]
    if name == "mixed":
        medium = [{"id": n, "name": f"item{n}"} for n in range(20)]
        large = source.randbytes(1 << 16)
        return source.sample([SMALL] * 80 + [medium] * 15 + [large] * 5, 100)
    return [SMALL]
