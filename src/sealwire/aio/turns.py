"""The turns of connections on an event loop (see :mod:`sealwire.session.turns`), and their places among requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from time import monotonic
from typing import Final

from sealwire.contention import activity
from sealwire.session.turns import Turns

_ITERATIONS: Final = 3
"""Iterations of the loop in a round: a request takes about as many from its turn to its reply."""


class LoopTurns:
    """The turns of the connections of one server."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns: Turns[asyncio.Future[None]] = Turns()
        self._left = 0

    def take(self, key: Hashable, now: float) -> bool:
        """Return True if a connection of the peer ``key`` may work now; otherwise it must :meth:`wait`."""
        taken = self._turns.take(key, now)
        if self._turns.contended_until > activity.until:
            activity.until = self._turns.contended_until
        if not self._left and self._turns.running:
            self._begin_round()
        return taken

    async def wait(self, key: Hashable) -> None:
        """Wait for the turn."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._turns.wait(key, waiter)
        if not self._left:
            self._begin_round()
        await waiter

    def _begin_round(self) -> None:
        self._left = _ITERATIONS
        self._loop.call_soon(self._iterate)

    def _iterate(self) -> None:
        self._left -= 1
        if self._left:
            self._loop.call_soon(self._iterate)
            return
        for waiter in self._turns.end_round(monotonic()):
            if not waiter.done():
                waiter.set_result(None)
        if self._turns.running:
            self._begin_round()


class Places:
    """A number of places, of which one peer can have a share. Peers that wait for one take turns.

    Args:
        total: Number of places.
        share: Places of one peer, at most.
    """

    def __init__(self, total: int, share: int) -> None:
        self._free = total
        self._share = share
        self._taken: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    def is_free(self, key: Hashable) -> bool:
        """Return True if the peer ``key`` need not wait for a place."""
        return self._free > 0 and self._taken.get(key, 0) < self._share and key not in self._waiting

    async def acquire(self, key: Hashable) -> None:
        """Take a place for the peer ``key``; wait until there is one."""
        if self.is_free(key):
            self.take(key)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(key)
            raise

    def release(self, key: Hashable) -> None:
        """Give back a place of the peer ``key``."""
        self._free += 1
        left = self._taken.pop(key) - 1
        if left:
            self._taken[key] = left
        if self._waiting:
            for each in list(self._waiting):
                if self._free and self._taken.get(each, 0) < self._share:
                    self._give(each)

    def _give(self, key: Hashable) -> None:
        """Give a place to the first of a peer that waits; the peer's next turn is behind the others."""
        waiting = self._waiting.pop(key)
        while waiting:
            waiter = waiting.popleft()
            if not waiter.done():
                self.take(key)
                waiter.set_result(None)
                break
        if waiting:
            self._waiting[key] = waiting

    def take(self, key: Hashable) -> None:
        """Take a place that :meth:`is_free`."""
        self._free -= 1
        self._taken[key] = self._taken.get(key, 0) + 1
