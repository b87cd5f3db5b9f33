"""Pauses the garbage collector during a long computation, and leaves the program's own settings alone.

The collector's first threshold says after how many new objects it runs. A pause sets it out of reach; ``gc.disable``
and ``gc.enable`` are the program's, which may call them meanwhile. A threshold that the program sets meanwhile stays.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NEVER: Final = 0x7FFF_5EA1
"""The threshold of a pause: more objects than a process has, and a number that no program chooses."""


class CollectorPause:
    """Pauses the garbage collector for one computation at a time.

    Those that begin meanwhile do not prolong that, so that it runs now and then, however many there are.
    """

    def __init__(self) -> None:
        self._thresholds = gc.get_threshold()
        self.reset()

    def reset(self) -> None:
        """Begin without a pause, as in a process that was just forked."""
        self._lock = threading.Lock()
        self._computation: object = None
        self._resume()

    def begin(self, computation: object) -> None:
        """Pause the collector for a computation, unless it is paused for another one."""
        with self._lock:
            if self._computation is None:
                self._resume()  # a program may have set again what it read during a pause
                self._computation = computation
                self._thresholds = gc.get_threshold()
                gc.set_threshold(NEVER, *self._thresholds[1:])

    def end(self, computation: object) -> None:
        """End the pause for a computation. Without effect if there is none, as when this is called again."""
        with self._lock:
            if self._computation is computation:
                self._resume()
                self._computation = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Surround a computation."""
        computation = object()
        try:
            self.begin(computation)
            yield
        finally:
            self.end(computation)

    def _resume(self) -> None:
        if gc.get_threshold()[0] == NEVER:
            gc.set_threshold(*self._thresholds)


collector: Final = CollectorPause()
os.register_at_fork(after_in_child=collector.reset)
