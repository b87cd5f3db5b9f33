"""Throughput against the number of connections; time and memory against the size of a message.

The clients are asynchronous throughout, so that a thousand of them are one process, and the same for what is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.processes import Failed, Pair, peak, reset_peak, resident
from benchmarks.suite import GRACE

Say = Callable[[str], None]
SERVERS = {
    "bare-tls": (("bare", "serve"), ("streams", "connect_uvloop")),
    "uvloop-tls": (("streams", "serve_uvloop"), ("streams", "connect_uvloop")),
    "sealwire-threads": (("sealed", "serve_threads"), ("sealed", "connect_uvloop")),
    "sealwire-uvloop": (("sealed", "serve_uvloop"), ("sealed", "connect_uvloop")),
    "sealwire-prefork, 1 worker": (("sealed", "serve_prefork_1"), ("sealed", "connect_uvloop")),
    "sealwire-prefork, 2 workers": (("sealed", "serve_prefork"), ("sealed", "connect_uvloop")),
}
SIZED = {
    "bare-tls": (("bare", "serve"), ("bare", "connect")),
    "bare-tls-msgpack": (("bare", "serve_signed"), ("bare", "connect_signed")),
    "sealwire-threads": (("sealed", "serve_threads"), ("sealed", "connect")),
    "sealwire-asyncio": (("sealed", "serve_asyncio"), ("sealed", "connect_asyncio")),
}
CONNECTIONS = (1, 10, 100, 1000)
SIZES = (100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 1 << 26)


def against_connections(
    directory: Path, names: list[str], counts: list[int], *, seconds: float, rounds: int, say: Say
) -> dict[str, dict[str, float]]:
    """Return the medians of requests per second, by server and number of connections."""
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    with ExitStack() as stack:
        pairs = {name: stack.enter_context(Pair(directory, *SERVERS[name], {})) for name in names}
        for count in counts:
            rates: dict[str, list[float]] = {}
            for round_ in range(rounds):
                for name in names if round_ % 2 == 0 else names[::-1]:
                    say(f"{count} connections, round {round_ + 1} of {rounds}: {name}")
                    try:
                        if round_ == 0:
                            pairs[name].tell(GRACE + count / 10, do="prepare", values="small", connections=count)
                        rate = pairs[name].tell(
                            seconds + GRACE, do="closed", values="small", connections=count, seconds=seconds
                        )
                    except Failed as failed:
                        say(f"{name} failed: {failed}")
                    else:
                        rates.setdefault(name, []).append(rate)
            for name, each in rates.items():
                found[name][str(count)] = median(each)
    return found


def against_size(
    directory: Path, names: list[str], sizes: list[int], *, seconds: float, rounds: int, say: Say
) -> dict[str, dict[str, dict[str, float]]]:
    """Return by peer and size: seconds of a round trip, and growth of each end's memory in multiples of the size."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    for size in sizes:
        with ExitStack() as stack:
            pairs = {name: stack.enter_context(Pair(directory, *SIZED[name], {})) for name in names}
            times: dict[str, list[float]] = {}
            for round_ in range(rounds):
                for name, pair in pairs.items():
                    say(f"{size} bytes, round {round_ + 1} of {rounds}: {name}")
                    try:
                        if round_ == 0:
                            found[name][str(size)] = _memory(pair, size)
                        took = pair.tell(GRACE + seconds, do="times", values=f"size:{size}", seconds=seconds, least=2)
                    except Failed as failed:
                        say(f"{name} failed: {failed}")
                    else:
                        times.setdefault(name, []).append(took)
            for name, each in times.items():
                found[name][str(size)]["seconds"] = median(each)
    return found


def _memory(pair: Pair, size: int) -> dict[str, float]:
    """Return the growth of each end's peak memory during one request, after a small one."""
    pair.tell(GRACE, do="prepare", values="small", connections=1)
    ends = {"client": pair.clients, "server": pair.server}
    before = {}
    for name, child in ends.items():
        reset_peak(child.pids)
        before[name] = resident(child.pids)
    pair.tell(GRACE, do="times", values=f"size:{size}", seconds=0, least=1)
    return {name: (peak(child.pids) - before[name]) / size for name, child in ends.items()}
