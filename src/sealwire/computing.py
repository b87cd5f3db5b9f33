"""Shares the interpreter among the threads of a process: few long computations, and one thread of each peer at a time.

Messages of more than LONG bytes are decoded by few threads at a time. Threads that compute share the interpreter's
lock, so more of them are not faster, but each has the memory of a message (Limits.max_memory), and each makes the small
requests of others wait. Those that wait here are let in in turn, by peer. Processes that serve together, as the
children of a forking server, share the bound on that memory.

While several peers are active, the threads of one peer take turns at the server's own work: reading a request, and
sealing its reply. So the connections of one peer are no more threads that compete for the interpreter than a single
one, and a peer with one connection never waits here.

Meanwhile the interpreter's switch interval is shorter: a thread that handles a small request asks for the lock several
times, and each time waits for that interval, which is 5 ms by default.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from random import uniform
from time import sleep
from typing import Final

from sealwire.session.shared import Cells
from sealwire.session.turns import CONTENDED, RoundRobin

LONG: Final = 2048
"""Bytes of a message above which decoding it is a long computation."""
AT_ONCE: Final = 2
"""Long computations at a time."""
_NEWCOMER: Final = 0.1
"""Seconds for which several peers count as active after a connection was accepted, for its handshake."""
_SHORT_INTERVAL: Final = 0.0001
"""Seconds after which a computation gives the interpreter's lock to another thread."""
_EXPANSION: Final = 512
"""Bytes of memory for a byte of a message, at most: an empty set, which is one byte."""
_LOOK_AGAIN: Final = 0.005
"""Seconds until a process looks again if others have finished, at most; no event reports that."""


class QuickSwitches:
    """Shortens the interpreter's switch interval while a caller asks for it."""

    def __init__(self) -> None:
        self._interval = sys.getswitchinterval()
        self._askers = 0
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Begin without a caller that asks, as in a process that was just forked."""
        self._lock = threading.Lock()
        if self._askers:
            self._askers = 0
            sys.setswitchinterval(self._interval)

    def begin(self) -> None:
        """Ask for quick switches."""
        with self._lock:
            self._askers += 1
            if self._askers == 1:
                self._interval = sys.getswitchinterval()
                sys.setswitchinterval(min(self._interval, _SHORT_INTERVAL))

    def end(self) -> None:
        """Need them no more. The interval of before comes back with the last call."""
        with self._lock:
            self._askers -= 1
            if not self._askers:
                sys.setswitchinterval(self._interval)


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
        self._waiting: RoundRobin[threading.Event] = RoundRobin()
        self._running = 0
        self._memory: Memory | None = None

    def share(self, memory: Memory) -> None:
        """Share the memory of what is decoded with other processes, from now on."""
        self._memory = memory

    @property
    def waiting(self) -> int:
        """The number of threads that wait for their turn."""
        return len(self._waiting)

    @contextmanager
    def one(self, key: Hashable, size: int = 0) -> Iterator[None]:
        """Surround a computation for the peer ``key``; wait for its turn first.

        Args:
            key: The peer.
            size: Bytes of the message that is decoded.
        """
        turn: threading.Event | None = None
        with self._lock:
            if self._running >= self._at_once:
                turn = threading.Event()
                self._waiting.append(key, turn)
            else:
                self._running += 1
        if turn is not None:
            turn.wait()
        switches.begin()
        try:
            with nullcontext() if self._memory is None or not size else self._memory.room(size):
                yield
        finally:
            switches.end()
            with self._lock:
                if self._waiting:
                    self._waiting.pop().set()  # which goes on in the place of this one
                else:
                    self._running -= 1


class DecodingCells:
    """The bytes that processes need for what they decode: for each process a cell for large messages and one for small.

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

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Surround the decoding of a message of ``size`` bytes; wait until there is memory for it first."""
        needed = min(self._max_memory, _EXPANSION * size)
        is_large = needed >= self._max_memory // 8
        cells, allowed = (self._cells.large, AT_ONCE * self._max_memory) if is_large else (
            self._cells.small, self._max_memory
        )  # fmt: skip
        while True:
            # Take first, and count second: processes that do this at the same moment cannot all go on.
            self._add(cells, needed)
            try:
                if cells.total <= allowed:
                    yield
                    return
            finally:
                self._add(cells, -needed)
            sleep(uniform(0.2, 1.0) * _LOOK_AGAIN)

    def _add(self, cells: Cells, change: int) -> None:
        with self._lock:
            cells[self._index] += change


class Activity:
    """Notices if several peers are active, and asks for quick switches then.

    Attributes:
        until: The time until which several peers count as active.
    """

    def __init__(self) -> None:
        self._last: Hashable = None
        self._quick = False
        self.reset()

    def reset(self) -> None:
        """Begin without any peer, as in a process that was just forked."""
        self._lock = threading.Lock()
        self._last = None
        self._quick = False
        self.until = 0.0

    def note(self, key: Hashable, now: float) -> bool:
        """Note that a peer is active; return True if another one was a moment ago.

        Threads call it without a lock: to be wrong now and then does no harm.
        """
        if key != self._last:
            self.until = now + CONTENDED if self._last is not None else 0.0
            self._last = key
        several = now < self.until
        if several is not self._quick:
            self._switch(several)
        return several

    def newcomer(self, now: float) -> None:
        """Note that a connection was accepted, whose handshake must not wait for many threads of another peer."""
        self.until = max(self.until, now + _NEWCOMER)
        if not self._quick:
            self._switch(True)

    def calm(self, now: float) -> None:
        """Notice that the peers are silent. A server calls this now and then."""
        if self._quick and now >= self.until:
            self._switch(False)

    def _switch(self, quick: bool) -> None:
        with self._lock:
            if self._quick is not quick:  # another thread may have done it
                self._quick = quick
                (switches.begin if quick else switches.end)()


class PeerTurns:
    """Lets one thread of each peer work at a time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin without any thread at work, as in a process that was just forked."""
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[threading.Lock]] = {}
        """For each peer with a thread at work, the threads that wait: each for its lock to be released."""

    def take(self, key: Hashable) -> None:
        """Wait until no other thread of the peer is at work."""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque()
                return
            turn = threading.Lock()
            turn.acquire()
            waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:  # of a signal handler
            with self._lock:
                is_here = turn in waiting
                if is_here:
                    waiting.remove(turn)
            if not is_here:
                self.give(key)
            raise

    def give(self, key: Hashable) -> None:
        """End the work; the thread of the peer that has waited longest goes on."""
        with self._lock:
            waiting = self._waiting[key]
            if waiting:
                waiting.popleft().release()
            else:
                del self._waiting[key]


switches: Final = QuickSwitches()
computations: Final = Computations(AT_ONCE)
activity: Final = Activity()
peer_turns: Final = PeerTurns()
for _each in (switches, computations, activity, peer_turns):
    os.register_at_fork(after_in_child=_each.reset)
