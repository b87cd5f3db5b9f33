"""Shares the interpreter among the threads of a process: notices if several peers are active, and gives them turns.

While several peers are active, the threads of one peer take turns at the server's own work: reading a request, and
sealing its reply. So the connections of one peer are no more threads that compete for the interpreter than a single
one, and a peer with one connection never waits here for another.

A peer that uses more than its share pauses before its turns (:mod:`sealwire.session.shares`). It also lets the requests
of others finish first: a request needs the interpreter's lock several times, and would have to wait for it each time.

Meanwhile the interpreter's switch interval is shorter: a thread that handles a small request asks for the lock several
times, and each time waits for that interval, which is 5 ms by default.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from time import monotonic, process_time, sleep, thread_time
from typing import Final

from sealwire.pickling import message_file
from sealwire.session.common_use import CommonUse
from sealwire.session.round_robin import CONTENDED
from sealwire.session.shares import Shares

_NEWCOMER: Final = 0.1
"""Seconds for which several peers count as active after a connection was accepted, for its handshake."""
_SHORT_INTERVAL: Final = 0.0001
"""Seconds after which a computation gives the interpreter's lock to another thread."""
_GRAIN: Final = 0.0002
"""Seconds of a thread's pause, at least."""
_MOMENT: Final = 0.001
"""Seconds for which a request goes first, at most: its handler may wait for something else."""


class QuickSwitches:
    """Shortens the interpreter's switch interval while something asks for it.

    An interval that the program sets meanwhile stays.
    """

    def __init__(self) -> None:
        self._interval = sys.getswitchinterval()
        self._askers: set[object] = set()
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Begin without anything that asks, as in a process that was just forked."""
        self._lock = threading.Lock()
        if self._askers:
            self._askers = set()
            self._restore()

    def begin(self, asker: object) -> None:
        """Ask for quick switches."""
        with self._lock:
            is_first = not self._askers
            self._askers.add(asker)
            if is_first:
                self._interval = sys.getswitchinterval()
                sys.setswitchinterval(min(self._interval, _SHORT_INTERVAL))

    def end(self, asker: object) -> None:
        """Stop asking for them. The last asker's call restores the previous interval; calling it again does nothing."""
        with self._lock:
            if self._askers == {asker}:
                self._restore()
            self._askers.discard(asker)

    def _restore(self) -> None:
        # CPython has whole microseconds.
        if abs(sys.getswitchinterval() - min(self._interval, _SHORT_INTERVAL)) < 1e-6:
            sys.setswitchinterval(self._interval)


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

        Threads call it without a lock: being wrong now and then does no harm.
        """
        if key != self._last:
            self.until = now + CONTENDED if self._last is not None else 0.0
            self._last = key
        self.note_elsewhere(key, now)
        return self.look(now)

    def note_elsewhere(self, key: Hashable, now: float) -> bool:
        """Note a peer for the other processes of the server; return True if their peers count here as well."""
        common = shares.common
        if common is None or not common.note(key, now, process_time()):
            return False
        self.until = max(self.until, now + CONTENDED)
        return True

    def look(self, now: float) -> bool:
        """Return True if several peers are active. Threads switch quickly then."""
        several = now < self.until
        if several is not self._quick:
            self._switch(several)
        return several

    def newcomer(self, now: float) -> None:
        """Note an accepted connection: its handshake must not wait for many threads of another peer."""
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
                (switches.begin if quick else switches.end)(self)


class PeerTurns:
    """Lets one thread of each peer work at a time. A turn is a lock, which is new for each."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin without any thread at work, as in a process that was just forked."""
        self._lock = threading.Lock()
        self._turns: dict[Hashable, deque[threading.Lock]] = {}
        """For each peer the turn of the thread at work, and behind it those of threads that wait for their release."""

    def take(self, key: Hashable, turn: threading.Lock) -> None:
        """Wait until no other thread of the peer is at work. Also when this raises, the turn is to be given back."""
        turn.acquire()
        with self._lock:
            turns = self._turns.get(key)
            if turns is None:
                self._turns[key] = deque((turn,))
                return
            turns.append(turn)
        turn.acquire()

    def is_taken(self, key: Hashable) -> bool:
        """Return True if a thread of the peer is at work."""
        return key in self._turns

    def give(self, key: Hashable, turn: threading.Lock) -> None:
        """Give the turn back, whether or not it had come; the thread of the peer that has waited longest goes on.

        Without effect for a turn that was given back, so that it can be done again after an interruption.
        """
        with self._lock:
            turns = self._turns.get(key)
            if turns is None or turn not in turns:
                return
            if len(turns) == 1:
                del self._turns[key]
                return
            if turns[0] is turn and turns[1].locked():
                turns[1].release()
            turns.remove(turn)


class Precedence:
    """Lets requests of peers within their share finish before others go on, each for a moment.

    Threads use it without a lock: one that misses a change waits no longer than that moment.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin without any request, as in a process that was just forked."""
        self._first: dict[int, float] = {}
        """For each thread that works on such a request, the time at which the moment ends."""
        self._waiting: set[threading.Lock] = set()

    def take(self, now: float) -> None:
        """Let the request go first that this thread begins to work on."""
        self._first[threading.get_ident()] = now + _MOMENT

    def give(self) -> None:
        """End that. Without effect if this thread has no precedence."""
        self._first.pop(threading.get_ident(), None)
        if self._waiting and not self._first:
            with suppress(KeyError):  # when it is empty
                while True:
                    self._waiting.pop().release()

    def wait(self) -> None:
        """Wait until other threads have finished the requests that go first now, or the moment of each is over."""
        if not self._first or not (seconds := self._rest()):
            return
        waiter = threading.Lock()
        waiter.acquire()
        self._waiting.add(waiter)
        try:
            waiter.acquire(timeout=seconds)
        finally:
            self._waiting.discard(waiter)

    def _rest(self) -> float:
        """Return the seconds until the moment of each other thread is over; forget those of which it is."""
        here, now, last = threading.get_ident(), monotonic(), 0.0
        for thread, end in list(self._first.items()):
            if end <= now:
                self._first.pop(thread, None)
            elif thread != here:
                last = max(last, end)
        return max(0.0, last - now)


class ConnectionTurns:
    """The turns of a connection that has a thread of its own, among those of its peer.

    Args:
        key: The peer.

    Attributes:
        key: As given.
        taken: True while this thread is the one of its peer that works, or waits to be.
        counting: True from the beginning of a request until its processor time is counted.
    """

    __slots__ = ("_begun", "_turn", "counting", "key", "taken")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.taken = False
        self.counting = False
        self._turn = threading.Lock()
        self._begun = 0.0

    def begin(self, *, more: bool = True) -> float:
        """Take the turn for the next request, after the pause that is due; return the seconds that this took.

        Args:
            more: True if the connection goes on with what had arrived before.
        """
        if self.counting:
            self.count()
        asked = now = monotonic()
        if not (more or self.taken or peer_turns.is_taken(self.key)):
            shares.forgive(self.key, now)
        if not self.taken:
            self.take()
            now = monotonic()
        if pause := shares.pause(self.key, now, _GRAIN):
            if shares.common is not None:
                shares.common.queue(self.key, now)
            sleep(pause)  # with the turn, so that the peer's other threads wait as well
            precedence.wait()
            now = monotonic()
        else:
            precedence.take(now)
        self._begun = thread_time()
        self.counting = True
        return now - asked

    def take(self) -> None:
        """Wait until no other connection of the peer is at work; not for longer than it takes to read or write once."""
        self._turn = threading.Lock()
        self.taken = True
        peer_turns.take(self.key, self._turn)

    def give(self) -> None:
        """Give the turn to another connection of the peer."""
        peer_turns.give(self.key, self._turn)
        self.taken = False

    def count(self) -> None:
        """Count the processor time since the beginning of the request."""
        self.counting = False
        precedence.give()
        shares.use(self.key, thread_time() - self._begun, monotonic())


def share(common: CommonUse) -> None:
    """Share the processors with the peers of other processes of the server, from now on."""
    common.begin(os.getpid(), monotonic(), process_time())
    shares.common = common


switches: Final = QuickSwitches()
activity: Final = Activity()
peer_turns: Final = PeerTurns()
precedence: Final = Precedence()
shares: Final = Shares()
message_file.give_way = precedence.wait
for _each in (switches, activity, peer_turns, precedence, shares):
    os.register_at_fork(after_in_child=_each.reset)
