"""Shares the interpreter among long computations: few at a time, and a part of the time for each peer.

Messages of more than LONG bytes are decoded by few threads at a time. Threads that compute share the interpreter's
lock, so more of them are not faster, but each has the memory of a message (Limits.max_memory), and each makes the small
requests of others wait. Those that wait here are let in in turn, by peer. Processes that serve together, as the
children of a forking server, share the bound on that memory.

While several peers are active, the long computations of one peer have a fifth of the time. A decoder gives up the lock
every tenth of a millisecond (:mod:`sealwire.pickling.message_file`), but the garbage collector, which runs after some
thousand new objects, does not: it goes through all objects in one step of many milliseconds. So it does not run during
a computation that began while no other one was at work. That also halves the time of a message of small objects.

A signal handler may raise at any step. So what a computation takes is bound to an object of its own, and giving it back
twice is the same as once: it is done again if it was interrupted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from random import uniform
from time import monotonic, sleep, thread_time
from typing import Final

from sealwire.collector import collector
from sealwire.contention import activity, switches
from sealwire.native import NATIVE
from sealwire.paces import Paces
from sealwire.session.round_robin import RoundRobin
from sealwire.session.shared import Cells

LONG: Final = 2048
"""Bytes of a message above which decoding it is a long computation."""
_BRIEF: Final = 65_536 if NATIVE else LONG
"""Bytes of a message up to which an event loop may decode it while no other peer is active."""
_BRIEF_TIME: Final = 0.002
"""Seconds that this may take: plain data takes a part of it, and other types ten times as long."""
_NO_LONGER: Final = 10.0
"""Seconds for which the messages of a peer are decoded in threads after one took longer."""
_SLOW_PEERS: Final = 1024
"""Peers of which that is remembered, at most."""
AT_ONCE: Final = 2
"""Long computations at a time."""
_EXPANSION: Final = 512
"""Bytes of memory for a byte of a message, at most: an empty set, which is one byte."""
_LOOK_AGAIN: Final = 0.005
"""Seconds until a process looks again if others have finished, at most; no event reports that."""
_SPACING: Final = 5
"""A peer's long computations have one part in so many of the time, while others are active."""


class _Place:
    """The place of one computation among those of the process.

    Attributes:
        turn: Released when the computation need no longer wait.
        is_over: True if the computation has ended, perhaps while it waited.
    """

    __slots__ = ("is_over", "turn")

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.is_over = False


class Computations:
    """The long computations of a process.

    Args:
        at_once: Number of threads that compute at a time, at most.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self.reset()

    def reset(self) -> None:
        """Begin without any computation, as in a process that was just forked."""
        self._lock = threading.Lock()
        self._waiting: RoundRobin[_Place] = RoundRobin()
        self._running: set[_Place] = set()
        self._memory: Memory | None = None
        self.paces = Paces(_SPACING)
        """When those of each peer may begin."""
        self._slow: dict[Hashable, float] = {}
        """For each peer whose messages take a loop too long, the time until which none are decoded there."""

    def share(self, memory: Memory) -> None:
        """Share the memory for decoding with other processes, from now on."""
        self._memory = memory

    @property
    def waiting(self) -> int:
        """The number of threads that wait for their turn."""
        return len(self._waiting)

    def may_be_on_loop(self, key: Hashable, size: int) -> bool:
        """Return True if an event loop may decode a message of ``size`` bytes itself: nobody waits, or not for long.

        Processes that share the memory for decoding wait for it, which a loop cannot.
        """
        if size > _BRIEF or self._memory is not None:
            return False
        now = monotonic()
        return now >= activity.until and now >= self._slow.get(key, 0.0)

    @contextmanager
    def on_loop(self, key: Hashable) -> Iterator[None]:
        """Surround the decoding of a message of the peer ``key`` on an event loop."""
        begun = thread_time()
        try:
            with collector.paused():
                yield
        finally:
            if thread_time() - begun > _BRIEF_TIME:
                if len(self._slow) >= _SLOW_PEERS:
                    self._slow.pop(next(iter(self._slow)))  # the one that is remembered for longest
                self._slow[key] = monotonic() + _NO_LONGER

    @contextmanager
    def one(self, key: Hashable, size: int = 0) -> Iterator[None]:
        """Surround a computation for the peer ``key``; wait for its turn first.

        Args:
            key: The peer.
            size: Bytes of the message that is decoded.
        """
        place = _Place()
        try:
            self._enter(place, key)
            switches.begin(place)
            with nullcontext() if self._memory is None or not size else self._memory.room(size):
                collector.begin(place)  # not while it waits
                begun = thread_time()
                try:
                    yield
                finally:
                    collector.end(place)
                    if size:
                        self.paces.note(key, size, thread_time() - begun)
        finally:
            try:
                self._end(place)
            finally:
                self._end(place)

    def _enter(self, place: _Place, key: Hashable) -> None:
        """Wait until fewer computations than allowed are at work."""
        with self._lock:
            if len(self._running) < self._at_once:
                self._running.add(place)
                return
            place.turn.acquire()
            self._waiting.append(key, place)
        place.turn.acquire()

    def _end(self, place: _Place) -> None:
        """Give back what a computation has taken, and let those in that wait."""
        collector.end(place)
        switches.end(place)
        with self._lock:
            place.is_over = True
            self._running.discard(place)
            while self._waiting and len(self._running) < self._at_once:
                waiting = self._waiting.pop()
                if not waiting.is_over:
                    self._running.add(waiting)
                    waiting.turn.release()


class DecodingCells:
    """The bytes that processes need for decoding: for each process a cell for large messages and one for small.

    Args:
        count: Number of processes, at most.
    """

    def __init__(self, count: int) -> None:
        self.large = Cells(count)
        self.small = Cells(count)

    def clear(self, index: int) -> None:
        """Clear the cells of a process that has ended."""
        self.large[index] = self.small[index] = 0

    def clear_others(self, used: Collection[int]) -> None:
        """Clear the cells of all processes that have ended."""
        self.large.clear_others(used)
        self.small.clear_others(used)


class Memory:
    """This process's part of the memory that the processes of a server use together to decode long messages.

    Args:
        cells: The cells of all processes.
        index: This one's number.
        max_memory: Bytes for one message, at most. Large messages have AT_ONCE times as much together. Those that need
            less than an eighth of it have as much as one large message, and so do not wait for large ones.
    """

    def __init__(self, cells: DecodingCells, index: int, max_memory: int) -> None:
        self._cells = cells
        self._index = index
        self._max_memory = max_memory
        self._lock = threading.Lock()
        self._held: dict[object, tuple[Cells, int]] = {}
        """For each message that is decoded, the kind of its cell, and its bytes of memory."""

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Surround the decoding of a message of ``size`` bytes; wait until there is memory for it first."""
        needed = min(self._max_memory, _EXPANSION * size)
        is_large = needed >= self._max_memory // 8
        cells, allowed = (self._cells.large, AT_ONCE * self._max_memory) if is_large else (
            self._cells.small, self._max_memory
        )  # fmt: skip
        message = object()
        try:
            while True:
                # Take first, and count second: processes that do this at the same moment cannot all go on.
                self._hold(message, cells, needed)
                if cells.total <= allowed:
                    break
                self._hold(message, cells, 0)
                sleep(uniform(0.2, 1.0) * _LOOK_AGAIN)  # noqa: S311 - a pause, which is no secret
            yield
        finally:
            try:
                self._hold(message, cells, 0)
            finally:
                self._hold(message, cells, 0)

    def _hold(self, message: object, cells: Cells, needed: int) -> None:
        """Hold so many bytes for a message, from now on."""
        with self._lock:
            if needed:
                self._held[message] = cells, needed
            else:
                self._held.pop(message, None)
            cells[self._index] = sum(each for kind, each in self._held.values() if kind is cells)


computations: Final = Computations(AT_ONCE)
os.register_at_fork(after_in_child=computations.reset)
