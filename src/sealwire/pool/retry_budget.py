"""The budget of a pool for repeating requests, so that retries do not make an outage worse."""

from __future__ import annotations

from typing import Final

_RESERVE: Final = 10.0
"""Repetitions that are allowed beside the share, so that a client with few requests may repeat one at all."""
_PERIOD: Final = 10.0
"""Seconds for which a request counts, at least; twice as long at most."""


class RetryBudget:
    """A token bucket: each request puts a part of a token in, each repetition takes one out.

    What is not used within ten to twenty seconds is forgotten, or a client could repeat without bound in an outage
    after a quiet day.

    Args:
        share: Tokens for each request; 0 allows no repetition.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._begun = 0.0
        self._tokens = self._earlier = 0.0

    def earn(self, now: float) -> None:
        """Count a request."""
        self._roll(now)
        self._tokens += self._share

    def spend(self, now: float) -> bool:
        """Return True if a request may be repeated, and count that."""
        self._roll(now)
        if self._share == 0 or self._tokens + self._earlier + _RESERVE < 0.999:
            return False
        self._tokens -= 1
        return True

    def _roll(self, now: float) -> None:
        periods = (now - self._begun) // _PERIOD
        if periods >= 1:
            self._earlier = self._tokens if periods == 1 else 0.0
            self._tokens = 0.0
            self._begun += periods * _PERIOD
