"""Sealwire in its forms. Native or pure is decided by SEALWIRE_NATIVE in the process's environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.data import Item
from sealwire import (
    AsyncTCPClient,
    AsyncTCPServer,
    Limits,
    PreforkTCPServer,
    Security,
    SynchronousTCPClient,
    ThreadingTCPServer,
)

# For 1,000 connections of one client, and messages of 64 MiB.
LIMITS = Limits(
    max_connections=4000,
    max_identity_share=100,
    max_frame=1 << 27,
    max_string=1 << 27,
    max_memory=1 << 29,
    drain_timeout=0.5,
)
ADDRESS = ("127.0.0.1", 0)


def security_of(directory: Path, role: str) -> Security:
    return Security.from_files(
        cert=directory / f"{role}.pem", key=directory / f"{role}.key", ca=directory / "ca.pem",
        keyring=directory / "keyring.toml", peers=["dns:client.example"] if role == "server" else None,
        limits=LIMITS, allow=[Item],
    )  # fmt: skip


def echo(message: Any) -> Any:
    return message


async def async_echo(message: Any) -> Any:
    return message


def serve_threads(directory: Path, ready: Callable[[int], None]) -> None:
    with ThreadingTCPServer(ADDRESS, echo, security_of(directory, "server")) as server:
        ready(server.server_address[1])
        server.serve_forever()


def serve_prefork(directory: Path, ready: Callable[[int], None], workers: int = 2) -> None:
    with PreforkTCPServer(ADDRESS, echo, security_of(directory, "server"), workers=workers) as server:
        server.on_ready = lambda: ready(server.server_address[1])
        server.serve_forever()


def serve_prefork_1(directory: Path, ready: Callable[[int], None]) -> None:
    serve_prefork(directory, ready, workers=1)


async def _serve(directory: Path, ready: Callable[[int], None]) -> None:
    async with AsyncTCPServer(ADDRESS, async_echo, security_of(directory, "server")) as server:
        ready(server.server_address[1])
        await server.serve_forever()


def serve_asyncio(directory: Path, ready: Callable[[int], None]) -> None:
    asyncio.run(_serve(directory, ready))


def serve_uvloop(directory: Path, ready: Callable[[int], None]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(directory, ready))


_securities: dict[Path, Security] = {}


def _client_security(directory: Path) -> Security:
    if directory not in _securities:
        _securities[directory] = security_of(directory, "client")
    return _securities[directory]


class _Synchronous:
    def __init__(self, client: SynchronousTCPClient) -> None:
        self.client = client
        self.ask = client.send_request
        self.close = client.close

    def pipeline(self, values: list[Any]) -> None:
        for _ in self.client.send_requests(values):
            pass


class _Asynchronous:
    def __init__(self, client: AsyncTCPClient) -> None:
        self.ask = client.send_request
        self.close = client.close

    async def pipeline(self, values: list[Any]) -> None:
        await asyncio.gather(*map(self.ask, values))


def connect(directory: Path, port: int) -> _Synchronous:
    client = SynchronousTCPClient("localhost", port, timeout=60, wait=60, security=_client_security(directory))
    client.connect()
    return _Synchronous(client)


async def connect_asyncio(directory: Path, port: int) -> _Asynchronous:
    client = AsyncTCPClient("localhost", port, timeout=60, wait=60, security=_client_security(directory))
    await client.connect()
    return _Asynchronous(client)


connect_uvloop = connect_asyncio  # the process has its loop from the function's name
