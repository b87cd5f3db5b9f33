"""The turns of connections on an event loop (see :mod:`sealwire.session.round_robin`), and their places among requests.

A peer that uses more than its share (:mod:`sealwire.session.shares`) pauses as soon as it has to wait for a turn: its
connections wait outside of the rounds, until some of them come back at a time. What the loop does from one turn to the
next counts for the peer that had the turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from time import monotonic, thread_time
from typing import Final

from sealwire.contention import activity, shares
from sealwire.session.round_robin import Turns

_ITERATIONS: Final = 3
"""Iterations of the loop in a round: a request takes about as many from its turn to its reply."""
_GRAIN: Final = 0.001
"""Seconds of a pause, at least: event loops wait for whole milliseconds."""
_MOST_BEHIND: Final = 1024
"""Peers of whom it is remembered that they had to wait: some never come back for a turn."""
_BACK_AT_ONCE: Final = 8
"""Connections of a peer that come back from a pause at a time."""


class LoopTurns:
    """The turns of the connections of one server."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns: Turns[asyncio.Future[None]] = Turns()
        self._left = 0
        self._paused: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """The connections that wait outside of the rounds, by peer."""
        self._behind: set[Hashable] = set()
        """The peers that had to wait since their last turn, and so have more to do than the rounds allow."""
        self._working: Hashable = None
        """The peer that had the last turn beside others; None if nobody had."""
        self._begun = 0.0

    def take(self, key: Hashable, now: float) -> bool:
        """Return True if a connection of the peer ``key`` may work now; otherwise it must :meth:`wait`."""
        if activity.note_elsewhere(key, now):
            self._turns.contended_until = max(self._turns.contended_until, activity.until)
        if now < activity.until:
            self._count(now)
            if key in self._paused:
                return False
        taken = self._turns.take(key, now)
        self._working = None
        if taken and now < activity.until:
            self._working = key
            if key in self._behind:
                self._behind.discard(key)
            else:
                shares.forgive(key, now)  # it had nothing to do for a round
        if self._turns.contended_until > activity.until:
            activity.until = self._turns.contended_until
        activity.look(now)
        if not self._left and self._turns.running:
            self._begin_round()
        return taken

    async def wait(self, key: Hashable) -> float:
        """Wait for the turn; return the seconds of the peer's pauses before it."""
        paused = 0.0
        if len(self._behind) == _MOST_BEHIND:
            self._behind.clear()
        self._behind.add(key)
        while True:
            now = monotonic()
            if shares.pause(key, now, _GRAIN):
                await self._pause(key, now)
                paused += monotonic() - now
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._turns.wait(key, waiter)
            if not self._left:
                self._begin_round()
            await waiter
            now = monotonic()
            self._count(now)
            if not shares.pause(key, now, _GRAIN):
                if now < activity.until:
                    self._working = key
                return paused

    async def _pause(self, key: Hashable, now: float) -> None:
        """Wait until the peer's pause is over, and those of its connections are back that paused before."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        if key in self._paused:
            self._paused[key].append(waiter)
        else:
            self._paused[key] = deque((waiter,))
            self._loop.call_later(shares.pause(key, now, 0.0), self._come_back, key)
        await waiter

    def _come_back(self, key: Hashable) -> None:
        """Let some of the peer's connections back into the rounds, if its pause is over."""
        waiting = self._paused[key]
        pause = shares.pause(key, monotonic(), 0.0)
        if not pause:
            for _ in range(min(_BACK_AT_ONCE, len(waiting))):
                waiter = waiting.popleft()
                if not waiter.done():
                    waiter.set_result(None)
        if waiting:
            self._loop.call_later(max(pause, _GRAIN), self._come_back, key)
        else:
            del self._paused[key]

    def _count(self, now: float) -> None:
        """Count what the loop has done since the last turn for the peer that had it."""
        begun, self._begun = self._begun, thread_time()
        if self._working is not None:
            shares.use(self._working, self._begun - begun, now)
            self._working = None

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
