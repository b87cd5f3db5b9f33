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
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom
from time import monotonic
from types import TracebackType
from typing import Any, Final, Literal, Self

from sealwire.errors import ConfigurationError
from sealwire.handler import handler_class, place_of
from sealwire.listening import listen
from sealwire.security import Security
from sealwire.server import ThreadingTCPServer
from sealwire.worker import DRAIN, NOT_RELOADED, READY, RELOAD, RELOADED, RETIRE, Recycling, say

logger = logging.getLogger("sealwire.server")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_QUICK_DEATH: Final = 5.0
"""Who lives less than so many seconds has the next one wait."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_MARGIN: Final = 5.0
"""Seconds beyond Limits.drain_timeout until a worker that has not ended is killed."""
_POLL: Final = 0.05
_JITTER: Final = 0.1
_random = SystemRandom()


class _Worker:
    """One process, as the parent sees it. retires: whose place it takes, who drains when it is ready."""

    def __init__(self, pid: int, link: socket.socket, retires: _Worker | None) -> None:
        self.pid = pid
        self.link = link
        self.born = monotonic()
        self.retires = retires
        self.ready = False
        self.retiring = False
        self.open = True

    def tell(self, word: bytes) -> None:
        with suppress(OSError):
            self.link.send(word)


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
        if listener is None or listener.family != socket.AF_UNIX:
            security.check_server()
        else:
            security.check_local()
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
        self._reloading: set[int] = set()
        self._reloaded = True
        self._pause = 0.0
        self._leaving = False
        self._drained = threading.Event()
        self._drained.set()
        self.on_ready: Callable[[], None] = lambda: None
        """Called once, when all workers serve."""
        self.on_reload: Callable[[bool], None] = lambda _: None
        """Called when all have looked at their files: whether what these hold is in service everywhere."""
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
                pause = min((moment for moment, _ in self._births), default=math.inf) - monotonic()
                self._listen_to_workers(min(poll_interval, max(0.0, pause)))
                self._reap()
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

    def _bear(self) -> None:
        """Start those whose time has come."""
        now = monotonic()
        due = [each for each in self._births if each[0] <= now]
        self._births = [each for each in self._births if each[0] > now]
        for _, retires in due:
            self._start(retires)

    def _start(self, retires: _Worker | None) -> None:
        self.security.refresh()
        here, there = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # What we do at a signal is not for the child to do.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                here.close()
                self._work(there, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        here.setblocking(False)
        self._workers[pid] = _Worker(pid, here, retires)

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
            if worker.retires is not None:
                worker.retires.tell(RETIRE)
            if len(self._workers) >= self._count and all(each.ready for each in self._workers.values()):
                on_ready, self.on_ready = self.on_ready, lambda: None
                on_ready()
        elif word == RETIRE and not worker.retiring and not self._leaving:
            worker.retiring = True
            logger.info("worker %d has served its time; another one takes its place", worker.pid)
            self._births.append((monotonic(), worker))
        elif word in (RELOADED, NOT_RELOADED):
            self._has_reloaded(worker.pid, word == RELOADED)

    def _reload_all(self) -> None:
        self._reloaded = self.security.reload()
        self._reloading = set(self._workers)
        for worker in self._workers.values():
            worker.tell(RELOAD)

    def _has_reloaded(self, pid: int, good: bool) -> None:
        if pid not in self._reloading:
            return
        self._reloading.discard(pid)
        self._reloaded &= good
        if not good:
            logger.error("worker %d does not take what the files hold; its log says why", pid)
        if not self._reloading:
            self.on_reload(self._reloaded)

    def _reap(self) -> None:
        """Those that have ended; others take their places."""
        for worker in list(self._workers.values()):
            try:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = worker.pid, 0  # somebody else has waited for it
            if pid == 0:
                continue
            del self._workers[worker.pid]
            worker.link.close()
            expected = self._leaving or worker.retiring
            code = os.waitstatus_to_exitcode(status)
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            logger.log(logging.DEBUG if expected else logging.ERROR, "worker %d has ended (%s)", worker.pid, how)
            self._has_reloaded(worker.pid, True)
            # Of one that retires the successor is there, or will be.
            if self._leaving or worker.retiring:
                continue
            lived = monotonic() - worker.born
            self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause)) if lived < _QUICK_DEATH else 0.0
            self._births.append((monotonic() + self._pause, worker.retires))

    def _drain(self) -> None:
        self._leaving = True
        self._births = []
        for worker in self._workers.values():
            worker.tell(DRAIN)
        deadline = monotonic() + self.security.limits.drain_timeout + _MARGIN
        while self._workers and monotonic() < deadline:
            self._listen_to_workers(_POLL)
            self._reap()
        for pid in list(self._workers):
            logger.error("worker %d did not end in time, and is killed", pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self._workers:
            self._listen_to_workers(_POLL)
            self._reap()

    # A worker

    def _work(self, link: socket.socket, mask: set[int]) -> None:
        """Serve until told otherwise; never returns."""
        status = 1
        try:
            self._called.close()
            self._call.close()
            for other in self._workers.values():
                other.link.close()
            # A terminal's ^C and hang-up go to all of us, and the parent says what becomes of it.
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
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
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


def _work_with_threads(
    listener: socket.socket, handler: Any, security: Security, link: socket.socket, recycling: Recycling
) -> None:
    with ThreadingTCPServer(None, handler, security, listener=listener) as server:
        server.recycling = recycling
        leaving = threading.Event()

        def leave(*_: Any) -> None:
            # In a thread of its own: shutdown waits for the loop, which this thread may run.
            if not leaving.is_set():
                leaving.set()
                threading.Thread(target=server.shutdown, daemon=True).start()

        def listen_to_parent() -> None:
            waiting = select.poll()
            waiting.register(link, select.POLLIN)
            while not leaving.is_set():
                if not waiting.poll(recycling.interval * 1000):
                    recycling.look()
                    continue
                word = link.recv(1)
                if word == RELOAD:
                    say(link, RELOADED if server.reload() else NOT_RELOADED)
                else:  # DRAIN, RETIRE, or the parent's end
                    server.turns_away = word != RETIRE
                    leave()

        signal.signal(signal.SIGTERM, leave)
        threading.Thread(target=listen_to_parent, daemon=True).start()
        say(link, READY)
        server.serve_forever(poll_interval=_POLL)
