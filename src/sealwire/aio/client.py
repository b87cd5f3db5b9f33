"""The client on asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from random import SystemRandom
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sealwire.aio.channel import AsyncChannel, Lost
from sealwire.channel.client import where_text
from sealwire.channel.pump import LINGER, reason
from sealwire.client import BACK_OFF, RESENDABLE, seconds_of, unknown
from sealwire.errors import (
    ConfigurationError,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    TransportError,
)
from sealwire.security import Security
from sealwire.tls.contexts import verification_problem
from sealwire.tls.identity import PeerIdentity, canonical_host
from sealwire.wire.frames import Payload, RejectCode, VerifiedPayload

MAX_UNDER_WAY: Final = 256
"""Requests under way on one connection; who comes then waits for his turn."""
_random = SystemRandom()
_T = TypeVar("_T")


class AsyncTCPClient:
    """A client for one server, on asyncio; many requests are under way at a time, on one connection.

    host, port, timeout, wait, security: as for SynchronousTCPClient. It belongs to one event loop. It connects when
    first used and again when the server has gone away. An asynchronous context manager: at the end the connection is
    closed, and whoever still waits gets ConnectionClosed. Raises ConfigurationError.
    """

    def __init__(self, host: str, port: int, timeout: float = 10.0, wait: float = 10.0, *, security: Security) -> None:
        if not isinstance(security, Security):
            raise ConfigurationError(
                "a client needs security=Security(…); see Security.from_files and Security.from_toml"
            )
        if type(port) is not int or not 0 < port < 65536:
            raise ConfigurationError("port must be a whole number from 1 to 65535")
        canonical_host(host)
        self.host = host
        self.port = port
        self.timeout = seconds_of("timeout", timeout)
        self.wait = seconds_of("wait", wait)
        self.security = security
        self._channel: AsyncChannel | None = None
        self._leaving: set[AsyncChannel] = set()
        self._connecting = asyncio.Lock()
        self._turns = asyncio.Semaphore(MAX_UNDER_WAY)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        where = where_text(self.host, self.port)
        return f"<{type(self).__name__} {where}, {'open' if self._channel else 'not connected'}>"

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
        # Nothing of ours outlives this: the transports are gone then.
        for left in list(self._leaving):
            await asyncio.wait([left.ended], timeout=LINGER)

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

    async def _usable(self) -> AsyncChannel:
        async with self._connecting:
            channel = self._channel
            if channel is not None:
                if channel.usable():
                    return channel
                self._channel = None
                if channel.unanswered:  # of others, who still get their replies
                    self._leaving.add(channel)
                    channel.ended.add_done_callback(lambda _: self._leaving.discard(channel))
                else:
                    self._let_go(channel)
            self._channel = await self._open(monotonic() + self.timeout)
            return self._channel

    def _let_go(self, channel: AsyncChannel) -> None:
        self._leaving.add(channel)
        channel.ended.add_done_callback(lambda _: self._leaving.discard(channel))
        channel.close()

    async def _open(self, deadline: float) -> AsyncChannel:
        pause = BACK_OFF
        while True:
            try:
                return await _within(self._connect(), deadline - monotonic())
            except HandshakeRejected as rejected:
                left = deadline - monotonic()
                if rejected.code not in (RejectCode.OVERLOADED, RejectCode.SHUTTING_DOWN) or left < BACK_OFF:
                    raise
                await asyncio.sleep(min(pause, left) * _random.uniform(0.5, 1.0))
                pause = min(1.0, pause * 2)

    async def _connect(self) -> AsyncChannel:
        where = where_text(self.host, self.port)
        name = canonical_host(self.host)
        credentials = self.security.present()
        context = self.security.client_context(credentials)
        try:
            _, channel = await asyncio.get_running_loop().create_connection(
                lambda: AsyncChannel(self.security, credentials, host=name, where=where),
                self.host,
                self.port,
                ssl=context,
                server_hostname=name,
                ssl_shutdown_timeout=LINGER,
            )
        except ssl.SSLCertVerificationError as error:
            problem = verification_problem(error, credentials)
            raise HandshakeFailed(
                f"the certificate of {where} is not acceptable: {problem}; it must come from a CA in this client's ca "
                "file, be valid now, and have the host name among its subject alternative names"
            ) from None
        except ssl.SSLError as error:
            raise HandshakeFailed(f"TLS with {where} failed: {reason(error)}; is a Sealwire server there?") from None
        except OSError as error:
            raise TransportError(
                f"cannot connect to {where}: {reason(error)}; see whether the server runs and listens there"
            ) from None
        try:
            await asyncio.shield(channel.established)
        except BaseException:
            self._let_go(channel)
            raise
        return channel


async def _within(step: Awaitable[_T], seconds: float) -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError as error:
        if isinstance(error, DeadlineExceeded):
            raise
        raise DeadlineExceeded("nothing came from the server in time") from None
