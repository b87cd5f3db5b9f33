"""Threads for functions that would block the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from importlib import import_module
from time import monotonic
from typing import Any, Final, TypeVar

from sealwire.native import NATIVE
from sealwire.security import Security
from sealwire.threads import ThreadPool

MAX_DECODED_ON_LOOP: Final = 16_384
"""Bytes of a message up to which it is decoded on the event loop instead of in a thread."""
_MAX_ENCODED_ON_LOOP: Final = 65_536
"""Bytes of a value and its parts in memory up to which it is encoded on the event loop."""
_MAX_PLAIN_ON_LOOP: Final = 1_048_576
"""The same of a value of plain types, for the native core."""
_SIMPLE: Final = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
_measure: Final[Callable[[object, int], bool | None] | None] = (
    import_module("sealwire.native.sizes").is_large if NATIVE else None  # compiled, and so not known to the linters
)
_T = TypeVar("_T")


async def run_in_thread(function: Callable[[], _T], name: str) -> _T:
    """Run a function in a new thread and return its result. Cancelling does not stop the function."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()
    thread = threading.Thread(target=_run, args=(function, loop, partial(_settle, future)), name=name, daemon=True)
    thread.start()
    try:
        return await asyncio.shield(future)
    finally:
        if future.done():
            thread.join()
        del future  # its error's frames have this one


async def refresh(security: Security, seconds: float) -> None:
    """Reload changed files of certificates and keys if a check is due, in a thread: a disk must not block the loop.

    After ``seconds`` it returns, and the caller uses the present certificates and keys.
    """
    if security.refresh_due():
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await run_in_thread(security.refresh, "sealwire files")


def is_large(value: object) -> bool:
    """Return True if a value takes too long to encode for an event loop. Looks at no more of it than is needed."""
    if _measure is not None:
        if type(value) is bytes:
            return False  # it is not copied, whatever its size
        found = _measure(value, _MAX_PLAIN_ON_LOOP)
        if found is not None:
            return found
    room = _MAX_ENCODED_ON_LOOP
    parts = [value]
    while parts:
        part = parts.pop()
        room -= sys.getsizeof(part, 64)
        if room < 0:
            return True
        kind = type(part)
        if kind in _SIMPLE:
            continue
        if isinstance(part, dict):
            parts.extend(part)
            parts.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset | deque):
            parts.extend(part)
        else:
            parts.extend(getattr(part, "__dict__", {}).values())
            slots: Any = getattr(kind, "__struct_fields__", None) or getattr(kind, "__slots__", ())
            parts.extend(getattr(part, name, None) for name in slots)
    return False


async def look(security: Security, deadline: float) -> None:
    """Reload changed files of certificates and keys now, in a thread; see :meth:`Security.look`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(deadline - monotonic()):
            await run_in_thread(partial(security.look, deadline), "sealwire files")


class Workers(ThreadPool):
    """A thread pool for one event loop."""

    async def run(self, function: Callable[[], _T], key: Hashable = None) -> _T:
        """Run a function in one of the threads and return its result. Cancelling does not stop the function.

        Functions of different keys take turns.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        in_context = partial(contextvars.copy_context().run, function)
        self.submit(partial(_run, in_context, loop, partial(_settle, future)), key)
        try:
            return await future
        finally:
            del future  # its error's frames have this one

    async def close(self, seconds: float) -> None:
        """Stop the threads, and wait up to ``seconds`` for their functions to return."""
        self.stop()
        deadline = monotonic() + seconds
        while self.is_alive() and monotonic() < deadline:
            await asyncio.sleep(0.001)
        self.join(0.0)


def _run(
    function: Callable[[], Any],
    loop: asyncio.AbstractEventLoop,
    done: Callable[[Any, BaseException | None], None],
) -> None:
    """Run a function in this thread, and report its result or error to the loop."""
    try:
        result, error = function(), None
    except BaseException as raised:
        result, error = None, raised
    with suppress(RuntimeError):  # the loop is closed, so no task waits
        loop.call_soon_threadsafe(done, result, error)
    del error, done  # the error's frames have this one, and would keep the function's connection


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        # A future rejects StopIteration, which a handler may raise.
        future.set_exception(RuntimeError("StopIteration") if isinstance(error, StopIteration) else error)
