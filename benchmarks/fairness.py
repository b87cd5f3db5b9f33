"""Measure a good client's latency alone and beside each of several floods, for every kind of server, in one run.

    python -m benchmarks.fairness [--seconds 3] [--server NAME] [--flood NAME]

Server, flood and good client are processes of their own. The good client sends one small request after another. The
columns are its 50th and 99th percentile in milliseconds, the ratios to those alone, the same two percentiles of the
processor time that the server used while a request was under way, its requests in the time, and those that failed. A
flood begins a second before it is measured. On two processors three processes share them, so the operating system has a
part in every ratio; on a machine that does other work as well, only the server's processor time says something.
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
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import sealwire
from benchmarks.floods import FLOODS, SMALL, flood, security_of, unix_security
from sealwire import AsyncTCPServer, AsyncUnixServer, SynchronousTCPClient
from sealwire.client_base import BaseClient
from sealwire.testing import Throwaway

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
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
    if isinstance(address, str):
        client: BaseClient = sealwire.SynchronousUnixClient(
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


def measure(directory: Path, address: Any, seconds: float, server: Any) -> tuple[tuple[float, ...], int, int]:
    process, link = started(good, directory, address, seconds, server.pid)
    times, work, failed = link.recv()
    process.join()
    return (*percentiles(times), *percentiles(work)), len(times), failed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
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
            for name in ("alone", *(options.flood or FLOODS)):
                server, link = started(serve, place.directory, kind)
                address = link.recv()
                floods = []
                if name != "alone":
                    floods = [started(flood, place.directory, address, name) for _ in range(FLOODS[name][0])]
                    for _, ready in floods:
                        ready.recv()
                    time.sleep(1)
                found, done, failed = measure(place.directory, address, options.seconds, server)
                if name == "alone":
                    alone = found
                ratios = [now / max(before, 0.001) for now, before in zip(found, alone, strict=True)]
                print(
                    f"{kind:18}{name:26}{found[0]:9.2f}{found[1]:9.2f}{ratios[0]:7.1f}{ratios[1]:7.1f}"
                    f"{found[2]:9.2f}{found[3]:9.2f}{ratios[2]:7.1f}{ratios[3]:7.1f}"
                    f"{done:7}{failed:7}{resident(server):6.0f}",
                    flush=True,
                )
                for process, _ in (*floods, (server, None)):
                    process.terminate()
                    process.join(3)
                    process.kill()
                    process.join()
                with suppress(FileNotFoundError):
                    (place.directory / kind).unlink()


if __name__ == "__main__":
    sys.exit(main())
