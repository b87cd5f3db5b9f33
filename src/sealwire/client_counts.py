"""Counts the connections of all clients in this process, for :mod:`sealwire.metrics`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic

from sealwire.errors import SealwireError
from sealwire.metrics import CLIENT, CLIENT_FAMILIES, observe_in


@contextmanager
def counted() -> Iterator[None]:
    """Count a connection that is made in this context, by result, and its seconds. Decorates functions."""
    results = CLIENT_FAMILIES["handshakes"]
    begun = monotonic()
    try:
        yield
    except SealwireError as error:
        CLIENT[results.column(error.reason)] += 1
        raise
    CLIENT[results.column("complete")] += 1
    observe_in(CLIENT, CLIENT_FAMILIES["handshake_duration_seconds"], monotonic() - begun)


@asynccontextmanager
async def counted_on_loop() -> AsyncIterator[None]:
    """Count as :func:`counted` does. Decorates coroutine functions."""
    with counted():
        yield
