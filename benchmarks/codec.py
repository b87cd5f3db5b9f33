"""Encode and decode beside ``pickle.dumps`` and ``pickle.loads`` of C, in one run.

    python benchmarks/codec.py [name ...]

Each time is the best of several runs, in microseconds; the two of a pair take turns, so that a busy machine is fair to
both. "view" is the payload as a large frame has it: a memoryview of a part of a bytearray.
"""

from __future__ import annotations

import datetime
import gc
import pickle
import platform
import random
import sys
import timeit
import uuid
from collections.abc import Callable
from typing import Any

from sealwire import Codec

ROUNDS = 7
SECONDS = 0.05

source = random.Random(1)
VALUES: dict[str, Any] = {
    "small dict": {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5},
    "20 dicts of 2": [{"id": n, "name": f"n{n}"} for n in range(20)],
    "1,000 dicts of 3": [{"id": n, "name": f"item{n}", "price": n * 1.5} for n in range(1000)],
    "100,000 ints": list(range(100_000)),
    "100,000 random ints": [source.getrandbits(32) for _ in range(100_000)],
    "100,000 floats": [source.random() for _ in range(100_000)],
    "10,000 str": [f"item{n}" for n in range(10_000)],
    "1 MiB bytes": source.randbytes(1 << 20),
    "1 MiB str": "x" * (1 << 20),
    "16 MiB bytes": bytes((1 << 24) - 200),
    "10,000 sparse int keys": {source.getrandbits(40): n for n in range(10_000)},
    "1,000 datetimes": [datetime.datetime(2024, 1, 1, 0, n // 60 % 60, n % 60) for n in range(1000)],
    "1,000 UUIDs": [uuid.UUID(int=source.getrandbits(128)) for _ in range(1000)],
}


def best(*calls: Callable[[], Any]) -> list[float]:
    """Microseconds of each call, the calls taking turns."""
    timers = [timeit.Timer(call) for call in calls]
    numbers = [max(1, int(SECONDS / max(timer.timeit(1), 1e-7))) for timer in timers]
    runs = [[timer.timeit(n) / n for timer, n in zip(timers, numbers, strict=True)] for _ in range(ROUNDS)]
    return [min(times) * 1e6 for times in zip(*runs, strict=True)]


def main(names: list[str]) -> None:
    codec = Codec()
    print(f"CPython {platform.python_version()} on {platform.machine()}")
    print(f"{'':24}{'loads':>10}{'decode':>10}{'ratio':>7}{'view':>7}   {'dumps':>10}{'encode':>10}{'ratio':>7}")
    for name, value in VALUES.items():
        if names and name not in names:
            continue
        data = pickle.dumps(value, 5)
        view = memoryview(bytearray(b"head" + data + b"tag"))[4:-3]
        if codec.decode(data) != value or codec.decode(view) != value or codec.encode(value) != data:
            raise SystemExit(f"{name}: not the same value")
        gc.collect()
        loads, decode, of_view = best(
            lambda d=data: pickle.loads(d), lambda d=data: codec.decode(d), lambda v=view: codec.decode(v)
        )
        dumps, encode = best(lambda v=value: pickle.dumps(v, 5), lambda v=value: codec.encode(v))
        print(
            f"{name:24}{loads:10.2f}{decode:10.2f}{decode / loads:7.2f}{of_view / loads:7.2f}"
            f"   {dumps:10.2f}{encode:10.2f}{encode / dumps:7.2f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
