"""Counts the connections of all clients in this process, for :mod:`sealwire.metrics`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from time import monotonic
from typing import Any, TypeVar

from sealwire.errors import SealwireError
from sealwire.metrics import CLIENT, CLIENT_FAMILIES, observe_in

_F = TypeVar("_F", bound=Callable[..., Any])


def counted(connect: _F) -> _F:
    """Count the calls of a function or coroutine function that makes a connection, by result, and their seconds."""
    if inspect.iscoroutinefunction(connect):

        @wraps(connect)
        async def connect_on_loop(*arguments: Any, **options: Any) -> Any:
            with _counting():
                return await connect(*arguments, **options)

        return connect_on_loop  # type: ignore[return-value]  # the same signature

    @wraps(connect)
    def connect_here(*arguments: Any, **options: Any) -> Any:
        with _counting():
            return connect(*arguments, **options)

    return connect_here  # type: ignore[return-value]  # likewise


@contextmanager
def _counting() -> Iterator[None]:
    results = CLIENT_FAMILIES["handshakes"]
    begun = monotonic()
    try:
        yield
    except SealwireError as error:
        CLIENT[results.column(error.reason)] += 1
        raise
    CLIENT[results.column("complete")] += 1
    observe_in(CLIENT, CLIENT_FAMILIES["handshake_duration_seconds"], monotonic() - begun)
