"""A server of several processes: the parent forks workers, watches them and replaces those that end.

The workers share one listening socket, which the parent opens and never accepts on. A waiting connection goes to
whichever worker is free. With one socket per worker (SO_REUSEPORT), connections that wait at a worker when it exits
would be reset. Connections, keys in use, sequence numbers and the bounds in Limits belong to each worker alone, except
max_buffered, the memory of what is decoded, and max_requests_per_second, which all workers share.

:mod:`sealwire.prefork.link` has the messages between the parent and a worker, :mod:`sealwire.prefork.processes` the
states of a worker.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, Self

from sealwire.contract import contract_of
from sealwire.errors import ConfigurationError
from sealwire.events import emit
from sealwire.fork import flush_output, forking, leave_in_children, signals_held
from sealwire.life_cycle import LifeCycle
from sealwire.listeners import check_listener, is_unix, listen
from sealwire.metrics import FAMILIES
from sealwire.middleware.chain import Middleware
from sealwire.middleware.serving import Served
from sealwire.prefork.link import Message, send
from sealwire.prefork.processes import WorkerProcess, WorkerState, WorkerTable
from sealwire.prefork.worker import RestartPolicy, run_worker
from sealwire.report import Board, Statistics, process_report
from sealwire.security import Security
from sealwire.session.terms import check_security, check_server
from sealwire.shared_bounds import SharedBounds

MAX_WORKERS: Final = 4096
_DRAIN_POLL: Final = 0.05
"""Seconds between two checks for exited workers while the server drains."""


class PreforkTCPServer:
    """A server of several processes, each with threads or an event loop.

    A worker that exits is replaced. At ``shutdown`` all workers finish the requests in progress, for at most
    Limits.drain_timeout seconds. The bounds in Limits apply to each worker, max_buffered and max_requests_per_second to
    all of them together.

    ``serve_forever`` forks. Call it in the main thread, before there are other threads.

    Args:
        server_address: Host and port; port 0 picks a free one (see the attribute of that name).
        RequestHandlerClass: A handler class or function as for TCPServer, or with ``loop="asyncio"`` as for
            AsyncTCPServer.
        security: A Security with ``peers``.
        workers: The number of processes, at most 4,096; by default one for each processor.
        loop: ``"threads"`` (the default) for a thread per connection, or ``"asyncio"`` for an event loop, which is
            uvloop's if that is installed.
        max_requests: Requests after which a worker is replaced. Up to a tenth fewer, so that workers are not all
            replaced at once. By default there is no limit.
        max_memory: Resident bytes at which a worker is replaced, checked every second. By default there is no limit.
        listener: A listening socket to use instead of ``server_address``.
        middleware: As for TCPServer, or with ``loop="asyncio"`` as for AsyncTCPServer. Default: none.

    Raises:
        ConfigurationError: An argument is wrong, or ``security`` does not suit a server.
        TransportError: The server cannot listen on the address.
    """

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Any,
        security: Security,
        *,
        workers: int | None = None,
        loop: Literal["threads", "asyncio"] = "threads",
        max_requests: int | None = None,
        max_memory: int | None = None,
        listener: socket.socket | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        if listener is not None:
            check_listener(listener)
        check_security(security, "server")
        if loop not in ("threads", "asyncio"):
            raise ConfigurationError("loop must be 'threads' or 'asyncio'")
        for name, value, largest in (
            ("workers", workers, MAX_WORKERS),
            ("max_requests", max_requests, sys.maxsize),
            ("max_memory", max_memory, sys.maxsize),
        ):
            if value is not None and (type(value) is not int or not 1 <= value <= largest):
                raise ConfigurationError(f"{name} must be a whole number from 1 to {largest}")
        self.security = security
        self.served = Served.of(RequestHandlerClass, security, middleware, coroutines=loop == "asyncio")
        self.RequestHandlerClass = self.served.under(security.pinned())
        self._is_unix = is_unix(listener)
        security.require(self._check_security)
        self._loop = loop
        self._max_requests = max_requests
        self._max_memory = max_memory
        self._processes = workers or os.cpu_count() or 1
        self._workers = WorkerTable(self._processes)
        self._workers.on_failure = partial(self._count_restart, "failed")
        self._shared = SharedBounds(security.limits, self._processes)
        self._board: Board | None = None
        self._was_complete = False
        self._reloading = False
        self._reload_ok = True
        self._life = LifeCycle()
        self.on_ready: Callable[[], None] = lambda: None
        """Called once, when all workers accept connections."""
        self.on_reload: Callable[[bool], None] = lambda _: None
        """Called when all workers have reloaded; True if every one of them accepted the content of the files."""
        self.on_leave: Callable[[], None] = lambda: None
        """Called when the server is about to drain."""
        self.socket = listen(server_address) if listener is None else listener
        # All workers wake up for a connection, and only one of them gets it.
        self.socket.setblocking(False)
        self.server_address: Any = self.socket.getsockname()
        self._make_wake_pair()
        leave_in_children(self)

    def _check_security(self, security: Security) -> None:
        """Raise ConfigurationError if this server and its handler cannot use a pinned Security."""
        check_server(security, unix=self._is_unix)
        contract_of(self.served.under(security), security)

    def _make_wake_pair(self) -> None:
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_sender.setblocking(False)

    def leave_to_parent(self) -> None:
        """Let go of the workers in a forked child, and of the listening socket if the parent serves.

        Called by Sealwire after a fork that made no worker.
        """
        serving = self._life.serving or self._life.closing
        for worker in self._workers:
            worker.link.close()
        self._workers.clear()
        self._wake_receiver.close()
        self._wake_sender.close()
        self._life = LifeCycle()
        if serving:
            self._life.close()
            self.socket.close()
        else:
            self._shared = SharedBounds(self.security.limits, self._processes)
            self._make_wake_pair()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server_close()

    @property
    def active_children(self) -> set[int]:
        """The process ids of the workers."""
        return self._workers.pids

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until ``shutdown`` or an exception, then drain.

        Args:
            poll_interval: Seconds between two checks for workers that were killed.

        Raises:
            InvalidState: The server is closed, or serves already.
        """
        with self._life.run():
            try:
                self._workers.schedule_all()
                while not self._life.stopping:
                    for replaces in self._workers.take_due():
                        self._spawn(replaces)
                    self._receive(self._workers.seconds_to_wait(poll_interval))
                    self._reap(restart=not self._life.stopping)
                    self._shared.clear_others(self._workers.indices)
                    self._finish_reload()
                self.on_leave()
            finally:
                try:
                    self._drain()
                finally:
                    if self._life.closing:
                        self._release()

    def shutdown(self) -> None:
        """Stop ``serve_forever``, and return when all workers have drained and exited.

        In a signal handler that interrupts ``serve_forever`` it returns without waiting, as :meth:`leave` does. If the
        server does not serve, it returns at once, and the next ``serve_forever`` does, too.
        """
        self.leave()
        self._life.wait(in_handler=False)

    def leave(self) -> None:
        """Stop ``serve_forever`` without waiting for it. Safe to call in a signal handler."""
        self._life.stop()
        self._wake(Message.DRAIN)

    def reload(self) -> None:
        """Make all workers reload the configuration, certificates and keys now.

        ``on_reload`` and the log tell the outcome.
        """
        self._wake(Message.RELOAD)

    def server_close(self) -> None:
        """Stop serving as :meth:`shutdown` does, and release everything.

        In a signal handler that interrupts ``serve_forever`` it returns without waiting, and ``serve_forever`` releases
        everything at its end.
        """
        self._life.close()
        self._wake(Message.DRAIN)
        if self._life.wait(in_handler=False):
            self._release()

    def _release(self) -> None:
        self._drain()  # the loop's own may have been interrupted
        for each in (self.socket, self._wake_receiver, self._wake_sender):
            each.close()

    def _wake(self, message: Message) -> None:
        with suppress(OSError):
            self._wake_sender.send(message)

    def _spawn(self, replaces: WorkerProcess | None) -> None:
        """Fork a worker; if that fails, try again later."""
        self.security.refresh()
        flush_output()
        try:
            with signals_held() as blocked, forking(self):
                if self._life.stopping:
                    return
                here, there = socket.socketpair()
                index = self._shared.free_index(self._workers.indices)
                with there:
                    try:
                        pid = os.fork()
                    except BaseException:
                        here.close()
                        raise
                    if pid == 0:
                        self._run_worker(here, there, blocked, index)
                here.setblocking(False)
                self._workers.add(WorkerProcess(pid, here, replaces, index))
        except OSError as error:
            pause = self._workers.schedule_later(replaces)
            why = f"cannot start a worker: {error.strerror}; trying again in {pause:.1f} s"
            emit("server.busy", why, why=error.strerror)

    def _run_worker(self, parents_link: socket.socket, link: socket.socket, blocked: set[int], index: int) -> NoReturn:
        run_worker(
            partial(self._serve, index),
            link,
            inherited=(parents_link, self._wake_receiver, self._wake_sender, *(each.link for each in self._workers)),
            blocked=blocked,
            max_requests=self._max_requests,
            max_memory=self._max_memory,
        )

    def _serve(self, index: int, link: socket.socket, policy: RestartPolicy) -> None:
        # Imported in the worker alone, so that a program without coroutines never loads asyncio.
        if self._loop == "asyncio":
            from sealwire.prefork.asyncio_worker import serve
        else:
            from sealwire.prefork.threading_worker import serve
        serve(self.socket, self.served, self.security, link, policy, partial(self._join, index, policy))
        policy.publish()

    def _join(self, index: int, policy: RestartPolicy, server: Any) -> None:
        """Make a worker's server share the bounds, and report to this process's copy in the parent."""
        server._admission.share(self._shared, index)
        board = self._board
        if board is not None:
            policy.publish = lambda: board.write(index, process_report(server))
            policy.publish()

    # Reports

    def _count_restart(self, reason: str) -> None:
        counters = self._shared.events.counters
        counters.row(counters.used - 1)[FAMILIES["worker_restarts"].column(reason)] += 1

    @property
    def state(self) -> str:
        """``starting``, ``serving`` or ``draining``, for reports."""
        if self._life.stopping:
            return "draining"
        return "serving" if self._life.serving and self._was_complete else "starting"

    def statistics(self) -> Statistics:
        """Return the counts of all workers since the start, for reports; each reports its own connections."""
        return Statistics(0, 0, self._shared.events.counters.totals(), Counter())

    def collect_reports(self) -> None:
        """Have the workers report, each about once a second. Those that run already do not."""
        if self._board is None:
            self._board = Board(len(self._shared.held))

    def worker_reports(self) -> list[dict[str, Any]]:
        """Return the last reports of the present workers."""
        return [report for worker in self._workers if (report := self._report(worker)) is not None]

    def _report(self, worker: WorkerProcess) -> dict[str, Any] | None:
        report = None if self._board is None else self._board.read(worker.index)
        return report if report is not None and report["pid"] == worker.pid else None

    def _reap(self, *, restart: bool) -> None:
        before = list(self._workers)
        self._workers.reap(restart=restart)
        for worker in before:
            if worker.pid not in self._workers.pids:
                self._shared.events.counters.forget_in_flight(worker.index)

    def _receive(self, timeout: float) -> None:
        """Wait for messages from the workers, or from ``leave`` and ``reload``, and handle them."""
        readable = select.poll()
        readable.register(self._wake_receiver, select.POLLIN)
        linked = {worker.link.fileno(): worker for worker in self._workers if worker.connected}
        for descriptor in linked:
            readable.register(descriptor, select.POLLIN)
        for descriptor, _ in readable.poll(timeout * 1000):
            if descriptor == self._wake_receiver.fileno():
                if Message.RELOAD.value in self._wake_receiver.recv(100):
                    self._reload_all()
            else:
                worker = linked[descriptor]
                for message in worker.receive():
                    self._handle(worker, message)

    def _handle(self, worker: WorkerProcess, message: Message) -> None:
        if message is Message.READY:
            self._handle_ready(worker)
        elif message is Message.REPLACE:
            if worker.state in (WorkerState.STARTING, WorkerState.SERVING) and not self._life.stopping:
                worker.state = WorkerState.OUTGOING
                text = f"worker {worker.pid} asked to be replaced; starting its successor"
                emit("worker.replaced", text, worker=worker.pid)
                self._count_restart("replaced")
                self._workers.schedule(worker)
        elif message in (Message.RELOADED, Message.RELOAD_REJECTED):
            worker.reloads_pending -= 1
            worker.reload_ok = message is Message.RELOADED
            if not worker.reload_ok:
                text = f"worker {worker.pid} rejected the reload; its own log message gives the reason"
                emit("reload.failed", text, worker=worker.pid)

    def _handle_ready(self, worker: WorkerProcess) -> None:
        if worker.state is WorkerState.STARTING:
            worker.state = WorkerState.SERVING
        replaces, worker.replaces = worker.replaces, None
        if replaces is not None:
            replaces.dismiss(Message.REPLACED, self.security.limits.drain_timeout)
        if self._workers.complete and not self._life.stopping:
            self._was_complete = True
            on_ready, self.on_ready = self.on_ready, lambda: None
            on_ready()

    def _reload_all(self) -> None:
        if self._life.stopping:
            return
        self._reload_ok = self.security.reload()
        self._reloading = True
        for worker in self._workers:
            if worker.state is not WorkerState.DRAINING:  # a draining worker does not read messages any more
                worker.reloads_pending += send(worker.link, Message.RELOAD)

    def _finish_reload(self) -> None:
        if self._reloading and not any(worker.reloads_pending for worker in self._workers):
            self._reloading = False
            self.on_reload(self._reload_ok and all(worker.reload_ok for worker in self._workers))

    def _drain(self) -> None:
        self._life.stop()
        self._workers.cancel_scheduled()
        for worker in self._workers:
            worker.dismiss(Message.DRAIN, self.security.limits.drain_timeout)
        while self._workers.pids:
            self._receive(_DRAIN_POLL)
            self._reap(restart=False)
