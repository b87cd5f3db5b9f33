"""Tells which peers use more than their share of a processor, and for how long those pause; without I/O or a clock.

A peer that has work at all times leaves the processor to nobody: each request of another one then waits for the
operating system's scheduler and for the interpreter's lock, for milliseconds, although it needs a tenth of one. So a
peer that has used more than an equal part lately pauses after each turn, PAUSE times as long as that took. Its work is
cut into short pieces with room for others between them, and as its replies come later, its own process has to wait,
too. A peer that is alone has all there is, and so is never over its share; one that had nothing to do for a moment has
left the processor to others anyway, and owes no pause.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sealwire.session.common_use import CommonUse

PAUSE: Final = 2.0
"""Seconds of a pause for each second of the turn before it."""
LONGEST: Final = 0.005
"""Seconds of a pause, at most: what a thread that pauses cannot notice has to wait for so long."""
WINDOW: Final = 0.1
"""Seconds after which what was used until then counts half."""
FORGOTTEN: Final = 0.000_001
"""Seconds of use that do not count any more."""


class Shares:
    """The processor time that each of several active peers has used lately.

    Threads call it without a lock: an amount that is lost now and then does no harm.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin without any use, as in a process that was just forked."""
        self._used: dict[Hashable, float] = {}
        self._total = 0.0
        self._window_end = 0.0
        self._pauses: dict[Hashable, float] = {}
        self.common: CommonUse | None = None
        """What is used in all processes of a server; None if it has only this one."""

    def use(self, key: Hashable, seconds: float, now: float) -> None:
        """Note that a peer has used the processor; it may have to pause from now on."""
        if now >= self._window_end:
            self._age(now)
        used = self._used[key] = self._used.get(key, 0.0) + seconds
        self._total += seconds
        if used * len(self._used) > self._total:
            end = max(now, self._pauses.get(key, 0.0)) + PAUSE * seconds
            self._pauses[key] = min(end, now + LONGEST)
        if self.common is not None:
            self.common.use(key, seconds, now)

    def pause(self, key: Hashable, now: float, grain: float) -> float:
        """Return the seconds for which a peer has to pause; 0 for less than the ``grain`` of the caller's timers."""
        pause = self._pauses.get(key, 0.0) - now
        if self.common is not None:
            pause = max(pause, self.common.pause(key, now))
        return pause if pause >= grain else 0.0

    def forgive(self, key: Hashable, now: float) -> None:
        """Note that a peer had nothing to do for a moment."""
        self._pauses.pop(key, None)
        if self.common is not None:
            self.common.forgive(key, now)

    def _age(self, now: float) -> None:
        """Let what was used count less, and forget peers that are silent and pauses that are over."""
        halvings = 1 + int((now - self._window_end) / WINDOW)
        self._window_end = now + WINDOW
        factor = 0.5**halvings
        # Copied first, in one step of the interpreter: other threads may add to them.
        used = [(key, seconds * factor) for key, seconds in list(self._used.items())]
        self._used = {key: seconds for key, seconds in used if seconds > FORGOTTEN}
        self._total = sum(self._used.values())
        self._pauses = {key: end for key, end in list(self._pauses.items()) if end > now}
