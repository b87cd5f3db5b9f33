"""Gives each peer a part of the time for work that its turns do not bound, while several peers are active.

What runs in a thread beside an event loop takes no turns: decoding a long message, or a handler that is an ordinary
function. Its processor time is known when it ends. So the next one of its peer begins later by a multiple of that, and
those that come at once are spaced by what the latest ones took.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from time import monotonic
from typing import Final

from sealwire.contention import activity

_BURST: Final = 0.005
"""Seconds of waiting that are not asked for, so that short work is not held up piece by piece."""
_LONGEST_PAUSE: Final = 1.0
_FORGETTING: Final = 0.9
"""The part of a peer's time for a unit that is kept if its next work took less."""
_PACED: Final = 1024
"""Peers from which on those that need not wait are forgotten."""


class _Pace:
    """The pace of one peer.

    Attributes:
        next: The moment at which its next work may begin.
        seconds_per_unit: The time for a unit of its work, as far as it is known.
    """

    __slots__ = ("next", "seconds_per_unit")

    def __init__(self) -> None:
        self.next = 0.0
        self.seconds_per_unit = 0.0


class Paces:
    """The paces of several peers.

    Args:
        spacing: While several are active, each has one part in so many of the time.
    """

    def __init__(self, spacing: int) -> None:
        self._spacing = spacing
        self._lock = threading.Lock()
        self._paces: dict[Hashable, _Pace] = {}

    def pause(self, key: Hashable, size: int) -> float:
        """Return the seconds to wait before a piece of work, so that the peer keeps to its part of the time.

        Args:
            key: The peer.
            size: Units of the work: bytes of a message, or 1.
        """
        now = monotonic()
        with self._lock:
            if now >= activity.until:
                self._paces.clear()
                return 0.0
            if len(self._paces) >= _PACED:
                self._paces = {each: pace for each, pace in self._paces.items() if pace.next > now}
            pace = self._paces.setdefault(key, _Pace())
            begin = max(now, pace.next)
            pace.next = begin + self._spacing * pace.seconds_per_unit * size
        wait = begin - now
        return min(wait, _LONGEST_PAUSE) if wait > _BURST else 0.0

    def note(self, key: Hashable, size: int, seconds: float) -> None:
        """Correct the peer's pace by the processor time that its work took."""
        with self._lock:
            pace = self._paces.get(key)
            if pace is not None:
                pace.next += self._spacing * (seconds - pace.seconds_per_unit * size)
                pace.seconds_per_unit = max(seconds / size, pace.seconds_per_unit * _FORGETTING)
