"""Reads from connections while their handlers are at work, to record when their next requests arrive.

A synchronous server serves a connection in one thread, which reads nothing while it runs the handler. A request that
comes meanwhile waits in the kernel, which does not record its arrival time. Its client's wait counts from the arrival,
however, and a request must not run after its client has given up (docs/protocol.md, section 2).

Each server therefore has one thread that checks its connections every TICK seconds. If a handler has been at work for
longer than TICK, the thread reads the connection's input, one buffer at most, and records the time. Faster handlers are
not affected. The longer a handler has been at work, the less often its connection is checked, so that many slow
handlers do not keep the thread busy. It parks when no handler has been at work for a while, and starts again with the
next request.

A connection belongs to one thread at a time. Its lock is held while it passes from the handler's thread to this one and
back.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Final, Protocol

TICK: Final = 0.01
"""Seconds between two checks, which is the resolution of a request's wait."""
_IDLE_TICKS: Final = 100
"""Checks without any handler at work after which the thread parks."""


class Readable(Protocol):
    """A connection that can be read from while its handler is at work."""

    def is_working(self) -> bool:
        """Return True if a handler is at work on a request of the connection."""

    def read_ahead(self, now: float) -> None:
        """Read the input that has arrived, if the handler has been at work for longer than TICK."""


class ReadAhead:
    """The reading thread of one server, started when the first handler is at work."""

    def __init__(self) -> None:
        self._connections: dict[Readable, None] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.parked = True
        """True if :meth:`start` must be called when a handler starts."""

    def add(self, connection: Readable) -> None:
        """Check a connection from now on."""
        self._connections[connection] = None

    def remove(self, connection: Readable) -> None:
        """Stop checking a connection."""
        self._connections.pop(connection, None)

    def start(self) -> None:
        """Start or wake the thread.

        If the system has no threads left, requests count from the time at which the handler's thread reads them.
        """
        with self._lock:
            # The thread must find both set: otherwise a slow caller wakes it again just after it has parked.
            self.parked = False
            self._wake.set()
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name="sealwire read-ahead", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    self.parked = True
                    return
                self._thread = thread

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        idle_ticks = 0
        while not self._closed:
            if idle_ticks < _IDLE_TICKS:
                self._wake.wait(TICK)
            elif self.parked:
                self._wake.wait()
                idle_ticks = 0
            else:
                # Check once more before waiting: a handler that started before it could see `parked` is found then.
                self.parked = True
                idle_ticks -= 1
            self._wake.clear()
            idle_ticks = 0 if self._check_all() else idle_ticks + 1

    def _check_all(self) -> bool:
        """Check all connections; return True if a handler is at work on one. Afterwards this thread holds none."""
        now = monotonic()
        working = False
        for connection in list(self._connections):
            if connection.is_working():
                working = True
                connection.read_ahead(now)
        return working
