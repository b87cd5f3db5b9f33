"""The thread that sends a PING on connections without requests, for a client that asks for it.

Proxies and load balancers that end a connection without *data* take no notice of TCP's own keepalive. The thread runs
from a request until the client is closed, and does not keep the client alive.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import Final, Protocol

from sealwire.bell import Bell

PATIENCE: Final = 2.0
"""Seconds to wait for a PONG. A request may wait for it, and if it does not come, the connection is replaced."""


class Owner(Protocol):
    """A client with idle connections."""

    def ping_idle(self, seconds: float) -> None:
        """Send a PING on each connection that has been idle for ``seconds``."""


class KeepAlive:
    """Has a client's idle connections pinged.

    Args:
        owner: The client.
        seconds: Seconds without a request after which a PING is sent.
    """

    def __init__(self, owner: Owner, seconds: float) -> None:
        self._owner = weakref.ref(owner)
        self._seconds = seconds
        self._thread: threading.Thread | None = None
        self._stopped = Bell()

    def start(self) -> None:
        """Start the thread, unless it runs. Without threads left in the system, the next call tries again."""
        if self._thread is None or not self._thread.is_alive():  # in a forked child it is not
            # A thread that was stopped may not have noticed yet, so the next one has a bell of its own.
            self._stopped = Bell()
            thread = threading.Thread(target=self._run, args=[self._stopped], name="sealwire keepalive", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def stop(self) -> None:
        """End the thread."""
        self._thread = None
        self._stopped.ring()

    def _run(self, stopped: Bell) -> None:
        while not stopped.wait(self._seconds / 4):
            owner = self._owner()
            if owner is None:
                return
            owner.ping_idle(self._seconds)
            del owner
