"""Bounds the requests of one identity in a second, over all its connections to one server.

The processes of a server share the table of identities, which is in memory that forked children inherit. They have no
common lock: two that write one entry at the same moment let one request more pass.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Hashable
from struct import Struct
from typing import Final

from sealwire.limits import UNBOUNDED, Limits

_ENTRY: Final = Struct("=Qdd")
"""The hash of an identity, its tokens, and the time at which it had them."""
_ROWS: Final = 1024
_IN_ROW: Final = 8
"""Entries of a row. An identity has its place in one row, by its hash, in place of one that has been silent longest."""
_ROW: Final = _ENTRY.size * _IN_ROW
_MASK: Final = 2**64 - 1


class RequestRates:
    """A bucket of tokens for each identity, which holds the tokens of one second.

    Args:
        limit: Requests in a second.
    """

    def __init__(self, limit: int) -> None:
        self._limit = float(limit)
        self._table = mmap.mmap(-1, _ROWS * _ROW)
        self._lock = threading.Lock()

    def allow(self, key: Hashable, now: float) -> bool:
        """Return True if the identity may have a request handled now, and count it."""
        name = hash(key) & _MASK or 1  # 0 is that of a free entry
        start = name % _ROWS * _ROW
        limit = self._limit
        with self._lock:
            # Not known, or forgotten: an entry of which nothing was used for a second is full again.
            place, tokens, oldest = start, limit, now
            for at in range(start, start + _ROW, _ENTRY.size):
                known, had, since = _ENTRY.unpack_from(self._table, at)
                if known == name:
                    place, tokens = at, min(limit, had + (now - since) * limit)
                    break
                if since < oldest:
                    place, oldest = at, since
            allowed = tokens >= 1.0
            _ENTRY.pack_into(self._table, place, name, tokens - 1.0 if allowed else tokens, now)
            return allowed


def rates_for(limits: Limits) -> RequestRates | None:
    """Return the rates of a server; None if its limits have no bound on them."""
    limit = limits.max_requests_per_second
    return RequestRates(limit) if limit < UNBOUNDED else None
