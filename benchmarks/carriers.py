"""Measure the same handlers on TCP and on NATS in one run: the round trip, a larger message, and 1, 2 and 4 workers.

    python -m benchmarks.carriers [--seconds 2]

Server, workers and client are processes of their own, beside a nats-server of this machine. Times are wall-clock
times, and ``ms CPU`` is the processor time of client, workers and nats-server together for a request. With several
workers each request takes 2 ms of a worker's processor, so that more of them than processors gain nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from sealwire import AsyncClientPool, AsyncTCPServer, Security
from sealwire.nats import AsyncNATSClient, NATSServer
from sealwire.testing import Throwaway

SUBJECT = "orders"
CARRIERS = {"TCP": False, "NATS": True}


async def echo(message: Any) -> Any:
    """Return a message; compute for 2 ms if it is a number."""
    end = process_time() + (0.002 if isinstance(message, int) else 0)
    while process_time() < end:
        pass
    return message


def security_of(directory: Path, role: str) -> Security:
    return Security.from_files(
        cert=directory / f"{role}.pem", key=directory / f"{role}.key", ca=directory / "ca.pem",
        keyring=directory / "keyring.toml", peers=["dns:client.example"] if role == "server" else ["dns:localhost"],
    )  # fmt: skip


def serve(directory: Path, url: str | None, link: Connection) -> None:
    """Serve on TCP, or a subject of NATS; tell the address, and the processor time whenever that is asked for."""
    logging.disable()

    async def main() -> None:
        security = security_of(directory, "server")
        if url is None:
            made: AsyncTCPServer = AsyncTCPServer(("127.0.0.1", 0), echo, security)
        else:
            made = NATSServer(url, echo, security, subject=SUBJECT)
        async with made as server:
            link.send(server.server_address)
            while await asyncio.to_thread(link.recv):
                link.send(process_time())

    asyncio.run(main())


def start_nats(directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    program = shutil.which("nats-server") or "/usr/sbin/nats-server"
    process = subprocess.Popen(
        [program, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(directory), "-l", str(directory / "log")]
    )
    while not (found := [path.read_text() for path in directory.glob("*.ports")]) or "}" not in found[0]:
        time.sleep(0.01)
    return process, f"nats://127.0.0.1:{found[0].partition('127.0.0.1:')[2].partition(chr(34))[0]}"


class Workers:
    """Processes that serve, and the processor time of them all."""

    def __init__(self, directory: Path, url: str | None, number: int, nats: int) -> None:
        self._nats = nats if url is not None else None
        context = multiprocessing.get_context("spawn")
        self._links: list[Connection] = []
        self._processes = []
        self.address: Any = None
        for _ in range(number):
            here, there = multiprocessing.Pipe()
            self._processes.append(context.Process(target=serve, args=(directory, url, there)))
            self._processes[-1].start()
            self._links.append(here)
            self.address = here.recv()

    def cpu(self) -> float:
        """Return the seconds of processor time so far, of this process as well."""
        for link in self._links:
            link.send(True)
        used = process_time() + sum(link.recv() for link in self._links)
        if self._nats is not None:
            fields = Path(f"/proc/{self._nats}/stat").read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / 100
        return used

    def stop(self) -> None:
        for link in self._links:
            link.send(False)
        for process in self._processes:
            process.join(20)


def client_of(address: Any, url: str | None, directory: Path, sessions: int) -> Any:
    security = security_of(directory, "client")
    if url is None:
        return AsyncClientPool([("localhost", address[1])], size=sessions, wait=60, security=security)
    return AsyncNATSClient(url, SUBJECT, sessions=sessions, wait=60, security=security)


async def one_by_one(client: Any, seconds: float) -> list[float]:
    times, end = [], perf_counter() + seconds
    while perf_counter() < end:
        begun = perf_counter()
        await client.send_request({"item": "tea", "count": 2})
        times.append(perf_counter() - begun)
    return times


async def at_a_time(client: Any, seconds: float, message: Any, tasks: int) -> list[float]:
    times: list[float] = []
    end = perf_counter() + seconds

    async def ask() -> None:
        while perf_counter() < end:
            begun = perf_counter()
            await client.send_request(message)
            times.append(perf_counter() - begun)

    await asyncio.gather(*(ask() for _ in range(tasks)))
    return times


def measure(
    workers: Workers, client: Callable[[], Any], load: Callable[[Any], Awaitable[list[float]]]
) -> tuple[float, float, float]:
    """Return requests a second, the median of their times in ms, and ms of processor time for each."""

    async def run() -> tuple[float, float, float]:
        async with client() as made:
            await at_a_time(made, 0.3, "warm", 32)
            begun, used = perf_counter(), workers.cpu()
            times = await load(made)
            took, used = perf_counter() - begun, workers.cpu() - used
        return len(times) / took, statistics.median(times) * 1000, used / len(times) * 1000

    return asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    seconds = parser.parse_args().seconds
    print(f"{'':34}{'requests/s':>12}{'median ms':>12}{'ms CPU':>10}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        place = Throwaway(directory)
        place.leaf("server", "localhost", "127.0.0.1")
        place.leaf("client", "client.example")
        keyring = directory / "keyring.toml"
        keyring.write_text('[[key]]\nid = "k1"\nsecret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="\n')
        keyring.chmod(0o600)
        nats, url = start_nats(directory)
        loads: dict[str, tuple[int, int, Callable[[Any], Awaitable[list[float]]]]] = {
            "one after another": (1, 1, lambda client: one_by_one(client, seconds)),
            "64 at a time": (1, 4, lambda client: at_a_time(client, seconds, "x", 64)),
            "1 MiB, one after another": (1, 1, lambda client: at_a_time(client, seconds, bytes(1 << 20), 1)),
            "2 ms of work, 1 worker": (1, 8, lambda client: at_a_time(client, seconds, 1, 16)),
            "2 ms of work, 2 workers": (2, 16, lambda client: at_a_time(client, seconds, 1, 16)),
            "2 ms of work, 4 workers": (4, 32, lambda client: at_a_time(client, seconds, 1, 16)),
        }
        try:
            for carrier, on_nats in CARRIERS.items():
                for title, (number, sessions, load) in loads.items():
                    if number > 1 and not on_nats:
                        continue
                    where = url if on_nats else None
                    workers = Workers(directory, where, number, nats.pid)
                    make = partial(client_of, workers.address, where, directory, sessions)
                    rate, median, cpu = measure(workers, make, load)
                    workers.stop()
                    print(f"{carrier + ', ' + title:34}{rate:12.0f}{median:12.2f}{cpu:10.2f}", flush=True)
        finally:
            nats.terminate()
            nats.wait(20)


if __name__ == "__main__":
    sys.exit(main())
