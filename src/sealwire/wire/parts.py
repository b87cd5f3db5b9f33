"""Credit for the parts of a request or reply (docs/protocol.md, section 9).

Each side lets the other send a *window* of bytes for each request before it has processed any of them. A part may be
sent while there is credit, whatever the part's size, so the receiver holds at most the window and one part more. The
receiver grants what it has processed again, in steps of half a window.
"""

from __future__ import annotations

from typing import Final

from sealwire.errors import RemoteProtocolError
from sealwire.limits import FRAME_OVERHEAD

MAX_CREDIT: Final = 2**32 - 1
MAX_UPLOADS: Final = 1024
"""Requests of one connection that are in parts and have not ended, answered ones included."""


def cost(size: int) -> int:
    """Return the credit that a part takes, from the size of its payload in bytes."""
    return size + FRAME_OVERHEAD


class OutgoingParts:
    """The parts that this side sends for one request.

    Attributes:
        credit: Bytes that may be sent; below 0 after a part that was larger.
        count: The number of parts that were sent.
    """

    __slots__ = ("count", "credit")

    def __init__(self, window: int) -> None:
        self.credit = window
        self.count = 0

    def note_sent(self, size: int) -> None:
        """Charge for a part with a payload of ``size`` bytes."""
        self.credit -= cost(size)
        self.count += 1

    def grant(self, credit: int) -> None:
        """Add the peer's credit. Raises RemoteProtocolError if it is more than any sender needs."""
        self.credit += credit
        if self.credit > MAX_CREDIT:
            raise RemoteProtocolError("CREDIT beyond the largest number of bytes")


class IncomingParts:
    """The parts that the peer sends for one request.

    Attributes:
        count: The number of parts that have come.
    """

    __slots__ = ("_credit", "_processed", "_step", "count")

    def __init__(self, window: int) -> None:
        self._credit = window
        self._processed = 0
        self._step = (window + 1) // 2
        self.count = 0

    def note_received(self, size: int) -> None:
        """Charge for a part with a payload of ``size`` bytes. Raises RemoteProtocolError if there is no credit."""
        if self._credit <= 0:
            raise RemoteProtocolError("PART without credit")
        self._credit -= cost(size)
        self.count += 1

    def note_processed(self, size: int) -> int:
        """Note that a part was processed; return the credit to grant now, or 0."""
        self._processed += cost(size)
        if self._processed < self._step:
            return 0
        granted = min(self._processed, MAX_CREDIT)
        self._processed -= granted
        self._credit += granted
        return granted
