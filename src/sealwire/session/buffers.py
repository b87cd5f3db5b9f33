"""Bounds the bytes that all connections of a server hold together, and sheds load fairly.

A connection holds the part of a frame that has arrived, the requests that are not answered yet and the replies that
its peer has not taken. Caps on a frame and on a connection do not bound the sum. When half of Limits.max_buffered is
in use, the connection that holds most is not read until others hold more, or less is in use. Above the limit, the one
that holds most is ended. Small requests never wait for large ones: what a connection holds counts in steps of STEP
bytes, and below the first step it holds nothing.

Several processes that serve together share the limit. Above it, those that hold more than their part end connections.

Any thread may call. ``end`` is called without the lock, in the thread that made the sum exceed the limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from sealwire.session.shared import Cells

STEP: Final = 65_536
"""Bytes by which what a connection holds must change before it is counted again."""


class Holding:
    """The bytes that one connection holds.

    Attributes:
        counted: Those that count in the sum.
        ended: True if the connection has been ended to make room.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self.end: Callable[[], None] | None = None
        """Ends the connection. Called at most once, from any thread."""
        self.publish: Callable[[int], bool] | None = None
        """Called with the bytes that are counted, for other processes; returns True if the connection must end."""
        self.counted = 0
        self.ended = False

    def update(self, held: int) -> None:
        """Note how many bytes the connection holds now."""
        if held < STEP:
            held = 0
        change = held - self.counted
        if change >= STEP or change <= -STEP or (change and not held):
            self._buffers.count(self, held)

    @property
    def waits(self) -> bool:
        """True if the connection must not be read now."""
        return self.counted > 0 and self._buffers.must_wait(self)

    def when_changed(self, listener: Callable[[], None]) -> None:
        """Call a function once, when a holding has become smaller, so that one that waits can look again."""
        self._buffers.when_changed(listener)

    def release(self) -> None:
        """Note that the connection has ended."""
        self.end = None
        self.update(0)


class Buffers:
    """The sum of all holdings of one server.

    Args:
        limit: Bytes above which the connection that holds most is ended.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._holdings: dict[Holding, None] = {}
        self._used = 0
        self._listeners: list[Callable[[], None]] = []
        self._shared: Cells | None = None
        self._index = 0
        self._part = limit

    @property
    def used(self) -> int:
        """The bytes in use, by all processes that share the limit."""
        return self._used if self._shared is None else self._shared.total

    def share(self, cells: Cells, index: int, processes: int) -> None:
        """Share the limit with other processes; ``index`` is this one's cell among theirs."""
        self._part = self._limit // processes
        self._shared, self._index = cells, index

    def look(self) -> None:
        """End connections that are too large since other processes hold more. To be called now and then."""
        if self._shared is not None and self._holdings:
            with self._lock:
                ends = self._too_large()
            for end in ends:
                end()

    def open(self) -> Holding:
        """Return a holding for a new connection."""
        return Holding(self)

    def count(self, holding: Holding, held: int) -> None:
        """Count a holding again, and end those that are too large."""
        with self._lock:
            shrinks = held < holding.counted
            self._used += held - holding.counted
            holding.counted = held
            if held:
                self._holdings[holding] = None
            else:
                self._holdings.pop(holding, None)
            if self._shared is not None:
                self._shared[self._index] = self._used
            ends = self._too_large()
            if holding.publish is not None and holding.publish(held) and not holding.ended and holding.end is not None:
                holding.ended = True
                ends.append(holding.end)
            listeners: list[Callable[[], None]] = []
            if shrinks or ends:
                listeners, self._listeners = self._listeners, []
        for call in (*ends, *listeners):
            call()

    def must_wait(self, holding: Holding) -> bool:
        """Return True if half of the limit is in use, and others hold some of it, but this one holds most."""
        if self.used <= self._limit // 2:
            return False
        with self._lock:
            return len(self._holdings) > 1 and self._largest() is holding

    def when_changed(self, listener: Callable[[], None]) -> None:
        """Call a function once, when a holding has become smaller; a connection that waits can look again then."""
        with self._lock:
            self._listeners.append(listener)

    def _too_large(self) -> list[Callable[[], None]]:
        """Return the functions that end the largest connections, as long as all hold too much."""
        excess = self.used - self._limit
        if self._shared is not None:
            excess = min(excess, self._used - self._part)
        if excess <= 0:
            return []
        ends: list[Callable[[], None]] = []
        excess -= sum(each.counted for each in self._holdings if each.ended)
        while excess > 0 and (largest := self._largest()) is not None:
            largest.ended = True
            excess -= largest.counted
            if largest.end is not None:
                ends.append(largest.end)
        return ends

    def _largest(self) -> Holding | None:
        return max((each for each in self._holdings if not each.ended), key=lambda each: each.counted, default=None)
