"""Coroutines that run at once up to their first wait find the same as in a task of their own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sealwire.aio.first_steps import FirstSteps
from support.aio import TASK_FACTORIES, eventually_on_loop

pytestmark = pytest.mark.usefixtures("clean")

_chosen: list[Any] = [None]


@pytest.fixture(autouse=True, params=TASK_FACTORIES)
def factory(request: pytest.FixtureRequest) -> None:
    """Makes the loop's tasks."""
    _chosen[0] = request.param


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")


def run(test: Callable[[FirstSteps], Awaitable[None]]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(_chosen[0])
        async with asyncio.TaskGroup() as group:
            steps = FirstSteps(group, contextvars.copy_context())
            try:
                await test(steps)
            finally:
                steps.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_one_that_does_not_wait_has_ended_already() -> None:
    seen: list[Any] = []

    async def quick() -> None:
        seen.append(asyncio.current_task())

    async def test(steps: FirstSteps) -> None:
        own = asyncio.current_task()
        steps.run(quick(), own)
        assert asyncio.current_task() is own
        asyncio.get_running_loop().call_soon(lambda: steps.run(quick(), None))
        await asyncio.sleep(0)
        assert len(seen) == 2
        assert isinstance(seen[0], asyncio.Task)
        assert own not in seen

    run(test)


def test_one_that_waits_goes_on_in_the_task_in_which_it_began() -> None:
    seen: list[Any] = []

    async def slow(wait: Callable[[], Awaitable[Any]]) -> None:
        seen.append(asyncio.current_task())
        await wait()
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async def test(steps: FirstSteps) -> None:
        gate = asyncio.Event()
        # A turn of the loop, an event, and a timer.
        for wait in (lambda: asyncio.sleep(0), gate.wait, lambda: asyncio.sleep(0.001)):
            steps.run(slow(wait), asyncio.current_task())
        assert len(seen) == 3
        assert len(set(seen)) == 3
        gate.set()
        while len(seen) < 9:
            await asyncio.sleep(0)
        assert [seen.count(each) for each in seen] == [3] * 9

    run(test)


def test_each_has_a_context_of_its_own() -> None:
    seen: list[str] = []

    async def change(*, waits: bool) -> None:
        seen.append(variable.get())
        variable.set("inside")
        if waits:
            await asyncio.sleep(0)
            seen.append(variable.get())

    async def test(steps: FirstSteps) -> None:
        for waits in (False, True, False):
            steps.run(change(waits=waits), asyncio.current_task())
        while len(seen) < 4:
            await asyncio.sleep(0)
        assert seen == ["outside", "outside", "outside", "inside"]
        assert variable.get() == "outside"

    run(test)


def test_a_timeout_that_begins_in_the_first_step() -> None:
    seen: list[str] = []

    async def limited() -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            seen.append("timed out")
        await asyncio.sleep(0)
        seen.append("went on")

    async def test(steps: FirstSteps) -> None:
        steps.run(limited(), asyncio.current_task())
        await eventually_on_loop(lambda: len(seen) == 2)
        assert seen == ["timed out", "went on"]

    run(test)


@pytest.mark.parametrize("parked", [False, True])
def test_one_that_cancels_itself_in_the_first_step(parked: bool) -> None:
    """Its next wait is cancelled, whether the task in reserve has begun to wait or not."""
    seen: list[str] = []

    async def nothing() -> None:
        pass

    async def cancels_itself(waited: asyncio.Future[None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await waited
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def test(steps: FirstSteps) -> None:
        waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        steps.run(nothing(), asyncio.current_task())
        if parked:
            await asyncio.sleep(0)
        steps.run(cancels_itself(waited), asyncio.current_task())
        while not seen:
            await asyncio.sleep(0)
        assert waited.cancelled()

    run(test)


def test_the_kept_task_of_one_cannot_cancel_another() -> None:
    """In asyncio, to cancel a task that is done has no effect."""
    kept: list[Any] = []
    seen: list[str] = []

    async def leaves_its_task() -> None:
        kept.append(asyncio.current_task())

    async def waits(go_on: asyncio.Event) -> None:
        await go_on.wait()
        seen.append("complete")

    async def test(steps: FirstSteps) -> None:
        steps.run(leaves_its_task(), asyncio.current_task())
        go_on = asyncio.Event()
        steps.run(waits(go_on), asyncio.current_task())
        kept[0].cancel()
        go_on.set()
        await eventually_on_loop(lambda: seen)

    run(test)


def test_a_task_in_reserve_that_was_cancelled_is_not_used() -> None:
    """As by a program that cancels all tasks, and goes on nevertheless."""
    seen: list[str] = []

    async def waits() -> None:
        await asyncio.sleep(0)
        seen.append("complete")

    async def nothing() -> None:
        pass

    async def test(steps: FirstSteps) -> None:
        own = asyncio.current_task()
        for iterations in range(3):
            before = asyncio.all_tasks()
            steps.run(nothing(), own)
            for task in asyncio.all_tasks() - before:
                task.cancel()
            for _ in range(iterations):
                await asyncio.sleep(0)
            steps.run(waits(), own)
            while len(seen) <= iterations:
                await asyncio.sleep(0)

    run(test)


def test_an_error_in_the_first_step_is_the_callers_and_a_later_one_the_groups() -> None:
    async def fails(*, waits: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        raise ValueError("on purpose")

    async def test(steps: FirstSteps) -> None:
        with pytest.raises(ValueError, match="on purpose"):
            steps.run(fails(waits=False), asyncio.current_task())
        steps.run(fails(waits=True), asyncio.current_task())
        await asyncio.Event().wait()  # until the group cancels it

    with pytest.raises(ExceptionGroup) as group:
        run(test)
    assert isinstance(group.value.exceptions[0], ValueError)


def test_the_group_cancels_what_waits() -> None:
    seen: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()  # until the group cancels it
        finally:
            seen.append("ended")

    async def test(steps: FirstSteps) -> None:
        steps.run(waits(), asyncio.current_task())
        await asyncio.sleep(0)
        raise ValueError("on purpose")

    with pytest.raises(ExceptionGroup):
        run(test)
    assert seen == ["ended"]
