"""The clients on asyncio."""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from collections.abc import Awaitable
from time import monotonic
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from sealwire.aio.channel.client import AsyncClientChannel, Lost
from sealwire.channel.connecting import where_text
from sealwire.channel.pump import reason
from sealwire.clients import RESENDABLE, AtHost, AtPath, Attempts, Client, seconds_of, unknown
from sealwire.errors import (
    DeadlineExceeded,
    HandshakeRejected,
    TransportError,
)
from sealwire.security import Security
from sealwire.tls.identity import PeerIdentity, canonical_host
from sealwire.wire.frames import Payload, VerifiedPayload

MAX_UNDER_WAY: Final = 256
"""Requests under way on one connection; who comes then waits for his turn."""
_T = TypeVar("_T")


class _Usable(Protocol):
    def usable(self) -> bool:
        """Whether the connection can take a request, as far as is known here."""

    @property
    def peer(self) -> PeerIdentity | None:
        """Who the server is."""


_C = TypeVar("_C", bound=_Usable)


class AsyncClient(Client, Generic[_C]):
    """What all clients on asyncio share: one connection, made when it is first used, and again when the server has gone
    away, with many requests under way."""

    _most: ClassVar[int] = MAX_UNDER_WAY

    def __init__(self, timeout: float, wait: float, security: Security) -> None:
        super().__init__(timeout, wait, security)
        self._channel: _C | None = None
        self._connecting = asyncio.Lock()
        self._turns = asyncio.Semaphore(self._most)

    @abstractmethod
    async def _connect(self, deadline: float) -> _C:
        """A new connection, until that moment of ``time.monotonic()``."""

    @abstractmethod
    async def _request(self, payload: Payload, seconds: float, idempotent: bool) -> VerifiedPayload:
        """The reply to a request."""

    @abstractmethod
    def _let_go(self, channel: _C) -> None:
        """Of a connection that is not used any more: those who wait for replies of it still get them."""

    @abstractmethod
    async def _give_up(self) -> None:
        """End all connections that were let go, now."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _is_open(self) -> bool:
        return self._channel is not None

    @property
    def peer(self) -> PeerIdentity | None:
        """Who the server is; None while there is no connection."""
        return None if self._channel is None else self._channel.peer

    async def connect(self) -> None:
        """Connect now, if no connection is usable. Raises TransportError, DeadlineExceeded, ConfigurationError."""
        await self._usable()

    async def send_request(self, data: Any, *, wait: float | None = None, idempotent: bool = False) -> Any:
        """Send ``data`` and return the reply; arguments and errors as of SynchronousTCPClient.send_request.

        Replies may come in any order. Who is cancelled, or whose time is over, leaves the others alone; the server may
        act on his request all the same.
        """
        seconds = self.wait if wait is None else seconds_of("wait", wait)
        payload = self.security.codec.encode_pieces(data)
        async with self._turns:
            reply = await self._request(payload, seconds, idempotent)
        return self.security.decode(reply)

    async def close(self) -> None:
        """Close the connection, if there is one. The next request opens a new one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            self._let_go(channel)
        # Nothing of ours outlives this.
        await self._give_up()

    async def _usable(self) -> _C:
        async with self._connecting:
            channel = self._channel
            if channel is not None:
                if channel.usable():
                    return channel
                self._channel = None
                self._let_go(channel)
            self._channel = await self._open(monotonic() + self.timeout)
            return self._channel

    async def _open(self, deadline: float) -> _C:
        attempts = Attempts(deadline)
        while True:
            try:
                return await _within(self._connect(deadline), deadline - monotonic())
            except DeadlineExceeded as late:
                raise attempts.refused or late from None
            except HandshakeRejected as rejected:
                await asyncio.sleep(attempts.after(rejected))


class _StreamClient(AsyncClient[AsyncClientChannel]):
    """What the clients of streams share."""

    def __init__(self, timeout: float, wait: float, security: Security) -> None:
        super().__init__(timeout, wait, security)
        self._leaving: dict[AsyncClientChannel, asyncio.Task[None]] = {}

    async def _request(self, payload: Payload, seconds: float, idempotent: bool) -> VerifiedPayload:
        channel = await self._usable()
        deadline = monotonic() + seconds
        try:
            return await _within(channel.request(payload, seconds), seconds)
        except Lost as lost:
            if not lost.unprocessed and not (idempotent and lost.code in RESENDABLE):
                raise unknown(lost) from None
        channel = await self._usable()
        left = deadline - monotonic()
        try:
            return await _within(channel.request(payload, max(0.001, left)), left)
        except Lost as lost:
            raise unknown(lost) from None

    def _let_go(self, channel: AsyncClientChannel) -> None:
        task = asyncio.get_running_loop().create_task(channel.end())
        self._leaving[channel] = task
        task.add_done_callback(lambda _: self._leaving.pop(channel, None))

    async def _give_up(self) -> None:
        for left in list(self._leaving):
            left.give_up()
        if self._leaving:
            await asyncio.wait(self._leaving.values())


class AsyncTCPClient(AtHost, _StreamClient):
    """A client for one server, on asyncio; many requests are under way at a time, on one connection.

    host, port, timeout, wait, security: as for SynchronousTCPClient. It belongs to one event loop. It connects when
    first used and again when the server has gone away. An asynchronous context manager: at the end the connection is
    closed, and whoever still waits gets ConnectionClosed. Raises ConfigurationError.
    """

    async def _connect(self, deadline: float) -> AsyncClientChannel:
        return await connect(self.host, self.port, self.security, timeout=deadline - monotonic())


class AsyncUnixClient(AtPath, _StreamClient):
    """The same for a server that listens on the Unix socket ``path``; ``security`` needs a service and peers."""

    async def _connect(self, deadline: float) -> AsyncClientChannel:
        return await connect_unix(self.path, self.security, timeout=deadline - monotonic())


async def connect(host: str, port: int, security: Security, *, timeout: float = 10.0) -> AsyncClientChannel:
    """A sealed connection to a server, for the article's functions: ``send_msg(channel, …)``, ``await
    recv_async(channel)``, and at last ``await channel.end()``. Arguments and errors as of sealwire.channel.connect.
    """
    where = where_text(host, port)
    name = canonical_host(host)
    credentials = security.present()
    deadline = monotonic() + timeout
    channel = AsyncClientChannel(security, credentials, host=name, where=where)
    try:
        await _within(asyncio.get_running_loop().create_connection(lambda: channel, host, port), timeout, where)
    except DeadlineExceeded:
        raise
    except OSError as error:
        failed = "the host's address cannot be found" if isinstance(error, socket.gaierror) else reason(error)
        raise TransportError(
            f"cannot connect to {where}: {failed}; see whether the server runs and listens there"
        ) from None
    return await _established(channel, deadline)


async def connect_unix(path: str, security: Security, *, timeout: float = 10.0) -> AsyncClientChannel:
    """The same to a server that listens on a Unix socket."""
    deadline = monotonic() + timeout
    channel = AsyncClientChannel(security, security.present(), host=None, where=path)
    try:
        await _within(asyncio.get_running_loop().create_unix_connection(lambda: channel, path), timeout, path)
    except DeadlineExceeded:
        raise
    except OSError as error:
        raise TransportError(
            f"cannot connect to {path}: {reason(error)}; see whether the server runs and listens there, and whether "
            "the socket's mode lets this user in"
        ) from None
    return await _established(channel, deadline)


async def _established(channel: AsyncClientChannel, deadline: float) -> AsyncClientChannel:
    try:
        await channel.establish(deadline)
    except BaseException:
        # What explains it was read; nothing of ours is under way that could be destroyed.
        await channel.close(linger=0)
        raise
    return channel


async def _within(step: Awaitable[_T], seconds: float, where: str = "the server") -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError as error:
        if isinstance(error, DeadlineExceeded):
            raise
        raise DeadlineExceeded(f"nothing came from {where} in time") from None
