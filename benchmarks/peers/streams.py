"""asyncio streams over TLS with a four-byte length and raw pickle, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import pickle
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.bare import tls_context

LIMIT = 1 << 27


class _Stream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def write(self, value: Any) -> None:
        body = pickle.dumps(value, protocol=5)
        self.writer.write(len(body).to_bytes(4, "big") + body)

    async def receive(self) -> Any:
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        return pickle.loads(await self.reader.readexactly(size))

    async def ask(self, value: Any) -> Any:
        self.write(value)
        await self.writer.drain()
        return await self.receive()

    async def pipeline(self, values: list[Any]) -> None:
        for value in values:
            self.write(value)
        for _ in values:
            await self.receive()

    async def close(self) -> None:
        self.writer.close()


async def _serve(directory: Path, ready: Callable[[int], None]) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = _Stream(reader, writer)
        try:
            while True:
                stream.write(await stream.receive())
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    context = tls_context(directory, ssl.PROTOCOL_TLS_SERVER, "server")
    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=context, limit=LIMIT, backlog=1024)
    ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def serve(directory: Path, ready: Callable[[int], None]) -> None:
    asyncio.run(_serve(directory, ready))


def serve_uvloop(directory: Path, ready: Callable[[int], None]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(directory, ready))


_contexts: dict[Path, ssl.SSLContext] = {}


async def connect(directory: Path, port: int) -> _Stream:
    if directory not in _contexts:
        _contexts[directory] = tls_context(directory, ssl.PROTOCOL_TLS_CLIENT, "client")
    return _Stream(
        *await asyncio.open_connection(
            "127.0.0.1", port, ssl=_contexts[directory], server_hostname="localhost", limit=LIMIT
        )
    )


connect_uvloop = connect  # the process has its loop from the peer's name
