"""The worker's side: its process, what it does as its parent says, and when it asks for replacement.

If the parent is killed, each worker sees the end of its link and drains as for DRAIN. A worker reads its link in a
thread and sets a kernel timer before it drains, so even one whose event loop is blocked ends in time.
"""

from __future__ import annotations

import logging
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from random import SystemRandom
from typing import Final, NoReturn

from sealwire.events import emit
from sealwire.failures import error_location
from sealwire.fork import ClosedInChildren, flush_output, take_signals
from sealwire.prefork.link import EXIT_MARGIN, Message, send

_MEMORY_CHECK: Final = 1.0
"""Seconds between two checks of the memory in use."""
_JITTER: Final = 0.1
"""The largest part of max_requests to leave out at random, so that workers are not all replaced at once."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def run_worker(
    serve: Callable[[socket.socket, RestartPolicy], None],
    link: socket.socket,
    *,
    inherited: Iterable[socket.socket],
    blocked: set[int],
    max_requests: int | None,
    max_memory: int | None,
) -> NoReturn:
    """Call ``serve`` in a freshly forked worker with its link to the parent and a restart policy; exit when it returns.

    Sockets ``inherited`` from the parent are closed first. The policy's ``max_requests`` varies by a tenth.
    """
    status = 1
    _held = ClosedInChildren(link)  # or a helper process of a handler would hide this process's end from the parent
    try:
        for sock in inherited:
            sock.close()
        take_signals(blocked)
        if max_requests is not None:
            max_requests -= int(max_requests * _JITTER * SystemRandom().random())
        serve(link, RestartPolicy(max_requests, max_memory, lambda: send(link, Message.REPLACE)))
        status = 0
    except BaseException as error:
        place = error_location(error)
        emit("worker.failed", f"worker {os.getpid()} failed: {place}", worker=os.getpid(), place=place)
        emit("worker.failed", "worker failed", level=logging.DEBUG, error=error, worker=os.getpid())
    finally:
        with suppress(Exception):
            logging.shutdown()
        flush_output()
        os._exit(status)


def follow_parent(
    link: socket.socket,
    policy: RestartPolicy,
    *,
    reload: Callable[[], bool],
    leave: Callable[[bool], None],
    drain_timeout: float,
) -> None:
    """Tell the parent that this worker is ready, and follow the parent's messages in a thread.

    To end the worker, the thread calls ``leave``, with True if a successor accepts connections already. A timer of the
    kernel ends the process after ``drain_timeout`` and EXIT_MARGIN at the latest. SIGTERM makes the worker ask for
    replacement.
    """

    def follow() -> None:
        message = None
        try:
            while (message := _receive(link, policy)) is Message.RELOAD:
                answer = Message.RELOADED if reload() else Message.RELOAD_REJECTED
                policy.publish()
                send(link, answer)
        finally:
            signal.setitimer(signal.ITIMER_REAL, drain_timeout + EXIT_MARGIN)
            leave(message is Message.REPLACED)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # A separate thread runs whatever the server is busy with, even a coroutine that never gives back the event loop.
    threading.Thread(target=follow, name="sealwire parent", daemon=True).start()
    send(link, Message.READY)
    signal.signal(signal.SIGTERM, lambda *_: send(link, Message.REPLACE))


def _receive(link: socket.socket, policy: RestartPolicy) -> Message | None:
    """Return the parent's next message, or None when the parent is gone."""
    readable = select.poll()
    readable.register(link, select.POLLIN)
    while not readable.poll(_MEMORY_CHECK * 1000):
        policy.check()
        policy.publish()
    try:
        message = link.recv(1)
    except OSError:  # the parent was killed before it had read all of our messages
        return None
    return Message(message) if message else None


class RestartPolicy:
    """Calls ``on_limit`` once, after ``max_requests`` requests or at ``max_memory`` resident bytes (None: no limit)."""

    def __init__(self, max_requests: int | None, max_memory: int | None, on_limit: Callable[[], object]) -> None:
        self._max_requests = max_requests
        self._max_memory = max_memory
        self._on_limit: Callable[[], object] | None = on_limit
        self._requests = 0
        self._lock = threading.Lock()
        self.publish: Callable[[], object] = lambda: None
        """Called about once a second, for reports to the parent."""

    def count_request(self) -> None:
        """Count a request that is passed to a handler."""
        with self._lock:
            self._requests += 1
            reached = self._requests == self._max_requests
        if reached:
            self._trigger()

    def check(self) -> None:
        """Compare the memory in use with its limit."""
        if self._max_memory is not None and resident_memory() >= self._max_memory:
            self._trigger()

    def _trigger(self) -> None:
        with self._lock:
            on_limit, self._on_limit = self._on_limit, None
        if on_limit is not None:
            on_limit()


def resident_memory() -> int:
    """Return the bytes of resident memory of this process; without /proc, the highest number so far."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest if sys.platform == "darwin" else highest * 1024
