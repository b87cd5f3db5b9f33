"""Threads for functions that block: how many there are, what comes back, and their end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sealwire.aio.threads import Workers, is_large, run_in_thread
from sealwire.native import NATIVE
from support.service import eventually

pytestmark = pytest.mark.usefixtures("clean")


NAME = "a worker"


class Held:
    """A function that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()
        self.done = 0

    def __call__(self) -> str:
        self.entered.release()
        assert self.go.wait(20)
        self.done += 1
        return threading.current_thread().name


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(NAME)]


async def entered(held: Held, times: int = 1) -> None:
    for _ in range(times):
        assert await asyncio.to_thread(held.entered.acquire, timeout=10)


RAISED = [ValueError("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


class TestOne:
    def test_result(self) -> None:
        assert asyncio.run(run_in_thread(lambda: threading.current_thread().name, "its name")) == "its name"

    @pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
    def test_error(self, error: BaseException) -> None:
        async def main() -> None:
            with pytest.raises(type(error)):
                await run_in_thread(raising(error), "x")

        asyncio.run(main())

    def test_stop_iteration(self) -> None:
        """A future takes none."""

        async def main() -> None:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await run_in_thread(raising(StopIteration()), "x")

        asyncio.run(main())

    def test_cancelled(self) -> None:
        """The function goes on, and its result goes nowhere."""
        held = Held()

        async def main() -> None:
            task = asyncio.create_task(run_in_thread(held, "x"))
            await entered(held)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            held.go.set()

        asyncio.run(main())
        eventually(lambda: held.done)


class TestWorkers:
    def run(self, count: int, main: Callable[[Workers], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            pool = Workers(count, NAME)
            try:
                return await main(pool)
            finally:
                await pool.close(10)
                assert workers() == []

        return asyncio.run(whole())

    def test_none_before_there_is_work(self) -> None:
        async def main(pool: Workers) -> None:
            assert workers() == []
            await pool.run(lambda: None)
            assert len(workers()) == 1

        self.run(8, main)

    def test_no_more_than_allowed(self) -> None:
        held = Held()

        async def main(pool: Workers) -> None:
            tasks = [asyncio.create_task(pool.run(held)) for _ in range(10)]
            await entered(held, 3)
            assert len(workers()) == 3
            assert not held.entered.acquire(blocking=False)
            held.go.set()
            assert len({await task for task in tasks}) <= 3
            assert held.done == 10

        self.run(3, main)

    def test_started_in_advance(self) -> None:
        async def main(pool: Workers) -> None:
            pool.start()
            (thread,) = workers()
            assert thread.daemon
            assert await pool.run(threading.current_thread) is thread
            assert workers() == [thread]

        self.run(3, main)

    def test_a_function_sees_its_callers_context(self) -> None:
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

        async def call(pool: Workers, number: int) -> int:
            variable.set(number)
            return await pool.run(variable.get)

        async def main(pool: Workers) -> None:
            assert await asyncio.gather(*(call(pool, number) for number in range(1, 5))) == [1, 2, 3, 4]
            assert await pool.run(variable.get) == 0

        self.run(2, main)

    @pytest.mark.parametrize("error", [*RAISED, StopIteration()], ids=lambda error: type(error).__name__)
    def test_an_error_ends_no_thread(self, error: BaseException) -> None:
        async def main(pool: Workers) -> None:
            with pytest.raises((type(error), RuntimeError)):
                await pool.run(raising(error))
            assert await pool.run(lambda: 5) == 5
            assert len(workers()) == 1

        self.run(1, main)

    def test_cancelled(self) -> None:
        """The thread is busy until its function returns, and then takes the next one."""
        held = Held()

        async def main(pool: Workers) -> None:
            task = asyncio.create_task(pool.run(held))
            await entered(held)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            following = asyncio.create_task(pool.run(lambda: 5))
            await asyncio.sleep(0)
            assert not following.done()
            held.go.set()
            assert await following == 5
            assert len(workers()) == 1

        self.run(1, main)

    def test_close_does_not_wait_for_ever(self, caplog: pytest.LogCaptureFixture) -> None:
        held = Held()

        async def main() -> None:
            pool = Workers(2, NAME)
            task = asyncio.create_task(pool.run(held))
            await entered(held)
            assert await pool.run(lambda: 5) == 5
            pool.stop()
            await asyncio.to_thread(eventually, lambda: len(workers()) == 1)
            for _ in range(2):
                await pool.close(0.01)
            assert caplog.text.count("1 handlers have not returned") == 1
            held.go.set()
            await task

        asyncio.run(main())
        eventually(lambda: not workers())

    def test_a_loop_that_is_gone(self) -> None:
        """A function that returns when nothing waits for it any more."""
        held = Held()

        async def main() -> None:
            pool = Workers(1, NAME)
            task = asyncio.create_task(pool.run(held))
            await entered(held)
            task.cancel()
            await pool.close(0.01)

        asyncio.run(main())
        held.go.set()
        eventually(lambda: not workers())
        assert held.done == 1


class Slotted:
    __slots__ = ("part",)

    def __init__(self, part: object) -> None:
        self.part = part


class TestIsLarge:
    @pytest.mark.parametrize("wrap", [lambda part: part, lambda part: {"a": [(part,)]}, Slotted, Exception])
    def test_by_what_is_inside(self, wrap: Callable[[Any], Any]) -> None:
        value = wrap("x" * 2_000_000)
        if isinstance(value, Exception):
            value.add_note("x" * 2_000_000)
        assert is_large(value)

    def test_of_plain_types_the_native_core_takes_more(self) -> None:
        assert is_large(["x" * 100_000]) is not NATIVE
        assert is_large(["x" * 100_000, Slotted(1)])
        assert is_large([bytearray(100_000)])

    def test_bytes_alone_are_not_copied_by_the_native_core(self) -> None:
        assert is_large(bytes(2_000_000)) is not NATIVE
        assert is_large([bytes(2_000_000)])
        assert is_large(bytearray(2_000_000))

    @pytest.mark.parametrize("value", [None, 7, "x" * 1000, {"a": [1, 2.5]}, Slotted("x"), object()])
    def test_small(self, value: object) -> None:
        assert not is_large(value)

    def test_a_value_that_contains_itself_is_looked_at_for_a_moment(self) -> None:
        value: list[Any] = []
        value.append(value)
        assert is_large(value)
