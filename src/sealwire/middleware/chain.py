"""Functions ``around(context, message, call_next)`` around each request, at either end, one around the other.

A chain ends in the handler, or in the client that sends the request. If that end is a coroutine function, so is every
link of the chain: ``call_next`` then returns an awaitable. An ordinary function may stand in such a chain as well, if
it returns what ``call_next`` returns, or a reply of its own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sealwire.errors import ConfigurationError

CallNext = Callable[[Any, Any], Any]
"""``call_next(context, message)``: passes a message on, and returns the reply."""
Middleware = Callable[[Any, Any, CallNext], Any]
"""``around(context, message, call_next)``: returns the reply."""


def check_middleware(middleware: Sequence[Middleware], *, coroutines: bool, remedy: str) -> tuple[Middleware, ...]:
    """Return the middleware of a server or client.

    Args:
        middleware: As given by the user.
        coroutines: True if coroutine functions can run.
        remedy: The remedy if they cannot, for the error.

    Raises:
        ConfigurationError: It is not a list, or one of them does not take what a middleware takes, or cannot run here.
    """
    if not isinstance(middleware, list | tuple):
        raise ConfigurationError("middleware must be a list of functions: middleware=[around]")
    found = tuple(middleware)
    for each in found:
        if not callable(each) or isinstance(each, type) or not _takes_three(each):
            raise ConfigurationError(
                f"{_name(each)} is not a middleware: that is a function (context, message, call_next) that returns "
                "call_next(context, message) or another reply"
            )
        if not coroutines and _is_coroutine_function(each):
            raise ConfigurationError(f"{_name(each)} is a coroutine function, which cannot run here; {remedy}")
    return found


def chained(middleware: tuple[Middleware, ...], innermost: CallNext) -> CallNext:
    """Return a function that passes a message through ordinary functions to the innermost one."""
    for around in reversed(middleware):
        innermost = partial(_call, around, innermost)
    return innermost


def chained_on_loop(middleware: tuple[Middleware, ...], innermost: CallNext) -> CallNext:
    """Return a coroutine function that passes a message through functions of either kind to the innermost one."""
    for around in reversed(middleware):
        innermost = partial(_call_on_loop, around, innermost)
    return innermost


def _call(around: Middleware, call_next: CallNext, context: Any, message: Any) -> Any:
    return around(context, message, call_next)


async def _call_on_loop(around: Middleware, call_next: CallNext, context: Any, message: Any) -> Any:
    reply = around(context, message, call_next)
    return await reply if inspect.isawaitable(reply) else reply


def _takes_three(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:  # some functions in C say nothing of their arguments
        pass
    return True


def _is_coroutine_function(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _name(value: object) -> str:
    name = getattr(value, "__qualname__", None)
    return f"middleware {name}" if isinstance(name, str) else f"middleware of type {type(value).__name__}"
