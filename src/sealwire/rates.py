"""Bounds how often something happens for each of many keys, such as the requests of one identity in a second.

The processes of a server share the table of keys, which is in memory that forked children inherit. They have no common
lock: two that write one entry at the same moment let one more pass.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Hashable, Iterator
from struct import Struct
from typing import Final

from sealwire.limits import UNBOUNDED, Limits

_ENTRY: Final = Struct("=QddQ")
"""The hash of a key, its tokens, the time at which it had them, and how many were refused since the last one."""
_ROWS: Final = 1024
_IN_ROW: Final = 8
"""Entries of a row. A key has its place in one row, by its hash, in place of one that has been silent longest."""
_MASK: Final = 2**64 - 1


class Rates:
    """A bucket of tokens for each key.

    Args:
        limit: Tokens of a full bucket.
        seconds: Seconds in which an empty one is full again. Default: 1.
        rows: Number of rows of the table. Default: 1,024, for 8,192 keys.
        note: Bytes of text that is kept with each key, for :meth:`settled`. Default: none.
    """

    def __init__(self, limit: int, seconds: float = 1.0, *, rows: int = _ROWS, note: int = 0) -> None:
        self._limit = float(limit)
        self._seconds = seconds
        self._speed = limit / seconds
        self._rows = rows
        self._note = note
        self._size = _ENTRY.size + note
        self._table = mmap.mmap(-1, rows * _IN_ROW * self._size)
        self._lock = threading.Lock()

    def allow(self, key: Hashable, now: float) -> bool:
        """Return True if it may happen now, and count it."""
        return self.take(key, now) >= 0

    def take(self, key: Hashable, now: float, note: str = "", weight: int = 1) -> int:
        """Take a token of a key; return how many were refused since the last one, or -1 if there is none.

        Args:
            key: The key.
            now: The present time.
            note: Text to keep if it is refused, cut to the table's size.
            weight: As how many it counts if it is refused. Default: 1.
        """
        name = hash(key) & _MASK or 1  # 0 is that of a free entry
        row = _IN_ROW * self._size
        start = name % self._rows * row
        limit, table = self._limit, self._table
        with self._lock:
            # Not known, or forgotten: an entry of which nothing was used for as long is full again.
            place, tokens, oldest, refused = start, limit, now, 0
            for at in range(start, start + row, self._size):
                known, had, since, count = _ENTRY.unpack_from(table, at)
                if known == name:
                    place, tokens, refused = at, min(limit, had + (now - since) * self._speed), count
                    break
                if since < oldest:
                    place, oldest = at, since
            if tokens >= 1.0:
                _ENTRY.pack_into(table, place, name, tokens - 1.0, now, 0)
                return refused
            _ENTRY.pack_into(table, place, name, tokens, now, refused + weight)
            if self._note:
                end = place + self._size
                table[end - self._note : end] = note.encode()[: self._note].ljust(self._note, b"\0")
            return -1

    def settled(self, now: float) -> Iterator[tuple[str, int]]:
        """Yield the note and the number of refusals of each key that has been silent since they were, and forget them.

        Args:
            now: The present time.
        """
        table = self._table
        for at in range(0, len(table), self._size):
            name, had, since, refused = _ENTRY.unpack_from(table, at)
            if refused and now - since >= self._seconds:
                with self._lock:
                    _ENTRY.pack_into(table, at, name, had, since, 0)
                    end = at + self._size
                    note = bytes(table[end - self._note : end]).rstrip(b"\0").decode(errors="replace")
                yield note, refused


def rates_for(limits: Limits) -> Rates | None:
    """Return the rates of a server's requests; None if its limits have no bound on them."""
    limit = limits.max_requests_per_second
    return Rates(limit) if limit < UNBOUNDED else None
