"""Keeps a server accepting when its process has no descriptors left.

A server holds some descriptors in reserve. When accept(2) finds none, it gives the reserve back and ends connections
that have proved nothing, the oldest first. So a client that waits in the queue is accepted at once, and strangers
cannot keep the others out by holding every descriptor. Later the reserve is filled again. The log has one line with a
count, at most once in LOG_INTERVAL, instead of a line for each connection.
"""

from __future__ import annotations

import math
import os
from time import monotonic
from typing import Final

from sealwire.admission import Admission
from sealwire.events import emit

RESERVED: Final = 8
"""Descriptors in reserve, and connections that are ended at a time."""
LOG_INTERVAL: Final = 60.0
"""Seconds between two lines in the log, at least."""
_REFILL_AFTER: Final = 1.0
"""Seconds without shortage after which the reserve is filled again."""
_YOUNGEST: Final = 0.1
"""Seconds for which a connection is left alone; a handshake takes some milliseconds."""


class Reserve:
    """The descriptors that one server has in reserve.

    Args:
        admission: The server's slots.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held: list[int] = []
        self._refill_at = -math.inf
        self._log_at = -math.inf
        self._ended = 0

    def fill(self) -> None:
        """Take as many descriptors as are missing, if there has been no shortage for a while."""
        if len(self._held) == RESERVED or monotonic() < self._refill_at:
            return
        try:
            while len(self._held) < RESERVED:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self._refill_at = monotonic() + _REFILL_AFTER

    def make_room(self, error: OSError) -> bool:
        """Give the reserve back and end connections that have proved nothing; return True if there is room now."""
        now = monotonic()
        self._refill_at = now + _REFILL_AFTER
        had_reserve = bool(self._held)
        self.close()
        ended = 0
        with self._admission.lock:
            for slot in self._admission.unauthenticated():
                if ended < RESERVED and not slot.evicted and now - slot.since >= _YOUNGEST:
                    slot.is_counted = True
                    slot.evict()
                    ended += 1
        self._ended += ended
        self._admission.events.count("limit_hits", "descriptors")
        if now >= self._log_at:
            self._log_at = now + LOG_INTERVAL
            emit(
                "server.short",
                f"cannot accept: {error.strerror}; ended {self._ended} connections that had proved nothing; raise the "
                "descriptor limit or lower Limits",
                why=error.strerror, ended=self._ended,
            )  # fmt: skip
            self._ended = 0
        return had_reserve

    def close(self) -> None:
        """Give the reserve back."""
        held, self._held = self._held, []
        for descriptor in held:
            os.close(descriptor)
