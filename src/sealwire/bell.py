"""Wakes one thread that waits, from anywhere.

An Event has a lock in Python. A signal handler that interrupts the thread which holds it would wait for it for ever,
and so would a child forked meanwhile.
"""

from __future__ import annotations

import threading
from contextlib import suppress


class Bell:
    """A bell that one thread waits for."""

    def __init__(self) -> None:
        self._rung = threading.Lock()
        """Released when the bell rings."""
        self._rung.acquire()

    def ring(self) -> None:
        """Wake the thread that waits, or else the next one."""
        if self._rung.locked():
            with suppress(RuntimeError):  # another thread was faster
                self._rung.release()

    def wait(self, seconds: float) -> bool:
        """Wait until the bell rings; return False if it has not done so in time."""
        return self._rung.acquire(timeout=max(0.0, seconds))
