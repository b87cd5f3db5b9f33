"""Decides which replies of a connection wait for the next one, to be sent together with it.

A client that has several requests under way gets many replies in one TLS record: that costs both ends less, and wakes
the client once for all of them. A reply waits only if the next request is here already, its handler is expected to be
quick, and no other peer is active. The connection sends what waits before it waits itself. If a handler is not quick
after all, the server's reading thread sends the replies before its own (:mod:`sealwire.sync.read_ahead`).
"""

from __future__ import annotations

from typing import Final

from sealwire.contention import activity
from sealwire.sync.read_ahead import ReadAhead

_TOGETHER: Final = 8192
"""Bytes of replies that are sent together, about: a TLS record has twice as many."""
_MOST: Final = 12
"""Replies that are sent together: some of those that a client may be waiting for, so that both ends are at work."""
_FRAME: Final = 64
"""Bytes that a frame has beside its payload, about."""
_QUICK: Final = 0.001
"""Seconds in which a quick handler has its reply ready."""
_CAUTION: Final = 0.1
"""Seconds for which no reply waits after a handler that was not quick."""


class ReplyBatches:
    """The replies of one connection.

    Args:
        read_ahead: The server's reading thread; None for a server without one, whose replies never wait.
    """

    def __init__(self, read_ahead: ReadAhead | None) -> None:
        self._read_ahead = read_ahead
        self._size = 0
        self._count = 0
        self._from = 0.0

    def may_wait(self, size: int, now: float, since: float) -> bool:
        """Return True if a reply may wait for that to the next request, which is here.

        Args:
            size: Bytes of the reply's payload.
            now: The current time.
            since: The time at which its handler began.
        """
        if now - since > _QUICK:
            self._from = now + _CAUTION
        self._size += size + _FRAME
        self._count += 1
        thread = self._read_ahead
        if (
            now < max(self._from, activity.until)
            or self._size > _TOGETHER
            or self._count >= _MOST
            or thread is None
            or thread.parked
        ):
            self._size = self._count = 0
            return False
        return True
