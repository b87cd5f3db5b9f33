"""Runs coroutines up to their first wait at once, and in a task only from there on.

Most handlers never wait. A task for each of them would take longer than they do, and another iteration of the event
loop. But a coroutine must find itself in a task from its first step on: ``asyncio.current_task()``,
``asyncio.timeout()`` and much else ask for it. So a task is kept in reserve. It is the current one during a first step.
If the coroutine waits then, the task takes it over and the next coroutine gets another one; if not, the task stays in
reserve.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # documented for such uses: "Extending asyncio"
from collections.abc import Coroutine, Generator
from contextvars import Context
from sys import getrefcount
from typing import Any


class FirstSteps:
    """Runs coroutines for one group of tasks.

    Args:
        group: The group in which coroutines that wait go on.
        context: Each coroutine runs in a copy of it.
    """

    def __init__(self, group: asyncio.TaskGroup, context: Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._group = group
        self._context = context
        self._reserve: asyncio.Task[None] | None = None
        self._remainder = _Remainder(self._loop)

    def run(self, coroutine: Coroutine[Any, Any, None], current: asyncio.Task[Any] | None) -> asyncio.Task[None] | None:
        """Run a coroutine until it ends or waits; return the task in which it goes on, or None if it has ended.

        Its exceptions are raised if it ends with one before it waits, and are the group's after that.

        Args:
            coroutine: The coroutine, not started.
            current: The task that calls this; None in a callback of the loop.
        """
        loop, task, context = self._loop, self._reserve, self._context.copy()
        if task is None or self._remainder.is_cancelled or task.cancelling():
            self._remainder = _Remainder(loop)
            task = self._reserve = self._group.create_task(self._remainder)
        goes_on = False
        references = getrefcount(task)
        if current is not None:
            _leave_task(loop, current)
        _enter_task(loop, task)
        try:
            waited = context.run(coroutine.send, None)
        except (StopIteration, asyncio.CancelledError):
            pass
        else:
            self._reserve = None
            goes_on = True
            self._remainder.take(coroutine, context, waited)
        finally:
            _leave_task(loop, task)
            if current is not None:
                _enter_task(loop, current)
        if getrefcount(task) != references:
            self.close()  # what keeps it must not cancel the next coroutine with it
        return task if goes_on else None

    def close(self) -> None:
        """End the task in reserve, or the group would wait for it."""
        if self._reserve is not None:
            self._reserve.cancel()
            self._reserve = None


class _Remainder(Coroutine[Any, Any, None]):
    """A coroutine after its first step, for a task to run. The task waits until :meth:`take` is called."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parked: asyncio.Future[None] | None = None
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._run: Any = None
        self._waited: Any = None
        self._goes_on = False
        """True since the task waits for what the first step waited for."""

    @property
    def is_cancelled(self) -> bool:
        """True if the task was cancelled while it waited."""
        return self._parked is not None and self._parked.done()

    def take(self, coroutine: Coroutine[Any, Any, None], context: Context, waited: Any) -> None:
        """Go on with a coroutine in its context; ``waited`` is what its first step waits for."""
        self._coroutine, self._run, self._waited = coroutine, context.run, waited
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def send(self, value: Any) -> Any:
        """Run the next step. Called by the task."""
        if self._coroutine is None:
            self._parked = self._loop.create_future()
            return next(self._parked.__await__())
        return self._run(self._coroutine.send, value) if self._goes_on else self._wait()

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the coroutine. Called by the task, when it is cancelled."""
        if self._coroutine is None:
            return super().throw(*error)
        if not self._goes_on and asyncio.isfuture(self._waited) and self._waited.cancel():
            return self._wait()  # a task that is cancelled during a step cancels what the step waits for
        self._goes_on = True
        return self._run(self._coroutine.throw, *error)

    def _wait(self) -> Any:
        """Return what the first step waits for, so that the task waits for it."""
        waited, self._waited, self._goes_on = self._waited, None, True
        return waited

    def close(self) -> None:
        """End the coroutine, which no task will run any more."""
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, None, None]:
        """Refuse to be awaited: only a task runs this."""
        raise NotImplementedError
