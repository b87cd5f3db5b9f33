"""What every worker process of PreforkTCPServer has: words with its parent, and an end of its time.

A word is one byte on a socket pair, whose end says that the other process is gone.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

READY: Final = b"r"
RETIRE: Final = b"x"
"""From a worker: another one should take its place. From the parent: it has."""
DRAIN: Final = b"d"
RELOAD: Final = b"l"
RELOADED: Final = b"+"
NOT_RELOADED: Final = b"-"

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def say(link: socket.socket, word: bytes) -> None:
    """To the other process, if it is still there."""
    with suppress(OSError):
        link.send(word)


class Recycling:
    """When a worker has served its time. Calls ``retire`` once, when one of the two is reached; None: no matter.

    max_requests: requests handed to handlers. max_memory: bytes resident. interval: seconds between two looks at that.
    """

    interval: Final = 1.0

    def __init__(self, max_requests: int | None, max_memory: int | None, retire: Callable[[], None]) -> None:
        self._max_requests = max_requests
        self._max_memory = max_memory
        self._retire: Callable[[], None] | None = retire
        self._requests = 0
        self._lock = threading.Lock()

    def count(self) -> None:
        """One more request goes to a handler."""
        with self._lock:
            self._requests += 1
            enough = self._requests == self._max_requests
        if enough:
            self._enough()

    def look(self) -> None:
        """Look how much memory there is."""
        if self._max_memory is not None and resident() >= self._max_memory:
            self._enough()

    def _enough(self) -> None:
        with self._lock:
            retire, self._retire = self._retire, None
        if retire is not None:
            retire()


def resident() -> int:
    """Bytes of memory that this process has now; where the system does not say, the most that it has had."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
