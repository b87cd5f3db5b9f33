"""Many requests under way at a time, and their results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from sealwire.errors import SealwireError
from sealwire.sync.client import check_requests


def in_order(
    send: Callable[[Any], Awaitable[Any]],
    requests: Iterable[Any],
    *,
    wait: float | None,
    window: int,
    return_errors: bool,
) -> AsyncIterator[Any]:
    """Return an iterator over the results of requests, in their order.

    Args:
        send: Sends one request and returns its result.
        requests: The requests.
        wait: Seconds for each; checked only.
        window: Number of requests under way, at most.
        return_errors: Yield an error of the package in place of a result.

    Raises ConfigurationError.
    """
    check_requests(requests, 1.0 if wait is None else wait, window)
    return _in_order(send, requests, window, return_errors)


async def _in_order(
    send: Callable[[Any], Awaitable[Any]], requests: Iterable[Any], window: int, return_errors: bool
) -> AsyncIterator[Any]:
    under_way: deque[asyncio.Future[Any]] = deque()
    items = iter(requests)
    try:
        more = True
        while more or under_way:
            while more and len(under_way) < window:
                try:
                    item = next(items)
                except StopIteration:
                    more = False
                else:
                    under_way.append(asyncio.ensure_future(send(item)))
            if under_way:
                try:
                    result = await under_way[0]
                except SealwireError as error:
                    if not return_errors:
                        raise
                    result = error
                under_way.popleft()
                yield result
    finally:
        for each in under_way:
            each.cancel()
        if under_way:
            await asyncio.wait(under_way)
            for each in under_way:
                if not each.cancelled():
                    each.exception()
