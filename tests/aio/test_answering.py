"""Requests that are answered in the moment in which they come, and what that must not change."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from time import monotonic
from typing import Any

import pytest

from reference import protocol as p
from sealwire import AsyncTCPServer, decode, encode
from sealwire.aio import server_connection
from sealwire.session.round_robin import ROUND
from support.aio import serving
from support.service import Deployment

pytestmark = pytest.mark.usefixtures("clean")

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


def test_handlers_that_compute_for_long_let_others_come_between(deployment: Deployment) -> None:
    """However many requests come at once: no two of them are handled in one iteration of the loop."""
    iterations = 0
    seen: list[int] = []

    def count() -> None:
        nonlocal iterations
        iterations += 1
        asyncio.get_running_loop().call_soon(count)

    async def computes(message: Any) -> Any:
        if not seen:
            count()
        seen.append(iterations)
        end = monotonic() + 1.5 * ROUND
        while monotonic() < end:
            pass
        return message

    security = deployment.server_security()
    with (
        serving(lambda: AsyncTCPServer(("127.0.0.1", 0), computes, security)) as one,
        deployment.ref_client(one.port, codec="pickle-5") as client,
    ):
        frames = [p.frame(p.MESSAGE, encode(n), n, 0, client.key_out) for n in range(1, 41)]
        client.send_raw(b"".join(frames))
        for n in range(1, 41):
            assert client.read_unverified().reply_to == n
    assert len(set(seen)) == 40


def test_replies_do_not_wait_for_all_handlers(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requests that have come together: the client is at work on the first replies meanwhile."""
    monkeypatch.setattr(server_connection, "ROUND", math.inf)
    come = threading.Event()

    async def blocks(message: Any) -> Any:
        return message != 20 or come.wait(20)

    security = deployment.server_security()
    with (
        serving(lambda: AsyncTCPServer(("127.0.0.1", 0), blocks, security)) as one,
        deployment.ref_client(one.port, codec="pickle-5") as client,
    ):
        client.send_raw(b"".join(p.frame(p.MESSAGE, encode(n), n, 0, client.key_out) for n in range(1, 41)))
        for n in range(1, 41):
            reply = client.read_unverified()
            assert (reply.reply_to, decode(reply.payload)) == (n, True)
            if n == 16:
                come.set()


def test_each_message_has_a_context_of_its_own(deployment: Deployment) -> None:
    async def changes(message: Any) -> Any:
        before = variable.get()
        variable.set(message)
        if message % 2:
            await asyncio.sleep(0)
        return [before, variable.get()]

    security = deployment.server_security()
    with (
        serving(lambda: AsyncTCPServer(("127.0.0.1", 0), changes, security)) as one,
        deployment.client(one.port) as client,
    ):
        assert [client.send_request(n) for n in range(1, 7)] == [[0, n] for n in range(1, 7)]


def test_each_message_has_a_task(deployment: Deployment) -> None:
    async def asks(message: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        return task is asyncio.current_task()

    security = deployment.server_security()
    with (
        serving(lambda: AsyncTCPServer(("127.0.0.1", 0), asks, security)) as one,
        deployment.client(one.port) as client,
    ):
        assert [client.send_request(n) for n in range(4)] == [True] * 4


def test_the_last_place_is_taken_by_a_request_that_came_alone(deployment: Deployment) -> None:
    """The task that waits for requests must not read another one, although it went on waiting meanwhile."""
    gate = asyncio.Event()
    entered: list[int] = []

    async def held(message: Any) -> Any:
        entered.append(message)
        if message in (2, 3):
            await gate.wait()
        return message

    async def open_gate() -> list[int]:
        for _ in range(10):
            await asyncio.sleep(0)
        before = list(entered)
        gate.set()
        return before

    security = deployment.server_security(limits={"max_in_flight": 2})
    with (
        serving(lambda: AsyncTCPServer(("127.0.0.1", 0), held, security)) as one,
        deployment.ref_client(one.port, codec="pickle-5") as client,
        deployment.client(one.port) as other,
    ):
        for n in range(1, 6):
            client.send_raw(p.frame(p.MESSAGE, encode(n), n, 0, client.key_out))
            if n == 1:
                assert client.read_unverified().reply_to == 1
            other.send_request(-n)  # the loop has read what came before
        assert [n for n in one.call(open_gate()) if n > 0] == [1, 2, 3]
        assert sorted(client.read_unverified().reply_to for _ in range(4)) == [2, 3, 4, 5]
