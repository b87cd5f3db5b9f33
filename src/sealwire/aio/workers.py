"""Threads for functions that may block, which the event loop must not."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from time import monotonic
from typing import Any, TypeVar

_T = TypeVar("_T")
_Job = tuple[Callable[[], Any], asyncio.Future[Any]]


class Workers:
    """Up to ``most`` threads, made when there is work for them, of one event loop.

    They are daemons, unlike those of concurrent.futures, which at the end of the program would wait for ever for a
    handler that never returns.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._under_way = 0

    async def run(self, function: Callable[[], _T]) -> _T:
        """What ``function`` returns, or raises, in one of the threads. Who is cancelled meanwhile does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._under_way += 1
        self._jobs.put((partial(contextvars.copy_context().run, function), future))
        if self._under_way > len(self._threads) < self._most:
            name = f"sealwire worker {len(self._threads) + 1}"
            thread = threading.Thread(target=self._work, args=(loop,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return await future

    async def close(self, seconds: float) -> int:
        """End the threads; how many did not end in that time, since what they run has not returned."""
        for _ in self._threads:
            self._jobs.put(None)
        deadline = monotonic() + seconds
        while any(thread.is_alive() for thread in self._threads) and monotonic() < deadline:
            await asyncio.sleep(0.001)
        threads, self._threads = self._threads, []
        return sum(thread.is_alive() for thread in threads)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            function, future = job
            try:
                result, error = function(), None
            except BaseException as raised:
                result, error = None, raised
            with suppress(RuntimeError):  # the loop is gone, and nobody waits
                loop.call_soon_threadsafe(self._done, future, result, error)
            del job, function, future, result, error

    def _done(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._under_way -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            # A future takes no StopIteration, which a handler may well raise.
            future.set_exception(RuntimeError("StopIteration") if isinstance(error, StopIteration) else error)
