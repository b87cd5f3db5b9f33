"""The life of a server: its loop runs at most once at a time, is stopped from anywhere, and ends before it is closed.

``shutdown`` and ``server_close`` may come from another thread, from a handler, from a signal handler that interrupts
the loop, twice, or when no loop runs. In the loop's own thread, and in those of handlers, they must not wait for the
loop, since it waits for them. There the call only leaves its mark, and the loop does the rest when it ends.

The lock is reentrant, because a signal handler may interrupt the thread that holds it. It is taken by ``with lock``,
and not by ``with`` the condition, which has a step in Python: a signal handler's exception there would leave it taken.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sealwire.errors import InvalidState


class LifeCycle:
    """The state of one server's loop.

    Attributes:
        stopping: True from :meth:`stop` to the end of the loop, or of the next one if none runs now.
        closing: True from :meth:`close` on.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._loop: object = None
        self._thread: threading.Thread | None = None
        self._runs = 0
        self.stopping = False
        self.closing = False

    @property
    def serving(self) -> bool:
        """True while a loop runs, including its draining."""
        return self._thread is not None

    @contextmanager
    def run(self) -> Iterator[None]:
        """Surround the loop and its draining. Raises InvalidState if the server is closed, or serves already."""
        loop = object()
        try:
            self._begin(loop)
            yield
        finally:
            try:
                self._end(loop)
            finally:
                self._end(loop)  # a signal handler's exception may have ended the first one

    def _begin(self, loop: object) -> None:
        with self._lock:
            if self.closing:
                raise InvalidState("this server is closed; make a new one, also in a child of the process that serves")
            if self._loop is not None:
                raise InvalidState("this server serves already; one serve_forever or handle_request at a time")
            self._loop = loop
            self._thread = threading.current_thread()

    def _end(self, loop: object) -> None:
        with self._lock:
            if self._loop is loop:
                self._thread, self.stopping = None, False
                self._runs += 1
                self._ended.notify_all()
                self._loop = None

    def stop(self) -> None:
        """Ask the loop to end; the next one, if none runs now."""
        self.stopping = True

    def close(self) -> None:
        """Ask the loop to end, and its server to be closed then."""
        self.closing = self.stopping = True

    def wait(self, *, in_handler: bool) -> bool:
        """Wait until the present loop has ended; return False at once in the loop's own thread or ``in_handler``."""
        with self._lock:
            if self._thread is not None and (in_handler or self._thread is threading.current_thread()):
                return False
            present = self._runs
            self._ended.wait_for(lambda: self._thread is None or self._runs != present)
            return True
