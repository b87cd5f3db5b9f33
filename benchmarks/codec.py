"""Encode and decode beside ``pickle.dumps`` and ``pickle.loads`` of C, in one run.

    python benchmarks/codec.py [name ...]

Each time is the best of several runs, in microseconds; the two of a pair take turns, so that a busy machine is fair to
both. "view" is the payload as a large frame has it: a memoryview of a part of a bytearray. "compiled" is the ratio of
decode with the vetting pass compiled by mypyc, measured by the Python of $COMPILED (default .venv-compiled, which
`make test-compiled` makes), where there is one. In brackets: the most that the ratio should be.
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
from pathlib import Path
from typing import Any

from sealwire import Allowlist, Codec, Limits
from sealwire.pickling import vet

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]  # its row is left out

ROUNDS = 7
SECONDS = 0.05
MIB = 1 << 20
IS_COMPILED = not vet.__file__.endswith(".py")
TARGETS = {
    "small dict": (15, 5),
    "1,000 dicts of 3": (15, 4),
    "10,000 dataclasses": (12, 6),
    "100,000 ints": (9, 2.5),
    "1 MiB bytes": (1.15, 1.1),
    "10,000 sparse int keys": (20, 8),
}
"""Of decode: as it is, and compiled."""


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
    """Microseconds of each call, the calls taking turns."""
    timers = [timeit.Timer(call) for call in calls]
    numbers = [max(1, int(SECONDS / max(timer.timeit(1), 1e-7))) for timer in timers]
    runs = [[timer.timeit(n) / n for timer, n in zip(timers, numbers, strict=True)] for _ in range(ROUNDS)]
    return [min(times) * 1e6 for times in zip(*runs, strict=True)]


def compiled(names: list[str]) -> dict[str, float]:
    """The ratios of decode by a compiled vetting pass; none where there is none."""
    python = Path(os.environ.get("COMPILED", ".venv-compiled"), "bin", "python")
    if IS_COMPILED or not python.exists():
        return {}
    # Without the sources of this one in its way.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, __file__, "--json", *names], capture_output=True, check=False, env=environment, text=True
    )
    if done.returncode:
        print(f"{python} has another version of Sealwire, and is left out; make it anew: make test-compiled")
        return {}
    ratios: dict[str, float] = json.loads(done.stdout)
    return ratios


def measure(name: str, codec: Codec) -> tuple[list[float], float, list[float]]:
    """Microseconds of loads and decode, the same of decode from a view, those of dumps and encode."""
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
    others = compiled(names)
    print(f"CPython {platform.python_version()} on {platform.machine()}{', compiled' if IS_COMPILED else ''}")
    print(
        f"{'':24}{'loads':>10}{'decode':>10}{'ratio':>7}{'':>7}{'view':>7}{'compiled':>10}{'':>7}"
        f"{'dumps':>10}{'encode':>10}{'ratio':>7}"
    )
    for name in names:
        (loads, decode), of_view, (dumps, encode) = measure(name, codec)
        goals = [f"({goal})" for goal in TARGETS.get(name, ())] or ["", ""]
        other = f"{others[name]:10.2f}" if name in others else f"{'':10}"
        print(
            f"{name:24}{loads:10.2f}{decode:10.2f}{decode / loads:7.2f}{goals[IS_COMPILED]:>7}{of_view / loads:7.2f}"
            f"{other}{goals[1]:>7}{dumps:10.2f}{encode:10.2f}{encode / dumps:7.2f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
