"""The parent's table of workers, with their states, restarts and deadlines.

========  ===================  =====================================================================================
state     begins with          and then
========  ===================  =====================================================================================
STARTING  fork                 READY makes it SERVING
SERVING   READY                it runs until it asks for a successor, exits, or the server shuts down
OUTGOING  REPLACE received     it still accepts; when its successor is READY, the parent sends REPLACED
DRAINING  REPLACED, DRAIN      it must exit within Limits.drain_timeout and EXIT_MARGIN, or the parent kills it
========  ===================  =====================================================================================

A worker that exits while STARTING or SERVING has failed and is started again, after a growing pause if it lived for
less than five seconds. If it was a successor, its replacement takes over the duty to dismiss the outgoing worker. At
most as many workers drain as serve; beyond that an outgoing worker goes on serving.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from enum import Enum, auto
from time import monotonic
from typing import Final

from sealwire.backoff import Backoff
from sealwire.events import emit
from sealwire.prefork.link import EXIT_MARGIN, Message, send

_CRASH_SECONDS: Final = 5.0
"""A worker that exits sooner delays its replacement, so that a crash loop does not use up the processor."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_CROWDED_PAUSE: Final = 0.05
"""Seconds until a successor is tried again that would have been one process too many."""
_REAP_PAUSE: Final = 0.01
"""Seconds between two calls of waitpid for a process that has closed its link."""
_MESSAGES: Final = {message[0]: message for message in Message}


class WorkerState(Enum):
    """A worker's stage of life; see the head of the module."""

    STARTING = auto()
    SERVING = auto()
    OUTGOING = auto()
    DRAINING = auto()


class WorkerProcess:
    """A worker, seen from its parent."""

    def __init__(self, pid: int, link: socket.socket, replaces: WorkerProcess | None, index: int = 0) -> None:
        self.pid = pid
        self.index = index
        """The worker's number in the bounds that all of them share."""
        self.link = link
        self.replaces = replaces
        """The outgoing worker to dismiss when this one is ready."""
        self.started = monotonic()
        self.state = WorkerState.STARTING
        self.connected = True
        """False as soon as the worker has closed its end of the link, which it does by exiting."""
        self.reloads_pending = 0
        """RELOAD messages that the worker has not answered."""
        self.reload_ok = True
        """The worker's last answer to RELOAD."""
        self.deadline = math.inf
        """The time at which the worker is killed."""

    def receive(self) -> list[Message]:
        """Return the messages that have arrived; other bytes are ignored."""
        try:
            received = self.link.recv(100)
        except OSError:
            received = b""
        self.connected = bool(received)
        return [_MESSAGES[byte] for byte in received if byte in _MESSAGES]

    def dismiss(self, message: Message, drain_timeout: float) -> None:
        """Send REPLACED or DRAIN, and start the time within which the worker must exit."""
        send(self.link, message)
        self.state = WorkerState.DRAINING
        self.deadline = min(self.deadline, monotonic() + drain_timeout + EXIT_MARGIN)


class WorkerTable:
    """The workers that run, and those that will be started, so that ``size`` of them serve."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._workers: dict[int, WorkerProcess] = {}
        self._scheduled: list[tuple[float, WorkerProcess | None]] = []
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self.on_failure: Callable[[], object] = lambda: None
        """Called for each worker that has ended of itself."""

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(list(self._workers.values()))

    @property
    def pids(self) -> set[int]:
        """The process ids of all workers."""
        return set(self._workers)

    @property
    def indices(self) -> set[int]:
        """The numbers of all workers in the bounds that they share."""
        return {worker.index for worker in self}

    @property
    def complete(self) -> bool:
        """True if all workers were started and none is still starting."""
        return len(self._workers) >= self._size and all(each.state is not WorkerState.STARTING for each in self)

    def clear(self) -> None:
        """Forget all workers, in a forked child that is not their parent."""
        self._workers, self._scheduled = {}, []

    def add(self, worker: WorkerProcess) -> None:
        """Add a worker that was just forked."""
        self._workers[worker.pid] = worker

    # Starts

    def schedule_all(self) -> None:
        """Schedule the first start of every worker."""
        self._scheduled = [(monotonic(), None)] * self._size

    def schedule(self, replaces: WorkerProcess | None) -> None:
        """Schedule the start of a worker for now."""
        self._scheduled.append((monotonic(), replaces))

    def schedule_later(self, replaces: WorkerProcess | None) -> float:
        """Schedule the start of a worker after a pause, which doubles each time; return its seconds."""
        pause = self._backoff.next()
        self._scheduled.append((monotonic() + pause, replaces))
        return pause

    def cancel_scheduled(self) -> None:
        """Start no more workers."""
        self._scheduled = []

    def take_due(self) -> Iterator[WorkerProcess | None]:
        """Yield, for every worker to start now, the worker that it replaces."""
        now = monotonic()
        due = [replaces for moment, replaces in self._scheduled if moment <= now]
        self._scheduled = [each for each in self._scheduled if each[0] > now]
        for replaces in due:
            if replaces is not None and replaces.pid in self._workers and len(self._workers) >= 2 * self._size:
                # The outgoing worker serves on while as many drain as serve. This bounds the number of processes
                # however fast the workers reach their limits.
                self._scheduled.append((now + _CROWDED_PAUSE, replaces))
            else:
                yield replaces

    def seconds_to_wait(self, longest: float) -> float:
        """Return how long the parent may wait for messages, at most ``longest`` seconds."""
        next_start = min((moment for moment, _ in self._scheduled), default=math.inf) - monotonic()
        exiting = not all(worker.connected for worker in self)
        return max(0.0, min(longest, next_start, _REAP_PAUSE if exiting else longest))

    # Exits

    def reap(self, *, restart: bool) -> None:
        """Remove the workers that have exited, and kill those that are past their deadlines.

        With ``restart``, schedule a replacement for each that exited without being dismissed.
        """
        for worker in self:
            try:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = worker.pid, 0  # other code in this process has waited for the child
            if pid != 0:
                self._remove(worker, os.waitstatus_to_exitcode(status), restart=restart)
            elif monotonic() >= worker.deadline:
                worker.deadline = math.inf
                emit("worker.exited", f"worker {worker.pid} did not exit in time; killing it", worker=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

    def _remove(self, worker: WorkerProcess, code: int, *, restart: bool) -> None:
        del self._workers[worker.pid]
        worker.link.close()
        expected = not restart or worker.state in (WorkerState.OUTGOING, WorkerState.DRAINING)
        level = logging.DEBUG if expected and code == 0 else logging.ERROR
        how = _describe_exit(code)
        emit("worker.exited", f"worker {worker.pid} exited ({how})", level=level, worker=worker.pid, how=how)
        if expected:
            return  # the successor of an outgoing worker was scheduled when the worker asked for it
        self.on_failure()
        if monotonic() - worker.started >= _CRASH_SECONDS:
            self._backoff.reset()
            self.schedule(worker.replaces)
        else:
            self.schedule_later(worker.replaces)


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # real-time signals have no names
        return f"signal {-code}"
