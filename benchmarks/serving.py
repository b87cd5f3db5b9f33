"""Compare every kind of TCP server with the same handlers, in one run.

    python benchmarks/serving.py [seconds]

The server is a process of its own (or several), and so is the load: CLIENTS connections of AsyncTCPClient, each with
one request after another, for some seconds per cell. The columns are: a handler that returns at once; one that computes
for a millisecond; one that waits for ten milliseconds; a new connection for each request; and the latency of a single
client whose handler returns at once. Ratios are to ThreadingTCPServer. On two processors the clients take one of them,
so several processes gain less here than on a larger machine.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import uvloop

import sealwire
from sealwire import AsyncTCPClient, AsyncTCPServer, Limits, Security, SynchronousTCPClient
from sealwire.testing import Throwaway

CLIENTS = 32
REQUEST = {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5}
SINGLE = 2000


def at_once(message: Any) -> Any:
    return message


def computes(message: Any) -> Any:
    end = time.thread_time() + 0.001
    while time.thread_time() < end:
        pass
    return message


def waits(message: Any) -> Any:
    time.sleep(0.01)
    return message


async def async_at_once(message: Any) -> Any:
    return message


async def async_computes(message: Any) -> Any:
    return computes(message)


async def async_waits(message: Any) -> Any:
    await asyncio.sleep(0.01)
    return message


PLAIN = {"at once": at_once, "computes": computes, "waits": waits}
COROUTINES = {"at once": async_at_once, "computes": async_computes, "waits": async_waits}
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ThreadingTCPServer": ("ThreadingTCPServer", PLAIN, {}),
    "ForkingTCPServer": ("ForkingTCPServer", PLAIN, {}),
    "PreforkTCPServer, threads": ("PreforkTCPServer", PLAIN, {"workers": 2}),
    "PreforkTCPServer, asyncio": ("PreforkTCPServer", COROUTINES, {"workers": 2, "loop": "asyncio"}),
    "AsyncTCPServer, in threads": ("AsyncTCPServer", PLAIN, {}),
    "AsyncTCPServer, coroutines": ("AsyncTCPServer", COROUTINES, {}),
    "AsyncTCPServer, on uvloop": ("AsyncTCPServer", COROUTINES, {"uvloop": True}),
}


def security_of(directory: Path, role: str) -> Security:
    return Security.from_files(
        cert=directory / f"{role}.pem", key=directory / f"{role}.key", ca=directory / "ca.pem",
        keyring=directory / "keyring.toml", peers=["dns:client.example"] if role == "server" else None,
        limits=Limits(max_connections=1000),
    )  # fmt: skip


def serve(directory: Path, kind: str, handler: str, link: Connection) -> None:
    name, handlers, options = KINDS[kind]
    security = security_of(directory, "server")
    address = ("127.0.0.1", 0)
    if name == "AsyncTCPServer":
        new_loop = uvloop.new_event_loop if options else asyncio.new_event_loop

        async def main() -> None:
            async with AsyncTCPServer(address, handlers[handler], security) as server:
                link.send(server.server_address[1])
                await server.serve_forever()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    else:
        with getattr(sealwire, name)(address, handlers[handler], security, **options) as server:
            link.send(server.server_address[1])
            server.serve_forever()


async def ask(directory: Path, port: int, seconds: float, *, anew: bool) -> float:
    """Return the number of requests per second."""
    security = security_of(directory, "client")
    clients = [AsyncTCPClient("localhost", port, wait=30, timeout=30, security=security) for _ in range(CLIENTS)]
    done = 0
    await asyncio.gather(*(client.connect() for client in clients))
    end = perf_counter() + seconds

    async def one(client: AsyncTCPClient) -> None:
        nonlocal done
        while perf_counter() < end:
            await client.send_request(REQUEST)
            done += 1
            if anew:
                await client.close()

    start = perf_counter()
    await asyncio.gather(*map(one, clients))
    took = perf_counter() - start
    await asyncio.gather(*(client.close() for client in clients))
    return done / took


def load(directory: Path, port: int, seconds: float, anew: bool, link: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        link.send(runner.run(ask(directory, port, seconds, anew=anew)))


def single(directory: Path, port: int) -> tuple[float, float]:
    """Return the 50th and the 99th percentile of the latency in milliseconds."""
    times = []
    with SynchronousTCPClient("localhost", port, security=security_of(directory, "client")) as client:
        for _ in range(SINGLE):
            start = perf_counter()
            client.send_request(REQUEST)
            times.append((perf_counter() - start) * 1000)
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def started(target: Any, *arguments: Any) -> tuple[Any, Connection]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, there))
    process.start()
    return process, here


def measure(directory: Path, kind: str, seconds: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for handler in PLAIN:
        server, link = started(serve, directory, kind, handler)
        port = link.recv()
        columns = {handler: False, "anew": True} if handler == "at once" else {handler: False}
        for column, anew in columns.items():
            asking, answers = started(load, directory, port, seconds, anew)
            found[column] = answers.recv()
            asking.join()
        if handler == "at once":
            found["p50"], found["p99"] = single(directory, port)
        server.terminate()
        server.join()
    return found


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    print(f"{os.cpu_count()} processors; {CLIENTS} connections; requests per second, and their ratio; milliseconds")
    print(f"{'':28}{'at once':>14}{'computes 1 ms':>16}{'waits 10 ms':>14}{'anew':>14}{'p50':>7}{'p99':>7}")
    first: dict[str, float] = {}
    with Throwaway() as place:
        place.leaf("server", "localhost", "127.0.0.1")
        place.leaf("client", "client.example")
        for kind in KINDS:
            found = measure(place.directory, kind, seconds)
            first = first or found
            cells = [f"{found[name]:8.0f} {found[name] / first[name]:5.2f}" for name in (*PLAIN, "anew")]
            print(
                f"{kind:28}{cells[0]}{cells[1]:>16}{cells[2]}{cells[3]}{found['p50']:7.2f}{found['p99']:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
