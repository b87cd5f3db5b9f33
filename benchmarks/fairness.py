"""Measure a good client's latency alone and beside each of several floods, for every kind of server, in one run.

    python -m benchmarks.fairness [--seconds 3] [--rounds 1] [--server NAME] [--flood NAME]

Server, flood and good client are processes of their own. The good client sends one small request after another. The
columns are its 50th and 99th percentile in milliseconds, the ratios to those alone, the same two percentiles of the
processor time that the server used while a request was under way, its requests in the time, and those that failed. A
flood begins a second before it is measured. Of several rounds each figure is the median.

On two processors three processes share them, so the operating system has a part in every ratio: ``bare-tls``
(:mod:`benchmarks.floor`) shows how much. On a machine that does other work as well, only the server's processor time
says something.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import sealwire
from benchmarks import floor
from benchmarks.floods import FLOODS, SMALL, flood, processes, security_of, unix_security
from sealwire import AsyncTCPServer, AsyncUnixServer, SynchronousTCPClient
from sealwire.testing import Throwaway

BARE = "bare-tls"
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    BARE: ("", {}),
    "threads": ("ThreadingTCPServer", {}),
    "asyncio": ("AsyncTCPServer", {}),
    "uvloop": ("AsyncTCPServer", {"uvloop": True}),
    "prefork": ("PreforkTCPServer", {"workers": 2}),
    "prefork-asyncio": ("PreforkTCPServer", {"workers": 2, "loop": "asyncio"}),
    "fork": ("ForkingTCPServer", {}),
    "unix": ("ThreadingUnixStreamServer", {}),
    "asyncio-unix": ("AsyncUnixServer", {}),
}


def echo(message: Any) -> Any:
    return message if len(message) < 100 else len(message)


async def async_echo(message: Any) -> Any:
    return echo(message)


# The server


def serve(directory: Path, kind: str, link: Connection) -> None:
    logging.disable()  # each refusal writes a line
    if kind == BARE:
        floor.serve(directory, lambda port: link.send((BARE, port)))
    name, options = KINDS[kind]
    security = security_of(directory, "server")
    address: Any = str(directory / kind) if "Unix" in name else ("127.0.0.1", 0)
    if not name.startswith("Async"):
        handler = async_echo if options.get("loop") else echo
        with getattr(sealwire, name)(address, handler, security, **options) as server:
            link.send(server.server_address)
            server.serve_forever()
        return
    import uvloop

    server_class: Any = {"AsyncTCPServer": AsyncTCPServer, "AsyncUnixServer": AsyncUnixServer}[name]

    async def main() -> None:
        async with server_class(address, async_echo, security) as server:
            link.send(server.server_address)
            await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if options else asyncio.new_event_loop) as runner:
        runner.run(main())


# The good client


def processor_time(processes: list[int]) -> float:
    """Return the seconds of processor time that the processes have used (clock_getcpuclockid(3))."""
    total = 0.0
    for process in processes:
        with suppress(OSError):
            total += time.clock_gettime(~process << 3 | 2)
    return total


def good(directory: Path, address: Any, seconds: float, server: int, link: Connection) -> None:
    times: list[float] = []
    work: list[float] = []
    failed = 0
    if address[0] == BARE:
        client: Any = floor.connect(directory, address[1], "client")
    elif isinstance(address, str):
        client = sealwire.SynchronousUnixClient(
            address, timeout=20, wait=20, security=unix_security(directory, "client")
        )
    else:
        client = SynchronousTCPClient(
            "localhost", address[1], timeout=20, wait=20, security=security_of(directory, "client")
        )
    with client:
        with suppress(sealwire.SealwireError):
            client.send_request(SMALL)  # which connects
        workers = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        processes = [server, *map(int, workers)]
        end = monotonic() + seconds
        while monotonic() < end:
            used, start = processor_time(processes), perf_counter()
            try:
                client.send_request(SMALL)
            except sealwire.SealwireError:
                failed += 1
            times.append((perf_counter() - start) * 1000)
            work.append((processor_time(processes) - used) * 1000)
    link.send((times, work, failed))


def started(target: Any, *arguments: Any) -> tuple[Any, Connection]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, there))
    process.start()
    return process, here


def resident(process: Any) -> float:
    with open(f"/proc/{process.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096 / (1 << 20)


def percentiles(numbers: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(numbers, n=100) if len(numbers) > 1 else [numbers[0]] * 99
    return cuts[49], cuts[98]


@dataclass
class Row:
    """The figures of one server beside one flood."""

    figures: list[tuple[float, ...]] = field(default_factory=list)
    """For each round: percentiles of the time and of the server's work, requests done and failed, MiB."""

    @property
    def median(self) -> tuple[float, ...]:
        return tuple(map(statistics.median, zip(*self.figures, strict=True)))


def measure(directory: Path, kind: str, name: str, seconds: float) -> tuple[float, ...]:
    server, link = started(serve, directory, kind)
    address = link.recv()
    floods = []
    try:
        if name != "alone":
            attack = bare_flood if kind == BARE else flood
            floods = [started(attack, directory, address, name) for _ in range(processes(address, name))]
            for _, ready in floods:
                ready.recv()
            time.sleep(1)
        process, link = started(good, directory, address, seconds, server.pid)
        times, work, failed = link.recv()
        process.join()
        return (*percentiles(times), *percentiles(work), len(times), failed, resident(server))
    finally:
        for process, _ in (*floods, (server, None)):
            process.terminate()
            process.join(3)
            process.kill()
            process.join()
        with suppress(FileNotFoundError):
            (directory / kind).unlink()


def bare_flood(directory: Path, address: Any, name: str, link: Connection) -> None:
    link.send(None)
    floor.flood(directory, address[1], name)


def show(kind: str, name: str, found: tuple[float, ...], alone: tuple[float, ...]) -> None:
    ratios = [now / max(before, 0.001) for now, before in zip(found[:4], alone[:4], strict=True)]
    print(
        f"{kind:18}{name:26}{found[0]:9.2f}{found[1]:9.2f}{ratios[0]:7.1f}{ratios[1]:7.1f}"
        f"{found[2]:9.2f}{found[3]:9.2f}{ratios[2]:7.1f}{ratios[3]:7.1f}"
        f"{found[4]:7.0f}{found[5]:7.0f}{found[6]:6.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--server", action="append")
    parser.add_argument("--flood", action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sealwire-") as temporary:
        place = Throwaway(Path(temporary))
        place.leaf("server", "localhost", "127.0.0.1")
        for name in ("client", "flood", "stranger"):
            place.leaf(name, f"{name}.example")
        print(
            f"{'':44}{'p50':>9}{'p99':>9}{'ratio':>7}{'ratio':>7}{'work 50':>9}{'work 99':>9}{'ratio':>7}{'ratio':>7}"
            f"{'done':>7}{'failed':>7}{'MiB':>6}",
            flush=True,
        )
        for kind in options.server or KINDS:
            rows = {
                name: Row()
                for name in ("alone", *(options.flood or FLOODS))
                if kind != BARE or name in ("alone", *floor.FLOODS)
            }
            for _ in range(options.rounds):
                for name, row in rows.items():
                    row.figures.append(measure(place.directory, kind, name, options.seconds))
            for name, row in rows.items():
                show(kind, name, row.median, rows["alone"].median)


if __name__ == "__main__":
    sys.exit(main())
