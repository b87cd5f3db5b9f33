"""The servers on UDP, with the API of socketserver: a handler object for each datagram.

One thread receives datagrams and does all timed work (``_serve_once``). It passes requests to ``_dispatch``: UDPServer
queues them and answers them itself before it receives again; ThreadingUDPServer passes them to its threads. ``lock``
protects the demultiplexer, with all associations, from the threads. Datagrams of one address are processed in order,
but their handlers may run at the same time. Requests that have come take turns by peer.
"""

from __future__ import annotations

import math
import select
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from struct import Struct
from time import monotonic, time
from types import TracebackType
from typing import Any, Final, Self

from sealwire.contention import activity
from sealwire.contract import contract_of
from sealwire.dtls.channel import DatagramChannel
from sealwire.dtls.demultiplexer import Demultiplexer
from sealwire.dtls.records import MAX_DATAGRAM
from sealwire.dtls.server_association import ServerAssociation
from sealwire.errors import SealwireError
from sealwire.failures import report_connection_error, report_unserved
from sealwire.fork import leave_in_children
from sealwire.life_cycle import LifeCycle
from sealwire.listeners import bind, check_address, family_of
from sealwire.middleware.chain import Middleware
from sealwire.middleware.serving import Served
from sealwire.report import Statistics
from sealwire.security import Security
from sealwire.session.round_robin import RoundRobin
from sealwire.session.server import TERMINATION_WAIT
from sealwire.session.terms import check_security, check_server, check_unproxied
from sealwire.threads import ThreadPool
from sealwire.wire.events import Request
from sealwire.wire.frames import FaultCode

_RECEIVE_BUFFER: Final = 1 << 20
"""Bytes for datagrams that wait, if the system permits it: those of some thousand clients that begin at once."""
_DATAGRAMS_AT_ONCE: Final = 64
"""Datagrams received before timed work and handlers run."""
_SO_TIMESTAMPNS: Final = 35
"""Linux's socket option for the kernel's receive time of each datagram (socket(7)); not in Python's socket module."""
_TIMESPEC: Final = Struct("@ll")
_CONTROL: Final = socket.CMSG_SPACE(_TIMESPEC.size)
_MAX_AGE: Final = 600.0
"""Seconds that a datagram can plausibly wait in the kernel. A greater age means that the clock was set."""
_POLL_INTERVAL: Final = 0.01
"""Seconds to wait for datagrams while another event is awaited."""


def arrival_time(control: list[tuple[int, int, bytes]], offset: float) -> float:
    """Return the arrival time of a datagram, as a time of ``time.monotonic()``.

    A datagram may wait in the kernel while the server runs a handler, but its client's wait counts from the arrival
    (docs/protocol.md, section 2). The kernel's time stamp is of the wall clock. If that was set meanwhile, the later of
    the possible times counts: judged by the earlier one, a request in time would not be run.

    Args:
        control: The control messages of recvmsg.
        offset: The wall clock's lead over ``time.monotonic()`` before the datagram came. Setting the clock changes it.
    """
    now = monotonic()
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            moment: float = seconds + nanoseconds / 1e9 - min(offset, time() - now)
            return moment if now - _MAX_AGE <= moment <= now else now
    return now


class UDPServer:
    """A server on UDP that answers one datagram after the other, with the API of socketserver.UDPServer.

    A message has at most 1,132 bytes encoded. Each datagram has its own handler object, so ``handle()`` gets one
    message. As a context manager the server closes itself at the end.

    Args:
        server_address: Host and port; port 0 picks a free one.
        RequestHandlerClass: A class derived from RequestHandler, or a function from message to reply.
        security: The server's security configuration, with ``peers``.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
        TransportError: The address cannot be bound.

    Attributes:
        server_address: Host and port of the socket.
        security: As given.
        socket: The socket.
    """

    def __init__(
        self,
        server_address: tuple[str, int],
        RequestHandlerClass: Any,
        security: Security,
        *,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        check_security(security, "server")
        server_address = check_address(server_address)
        self.security = security
        self.served = Served.of(RequestHandlerClass, security, middleware)
        self.RequestHandlerClass = self.served.under(security.pinned())
        security.require(self._check_security)
        self._begin()
        self._answered = 0
        self._next_refresh = 0.0
        self._clock_offset = time() - monotonic()
        self.socket = socket.socket(family_of(server_address), socket.SOCK_DGRAM)
        try:
            bind(self.socket, server_address)
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            if sys.platform == "linux":
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self.server_address: Any = self.socket.getsockname()
            self._make_wake_pair()
        except BaseException:
            self.socket.close()
            raise
        leave_in_children(self)

    @property
    def state(self) -> str:
        """``starting``, ``serving`` or ``draining``, for reports."""
        if self._life.stopping:
            return "draining"
        return "serving" if self._life.serving else "starting"

    def statistics(self) -> Statistics:
        """Return counts of associations and requests since the start, for reports."""
        with self.lock:
            return self.demultiplexer.statistics()

    def _check_security(self, security: Security) -> None:
        """Raise ConfigurationError if this server and its handler cannot use a pinned Security."""
        check_server(security)
        check_unproxied(security, "UDP", "has no PROXY headers, which come before the bytes of a stream")
        contract_of(self.served.under(security), security)

    def _begin(self) -> None:
        """Begin without associations."""
        self._life = LifeCycle()
        self.lock = threading.RLock()
        """Protects the demultiplexer."""
        self.demultiplexer = Demultiplexer(self.security, send=self._send, dispatch=self._dispatch)
        self._requests: RoundRobin[tuple[ServerAssociation, Request, float | None]] = RoundRobin()

    def _make_wake_pair(self) -> None:
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)

    def leave_to_parent(self) -> None:
        """Let go of the socket in a forked child, if the parent serves; nothing is sent. Called after a fork.

        Otherwise the child begins without associations: two processes with the same ones would use the same nonces.
        """
        serving = self._life.serving or self._life.closing
        self._wake_reader.close()
        self._wake_writer.close()
        if serving:
            self._life = LifeCycle()
            self._life.close()
            self.lock = threading.RLock()
            self._requests = RoundRobin()
            self.socket.close()
        else:
            self._begin()
            self._make_wake_pair()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server_close()

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 if it is closed."""
        return self.socket.fileno()

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until :meth:`shutdown` or an exception such as KeyboardInterrupt, then drain.

        Args:
            poll_interval: Seconds between two checks of timed work, at most. Default: 0.5.

        Raises:
            InvalidState: The server is closed, or serves already.
        """
        with self._life.run():
            try:
                self.demultiplexer.resume()
                while not self._life.stopping:
                    self._serve_once(poll_interval)
            finally:
                try:
                    self._drain()
                finally:
                    if self._life.closing:
                        self._release()

    def handle_request(self) -> None:
        """Serve until one request has been answered, or :meth:`shutdown`. Raises InvalidState like serve_forever."""
        with self._life.run():
            self.demultiplexer.resume()
            before = self._answered
            while self._answered == before and not self._life.stopping:
                self._serve_once(_POLL_INTERVAL)
            if self._life.closing:
                self._release()

    def shutdown(self) -> None:
        """Stop serve_forever, and return when the server has drained.

        In a handler, and in a signal handler that interrupts serve_forever, it returns without waiting, because the
        server waits for those. If the server does not serve, it returns at once, and the next serve_forever does, too.
        """
        self._life.stop()
        self._wake()
        self._life.wait(in_handler=self._is_handler_thread(threading.current_thread()))

    def _wake(self) -> None:
        with suppress(OSError):
            self._wake_writer.send(b"x")

    def reload(self) -> bool:
        """Reload the configuration, certificates and keys now; see Security.reload.

        Returns:
            True if the content of the files is in use now. If False, the previous content stays in use, and the log
            and ``security.status()`` say why.
        """
        return self.security.reload()

    def server_close(self) -> None:
        """Stop serving as :meth:`shutdown` does, end all associations, which tells the clients, and release everything.

        In a handler, and in a signal handler that interrupts serve_forever, it returns without waiting, and
        serve_forever releases everything at its end.
        """
        self._life.close()
        self._wake()
        if self._life.wait(in_handler=self._is_handler_thread(threading.current_thread())):
            self._release()

    def _release(self) -> None:
        """End all associations and release everything. Without effect when called again."""
        if self.socket.fileno() < 0:
            return
        if self.demultiplexer.peers:  # handle_request does not drain
            self._drain()
        self._stop_threads()
        for each in (self.socket, self._wake_reader, self._wake_writer):
            each.close()

    def _serve_once(self, max_wait: float) -> None:
        """Wait for datagrams for ``max_wait`` seconds at most, process them, and do all work that is due."""
        with self.lock:
            pause = min(max_wait, self.demultiplexer.until_due, self.security.limits.reload_interval)
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        waiting.register(self._wake_reader, select.POLLIN)
        for descriptor, _ in waiting.poll(pause * 1000):
            if descriptor == self.socket.fileno():
                self._receive()
            else:
                self._wake_reader.recv(100)
        now = monotonic()
        if now >= self._next_refresh:
            self._next_refresh = now + self.security.limits.reload_interval
            self.security.refresh()
        activity.calm(now)
        with self.lock:
            self.demultiplexer.handle_timeouts()
        self._answer_all()

    def _receive(self) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                datagram, control, _, address = self.socket.recvmsg(MAX_DATAGRAM, _CONTROL)
            except OSError:  # no more datagrams, or an error from ICMP about a client that has gone
                self._clock_offset = time() - monotonic()
                return
            with self.lock:
                self.demultiplexer.datagram_received(datagram, address, arrival_time(control, self._clock_offset))

    def _send(self, datagram: bytes, address: Any) -> None:
        with suppress(OSError):  # the datagram counts as lost
            self.socket.sendto(datagram, address)

    def _dispatch(self, association: ServerAssociation, request: Request, deadline: float | None) -> None:
        """Pass a request to a handler. Called with the lock held."""
        self._requests.append(association.account, (association, request, deadline))

    def _answer_all(self) -> None:
        """Answer all requests that this thread is to answer. If a handler is interrupted, the others remain."""
        while self._requests:
            self._answer(*self._requests.pop())

    def _answer(self, association: ServerAssociation, request: Request, deadline: float | None) -> None:
        """Run a handler for a request, and answer with FAULT if the handler did not answer."""
        channel = DatagramChannel(self, association, request, deadline)
        handler: Callable[..., Any] = self.served.under(channel.security)
        try:
            handler(channel, association.address, self)
        except (Exception, GeneratorExit, SystemExit) as error:
            with suppress(SealwireError):
                report_connection_error(channel, error)
        finally:
            with self.lock:
                if channel.oldest_unanswered is not None:
                    channel.send_fault(request.sequence, FaultCode.HANDLER_FAILED, "the handler has given no reply")
                self._answered += 1
                self.demultiplexer.release(association, request)

    def _drain(self) -> None:
        """Answer the requests in progress, for Limits.drain_timeout at most, and end all associations."""
        if self.socket.fileno() < 0:  # in a forked child
            return
        deadline = monotonic() + self.security.limits.drain_timeout
        activity.calm(math.inf)
        with self.lock:
            self.demultiplexer.drain()
        self._answer_all()
        while self.demultiplexer.in_progress and monotonic() < deadline:
            self._serve_once(_POLL_INTERVAL)
        with self.lock:
            self.demultiplexer.close()

    def _is_handler_thread(self, _thread: threading.Thread) -> bool:  # this class has no threads
        return False

    def _stop_threads(self) -> None:
        """Do nothing: this class has no threads."""


class ThreadingUDPServer(UDPServer):
    """A server on UDP that answers datagrams in threads, Limits.max_in_flight of one client at a time.

    Args:
        server_address: Host and port; port 0 picks a free one.
        RequestHandlerClass: A class derived from RequestHandler, or a function from message to reply.
        security: The server's security configuration, with ``peers``.
        workers: Number of threads, 1 to 1024. Default: 32.
        middleware: As for UDPServer. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
        TransportError: The address cannot be bound.
    """

    def __init__(
        self,
        server_address: tuple[str, int],
        RequestHandlerClass: Any,
        security: Security,
        *,
        workers: int = 32,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._workers = workers
        super().__init__(server_address, RequestHandlerClass, security, middleware=middleware)

    def _begin(self) -> None:
        self._pool = ThreadPool(self._workers, "sealwire udp")
        super()._begin()

    def _dispatch(self, association: ServerAssociation, request: Request, deadline: float | None) -> None:
        activity.note(association.account, monotonic())  # handlers that compute hold up neither the others nor reading
        self._pool.submit(partial(self._answer_in_thread, association, request, deadline), association.account)

    def _answer_in_thread(self, association: ServerAssociation, request: Request, deadline: float | None) -> None:
        try:
            self._answer(association, request, deadline)
        except BaseException as error:
            report_unserved(self.demultiplexer.events, association.known, error)

    def _is_handler_thread(self, thread: threading.Thread) -> bool:
        return thread in self._pool

    def _stop_threads(self) -> None:
        self._pool.stop()
        self._pool.join(TERMINATION_WAIT)
