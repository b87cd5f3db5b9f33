"""The time of one call of a client, the same arithmetic for every client."""

from __future__ import annotations

import math
from contextvars import ContextVar
from time import monotonic
from typing import Final

time_limit: Final[ContextVar[float]] = ContextVar("sealwire_time_limit", default=math.inf)
"""In a handler, the time at which its client stops waiting: no call that the handler makes takes longer."""


def end_of(seconds: float) -> float:
    """Return the time at which something that begins now and takes ``seconds`` ends; in a handler, its limit."""
    return min(monotonic() + seconds, time_limit.get())


class CallTime:
    """The time of one call: ``wait`` seconds for all of it, and ``timeout`` more for its first connection.

    The clock starts with the call. Waiting behind other requests of the same client counts, and so does connecting
    again after the connection was lost. So the caller gets a reply or an error after ``timeout + wait`` seconds at the
    latest, and nothing is sent for it later.

    Args:
        timeout: Seconds for a connection.
        wait: Seconds for the request.
        now: The present time.

    Attributes:
        deadline: The time at which the caller stops waiting, as far as it is known: the first connection postpones it.
        connected: True if the call has had a connection, so that the time for another one counts.
        sent: True if the request was sent on a connection that was lost, and the server may have acted on it.
    """

    def __init__(self, timeout: float, wait: float, now: float) -> None:
        self._timeout = timeout
        self.connected = False
        self._begun = now
        self._limit = limit = time_limit.get()
        self.deadline = end if (end := now + wait) < limit else limit
        self.sent = False

    def begin_connecting(self, now: float) -> float:
        """Return the time by which a connection must be made, by this call or by another one that it waits for."""
        self._begun = now
        return min(now + self._timeout, self.deadline if self.connected else self._limit)

    def end_connecting(self, now: float) -> None:
        """Note that a connection was made: only the first one's time does not count."""
        if not self.connected:
            self.connected = True
            self.deadline = min(self.deadline + now - self._begun, self._limit)
