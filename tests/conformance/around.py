"""Middleware of the servers of the suite: it does what a message says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from conformance.handlers import Cancel, Order, note
from sealwire import Refuse
from sealwire.middleware import audit, observe


def _answer(context: Any, message: Any) -> Any:
    """A reply of its own, if the message says so; None otherwise."""
    match message:
        case ["own", reply]:
            return reply
        case ["own object"]:
            return object()
        case ["no", code, text]:
            raise Refuse(code, text)
        case ["break"]:
            raise ValueError("words of the message")
        case ["context"]:
            context.connection.count = getattr(context.connection, "count", 0) + 1
            known = [context.key_id, context.deadline is not None, context.metadata, context.request_id != ""]
            return [*known, context.connection.count, [*context.peer.dns, context.peer.uid]]
        case Order(item="own right"):
            return 5
        case Order(item="own wrong"):
            return "a str"
    return None


def _changed(message: Any) -> Any:
    match message:
        case ["change", other]:
            return other
        case Order(item="cancel"):
            return Cancel(1)
        case Order(item="list"):
            return [Order("a", 7)]
        case Order(item="number"):
            return 5
        case Order(item="field"):
            return [Order("a", "seven")]
    return message


def outer(context: Any, message: Any, call_next: Any) -> Any:
    if message == ["order of calls"]:
        return [*call_next(context, [*message, "a"]), "A"]
    if message == ["twice"]:
        return [call_next(context, 1), call_next(context, 2)]
    if message == ["another context"]:
        return call_next(None, message)
    own = _answer(context, message)
    return call_next(context, _changed(message)) if own is None else own


def inner(context: Any, message: Any, call_next: Any) -> Any:
    if message == ["order of calls", "a"]:
        return [*call_next(context, [*message, "b"]), "B"]
    return call_next(context, message)


async def outer_on_loop(context: Any, message: Any, call_next: Any) -> Any:
    if message == ["order of calls"]:
        return [*await call_next(context, [*message, "a"]), "A"]
    if message == ["twice"]:
        return [await call_next(context, 1), await call_next(context, 2)]
    if message == ["another context"]:
        return await call_next(None, message)
    own = _answer(context, message)
    return await call_next(context, _changed(message)) if own is None else own


async def inner_on_loop(context: Any, message: Any, call_next: Any) -> Any:
    if message == ["order of calls", "a"]:
        return [*await call_next(context, [*message, "b"]), "B"]
    return await call_next(context, message)


def passes(context: Any, message: Any, call_next: Any) -> Any:
    """Does nothing, around handlers of either kind."""
    return call_next(context, message)


def noting(context: Any, message: Any, call_next: Any) -> Any:
    """Notes the outcome of what ends with a path."""
    if not isinstance(message, list) or not isinstance(message[-1], str) or not message[-1].startswith("/"):
        return call_next(context, message)
    return observe(context, message, call_next, lambda error: note(message[-1], type(error).__name__))


def doubled(context: Any, message: Any, call_next: Any) -> Any:
    """Each part twice, of a reply and of a message."""

    def twice(parts: Any) -> Iterator[Any]:
        for part in parts:
            yield part
            yield part

    if isinstance(message, list):
        return twice(call_next(context, message))
    return call_next(context, twice(message))


async def doubled_on_loop(context: Any, message: Any, call_next: Any) -> Any:
    async def twice(parts: Any) -> AsyncIterator[Any]:
        try:
            async for part in parts:
                yield part
                yield part
        finally:
            if hasattr(parts, "aclose"):
                await parts.aclose()

    if isinstance(message, list):
        return twice(await call_next(context, message))
    return await call_next(context, twice(message))


MIDDLEWARE: dict[str, Any] = {
    each.__name__: each
    for each in (outer, inner, outer_on_loop, inner_on_loop, passes, noting, doubled, doubled_on_loop, audit)
}
