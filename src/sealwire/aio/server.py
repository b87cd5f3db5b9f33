"""Servers on asyncio."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Collection
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

from sealwire.admission import GRACE, Admission, Place
from sealwire.aio.channel.server import AsyncServerChannel
from sealwire.aio.service import Service, in_hand
from sealwire.aio.workers import Workers
from sealwire.channel.pump import LINGER
from sealwire.errors import ConfigurationError, ConnectionClosed, DeadlineExceeded, InvalidState, SealwireError
from sealwire.handler import handler_class, log_lapse, log_refusal, place_of, report_end
from sealwire.listening import BACKLOG, SocketFile, address_text, is_local, listen
from sealwire.security import Security
from sealwire.wire.frames import RejectCode
from sealwire.worker import Recycling

logger = logging.getLogger("sealwire.server")

_PAUSE: Final = 0.05
"""Seconds until it is looked again whether a connection can be accepted."""
_TERMINATION: Final = 1.0
"""Seconds for those whose connections were ended under them."""
_LOOKS: Final = 64
"""Connections that are looked at before others have their turn."""


class AsyncTCPServer:
    """Serves any number of connections on one event loop, and several requests of each at a time.

    server_address: host and port; port 0 picks a free one (see the attribute of that name). RequestHandlerClass: as for
    TCPServer; its respond or handle, or the function, may also be a coroutine function, which runs on the loop. Others
    run in threads: ``workers`` of them for respond and functions. security: a Security with ``peers``. listener: a
    socket that listens already, instead of server_address; it is closed with the server.

    It serves from the beginning of an ``async with`` block to its end, and nothing of it outlives that::

        async with AsyncTCPServer((host, port), respond, security) as server:
            await server.serve_forever()

    At the end, requests in hand are finished, at most for Limits.drain_timeout seconds. Raises ConfigurationError,
    TransportError.
    """

    _is_local = False

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Any,  # noqa: N803 - socketserver's name
        security: Security,
        *,
        workers: int = 32,
        listener: socket.socket | None = None,
    ) -> None:
        if not isinstance(security, Security):
            raise ConfigurationError("a server needs a Security; see Security.from_files and Security.from_toml")
        security.check_server(local=self._is_local or is_local(listener))
        if type(workers) is not int or not 1 <= workers <= 1024:
            raise ConfigurationError("workers must be a whole number of threads from 1 to 1024")
        self.security = security
        self.RequestHandlerClass = handler_class(RequestHandlerClass, coroutines=True)
        self.recycling: Recycling | None = None
        self.turns_away = True
        """Whether clients that come while it drains are told so; if not, they are left to others that listen, and those
        that are connecting can ask once before they are told."""
        self._most = workers
        self.socket = self._listen(server_address) if listener is None else listener
        self.socket.setblocking(False)
        self.server_address: Any = self.socket.getsockname()
        self._admission = Admission(security.limits)
        self._channels: dict[AsyncServerChannel, None] = {}
        self._connections: dict[asyncio.Task[None], Place] = {}
        self._duties: list[asyncio.Task[None]] = []
        self._going = False
        self._starved = False
        self._over: asyncio.Event | None = None
        self._draining: asyncio.Task[None] | None = None

    def _listen(self, server_address: Any) -> socket.socket:
        return listen(server_address)

    async def __aenter__(self) -> Self:
        if self._over is not None:
            raise InvalidState("this server has served already, or does; make another one")
        self._over = asyncio.Event()
        self._workers = Workers(self._most)
        self._service = Service(self.RequestHandlerClass, self, self._workers)
        loop = asyncio.get_running_loop()
        self._duties = [loop.create_task(duty()) for duty in (self._accept_all, self._look_after)]
        for duty in self._duties:
            duty.add_done_callback(self._duty_ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def serve_forever(self) -> None:
        """Serve until :meth:`shutdown`, or until this is cancelled."""
        if self._over is None:
            async with self:
                await self.serve_forever()
        else:
            await self._over.wait()
            for duty in self._duties:
                if not duty.cancelled():
                    duty.result()

    def reload(self) -> bool:
        """Look at the files of certificates and keys now; see TCPServer.reload."""
        return self.security.reload()

    async def shutdown(self) -> None:
        """Stop listening, drain, and release everything; returns when that is done.

        Called by a handler it does not wait for that, since the handler's own request is among those in hand.
        """
        if self._over is None:
            self.server_close()
            return
        draining = self._leave()
        if not in_hand.get():
            await asyncio.shield(draining)

    def server_close(self) -> None:
        """Stop listening, at once; for a server that has not served."""
        self.socket.close()

    def leave(self) -> None:
        """Begin to shut down; serve_forever returns when that is done."""
        self._leave()

    def _leave(self) -> asyncio.Task[None]:
        if self._draining is None:
            self._going = self.turns_away
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        return self._draining

    async def _drain(self) -> None:
        limits = self.security.limits
        deadline = monotonic() + limits.drain_timeout
        if not self.turns_away:
            await self._stop_duties()
            await self._settled(monotonic() + min(limits.handshake_timeout, limits.drain_timeout / 2))
        self._going = True
        start = monotonic()
        awaited = set(self._connections)
        for channel in self._channels:
            channel.leave()
        # Those that have proved nothing have nothing in hand that would be lost.
        await _ended(awaited, min(deadline, start + GRACE))
        self._admission.drop(self._admission.pending())
        await _ended(awaited, deadline)
        await self._stop_duties()
        await _ended(self._connections, min(deadline, monotonic() + GRACE))
        for task in self._connections:
            task.cancel()
        await _ended(self._connections, monotonic() + _TERMINATION)
        stuck = await self._workers.close(0.0 if self._connections else _TERMINATION)
        if stuck:
            logger.error("%d handlers have not returned, and are left behind in their threads", stuck)
        self.server_close()
        assert self._over is not None  # noqa: S101 - it has served
        self._over.set()

    async def _settled(self, deadline: float) -> None:
        """Wait until nobody is pending."""
        while self._admission.pending() and monotonic() < deadline:
            await asyncio.sleep(_PAUSE)

    async def _stop_duties(self) -> None:
        for duty in self._duties:
            duty.cancel()
        await asyncio.wait(self._duties)

    async def _accept_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._admission.room(0.0):
                await asyncio.sleep(_PAUSE)
                continue
            # Not sock_accept, which loses a connection where it is cancelled just then.
            await self._acceptable()
            try:
                sock, client_address = self.socket.accept()
            except BlockingIOError:
                continue  # another process has taken it
            except OSError as error:
                await self._cannot_accept(error)
                continue
            sock.setblocking(False)
            self._starved = False
            place = self._admission.enter(sock)
            place.recycling = self.recycling
            task = loop.create_task(self._connection(sock, client_address, place), name=address_text(client_address))
            self._connections[task] = place
            task.add_done_callback(self._left)

    async def _acceptable(self) -> None:
        loop = asyncio.get_running_loop()
        descriptor = self.socket.fileno()
        if descriptor < 0:
            return
        waiting: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, _settle, waiting)
        try:
            await waiting
        finally:
            loop.remove_reader(descriptor)

    async def _cannot_accept(self, error: OSError) -> None:
        if error.errno in (errno.EBADF, errno.ENOTSOCK, errno.EINVAL):
            raise error  # somebody has closed it under us
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            if not self._starved:
                logger.error("cannot accept: %s; raise the descriptor limit or lower Limits", error.strerror)
            self._starved = True
            self._admission.drop_oldest()
        # The connection may stay in the queue, and without a pause the loop would spin.
        await asyncio.sleep(_PAUSE)

    async def _connection(self, sock: socket.socket, client_address: Any, place: Place) -> None:
        try:
            local = self.socket.family == socket.AF_UNIX
            channel = AsyncServerChannel(self.security, local=local, lease=place, busy=self._busy)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: channel, sock)
        except BaseException:
            sock.close()
            raise
        self._channels[channel] = None
        try:
            await channel.accept()
            if self._going:
                channel.leave()
            await self._serve(channel, client_address)
        except SealwireError as error:
            log_refusal(client_address, place.peer, error, dropped=place.dropped)
            await channel.close(linger=0 if isinstance(error, DeadlineExceeded | ConnectionClosed) else LINGER)
        finally:
            del self._channels[channel]
            await channel.close(linger=0)

    async def _serve(self, channel: AsyncServerChannel, client_address: Any) -> None:
        try:
            await self._service.converse(channel, client_address)
            if channel.lapse is not None:
                log_lapse(client_address, channel.peer, channel.lapse)
        except (Exception, GeneratorExit, SystemExit) as error:
            report_end(channel, client_address, error)
        await channel.end()

    def _left(self, task: asyncio.Task[None]) -> None:
        place = self._connections.pop(task)
        place.hold(None)
        place.leave()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: not served: %s", task.get_name(), place_of(error))
            logger.debug("not served", exc_info=error)

    async def _look_after(self) -> None:
        """Look whether what connections were made by still holds."""
        while True:
            await asyncio.sleep(self.security.limits.reload_interval)
            for number, channel in enumerate(list(self._channels), 1):
                channel.look()
                if number % _LOOKS == 0:
                    await asyncio.sleep(0)

    def _duty_ended(self, duty: asyncio.Task[None]) -> None:
        """Without it there is no server; serve_forever raises what ended it."""
        if not duty.cancelled():
            self._leave()

    def _busy(self) -> int | None:
        if self._going:
            return RejectCode.SHUTTING_DOWN
        return RejectCode.OVERLOADED if self._admission.overloaded() else None


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _ended(tasks: Collection[asyncio.Task[None]], deadline: float) -> None:
    """Wait until those have ended, or the deadline."""
    if tasks:
        await asyncio.wait(list(tasks), timeout=max(0.0, deadline - monotonic()))


class AsyncUnixServer(AsyncTCPServer):
    """The same on a Unix socket. server_address, mode: as for UnixStreamServer; security needs a ``service``, too."""

    _is_local = True

    def __init__(
        self,
        server_address: str | os.PathLike[str],
        RequestHandlerClass: Any,  # noqa: N803 - socketserver's name
        security: Security,
        *,
        workers: int = 32,
        listener: socket.socket | None = None,
        mode: int = 0o600,
    ) -> None:
        self._file = SocketFile(server_address, mode)
        super().__init__(server_address, RequestHandlerClass, security, workers=workers, listener=listener)

    def _listen(self, server_address: Any) -> socket.socket:  # noqa: ARG002 - as the file has it
        sock = socket.socket(socket.AF_UNIX)
        try:
            self._file.bind(sock)
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def server_close(self) -> None:
        """Stop listening, at once, and remove the socket's file; for a server that has not served."""
        super().server_close()
        self._file.remove()
