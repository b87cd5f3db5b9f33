"""Measure memory and time for a large array, compared with pickle protocol 5, in one run.

    python benchmarks/arrays.py [--mib 64] [--json]

Each figure comes from a process of its own: the best time of several runs, and the growth of its peak resident memory
in multiples of the array's size, so that 1 is one copy.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from sealwire import Allowlist, Codec, Limits

RUNS = 5
WIDE = Limits(max_frame=1 << 30, max_string=1 << 30, max_memory=1 << 32)


def codec() -> Codec:
    return Codec(Allowlist(np.ndarray), limits=WIDE)


def resident() -> int:
    """Return the resident memory of this process in bytes (Linux only)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    """Return the peak of the resident memory in bytes since ``reset_peak``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("needs Linux: /proc/self/status has no VmHWM")


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measured(call: Callable[[], Any]) -> tuple[float, int]:
    """Return the best time of ``call`` in seconds, and the growth of peak memory in bytes."""
    call()
    best = float("inf")
    reset_peak()
    before = resident()
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best, peak() - before


def encode_and_decode(kind: str, size: int) -> tuple[float, int]:
    value = np.random.default_rng(1).random(size // 8)
    if kind == "pickle.dumps":
        return measured(lambda: pickle.dumps(value, 5))
    if kind == "encode":
        return measured(lambda: codec().encode(value))
    if kind == "encode, to be sent":
        return measured(lambda: codec().encode_pieces(value))
    data = memoryview(bytearray(pickle.dumps(value, 5)))
    if kind == "pickle.loads":
        return measured(lambda: pickle.loads(data))
    return measured(lambda: codec().decode(data))


KINDS = ("pickle.dumps", "encode", "encode, to be sent", "pickle.loads", "decode")


def run(kind: str, size: int, answer: Connection) -> None:
    answer.send(encode_and_decode(kind, size))


def apart(kind: str, size: int) -> tuple[float, int]:
    """Run the measurement in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run, args=(kind, size, theirs))
    process.start()
    theirs.close()
    try:
        result: tuple[float, int] = ours.recv()
    except EOFError:
        raise SystemExit(f"{kind}: failed") from None
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=64, help="size of the float64 array")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    size = arguments.mib << 20
    rows = {kind: apart(kind, size) for kind in KINDS}
    if arguments.json:
        json.dump({kind: {"seconds": row[0], "copies": row[1] / size} for kind, row in rows.items()}, sys.stdout)
        return
    print(f"float64 array of {arguments.mib} MiB{'ms':>18}{'copies':>9}")
    for kind, (seconds, taken) in rows.items():
        print(f"{kind:<30}{seconds * 1e3:>12.1f}{taken / size:>9.2f}")


if __name__ == "__main__":
    main()
