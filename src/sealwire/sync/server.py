"""The TCP servers: socketserver's API, with TLS, keys and limits underneath.

:mod:`sealwire.sync.connection_slots` describes how a server accepts, and :mod:`sealwire.sync.draining` how it ends.
"""

from __future__ import annotations

import math
import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from sealwire.admission import Admission
from sealwire.contention import activity
from sealwire.contract import contract_of
from sealwire.descriptors import Reserve
from sealwire.errors import InvalidState
from sealwire.fork import leave_in_children
from sealwire.handler import RequestHandler
from sealwire.life_cycle import LifeCycle
from sealwire.listeners import (
    BACKLOG,
    cannot_bind,
    check_address,
    check_listener,
    family_of,
    is_unix,
)
from sealwire.middleware.chain import Middleware
from sealwire.middleware.serving import Served
from sealwire.report import Statistics
from sealwire.security import Security
from sealwire.session import terms
from sealwire.slot import Slot
from sealwire.sync.connection_slots import ConnectionSlots
from sealwire.sync.draining import Draining
from sealwire.sync.mixins import Forking, Threading
from sealwire.sync.read_ahead import ReadAhead


class TCPServer(Draining, ConnectionSlots):
    """A server that serves one connection at a time, with the API of socketserver.TCPServer.

    ``shutdown`` and the end of ``serve_forever`` tell the clients that the server is going away, and let requests in
    progress finish, for Limits.drain_timeout seconds at most. As a context manager it closes itself at the end.

    Args:
        server_address: Host and port to listen on; port 0 picks a free one.
        RequestHandlerClass: A class derived from RequestHandler, or a function from message to reply.
        security: The server's security configuration, with ``peers``.
        bind_and_activate: Listen at once. Default: True.
        listener: A socket that listens already, instead of ``server_address``. The server closes it. Default: none.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
        TransportError: The server cannot listen on the address.

    Attributes:
        server_address: Host and port that the server listens on.
        security: As given.
        socket: The listening socket.
    """

    server_address: Any
    allow_reuse_address = True
    _forks = False
    """True if each connection has a process of its own."""
    request_queue_size = BACKLOG

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Any,
        security: Security,
        bind_and_activate: bool = True,
        *,
        listener: socket.socket | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        terms.check_security(security, "server")
        self.on_request: Callable[[], None] | None = None
        """The function to call for each request handed to a handler, or None. For pre-fork workers."""
        self.rejects_while_draining = True
        """True to answer new clients with REJECT 5 while draining.

        False in a pre-fork worker that shares the listening socket with its successor.
        """
        self.served = Served.of(RequestHandlerClass, security, middleware)
        handler: Any = self.served.under(security.pinned())
        self.security = security
        self._is_unix = is_unix(listener) or self.address_family == socket.AF_UNIX
        security.require(self._check_security)
        self._in_parts = handler.handle is RequestHandler.handle  # one that reads its requests itself takes them whole
        self._make_state()
        try:
            if listener is not None:
                check_listener(listener)
                # socketserver.TCPServer's constructor would create a socket, which a sandboxed worker may not do.
                socketserver.BaseServer.__init__(self, listener.getsockname(), handler)
                self.socket, self.address_family = listener, listener.family
            else:
                server_address = self._prepare(server_address)
                super().__init__(server_address, handler, bind_and_activate)
        except BaseException:
            self._drain_reader.close()
            self._drain_writer.close()
            raise
        leave_in_children(self)

    def _check_security(self, security: Security) -> None:
        """Raise ConfigurationError if this server and its handler cannot use a pinned Security."""
        terms.check_server(security, unix=self._is_unix)
        contract_of(self.served.under(security), security)

    @property
    def state(self) -> str:
        """``starting``, ``serving`` or ``draining``, for reports."""
        if self._life.stopping:
            return "draining"
        return "serving" if self._life.serving else "starting"

    def statistics(self) -> Statistics:
        """Return counts of connections and requests since the start, for reports."""
        return self._admission.statistics()

    def _make_state(self) -> None:
        """Make all that a process needs for itself to serve."""
        self._life = LifeCycle()
        self._admission = Admission(self.security.limits, forks=self._forks)
        self._slots: dict[Any, Slot] = {}
        self._drain_reader, self._drain_writer = socket.socketpair()
        self._drain_writer.setblocking(False)
        self._draining = False
        self._read_ahead = ReadAhead()
        self._reserve = Reserve(self._admission)

    def leave_to_parent(self) -> None:
        """Let go of the parent's connections in a forked child, and of the listening socket if the parent serves.

        Nothing is sent, and the parent notices nothing. Called by Sealwire after a fork.
        """
        serving = self._life.serving or self._life.closing
        self._admission.leave_to_parent()
        self._reserve.close()
        for sock in (*self._slots, self._drain_reader, self._drain_writer):
            sock.close()
        self._make_state()
        if serving:
            self._life.close()
            for sock in (self.socket, self._drain_reader, self._drain_writer):
                sock.close()

    def _prepare(self, server_address: Any) -> Any:
        """Return the checked address, after setting the socket's family for it. Raises ConfigurationError."""
        server_address = check_address(server_address)
        self.address_family = family_of(server_address)
        return server_address

    def server_bind(self) -> None:
        """Bind the socket. Raises TransportError, naming the address."""
        try:
            super().server_bind()
        except (OSError, ValueError, TypeError, OverflowError) as error:
            raise cannot_bind(self.socket, self.server_address, error) from None

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until :meth:`shutdown` or an exception such as KeyboardInterrupt, then drain.

        Args:
            poll_interval: Seconds between two calls of ``service_actions`` at most. Default: 0.5.

        Raises:
            InvalidState: The server is closed, or serves already.
        """
        with self._serving():
            while not self._life.stopping and self.fileno() >= 0:
                wait = min(poll_interval, self.security.limits.reload_interval)
                if self._connection_waits(wait) and not self._life.stopping:
                    self._handle_request_noblock()
                else:  # each connection looks by itself
                    self._look_at_files()
                self._reserve.fill()
                activity.calm(monotonic())
                self._admission.look()
                self.service_actions()

    def _look_at_files(self) -> None:
        """Reload changed files if a check is due, also while nobody is connected."""
        self.security.refresh()

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """Surround a loop that accepts connections: prepare, and drain at the end."""
        with self._life.run():
            try:
                self._check_listening()
                self._resume()
                self._reserve.fill()
                self._start_reading_ahead()
                self.security.refresh()
                yield
            finally:
                self._reserve.close()
                try:
                    self._drain(listening=self.fileno() >= 0)
                finally:
                    activity.calm(math.inf)
                    self._admission.events.look(at_end=True)
                    if self._life.closing:
                        self._release()

    def _check_listening(self) -> None:
        if self.fileno() < 0 or not self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise InvalidState("this server does not listen; call server_bind() and server_activate() first")

    def _connection_waits(self, seconds: float, *others: Any) -> bool:
        """Wait for a connection, for input from other sockets, or for the server to stop; return if there is one."""
        if self.fileno() < 0:  # closed under the server
            return False
        waiting = select.poll()
        for each in (self._drain_reader, self, *others):
            waiting.register(each, select.POLLIN)
        found = waiting.poll(seconds * 1000)
        return any(descriptor == self.fileno() for descriptor, _ in found)

    def reload(self) -> bool:
        """Reload the configuration, certificates and keys now; see Security.reload.

        Returns:
            True if the content of the files is in use now. If False, the previous content stays in use, and the log
            and ``security.status()`` say why.
        """
        return self.security.reload()

    def handle_request(self) -> None:
        """Accept one connection, and return when it has been served to its end, also in a threading or forking server.

        The attribute ``timeout`` bounds the wait for the connection, as in socketserver. Default: None, no bound.
        :meth:`shutdown` ends the wait. Raises InvalidState like serve_forever.
        """
        with self._life.run():
            self._check_listening()
            self._resume()
            deadline = math.inf if self.timeout is None else monotonic() + self.timeout
            interval = self.security.limits.reload_interval
            while not (found := self._connection_waits(min(interval, max(0.0, deadline - monotonic())))):
                if self._life.stopping or self.fileno() < 0 or monotonic() >= deadline:
                    break
                self._look_at_files()
            if found:
                self._handle_request_noblock()
            elif not self._life.stopping:
                self.handle_timeout()
            self._join(math.inf, self._admission.slots())
            if self._life.closing:
                self._release()

    def shutdown(self) -> None:
        """Stop serve_forever, and return when the server has drained.

        Idle clients are told that the server is going away, and have two seconds to close their end. A client notices
        only when it uses the connection, so draining may take these two seconds even if no request is in progress.

        In a handler, and in a signal handler that interrupts serve_forever, it returns without waiting, because the
        server waits for those. If the server does not serve, it returns at once, and the next serve_forever does, too.
        """
        self._life.stop()
        if self.rejects_while_draining:
            self._start_draining()
        self._life.wait(in_handler=self._in_handler())

    def server_close(self) -> None:
        """Stop serving as :meth:`shutdown` does, and release everything.

        In a handler, and in a signal handler that interrupts serve_forever, it returns without waiting, and
        serve_forever releases everything at its end.
        """
        self._life.close()
        if self.rejects_while_draining:
            self._start_draining()
        if self._life.wait(in_handler=self._in_handler()):
            self._release()

    def _in_handler(self) -> bool:
        return threading.current_thread() in [slot.thread for slot in self._admission.slots()]

    def _release(self) -> None:
        """Stop listening, and release everything. Without effect when called again."""
        super().server_close()
        self._drain()
        self._read_ahead.close()
        self._drain_reader.close()
        self._drain_writer.close()

    def _start_reading_ahead(self) -> None:
        self._read_ahead.start()


class ThreadingTCPServer(Threading, TCPServer):
    """A server that serves each connection in a thread, Limits.max_threads of them at most.

    Arguments and errors are those of TCPServer.
    """


class ForkingTCPServer(Forking, TCPServer):
    """A server that serves each connection in a child process, Limits.max_threads of them at most.

    Arguments and errors are those of TCPServer.
    """


def serve(
    function: Callable[[Any], Any] | type,
    host: str,
    port: int,
    security: Security,
    *,
    server_class: type[TCPServer] = ThreadingTCPServer,
    middleware: Sequence[Middleware] = (),
) -> None:
    """Answer messages with a function until KeyboardInterrupt (Ctrl+C).

    Args:
        function: A function from message to reply, or a class derived from RequestHandler.
        host: Host to listen on; "" or "0.0.0.0" for all IPv4 addresses, "::" for all IPv6 addresses.
        port: Port to listen on.
        security: The server's security configuration, with ``peers``.
        server_class: Default: ThreadingTCPServer.
        middleware: As for TCPServer. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
        TransportError: The server cannot listen on the address.
    """
    with (
        server_class((host, port), function, security, middleware=middleware) as server,
        suppress(KeyboardInterrupt),
    ):
        server.serve_forever()
