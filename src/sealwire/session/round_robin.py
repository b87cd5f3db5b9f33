"""Shares the time of one thread among peers, in turns; without I/O, and the moment is an argument.

A turn is a bounded piece of work for one connection: taking one event, or reading once. Time is divided into *rounds*.
While one peer alone is active, it has MANY turns in a round, which costs nothing. While several are, each has one turn
in a round, whatever number of connections it has and however much they send. Connections of one peer take turns in the
order in which they asked. A peer is a *key*: an identity, or an address before there is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MANY: Final = 32
"""Turns in a round for a peer that is alone."""
ROUND: Final = 0.001
"""Seconds of a round of a peer that is alone."""
CONTENDED: Final = 1.0
"""Seconds for which a peer does not count as alone after another one had a turn."""


class RoundRobin(Generic[T]):
    """A queue for each key; the keys are served in turn."""

    def __init__(self) -> None:
        self.queues: dict[Hashable, deque[T]] = {}
        """The queues that are not empty, in the order of their turns. To read only."""

    def __len__(self) -> int:
        return sum(map(len, self.queues.values()))

    def __bool__(self) -> bool:
        return bool(self.queues)

    def __contains__(self, key: Hashable) -> bool:
        return key in self.queues

    def append(self, key: Hashable, item: T) -> None:
        """Add an item to the end of its key's queue."""
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = deque()
        queue.append(item)

    def pop(self) -> T:
        """Remove and return the first item of the next key. Raises IndexError if there is none."""
        if not self.queues:
            raise IndexError
        key = next(iter(self.queues))
        queue = self.queues.pop(key)
        item = queue.popleft()
        if queue:
            self.queues[key] = queue  # behind the others
        return item

    def pop_each(self, count: int) -> list[tuple[Hashable, T]]:
        """Remove and return the first ``count`` items of every key."""
        taken = [
            (key, queue.popleft()) for _ in range(count) for key, queue in self.queues.items() if queue
        ]  # one of each key, then the next of each
        self.queues = {key: queue for key, queue in self.queues.items() if queue}
        return taken


class Turns(Generic[T]):
    """The turns of one thread. ``T`` stands for a connection that waits."""

    def __init__(self) -> None:
        self._waiting: RoundRobin[T] = RoundRobin()
        self._given: dict[Hashable, int] = {}
        self._last: Hashable = None
        self.contended_until = 0.0
        """The time until which several peers count as active."""
        self._round_end = 0.0

    @property
    def running(self) -> bool:
        """True if the round must be ended by :meth:`end_round`: peers are active beside each other, or one waits."""
        return (self.contended_until > 0 and bool(self._given)) or bool(self._waiting.queues)

    def take(self, key: Hashable, now: float) -> bool:
        """Return True if the key has a turn now. Otherwise the caller must :meth:`wait`."""
        if key != self._last:
            self.contended_until = now + CONTENDED if self._last is not None else 0.0
            self._last = key
        waiting = self._waiting.queues
        if now >= self.contended_until and not waiting:
            # Alone, a peer's rounds end by the clock, so that nobody has to wake for it.
            self.contended_until = 0.0
            if now >= self._round_end:
                self._given.clear()
                self._round_end = now + ROUND
        given = self._given.get(key, 0)
        if given >= (1 if now < self.contended_until else MANY) or key in waiting:
            return False
        self._given[key] = given + 1
        return True

    def wait(self, key: Hashable, waiter: T) -> None:
        """Queue a connection for which there was no turn; :meth:`end_round` returns it."""
        self._waiting.append(key, waiter)

    def end_round(self, now: float) -> list[T]:
        """Begin the next round; return those that have their turn."""
        taken = self._waiting.pop_each(1 if now < self.contended_until else MANY)
        self._given.clear()
        for key, _ in taken:
            self._given[key] = self._given.get(key, 0) + 1
        return [waiter for _, waiter in taken]
