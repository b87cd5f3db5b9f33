"""The outcome of a request, for a middleware that measures, counts or records it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from sealwire.middleware.chain import CallNext
from sealwire.session.parts import PartsOfReply

Done = Callable[[BaseException | None], None]


def observe(context: Any, message: Any, call_next: CallNext, done: Done) -> Any:
    """Pass a message on, and call a function once when that has ended; for middleware of every server and client.

    ::

        def timed(context, message, call_next):
            begun = monotonic()
            return observe(context, message, call_next, lambda error: print(monotonic() - begun))

    A reply in parts has ended after its last part, or when its generator or stream is closed, with GeneratorExit; the
    reply of a coroutine function, when it was awaited.

    Args:
        context: As for the middleware.
        message: As for the middleware.
        call_next: As for the middleware.
        done: Called with the exception that was raised, or None. It must not raise.

    Returns:
        What the middleware returns.
    """
    try:
        reply = call_next(context, message)
    except BaseException as error:
        done(error)
        raise
    if inspect.isawaitable(reply):
        return _awaited(reply, done)
    return _observed(reply, done)


def _observed(reply: Any, done: Done) -> Any:
    if type(reply) is GeneratorType:
        return _parts(reply, done)
    if type(reply) is AsyncGeneratorType:
        return _async_parts(reply, done)
    if isinstance(reply, PartsOfReply):
        reply.add_done_callback(done)
        return reply
    done(None)
    return reply


async def _awaited(reply: Awaitable[Any], done: Done) -> Any:
    try:
        result = await reply
    except BaseException as error:
        done(error)
        raise
    return _observed(result, done)


def _parts(generator: Generator[Any, None, Any], done: Done) -> Generator[Any, None, Any]:
    try:
        result = yield from generator
    except BaseException as error:
        done(error)
        raise
    done(None)
    return result


async def _async_parts(generator: AsyncGenerator[Any, None], done: Done) -> AsyncGenerator[Any, None]:
    try:
        try:
            async for part in generator:
                yield part
        finally:
            await generator.aclose()
    except BaseException as error:
        done(error)
        raise
    done(None)
