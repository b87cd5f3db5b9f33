"""Runs the clients of one process: requests on some connections, and the number of answers in a given time.

Blocking clients have a thread for each connection, asynchronous ones a task. Connections are kept from one command to
the next. Every reply to a first request is compared with what was sent.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
from collections.abc import Callable
from itertools import islice
from time import perf_counter
from typing import Any

from benchmarks.data import values_of

AT_ONCE = 32
"""Connections that are made at a time."""
PIPELINED = 1000
WARM = 10


def check(reply: Any, value: Any) -> None:
    if reply != value:
        raise ValueError("the reply is not what was sent")


class Blocking:
    """Clients that block."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._open: list[Any] = []

    def _connections(self, count: int) -> list[Any]:
        while len(self._open) < count:
            self._open.append(self._connect())
        return self._open[:count]

    def prepare(self, values: str, connections: int) -> None:
        """Open connections, and send a few requests on each."""
        sent = values_of(values)
        for connection in self._connections(connections):
            for value in islice(sent, WARM):
                check(connection.ask(value), value)

    def closed(self, values: str, connections: int, seconds: float) -> float:
        """Return the requests per second of connections with one request after another."""
        sent = values_of(values)
        opened = self._connections(connections)
        if connections == 1:
            begun = perf_counter()
            return self._ask(opened[0], sent, begun + seconds, 0) / (perf_counter() - begun)
        counts: list[int] = []
        begun = perf_counter()
        threads = [
            threading.Thread(target=lambda c=each, n=n: counts.append(self._ask(c, sent, begun + seconds, n)))
            for n, each in enumerate(opened)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(counts) < connections:
            raise ConnectionError("a connection failed")
        return sum(counts) / (perf_counter() - begun)

    def _ask(self, connection: Any, values: list[Any], end: float, offset: int) -> int:
        ask, count, size = connection.ask, offset, len(values)
        while perf_counter() < end:
            ask(values[count % size])
            count += 1
        return count - offset

    def once(self, values: str, seconds: float) -> float:
        """Return how many times in a second one can connect, send a request, and close."""
        (value, *_), count = values_of(values), 0
        begun = perf_counter()
        while perf_counter() < begun + seconds:
            connection = self._connect()
            check(connection.ask(value), value)
            connection.close()
            count += 1
        return count / (perf_counter() - begun)

    def pipeline(self, values: str, seconds: float) -> float:
        """Return the requests per second of one connection that does not wait for each reply."""
        (connection,) = self._connections(1)
        sent, count = values_of(values) * PIPELINED, 0
        begun = perf_counter()
        while perf_counter() < begun + seconds:
            connection.pipeline(sent)
            count += PIPELINED
        return count / (perf_counter() - begun)

    def times(self, values: str, seconds: float, least: int = 3) -> float:
        """Return the median of the seconds that a request takes, of at least so many."""
        (connection,), (value, *_) = self._connections(1), values_of(values)
        found: list[float] = []
        while len(found) < least or sum(found) < seconds:
            begun = perf_counter()
            connection.ask(value)
            found.append(perf_counter() - begun)
        return statistics.median(found)


class Asynchronous:
    """Clients that are coroutines; ``run`` runs one."""

    def __init__(self, connect: Callable[[], Any], run: Callable[[Any], Any]) -> None:
        self._connect = connect
        self._run = run
        self._open: list[Any] = []

    async def _connections(self, count: int) -> list[Any]:
        while (missing := count - len(self._open)) > 0:
            self._open += await asyncio.gather(*(self._connect() for _ in range(min(missing, AT_ONCE))))
        return self._open[:count]

    def prepare(self, values: str, connections: int) -> None:
        self._run(self._prepare(values_of(values), connections))

    async def _prepare(self, values: list[Any], connections: int) -> None:
        for connection in await self._connections(connections):
            for value in islice(values, WARM):
                check(await connection.ask(value), value)

    def closed(self, values: str, connections: int, seconds: float) -> float:
        return self._run(self._closed(values_of(values), connections, seconds))

    async def _closed(self, values: list[Any], connections: int, seconds: float) -> float:
        opened = await self._connections(connections)
        begun = perf_counter()
        end, size = begun + seconds, len(values)

        async def ask_on(connection: Any, offset: int) -> int:
            count, ask = offset, connection.ask
            while perf_counter() < end:
                await ask(values[count % size])
                count += 1
            return count - offset

        counts = await asyncio.gather(*(ask_on(each, offset) for offset, each in enumerate(opened)))
        return sum(counts) / (perf_counter() - begun)

    def once(self, values: str, seconds: float) -> float:
        return self._run(self._once(values_of(values)[0], seconds))

    async def _once(self, value: Any, seconds: float) -> float:
        begun, count = perf_counter(), 0
        while perf_counter() < begun + seconds:
            connection = await self._connect()
            check(await connection.ask(value), value)
            await connection.close()
            count += 1
        return count / (perf_counter() - begun)

    def pipeline(self, values: str, seconds: float) -> float:
        return self._run(self._pipeline(values_of(values) * PIPELINED, seconds))

    async def _pipeline(self, values: list[Any], seconds: float) -> float:
        (connection,) = await self._connections(1)
        begun, count = perf_counter(), 0
        while perf_counter() < begun + seconds:
            await connection.pipeline(values)
            count += len(values)
        return count / (perf_counter() - begun)

    def times(self, values: str, seconds: float, least: int = 3) -> float:
        return self._run(self._times(values_of(values)[0], seconds, least))

    async def _times(self, value: Any, seconds: float, least: int) -> float:
        (connection,) = await self._connections(1)
        found: list[float] = []
        while len(found) < least or sum(found) < seconds:
            begun = perf_counter()
            await connection.ask(value)
            found.append(perf_counter() - begun)
        return statistics.median(found)
