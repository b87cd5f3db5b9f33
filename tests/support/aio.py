"""Servers on asyncio in a thread of their own, for tests that are not asynchronous themselves."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import uvloop

from sealwire import Security, ThreadingTCPServer
from sealwire.aio.server import AsyncTCPServer
from support.service import running

uvloop.new_event_loop().close()  # the first one makes what all of them share

TASK_FACTORIES: list[Any] = [None]
"""The factories that may make the tasks of a loop."""
if hasattr(asyncio, "eager_task_factory"):  # from Python 3.12 on
    TASK_FACTORIES.append(asyncio.eager_task_factory)


class Serving:
    """A server that serves in its own thread and loop. ``call``: runs a coroutine there."""

    def __init__(self, make: Callable[[], AsyncTCPServer], new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._make = make
        self._new_loop = new_loop
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serving")
        self.failure: BaseException | None = None
        self.unseen: list[Any] = []

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(20)
        if self.failure is not None:
            self.join()

    def call(self, coroutine: Any, timeout: float = 20) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def stop(self) -> None:
        with suppress(RuntimeError):  # it has ended already
            self.loop.call_soon_threadsafe(self._stop.set)

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure
        assert self.unseen == []

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._new_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self.failure = error
        self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.unseen.append(context))
        self._stop = asyncio.Event()
        async with self._make() as self.server:
            self._ready.set()
            ends = [asyncio.create_task(end) for end in (self.server.serve_forever(), self._stop.wait())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            await asyncio.wait(ends)
        gc.collect()
        for _ in range(3):  # tasks that waited for that see it, too
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


@contextmanager
def serving(
    make: Callable[[], AsyncTCPServer],
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> Iterator[Serving]:
    """Serve until the end of the block, after which nothing of it may be left."""
    one = Serving(make, new_loop)
    one.start()
    try:
        yield one
    finally:
        one.stop()
        one.join()


@contextmanager
def served_by(kind: str, handler: Any, security: Security) -> Iterator[int]:
    """The same on TCP by a server of threads or of asyncio, for tests of both; gives the port."""
    if kind == "threads":
        with running(ThreadingTCPServer(("127.0.0.1", 0), handler, security)) as port:
            yield port
    else:
        with serving(lambda: AsyncTCPServer(("127.0.0.1", 0), handler, security), LOOPS[kind]) as one:
            yield one.port


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
KINDS = ["threads", "asyncio"]


async def eventually_on_loop(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Return the first true value of ``condition``, as ``eventually`` does, while the loop runs on."""
    deadline = monotonic() + timeout
    while not (value := condition()):
        assert monotonic() < deadline, "what was waited for did not come"
        await asyncio.sleep(0.001)  # between two looks
    return value
