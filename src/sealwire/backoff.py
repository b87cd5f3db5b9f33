"""Exponential back-off: a sequence of pauses, without a clock and without I/O."""

from __future__ import annotations

import math
from collections.abc import Callable


class Backoff:
    """Pauses that grow by a constant factor up to a maximum.

    Args:
        first: Seconds of the first pause.
        longest: Seconds that no pause exceeds; by default unbounded.
        factor: Each pause is this many times as long as the one before.
        jitter: Called for each pause; returns the number it is multiplied with. By default there is no jitter. Jitter
            does not affect the growth.
    """

    def __init__(
        self, first: float, longest: float = math.inf, *, factor: float = 2.0, jitter: Callable[[], float] | None = None
    ) -> None:
        self._first = first
        self._longest = longest
        self._factor = factor
        self._jitter = jitter
        self._pause = first

    def next(self) -> float:
        """Return the seconds to pause now; the next pause will be longer."""
        pause = self._pause
        self._pause = min(self._longest, pause * self._factor)
        return pause if self._jitter is None else pause * self._jitter()

    def reset(self) -> None:
        """Start again with the first pause."""
        self._pause = self._first
