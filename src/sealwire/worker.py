"""What every worker process of PreforkTCPServer has: words with its parent, and an end of its time.

A word is one byte on a socket pair, whose end says that the other process is gone.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

READY: Final = b"r"
RETIRE: Final = b"x"
"""From a worker: another one should take its place. From the parent: it has."""
DRAIN: Final = b"d"
RELOAD: Final = b"l"
RELOADED: Final = b"+"
NOT_RELOADED: Final = b"-"

MARGIN: Final = 5.0
"""Seconds beyond Limits.drain_timeout until a worker that has not ended is killed."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_held() -> Iterator[set[int]]:
    """To fork in: a signal is neither the child's, who would do what its parent does then, nor does it come between the
    parent and its note of the child. Gives the signals that were blocked before.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_signals(blocked: set[int]) -> None:
    """In a child: a terminal's ^C and hang-up go to all processes, and the parent says what becomes of them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def flush_output() -> None:
    """What is in buffers would be written by both processes, or by none."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # None, closed, or nobody reads it
            stream.flush()


def say(link: socket.socket, word: bytes) -> bool:
    """To the other process, if it is still there; whether it is."""
    try:
        return link.send(word) == 1
    except OSError:
        return False


def start_obeying(
    link: socket.socket,
    recycling: Recycling,
    *,
    reload: Callable[[], bool],
    leave: Callable[[bool], None],
    drain_timeout: float,
) -> None:
    """Tell the parent that we serve, and do what it says until that is to leave, or it is gone.

    leave: is told whether another worker has taken our place. A process that has not ended some seconds after
    drain_timeout is ended by the kernel. SIGTERM means this worker alone: it leaves when another one has its place.
    """

    def obey() -> None:
        word = b""
        try:
            while (word := _heard(link, recycling)) == RELOAD:
                say(link, RELOADED if reload() else NOT_RELOADED)
        finally:
            signal.setitimer(signal.ITIMER_REAL, drain_timeout + MARGIN)
            leave(word == RETIRE)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # A thread of its own has its turn whatever the server is at, and be it a coroutine that never returns.
    threading.Thread(target=obey, name="sealwire parent", daemon=True).start()
    say(link, READY)
    signal.signal(signal.SIGTERM, lambda *_: say(link, RETIRE))


def _heard(link: socket.socket, recycling: Recycling) -> bytes:
    """The parent's next word; empty when it is gone."""
    waiting = select.poll()
    waiting.register(link, select.POLLIN)
    while not waiting.poll(recycling.interval * 1000):
        recycling.look()
    try:
        return link.recv(1)
    except OSError:  # it was killed before it had heard all that we said
        return b""


class Recycling:
    """When a worker has served its time. Calls ``retire`` once, when one of the two is reached; None: no matter.

    max_requests: requests handed to handlers. max_memory: bytes resident. interval: seconds between two looks at that.
    """

    interval: Final = 1.0

    def __init__(self, max_requests: int | None, max_memory: int | None, retire: Callable[[], object]) -> None:
        self._max_requests = max_requests
        self._max_memory = max_memory
        self._retire: Callable[[], object] | None = retire
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
