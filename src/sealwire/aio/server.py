"""The TCP server on asyncio.

Two tasks, the server's *duties*, run while it serves: ``_accept_all`` accepts connections, and ``_check_connections``
reloads files and closes connections that have become invalid or too old. If a duty fails, the server
shuts down and ``serve_forever`` raises the error. Each connection has a task of its own (``_handle_connection``), from
the TLS handshake to the end. :mod:`sealwire.aio.draining` tells how a server ends.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

from sealwire.admission import Admission
from sealwire.aio.accepting import Acceptor, receive_header
from sealwire.aio.draining import Draining
from sealwire.aio.handler_calls import in_handler
from sealwire.aio.handler_runner import HandlerRunner
from sealwire.aio.loop_turns import LoopTurns
from sealwire.aio.server_connection import AsyncServerChannel
from sealwire.aio.threads import Workers
from sealwire.contention import activity
from sealwire.contract import contract_of
from sealwire.descriptors import Reserve
from sealwire.errors import ConfigurationError, ConnectionClosed, DeadlineExceeded, InvalidState, SealwireError
from sealwire.events import emit
from sealwire.failures import error_location, report_connection_error, report_termination, report_unserved
from sealwire.fork import leave_in_children
from sealwire.listeners import address_text, check_listener, is_unix, listen
from sealwire.middleware.chain import Middleware
from sealwire.middleware.serving import Served
from sealwire.proxy_header_reader import expected_header
from sealwire.report import Statistics
from sealwire.security import Security
from sealwire.session.begin import reject_code
from sealwire.session.requests import LINGER
from sealwire.session.terms import check_security, check_server, server_tls
from sealwire.slot import Slot

_CHECKS_AT_ONCE: Final = 64
"""Connections checked before other tasks run."""


class AsyncTCPServer(Draining):
    """A server on one event loop, with any number of connections and several requests of each at a time.

    It serves from the beginning of an ``async with`` block to its end, and leaves no task or thread behind::

        async with AsyncTCPServer((host, port), respond, security) as server:
            await server.serve_forever()

    At the end it lets requests in progress finish, for Limits.drain_timeout seconds at most.

    Args:
        server_address: Host and port to listen on; port 0 picks a free one.
        RequestHandlerClass: A class derived from RequestHandler, or a function from message to reply. The function, or
            the class's ``respond`` or ``handle``, may be a coroutine function, which runs on the loop; others run in
            threads.
        security: The server's security configuration, with ``peers``.
        workers: Number of threads for ``respond`` and functions that are not coroutine functions, 1 to 1024. Default:
            32.
        listener: A socket that listens already, instead of ``server_address``. The server closes it. Default: none.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`. They may be
            coroutine functions if the handler is one. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
        TransportError: The server cannot listen on the address.

    Attributes:
        server_address: Host and port that the server listens on.
        security: As given.
        socket: The listening socket.
    """

    _is_unix = False

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Any,
        security: Security,
        *,
        workers: int = 32,
        listener: socket.socket | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        check_security(security, "server")
        self._workers = Workers(workers, "sealwire worker")
        self._files = Workers(1, "sealwire files")
        self.security = security
        self.served = Served.of(RequestHandlerClass, security, middleware, coroutines=True)
        self.RequestHandlerClass = self.served.under(security.pinned())
        self._is_unix = self._is_unix or is_unix(listener)
        security.require(self._check_security)
        self.on_request: Callable[[], None] | None = None
        """The function to call for each request handed to a handler, or None. For pre-fork workers."""
        self.rejects_while_draining = True
        """True to answer new clients with REJECT 5 while draining.

        False in a pre-fork worker that shares the listening socket with its successor.
        """
        if listener is not None:
            check_listener(listener)
        self.socket = self._listen(server_address) if listener is None else listener
        self.socket.setblocking(False)
        self.server_address: Any = self.socket.getsockname()
        self._admission = Admission(security.limits)
        self._channels: dict[AsyncServerChannel, None] = {}
        self._connections: dict[asyncio.Task[None], Slot] = {}
        self._duties: list[asyncio.Task[None]] = []
        self._stopped = False
        self._draining = False
        self._reserve = Reserve(self._admission)
        self._finished: asyncio.Event | None = None
        self._drain_task: asyncio.Task[None] | None = None
        leave_in_children(self)

    def _check_security(self, security: Security) -> None:
        """Raise ConfigurationError if this server and its handler cannot use a pinned Security."""
        check_server(security, unix=self._is_unix)
        contract_of(self.served.under(security), security)

    @property
    def state(self) -> str:
        """``starting``, ``serving`` or ``draining``, for reports."""
        if self._stopped or self._draining:
            return "draining"
        return "starting" if self._finished is None else "serving"

    def statistics(self) -> Statistics:
        """Return counts of connections and requests since the start, for reports."""
        return self._admission.statistics()

    def leave_to_parent(self) -> None:
        """Let go of the listening socket in a forked child, if the parent serves. Called by Sealwire after a fork."""
        if self._finished is not None:
            self._finished = None
            self._stopped = True
            self._admission = Admission(self.security.limits)
            self._reserve.close()
            self.socket.close()

    def _listen(self, server_address: Any) -> socket.socket:
        return listen(server_address)

    async def __aenter__(self) -> Self:
        if self._finished is not None or self.socket.fileno() < 0:
            raise InvalidState("this server is serving, has served already or is closed; make a new one")
        self._finished = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._turns = LoopTurns()
        self._files.start()
        self._reserve.fill()
        self._runner = HandlerRunner(self.RequestHandlerClass, self, self._workers)
        self._duties = [self._loop.create_task(duty()) for duty in (self._accept_all, self._check_connections)]
        for duty in self._duties:
            duty.add_done_callback(self._duty_ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def serve_forever(self) -> None:
        """Serve until :meth:`shutdown`, or until this is cancelled. Enters ``async with`` itself if necessary.

        Returns at once after a shutdown.

        Raises:
            InvalidState: The server is closed.
            OSError: Accepting connections failed for good, for example because the socket was closed.
        """
        if self._finished is None:
            if self._stopped:
                return
            async with self:
                await self.serve_forever()
        else:
            await self._finished.wait()
            for duty in self._duties:
                if not duty.cancelled():
                    duty.result()

    def reload(self) -> bool:
        """Reload the configuration, certificates and keys now; see Security.reload.

        Returns:
            True if the content of the files is in use now. If False, the previous content stays in use, and the log
            and ``security.status()`` say why.
        """
        return self.security.reload()

    async def shutdown(self) -> None:
        """Drain, stop listening and release everything; return when that is done.

        A handler may call this. It then returns without waiting, because the handler's own request is in progress.
        In a signal handler or another thread use :meth:`start_shutdown`.

        Raises:
            InvalidState: The server serves on another event loop.
        """
        self._stopped = True
        if self._finished is None:
            self._release()
            return
        if asyncio.get_running_loop() is not self._loop:
            raise InvalidState("this server serves on another event loop; call start_shutdown()")
        draining = self._start_draining()
        if not in_handler.get():
            await asyncio.shield(draining)

    def server_close(self) -> None:
        """Begin to shut down like :meth:`start_shutdown`; stop listening at once if the server does not serve."""
        if self._finished is None or self._finished.is_set():
            self._release()
        else:
            self.start_shutdown()

    def start_shutdown(self) -> None:
        """Begin to shut down; serve_forever returns when the server has drained.

        Safe to call in a signal handler and in any thread.
        """
        self._stopped = True
        if self._finished is None:
            self._release()
        else:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._start_draining)

    def _release(self) -> None:
        """Stop listening. Without effect when called again."""
        self._reserve.close()
        self.socket.close()
        self._admission.events.look(at_end=True)

    async def _accept_all(self) -> None:
        """Accept connections while there are slots, and start a task for each."""
        await self._reload_files()  # the Security may be much older than the server
        acceptor = self._make_acceptor()
        while True:
            sock, client_address = await acceptor.accept()
            header = expected_header(self.security, client_address)
            slot = self._admission.acquire(sock, self.on_request, client_address, header)
            if slot.evicted:
                slot.turned_away()
                sock.close()
                slot.release()
                continue
            task = self._loop.create_task(
                self._handle_connection(sock, client_address, slot), name=address_text(client_address)
            )
            self._connections[task] = slot
            task.add_done_callback(self._connection_ended)

    async def _handle_connection(self, sock: socket.socket, client_address: Any, slot: Slot) -> None:
        """Serve a connection to its end, from a proxy's header or the TLS handshake on."""
        try:
            deadline = slot.since + self.security.limits.handshake_timeout
            client_address = await receive_header(sock, slot, client_address, deadline)
        except SealwireError as error:
            self._refused(slot, error)
            return
        try:
            if self.security.announced:
                await self._reload_files()  # its client may come from the process that has taken it
            unix = getattr(sock, "family", None) == socket.AF_UNIX  # a session on NATS has none
            channel = AsyncServerChannel(
                self.security, unix=unix, slot=slot, turns=self._turns, busy=partial(self._busy, slot),
                in_parts=self._runner.takes_parts,
            )  # fmt: skip
            await self._connect(channel, sock)
        except BaseException:
            sock.close()
            raise
        self._channels[channel] = None
        try:
            await channel.accept()
            if self._draining:
                channel.drain()
            await self._serve_requests(channel, client_address)
        except SealwireError as error:
            self._refused(slot, error)
            await channel.close(linger=0 if isinstance(error, DeadlineExceeded | ConnectionClosed) else LINGER)
        finally:
            del self._channels[channel]
            await channel.close(linger=0)

    def _refused(self, slot: Slot, error: SealwireError) -> None:
        """Report why a client was not served."""
        counted = slot.is_counted or (slot.evicted and self._draining)  # there may be hundreds
        slot.events.refused(slot.known, error, evicted=slot.evicted, counted=counted)

    def _make_acceptor(self) -> Any:
        return Acceptor(self.socket, self._admission, self._reserve)

    async def _connect(self, channel: AsyncServerChannel, sock: Any) -> None:
        """Connect a channel to an accepted connection."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: channel, sock)

    async def _serve_requests(self, channel: AsyncServerChannel, client_address: Any) -> None:
        try:
            await self._runner.serve(channel, client_address)
            report_termination(channel.session)
        except (Exception, GeneratorExit, SystemExit) as error:
            report_connection_error(channel, error)
        await channel.end()

    def _connection_ended(self, task: asyncio.Task[None]) -> None:
        slot = self._connections.pop(task)
        slot.track_socket(None)
        slot.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            report_unserved(slot.events, slot.known, error)

    async def _check_connections(self) -> None:
        """Reload files, and close connections that have become invalid or too old."""
        while True:
            await asyncio.sleep(self.security.limits.reload_interval)
            await self._reload_files()
            if self.socket.fileno() < 0:  # which no event reports
                raise OSError(errno.EBADF, "the listening socket was closed")
            await self._check_channels()

    async def _check_channels(self) -> None:
        activity.calm(monotonic())
        self._admission.look()
        for number, channel in enumerate(list(self._channels), 1):
            channel.check()
            if number % _CHECKS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _reload_files(self) -> None:
        """Reload changed files in a thread; wait for it, but not so long that a stuck disk stops everything else."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.security.limits.reload_interval):
                await self._files.run(self._refresh)

    def _refresh(self) -> None:
        """Reload changed files and make the TLS context for new certificates, which also reads files."""
        try:
            self.security.refresh()
            if self.socket.family != socket.AF_UNIX:
                security = self.security.pinned()
                server_tls(security, security.credentials.current)
        except (OSError, ConfigurationError) as error:  # for example, no descriptor is free now
            place = error_location(error)
            emit("reload.failed", f"cannot reload the files of certificates and keys: {place}", place=place)

    def _duty_ended(self, duty: asyncio.Task[None]) -> None:
        """Shut down after a duty has failed; serve_forever raises its error."""
        if not duty.cancelled():
            self._start_draining()

    def _busy(self, slot: Slot | None = None) -> int | None:
        return reject_code(draining=self._draining, full=self._admission.overloaded(slot))
