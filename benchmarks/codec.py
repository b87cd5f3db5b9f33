"""Compare encode and decode with the C versions of ``pickle.dumps`` and ``pickle.loads``, in one run.

    python benchmarks/codec.py [name ...]

Each time is the best of several runs, in microseconds; the two of a pair alternate, so that a busy machine is fair to
both. "view" is the payload in the form that a large frame has: a memoryview of a part of a bytearray. "pure" is the
ratio for decode without the native core, in a process of its own. The figures in brackets are the upper limits for the
ratios.
"""

from __future__ import annotations

import datetime
import gc
import json
import os
import pickle
import platform
import random
import subprocess
import sys
import timeit
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sealwire import Allowlist, Codec, Limits
from sealwire.pickling import NATIVE

try:
    import numpy
except ImportError:
    numpy = None  # its row is left out

ROUNDS = 7
SECONDS = 0.05
MIB = 1 << 20
TARGETS = {
    "small dict": 1.4,
    "1,000 dicts of 3": 1.4,
    "10,000 dataclasses": 2,
    "100,000 ints": 1.4,
    "100,000 floats": 1.4,
    "10,000 str": 1.4,
    "5,000 str keys": 1.4,
    "1 MiB bytes": 1.1,
}
"""Upper limits for the ratio of decode with the native core."""


@dataclass
class Item:
    id: int
    name: str
    price: float


source = random.Random(1)
VALUES: dict[str, Any] = {
    "small dict": {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5},
    "20 dicts of 2": [{"id": n, "name": f"n{n}"} for n in range(20)],
    "1,000 dicts of 3": [{"id": n, "name": f"item{n}", "price": n * 1.5} for n in range(1000)],
    "10,000 dataclasses": [Item(n, f"item{n}", n * 1.5) for n in range(10_000)],
    "100,000 ints": list(range(100_000)),
    "100,000 random ints": [source.getrandbits(32) for _ in range(100_000)],
    "100,000 floats": [source.random() for _ in range(100_000)],
    "10,000 str": [f"item{n}" for n in range(10_000)],
    "5,000 str keys": {f"item{n}": n for n in range(5000)},
    "1 MiB bytes": source.randbytes(1 << 20),
    "1 MiB str": "x" * (1 << 20),
    "16 MiB bytes": bytes((1 << 24) - 200),
    "10,000 sparse int keys": {source.getrandbits(40): n for n in range(10_000)},
    "1,000 datetimes": [datetime.datetime(2024, 1, 1, 0, n // 60 % 60, n % 60) for n in range(1000)],
    "1,000 UUIDs": [uuid.UUID(int=source.getrandbits(128)) for _ in range(1000)],
}
if numpy is not None:
    VALUES["64 MiB array"] = numpy.arange(8 * MIB, dtype="f8")


def best(*calls: Callable[[], Any]) -> list[float]:
    """Return the best time of each call in microseconds; the calls alternate."""
    timers = [timeit.Timer(call) for call in calls]
    numbers = [max(1, int(SECONDS / max(timer.timeit(1), 1e-7))) for timer in timers]
    runs = [[timer.timeit(n) / n for timer, n in zip(timers, numbers, strict=True)] for _ in range(ROUNDS)]
    return [min(times) * 1e6 for times in zip(*runs, strict=True)]


def pure(names: list[str]) -> dict[str, float]:
    """Return the ratios of decode without the native core; none if this process has none either."""
    if not NATIVE:
        return {}
    environment = os.environ | {"SEALWIRE_NATIVE": "off"}
    done = subprocess.run(
        [sys.executable, __file__, "--json", *names], stdout=subprocess.PIPE, check=True, env=environment
    )
    ratios: dict[str, float] = json.loads(done.stdout)
    return ratios


def measure(name: str, codec: Codec) -> tuple[list[float], float, list[float]]:
    """Return microseconds: loads and decode, decode from a view, dumps and encode."""
    value = VALUES[name]
    data = pickle.dumps(value, 5)
    view = memoryview(bytearray(b"head" + data + b"tag"))[4:-3]
    if not same(codec.decode(data), value) or not same(codec.decode(view), value) or codec.encode(value) != data:
        raise SystemExit(f"{name}: not the same value")
    gc.collect()
    loads, decode, of_view = best(lambda: pickle.loads(data), lambda: codec.decode(data), lambda: codec.decode(view))
    return [loads, decode], of_view, best(lambda: pickle.dumps(value, 5), lambda: codec.encode_pieces(value))


def same(one: Any, other: Any) -> bool:
    return bool(numpy.array_equal(one, other)) if numpy and isinstance(one, numpy.ndarray) else bool(one == other)


def main(arguments: list[str]) -> None:
    as_json = "--json" in arguments
    names = [name for name in VALUES if name in arguments or not set(arguments) - {"--json"}]
    limits = Limits(max_frame=128 * MIB, max_string=128 * MIB, max_memory=512 * MIB)
    codec = Codec(Allowlist(Item, *([numpy.ndarray] if numpy else [])), limits=limits)
    if as_json:
        rows = {name: measure(name, codec)[0] for name in names}
        print(json.dumps({name: decode / loads for name, (loads, decode) in rows.items()}))
        return
    others = pure(names)
    print(f"CPython {platform.python_version()} on {platform.machine()}, {'native core' if NATIVE else 'pure Python'}")
    print(
        f"{'':24}{'loads':>10}{'decode':>10}{'ratio':>7}{'':>7}{'view':>7}{'pure':>7}"
        f"{'dumps':>10}{'encode':>10}{'ratio':>7}"
    )
    for name in names:
        (loads, decode), of_view, (dumps, encode) = measure(name, codec)
        goal = f"({TARGETS[name]})" if name in TARGETS and NATIVE else ""
        other = f"{others[name]:7.2f}" if name in others else ""
        print(
            f"{name:24}{loads:10.2f}{decode:10.2f}{decode / loads:7.2f}{goal:>7}{of_view / loads:7.2f}{other:>7}"
            f"{dumps:10.2f}{encode:10.2f}{encode / dumps:7.2f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
