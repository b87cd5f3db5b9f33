"""The load of ``sealwire bench``: connections, each with some requests in flight.

Without a rate, each place in flight sends its next request when the last one is answered, so a slow server is asked
less often. With a rate each request has a time at which it is due, whatever the server does, and its latency counts
from then on: requests that wait behind a slow one are as late as a real user's would be.
"""

from __future__ import annotations

import asyncio
import math
import signal
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, Final

from sealwire.aio.client import AsyncClient
from sealwire.cli.bench.results import Results
from sealwire.errors import DecodeError, RemoteError, SealwireError
from sealwire.prefork.asyncio_worker import loop_factory

Client = AsyncClient[Any]
_TICK: Final = 0.5
"""Seconds between two calls of ``show``, which takes some milliseconds on a terminal."""
_CONNECTING: Final = 32
"""Connections that are made at a time."""
_PAUSE: Final = 0.05
"""Seconds until the next request after one that got no reply, which may have failed at once."""
_EARLY: Final = 0.002
"""Seconds before a request is due from which on the loop is not left to sleep: its timers are late by a millisecond."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The load to send.

    Attributes:
        message: The message of each request.
        clients: Number of connections.
        window: Requests in flight on each.
        requests: Number of requests; None for no bound.
        duration: Seconds after which no more are sent; None for no bound.
        rate: Requests due in a second; None to send each when there is room.
        refusals: Codes of faults that end the run if no request was answered before.
    """

    message: Any
    clients: int
    window: int
    requests: int | None
    duration: float | None
    rate: float | None
    refusals: Collection[int] = ()


def run(plan: Plan, make_client: Callable[[], Client], results: Results, show: Callable[[], None]) -> None:
    """Send all requests, until SIGINT or SIGTERM at most.

    Args:
        plan: The requests to send.
        make_client: Returns a client that is not connected.
        results: The object to fill.
        show: Called now and then.

    Raises:
        SealwireError: No connection could be made.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_Load(plan, results).run(make_client, show))


class _Load:
    def __init__(self, plan: Plan, results: Results) -> None:
        self._plan = plan
        self._results = results
        self._started = 0
        self._begun = 0.0
        self._end = math.inf
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._has_waiting = asyncio.Event()

    async def run(self, make_client: Callable[[], Client], show: Callable[[], None]) -> None:
        whole = asyncio.current_task()
        assert whole is not None  # a coroutine runs in a task

        def interrupt() -> None:
            if not self._results.is_interrupted:
                self._results.is_interrupted = True
                whole.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupt)
        ticker = asyncio.create_task(_tick(show))
        try:
            await self._connect_and_send([make_client() for _ in range(self._plan.clients)])
        except asyncio.CancelledError:
            if not self._results.is_interrupted:
                raise
            whole.uncancel()
        finally:
            ticker.cancel()

    async def _connect_and_send(self, clients: list[Client]) -> None:
        try:
            turns = asyncio.Semaphore(_CONNECTING)
            errors = await asyncio.gather(*(self._connect(client, turns) for client in clients))
            usable = [client for client, error in zip(clients, errors, strict=True) if error is None]
            if not usable:
                raise next(filter(None, errors))
            await self._send(usable)
        finally:
            await asyncio.gather(*(client.close() for client in clients))

    async def _connect(self, client: Client, turns: asyncio.Semaphore) -> SealwireError | None:
        async with turns:
            begun = perf_counter()
            try:
                await client.connect()
            except SealwireError as error:
                self._results.fail(error)
                return error
            self._results.connecting.append(perf_counter() - begun)
            return None

    async def _send(self, clients: list[Client]) -> None:
        plan = self._plan
        used = process_time()
        self._begun = perf_counter()
        if plan.duration is not None:
            self._end = self._begun + plan.duration
        try:
            async with asyncio.TaskGroup() as group:
                pacer = group.create_task(self._pace())
                places = [group.create_task(self._fill_place(client)) for client in clients * plan.window]
                await asyncio.wait(places)
                pacer.cancel()
        finally:
            self._conclude(process_time() - used)

    def _conclude(self, used: float) -> None:
        plan, results, until = self._plan, self._results, perf_counter()
        if not results.is_interrupted and self._started != plan.requests:
            until = max(until, self._end)  # the time is over, perhaps some time after the last request
        results.seconds = until - self._begun
        if plan.rate is None:
            results.processor = used / results.seconds
        else:
            due = int(min(results.seconds, plan.duration or math.inf) * plan.rate)
            results.missed = max(0, min(due, plan.requests or due) - self._started)

    async def _fill_place(self, client: Client) -> None:
        """Send one request after another."""
        results, message = self._results, self._plan.message
        while (due := await self._next_due()) is not None:
            try:
                await client.send_request(message)
            except (RemoteError, DecodeError) as error:
                results.fail(error)
                is_refusal = isinstance(error, RemoteError) and error.code in self._plan.refusals
                if is_refusal and not results.latencies:
                    results.refusal, self._end = error, 0.0
            except SealwireError as error:
                results.fail(error)
                await asyncio.sleep(_PAUSE)
            else:
                now = perf_counter()
                results.latencies.append(now - due)
                results.ended.append(now - self._begun)

    async def _next_due(self) -> float | None:
        """Return the time at which the next request is due, not before that time; None if there are no more."""
        now = perf_counter()
        if self._started == self._plan.requests or now >= self._end:
            return None
        if self._plan.rate is None:
            self._started += 1
            return now
        due = self._begun + self._started / self._plan.rate
        if due >= self._end:
            return None
        self._started += 1
        if due > now:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((due, future))
            self._has_waiting.set()
            await future
        return due if self._end else None

    async def _pace(self) -> None:
        """Release the requests that wait, each when it is due."""
        while True:
            while not self._waiting:
                self._has_waiting.clear()
                await self._has_waiting.wait()
            due, future = self._waiting.popleft()
            while (left := due - perf_counter()) > 0:
                await asyncio.sleep(max(0.0, left - _EARLY))
            if not future.done():
                future.set_result(None)


async def _tick(show: Callable[[], None]) -> None:
    while True:
        show()
        await asyncio.sleep(_TICK)
