"""Replies and requests in parts, and metadata, through both pools."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

import pytest

from sealwire import AsyncClientPool, AsyncTCPServer, ClientPool, Context, ThreadingTCPServer
from support.aio import eventually_on_loop
from support.service import Deployment, running

pytestmark = pytest.mark.usefixtures("clean")


def answer(message: Any, context: Context) -> Any:
    if isinstance(message, int):
        return counting(message)
    if hasattr(message, "__next__"):
        return list(message)
    context.reply_metadata.update(context.metadata)
    return message


def counting(limit: int) -> Generator[int, None, str]:
    yield from range(limit)
    return "done"


def pooled(deployment: Deployment, stack: ExitStack, *, servers: int = 2, size: int = 4) -> ClientPool:
    ports = [
        stack.enter_context(running(ThreadingTCPServer(("127.0.0.1", 0), answer, deployment.server_security())))
        for _ in range(servers)
    ]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return stack.enter_context(ClientPool(addresses, size=size, security=deployment.security("client")))


def test_streams_beside_requests(deployment: Deployment) -> None:
    with ExitStack() as stack:
        pool = pooled(deployment, stack)
        first, second = pool.stream(3), pool.stream(3)
        assert [next(first), next(second)] == [0, 0]
        assert pool.send_request("x") == "x"
        assert list(first) == [1, 2]
        assert first.result == "done"
        second.close()
        assert list(second) == []
        assert pool.send_parts(range(4)) == [0, 1, 2, 3]
        received: dict[str, str] = {}
        assert pool.send_request("x", metadata={"a": "b"}, reply_metadata=received) == "x"
        assert received == {"a": "b"}


def test_its_place_is_free_afterwards(deployment: Deployment) -> None:
    with ExitStack() as stack:
        pool = pooled(deployment, stack, servers=1, size=1)
        for _ in range(3):
            for number in pool.stream(10**6):
                if number == 2:
                    break
            assert list(pool.stream(2)) == [0, 1]
            assert pool.send_request("x") == "x"


def test_a_server_that_is_not_there(deployment: Deployment) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(running(ThreadingTCPServer(("127.0.0.1", 0), answer, deployment.server_security())))
        pool = stack.enter_context(
            ClientPool(["127.0.0.1:9", f"127.0.0.1:{other}"], size=2, security=deployment.security("client"))
        )
        for _ in range(4):
            assert list(pool.stream(2)) == [0, 1]
            assert pool.send_parts("ab") == ["a", "b"]


async def echo(message: Any, context: Context) -> Any:
    if hasattr(message, "__anext__"):
        return [part async for part in message]
    context.reply_metadata.update(context.metadata)
    return message


async def of_tasks(deployment: Deployment, addresses: list[str]) -> None:
    async with AsyncClientPool(addresses, size=2, security=deployment.security("client")) as pool:
        first, second = pool.stream(3), pool.stream(10**6)
        assert [await anext(first), await anext(second), await anext(second)] == [0, 0, 1]
        assert await pool.send_request("x") == "x"
        assert [part async for part in first] == [1, 2]
        assert first.result == "done"
        await second.aclose()
        found = await asyncio.gather(*(pool.send_parts(range(4)) for _ in range(10)))
        assert found == [[0, 1, 2, 3]] * 10
        received: dict[str, str] = {}
        assert await pool.send_request("x", metadata={"a": "b"}, reply_metadata=received) == "x"
        assert received == {"a": "b"}
        for _ in range(3):
            assert [part async for part in pool.stream(2)] == [0, 1]
        # The stream that was closed counts until its server has taken that in.
        await eventually_on_loop(lambda: sum(server.requests for server in pool.status()) == 0)


def test_of_tasks_at_servers_of_threads(deployment: Deployment) -> None:
    with ExitStack() as stack:
        servers = [ThreadingTCPServer(("127.0.0.1", 0), answer, deployment.server_security()) for _ in range(2)]
        ports = [stack.enter_context(running(server)) for server in servers]
        asyncio.run(of_tasks(deployment, ["127.0.0.1:9", *(f"127.0.0.1:{port}" for port in ports)]))


def test_of_tasks_at_servers_of_coroutines(deployment: Deployment) -> None:
    async def main() -> None:
        async with AsyncTCPServer(("127.0.0.1", 0), answer, deployment.server_security()) as server:
            port = server.server_address[1]
            await of_tasks(deployment, [f"127.0.0.1:{port}", "127.0.0.1:9"])
        async with AsyncTCPServer(("127.0.0.1", 0), echo, deployment.server_security()) as server:
            address = f"127.0.0.1:{server.server_address[1]}"
            async with AsyncClientPool([address], size=1, security=deployment.security("client")) as pool:
                assert await pool.send_parts("abc") == ["a", "b", "c"]

    asyncio.run(main())
