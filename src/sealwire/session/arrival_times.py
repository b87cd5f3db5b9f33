"""Records when the bytes of a stream arrived, for deadlines that count from there."""

from __future__ import annotations

from collections import deque
from typing import Final

_RESOLUTION: Final = 0.01
"""Seconds. Bytes that arrive within this time share an arrival time, the latest; so single bytes take little memory."""


class Arrivals:
    """The arrival times of the bytes that are not consumed yet.

    A request's wait counts from its arrival, even if it stays unread for a while behind another one.

    Args:
        pending: Number of unconsumed bytes at the beginning.
        arrived: Arrival time of these bytes.
    """

    def __init__(self, pending: int = 0, arrived: float = 0.0) -> None:
        self._received = pending
        self._marks: deque[tuple[int, float]] = deque([(pending, arrived)])
        self._last_mark_begun = arrived

    def add(self, count: int, now: float, pending: int) -> None:
        """Record that ``count`` more bytes arrived at ``now``, when ``pending`` bytes were unconsumed."""
        consumed = self._received - pending
        marks = self._marks
        while marks[0][0] < consumed:  # as in `at`, without a call for each read
            marks.popleft()
        self._received += count
        if now - self._last_mark_begun < _RESOLUTION:
            marks.pop()
        else:
            self._last_mark_begun = now
        marks.append((self._received, now))

    def at(self, pending: int) -> float:
        """Return the arrival time of the last consumed byte, ``pending`` bytes being unconsumed.

        Earlier arrival times are forgotten.
        """
        consumed = self._received - pending
        marks = self._marks
        while marks[0][0] < consumed:
            marks.popleft()
        return marks[0][1]
