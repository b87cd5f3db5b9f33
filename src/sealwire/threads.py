"""A pool of daemon threads for work that may block or take long.

concurrent.futures is not used because it waits for its threads at the end of the program, for ever if a handler never
returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from time import monotonic

from sealwire.errors import ConfigurationError
from sealwire.events import emit
from sealwire.session.round_robin import RoundRobin

_MAX_THREADS = 1024


class ThreadPool:
    """A thread pool. Threads are started when there is work for them.

    Args:
        max_threads: Number of threads, at most; 1 to 1024.
        name: Name of the threads, followed by a number.

    Raises:
        ConfigurationError: ``max_threads`` cannot be used.
    """

    def __init__(self, max_threads: object, name: str) -> None:
        if type(max_threads) is not int or not 1 <= max_threads <= _MAX_THREADS:
            raise ConfigurationError(f"workers must be a whole number of threads from 1 to {_MAX_THREADS}")
        self._max_threads = max_threads
        self._name = name
        self._jobs: RoundRobin[Callable[[], None]] = RoundRobin()
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        """True for each job, False for each thread that is to end."""
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._unfinished = 0

    def submit(self, job: Callable[[], None], key: Hashable = None) -> None:
        """Queue a function for a thread. The function must not raise. Functions of different keys take turns."""
        with self._lock:
            self._jobs.append(key, job)
            self._unfinished += 1
            short = self._unfinished > len(self._threads) < self._max_threads
        self._tokens.put(True)
        if short:
            try:
                self.start()
            except RuntimeError:  # the existing threads do the work, or one that is started later
                emit("server.busy", "cannot start another thread for handlers; lower `workers`")

    def start(self) -> None:
        """Start one thread. :meth:`submit` does this if necessary; call it before to have a thread for certain."""
        thread = threading.Thread(target=self._work, name=f"{self._name} {len(self._threads) + 1}", daemon=True)
        self._threads.append(thread)  # before it runs, so that a handler in it is known to be one
        try:
            thread.start()
        except RuntimeError:
            self._threads.remove(thread)
            raise

    def __contains__(self, thread: threading.Thread) -> bool:
        return thread in self._threads

    def stop(self) -> None:
        """Tell the threads to end after the queued jobs. Call :meth:`join` to wait for them."""
        for _ in self._threads:
            self._tokens.put(False)

    def is_alive(self) -> bool:
        """Return True if a thread has not ended."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, seconds: float) -> None:
        """Wait for the threads to end, for ``seconds`` at most. Threads that are still busy then are abandoned."""
        deadline = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        busy = sum(thread.is_alive() for thread in self._threads)
        if busy:
            emit("server.busy", f"{busy} handlers have not returned; their threads are abandoned", handlers=busy)
        self._threads.clear()

    def _work(self) -> None:
        while self._tokens.get():
            with self._lock:
                job = self._jobs.pop()
            job()
            with self._lock:
                self._unfinished -= 1
            del job
