"""A server of several processes: made beforehand, watched over, replaced when they end.

They share one listening socket, which the parent opens and never accepts on. A connection that waits belongs to
whichever worker is free: with a socket for each of them (SO_REUSEPORT), those waiting at a worker that ends would be
reset. Everything else is a worker's own: connections, keys in use, sequence numbers, and the bounds in Limits.

Parent and worker talk over a socket pair, one byte at a time. Its end says to a worker that the parent is gone.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom
from time import monotonic
from types import TracebackType
from typing import Any, Final, Literal, Self

from sealwire.errors import ConfigurationError
from sealwire.handler import handler_class, place_of
from sealwire.listening import is_local, listen
from sealwire.security import Security
from sealwire.server import ThreadingTCPServer
from sealwire.worker import (
    DRAIN,
    MARGIN,
    NOT_RELOADED,
    READY,
    RELOAD,
    RELOADED,
    RETIRE,
    Recycling,
    flush_output,
    say,
    signals_held,
    start_obeying,
    take_signals,
)

logger = logging.getLogger("sealwire.server")

_QUICK_DEATH: Final = 5.0
"""Who lives less than so many seconds has the next one wait."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_POLL: Final = 0.05
_REAP: Final = 0.01
"""Seconds between two looks for a process of which nothing is missing but its end."""
_JITTER: Final = 0.1
_random = SystemRandom()


class _Worker:
    """One process, as the parent sees it.

    retires: whose place it takes, who drains when it is ready. looking: RELOADs to which it has not said what became of
    them; good: what it said last. deadline: until when it has to end.
    """

    def __init__(self, pid: int, link: socket.socket, retires: _Worker | None) -> None:
        self.pid = pid
        self.link = link
        self.born = monotonic()
        self.retires = retires
        self.ready = False
        self.retiring = False
        self.open = True
        self.looking = 0
        self.good = True
        self.deadline = math.inf


class PreforkTCPServer:
    """Serves connections in ``workers`` processes, each with threads or an event loop in it.

    server_address, RequestHandlerClass, security: as for TCPServer, or with loop="asyncio" as for AsyncTCPServer.
    workers: processes (default: one for each processor). max_requests: requests after which a worker is replaced, up to
    a tenth fewer so that they do not all go at once. max_memory: bytes of memory (resident) from which on it is; looked
    at every second. listener: a socket that listens already, instead of server_address.

    ``serve_forever`` forks, so it belongs into the main thread, before there are others. A worker that ends is
    replaced. At ``shutdown`` all finish the requests in hand, at most for Limits.drain_timeout. The bounds in Limits
    are those of each worker. Raises ConfigurationError, TransportError.
    """

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Any,  # noqa: N803 - socketserver's name
        security: Security,
        *,
        workers: int | None = None,
        loop: Literal["threads", "asyncio"] = "threads",
        max_requests: int | None = None,
        max_memory: int | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        if not isinstance(security, Security):
            raise ConfigurationError("a server needs a Security; see Security.from_files and Security.from_toml")
        security.check_server(local=is_local(listener))
        if loop not in ("threads", "asyncio"):
            raise ConfigurationError("loop must be 'threads' or 'asyncio'")
        for name, value in (("workers", workers), ("max_requests", max_requests), ("max_memory", max_memory)):
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigurationError(f"{name} must be a whole number above 0")
        self.security = security
        self.RequestHandlerClass = handler_class(RequestHandlerClass, coroutines=loop == "asyncio")
        self._count = workers or os.cpu_count() or 1
        self._loop = loop
        self._max_requests = max_requests
        self._max_memory = max_memory
        self._workers: dict[int, _Worker] = {}
        self._births: list[tuple[float, _Worker | None]] = []
        self._reloading = False
        self._reloaded = True
        self._pause = 0.0
        self._leaving = False
        self._drained = threading.Event()
        self._drained.set()
        self.on_ready: Callable[[], None] = lambda: None
        """Called once, when all workers serve."""
        self.on_reload: Callable[[bool], None] = lambda _: None
        """Called when all have looked at their files: whether what these hold is in service everywhere."""
        self.on_leave: Callable[[], None] = lambda: None
        """Called when it is to leave, before it drains."""
        self.socket = listen(server_address) if listener is None else listener
        # Several processes see a connection, and one gets it.
        self.socket.setblocking(False)
        self.server_address: Any = self.socket.getsockname()
        self._called, self._call = socket.socketpair()
        self._call.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server_close()

    @property
    def active_children(self) -> set[int]:
        """The workers' process ids."""
        return set(self._workers)

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until shutdown or an exception, then drain. poll_interval: seconds between two looks for workers that
        have ended without a word.
        """
        self._drained.clear()
        try:
            self._births = [(monotonic(), None)] * self._count
            while not self._leaving:
                self._bear()
                self._listen_to_workers(self._pause_until_birth(poll_interval))
                self._reap()
                self._look_whether_all_have_looked()
            self.on_leave()
        finally:
            try:
                self._drain()
            finally:
                self._drained.set()

    def shutdown(self) -> None:
        """Stop serve_forever, from another thread; returns when all workers have drained and ended."""
        self.leave()
        self._drained.wait()

    def leave(self) -> None:
        """The same without waiting for it, as in a signal handler."""
        self._leaving = True
        self._wake(DRAIN)

    def reload(self) -> None:
        """Have all look at the files of certificates and keys now; the log says what becomes of it."""
        self._wake(RELOAD)

    def server_close(self) -> None:
        """Stop listening, drain, and release everything."""
        self.socket.close()
        self._drain()
        self._called.close()
        self._call.close()

    # The parent

    def _wake(self, word: bytes) -> None:
        with suppress(OSError):
            self._call.send(word)

    def _pause_until_birth(self, most: float) -> float:
        soon = min((moment for moment, _ in self._births), default=math.inf) - monotonic()
        ending = any(not each.open for each in self._workers.values())
        return max(0.0, min(most, soon, _REAP if ending else most))

    def _bear(self) -> None:
        """Start those whose time has come."""
        now = monotonic()
        due = [each for each in self._births if each[0] <= now]
        self._births = [each for each in self._births if each[0] > now]
        for _, retires in due:
            if retires is not None and retires.pid in self._workers and len(self._workers) >= 2 * self._count:
                # It serves on until those that drain are fewer: however quickly workers serve their time, the number of
                # processes has a bound.
                self._births.append((now + _POLL, retires))
            else:
                self._start(retires)

    def _start(self, retires: _Worker | None) -> None:
        self.security.refresh()
        flush_output()
        try:
            with signals_held() as blocked:
                if self._leaving:
                    return
                here, there = socket.socketpair()
                with there:
                    try:
                        pid = os.fork()
                    except BaseException:
                        here.close()
                        raise
                    if pid == 0:
                        self._work(here, there, blocked)
                here.setblocking(False)
                self._workers[pid] = _Worker(pid, here, retires)
        except OSError as error:
            logger.error("cannot start a worker: %s", error.strerror)
            self._bear_later(retires)

    def _bear_later(self, retires: _Worker | None) -> None:
        self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
        self._births.append((monotonic() + self._pause, retires))

    def _listen_to_workers(self, seconds: float) -> None:
        waiting = select.poll()
        waiting.register(self._called, select.POLLIN)
        links = {each.link.fileno(): each for each in self._workers.values() if each.open}
        for descriptor in links:
            waiting.register(descriptor, select.POLLIN)
        for descriptor, _ in waiting.poll(seconds * 1000):
            if descriptor == self._called.fileno():
                if RELOAD in self._called.recv(100):
                    self._reload_all()
            else:
                self._heard(links[descriptor])

    def _heard(self, worker: _Worker) -> None:
        try:
            words = worker.link.recv(100)
        except OSError:
            words = b""
        worker.open = bool(words)
        for word in words:
            self._obey(worker, bytes((word,)))

    def _obey(self, worker: _Worker, word: bytes) -> None:
        if word == READY:
            worker.ready = True
            retires, worker.retires = worker.retires, None
            if retires is not None:
                self._dismiss(retires, RETIRE)
            all_serve = len(self._workers) >= self._count and all(each.ready for each in self._workers.values())
            if all_serve and not self._leaving:
                on_ready, self.on_ready = self.on_ready, lambda: None
                on_ready()
        elif word == RETIRE and not worker.retiring and not self._leaving:
            worker.retiring = True
            logger.info("worker %d has served its time; another one takes its place", worker.pid)
            self._births.append((monotonic(), worker))
        elif word in (RELOADED, NOT_RELOADED):
            worker.looking -= 1
            worker.good = word == RELOADED
            if not worker.good:
                logger.error("worker %d does not take what the files hold; its log says why", worker.pid)

    def _dismiss(self, worker: _Worker, word: bytes) -> None:
        say(worker.link, word)
        worker.deadline = min(worker.deadline, monotonic() + self.security.limits.drain_timeout + MARGIN)

    def _reload_all(self) -> None:
        if self._leaving:
            return
        self._reloaded = self.security.reload()
        self._reloading = True
        for worker in self._workers.values():
            if worker.deadline == math.inf:  # the others listen no more
                worker.looking += say(worker.link, RELOAD)

    def _look_whether_all_have_looked(self) -> None:
        if self._reloading and not any(each.looking for each in self._workers.values()):
            self._reloading = False
            self.on_reload(self._reloaded and all(each.good for each in self._workers.values()))

    def _reap(self) -> None:
        """Those that have ended; others take their places."""
        for worker in list(self._workers.values()):
            try:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = worker.pid, 0  # somebody else has waited for it
            if pid != 0:
                self._has_ended(worker, os.waitstatus_to_exitcode(status))
            elif monotonic() >= worker.deadline:
                worker.deadline = math.inf
                logger.error("worker %d did not end in time, and is killed", worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

    def _has_ended(self, worker: _Worker, code: int) -> None:
        del self._workers[worker.pid]
        worker.link.close()
        dismissed = self._leaving or worker.retiring
        level = logging.DEBUG if dismissed and code == 0 else logging.ERROR
        logger.log(level, "worker %d has ended (%s)", worker.pid, _how(code))
        # Of one that retires the successor is there, or will be.
        if dismissed:
            return
        if monotonic() - worker.born >= _QUICK_DEATH:
            self._pause = 0.0
            self._births.append((monotonic(), worker.retires))
        else:
            self._bear_later(worker.retires)

    def _drain(self) -> None:
        self._leaving = True
        self._births = []
        for worker in self._workers.values():
            self._dismiss(worker, DRAIN)
        while self._workers:
            self._listen_to_workers(_POLL)
            self._reap()

    # A worker

    def _work(self, parents: socket.socket, link: socket.socket, blocked: set[int]) -> None:
        """Serve until told otherwise; never returns."""
        status = 1
        try:
            for other in (parents, self._called, self._call, *(each.link for each in self._workers.values())):
                other.close()
            take_signals(blocked)
            enough = self._max_requests
            if enough is not None:
                enough -= int(enough * _JITTER * _random.random())
            recycling = Recycling(enough, self._max_memory, lambda: say(link, RETIRE))
            if self._loop == "asyncio":
                from sealwire.aio.worker import work

                work(self.socket, self.RequestHandlerClass, self.security, link, recycling)
            else:
                _work_with_threads(self.socket, self.RequestHandlerClass, self.security, link, recycling)
            status = 0
        except BaseException as error:
            logger.error("worker %d: %s", os.getpid(), place_of(error))
            logger.debug("worker", exc_info=error)
        finally:
            with suppress(Exception):
                logging.shutdown()
            flush_output()
            os._exit(status)


def _work_with_threads(
    listener: socket.socket, handler: Any, security: Security, link: socket.socket, recycling: Recycling
) -> None:
    with ThreadingTCPServer(None, handler, security, listener=listener) as server:
        server.recycling = recycling

        def leave(replaced: bool) -> None:
            server.turns_away = not replaced
            server.shutdown()

        start_obeying(link, recycling, reload=server.reload, leave=leave, drain_timeout=security.limits.drain_timeout)
        server.serve_forever(poll_interval=_POLL)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # one of those for real time
        return f"signal {-code}"
