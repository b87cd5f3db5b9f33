"""The bounds that all processes of a pre-fork server have together, in memory that they share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sealwire.computing import DecodingCells
from sealwire.limits import Limits
from sealwire.rates import rates_for
from sealwire.server_events import SharedEvents
from sealwire.session.common_use import CommonUse
from sealwire.session.shared import Cells

_GENERATIONS: Final = 4
"""Processes for which there are numbers, as a multiple of those that serve: some drain, and some are starting."""


class SharedBounds:
    """The bounds that the processes of a server have together. Made before the first of them is forked.

    Args:
        limits: The limits of the server.
        processes: Number of processes that serve at a time. While some are replaced there may be more.

    Attributes:
        held: The bytes that the connections of each process hold.
        decoding: The bytes that each process needs for decoding.
        rates: The requests of each identity; None without a bound.
        use: What the peers use of the processors.
        events: What they count and limit in the log. The last row is the parent's.
    """

    def __init__(self, limits: Limits, processes: int) -> None:
        self.processes = processes
        self.held = Cells(_GENERATIONS * processes)
        self.decoding = DecodingCells(_GENERATIONS * processes)
        self.rates = rates_for(limits)
        self.use = CommonUse()
        self.events = SharedEvents(_GENERATIONS * processes + 1)
        self.events.counters.used = _GENERATIONS * processes + 1

    def free_index(self, used: Collection[int]) -> int:
        """Return a number for a new process, given those of the present ones."""
        return min(set(range(len(self.held))).difference(used), default=0)

    def clear_others(self, used: Collection[int]) -> None:
        """Forget the holdings of processes that have ended."""
        self.held.clear_others(used)
        self.decoding.clear_others(used)
