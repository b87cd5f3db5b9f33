"""Many idle connections on one asyncio server: memory for each, and how long a busy client beside them waits.

    python benchmarks/idle.py [connections] [looks]

Three processes: the server, one that holds the idle connections (mutual TLS 1.3, over memory BIOs), and this one with
the busy client. Beside AsyncTCPServer the same is done with asyncio's own TLS server, with the same certificates and no
protocol on top. Memory is what the server's process has more of than before the first connection (VmRSS). The client's
times are for one request after the other, first without the idle ones, then with them. ``looks``: seconds between two
looks at each connection (Limits.reload_interval, 1 by default).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

from sealwire import AsyncTCPClient, AsyncTCPServer, Limits, Security, SynchronousTCPClient
from sealwire.testing import Throwaway
from sealwire.tls.contexts import server_context

REQUESTS = 3000
REQUEST = {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5}
AT_ONCE = 64


def security_of(directory: Path, role: str, connections: int, looks: float) -> Security:
    return Security.from_files(
        cert=directory / f"{role}.pem", key=directory / f"{role}.key", ca=directory / "ca.pem",
        keyring=directory / "keyring.toml", peers=["dns:client.example"] if role == "server" else None,
        limits=Limits(max_connections=connections + 10, idle_timeout=3600, reload_interval=looks),
    )  # fmt: skip


def serve(directory: Path, connections: int, looks: float, link: Connection) -> None:
    async def main() -> None:
        security = security_of(directory, "server", connections, looks)
        async with AsyncTCPServer(("127.0.0.1", 0), respond, security) as server:
            link.send(server.server_address[1])
            await asyncio.to_thread(link.recv)

    async def respond(message: Any) -> Any:
        return message

    asyncio.run(main())


def serve_plain(directory: Path, connections: int, looks: float, link: Connection) -> None:
    async def main() -> None:
        security = security_of(directory, "server", connections, looks)
        context = server_context(security.credentials.current)
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context, backlog=1024) as server:
            link.send(server.sockets[0].getsockname()[1])
            await asyncio.to_thread(link.recv)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    asyncio.run(main())


def hold(directory: Path, connections: int, port: int, link: Connection) -> None:
    """Connections of AsyncTCPClient, whose stream is as small as the server's."""

    async def main() -> None:
        security = security_of(directory, "client", connections, 3600)
        clients = [
            AsyncTCPClient("localhost", port, timeout=60, wait=60, security=security) for _ in range(connections)
        ]
        turns = asyncio.Semaphore(AT_ONCE)

        async def request(client: AsyncTCPClient) -> None:
            async with turns:
                await client.send_request(REQUEST)

        await asyncio.gather(*map(request, clients))
        link.send(True)
        await asyncio.to_thread(link.recv)

    asyncio.run(main())
    os._exit(0)  # it would take a while to say good-bye so often


def hold_plain(directory: Path, connections: int, port: int, link: Connection) -> None:
    async def main() -> None:
        context = security_of(directory, "client", connections, 3600)
        tls = context.client_context(context.present())
        turns = asyncio.Semaphore(AT_ONCE)
        held = []

        async def connect() -> None:
            async with turns:
                reader, writer = await asyncio.open_connection("localhost", port, ssl=tls, server_hostname="localhost")
                writer.write(b"x")
                await reader.read(1)
                held.append((reader, writer))

        await asyncio.gather(*(connect() for _ in range(connections)))
        link.send(True)
        await asyncio.to_thread(link.recv)

    asyncio.run(main())
    os._exit(0)


def resident(pid: int) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def started(target: Any, *arguments: Any) -> tuple[Any, Connection]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, there))
    process.start()
    return process, here


def latencies(client: SynchronousTCPClient) -> str:
    times = []
    for _ in range(REQUESTS):
        start = perf_counter()
        client.send_request(REQUEST)
        times.append((perf_counter() - start) * 1000)
    cuts = statistics.quantiles(times, n=1000)
    return f"p50 {cuts[499]:6.3f}  p99 {cuts[989]:6.3f}  p99.9 {cuts[998]:6.3f} ms"


def main() -> None:
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    looks = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    with Throwaway() as place:
        place.leaf("server", "localhost", "127.0.0.1")
        place.leaf("client", "client.example")
        memory = {}
        for name, server, holder in (("sealwire", serve, hold), ("asyncio's TLS", serve_plain, hold_plain)):
            running, link = started(server, place.directory, connections, looks)
            port = link.recv()
            client = SynchronousTCPClient(
                "localhost", port, wait=60, security=security_of(place.directory, "client", connections, 1.0)
            )
            if server is serve:
                print(f"{name}, alone:          {latencies(client)}")
            before = resident(running.pid)
            start = perf_counter()
            holding, holder_link = started(holder, place.directory, connections, port)
            holder_link.recv()
            took = perf_counter() - start
            memory[name] = (resident(running.pid) - before) / connections
            print(f"{name}: {connections} connections in {took:.0f} s, {memory[name]:.1f} KiB each at the server")
            if server is serve:
                print(f"{name}, beside them:    {latencies(client)}")
                client.close()
            holder_link.send(None)
            holding.join()
            running.kill()
            running.join()
        ratio = memory["asyncio's TLS"] / memory["sealwire"]
        print(f"asyncio's TLS ÷ sealwire, memory: {ratio:.1f}")


if __name__ == "__main__":
    main()
