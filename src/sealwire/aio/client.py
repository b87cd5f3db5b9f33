"""The clients on asyncio: a request, from its value to the decoded reply.

The connections, which all tasks share, are in :mod:`sealwire.aio.connections`.
"""

from __future__ import annotations

import asyncio
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from sealwire.aio.client_connection import AsyncClientChannel
from sealwire.aio.connecting import connect, connect_unix, within
from sealwire.aio.connections import Connections, LoopConnection
from sealwire.aio.part_stream import Lender
from sealwire.aio.parts_client import AsyncPartsClient
from sealwire.aio.threads import MAX_DECODED_ON_LOOP, is_large, look
from sealwire.client_base import BaseClient, PathClient, TCPHostClient, check_seconds
from sealwire.errors import DeadlineExceeded, HandshakeFailed, HandshakeRejected
from sealwire.middleware.chain import Middleware
from sealwire.retry import ConnectRetry, Resend
from sealwire.security import Security
from sealwire.session.call_time import CallTime
from sealwire.session.client import ConnectionLost
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.frames import Payload, VerifiedPayload
from sealwire.wire.metadata import Metadata

MAX_IN_FLIGHT: Final = 256
"""Requests in flight on one connection; more requests wait."""
_C = TypeVar("_C", bound=LoopConnection)


class AsyncClient(BaseClient, Generic[_C]):
    """The base class of all clients on asyncio."""

    _max_in_flight: ClassVar[int] = MAX_IN_FLIGHT

    _runs_coroutines = True

    def __init__(self, timeout: float, wait: float, security: Security, middleware: Sequence[Middleware] = ()) -> None:
        super().__init__(timeout, wait, security, middleware)
        self._connections: Connections[_C] | None = None

    @abstractmethod
    async def _connect(self, deadline: float) -> _C:
        """Make a connection; ``deadline`` is a time of ``time.monotonic()``."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _is_open(self) -> bool:
        return self._connections is not None and self._connections.current is not None

    @property
    def peer(self) -> PeerIdentity | None:
        """The server's verified identity; None without a connection."""
        current = None if self._connections is None else self._connections.current
        return None if current is None else current.peer

    async def connect(self) -> None:
        """Connect now, unless there is a usable connection. Requests do this themselves.

        Raises:
            TransportError: The connection failed. Its subclasses say more: HandshakeFailed, HandshakeRejected,
                PeerNotAllowed.
            DeadlineExceeded: The connection was not complete within ``timeout`` seconds.
            ConfigurationError: No certificate or key is valid now.
            InvalidState: Another event loop uses the client.
        """
        time = CallTime(timeout=self.timeout, wait=self.timeout, now=monotonic())
        await self._here().usable(time, self._open, self.timeout)

    async def ping(self) -> float:
        """Measure a round trip to the server. Connects first if necessary.

        On UDP, a PING that is lost is not sent again.

        Returns:
            Seconds until the answer.

        Raises:
            DeadlineExceeded: There was no answer within ``wait`` seconds.
            TransportError: Connecting failed, or the connection ended.
            RemoteProtocolError: The server broke the protocol.
            ConfigurationError: No certificate or key is valid now.
            InvalidState: Another event loop uses the client.
        """
        time = CallTime(timeout=self.timeout, wait=self.wait, now=monotonic())
        connection = await self._here().usable(time, self._open, self.timeout)
        return await connection.ping(time.deadline)

    async def send_request(
        self,
        data: Any,
        *,
        wait: float | None = None,
        idempotent: bool = False,
        metadata: Metadata | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> Any:
        """Send a request and return the reply. Connects first if necessary.

        Any number of tasks may call this at once; replies may come in any order. If a call is cancelled, or its time is
        over, the server is told to cancel the request; it may have acted on it all the same. If the connection ends
        before the reply, the request is sent once more on a new one if it is proved that no handler has seen it, or if
        ``idempotent`` is true.

        Args:
            data: The message, of types that the codec accepts.
            wait: Seconds for the request, until the reply's last byte. That includes the wait behind other requests of
                this client, but not its first connection, which has ``timeout`` seconds more. Default: the client's
                ``wait``.
            idempotent: True if the server may act on the request twice without harm. Default: False.
            metadata: A small map of str to str that goes with the request: 32 entries and 4,096 bytes at most. The key
                ``request-id`` names the request in the logs of both ends. Default: none.
            reply_metadata: A dict to fill with the metadata of the reply. Default: none.

        Returns:
            The decoded reply.

        Raises:
            FeatureNotSupported: There is metadata, and the server takes none. Nothing was sent.
            EncodeError: The data cannot be encoded; nothing was sent.
            PayloadTooLarge: The encoded data is over a limit; nothing was sent.
            RemoteError: The server answered with an error. The connection stays open.
            DecodeError: The reply is not acceptable, for example of a type that is not on the allowlist. The connection
                stays open.
            DeadlineExceeded: There was no reply in time. If ``sent`` is true, the server may have acted on the request.
            ConnectionClosed: The connection ended. The server may have acted on the request.
            TransportError: Connecting failed; see :meth:`connect`.
            RemoteProtocolError: The server broke the protocol.
            ConfigurationError: ``wait`` is not a number of seconds, or no certificate or key is valid now.
            InvalidState: Another event loop uses the client.
        """
        if self._middleware:
            return await self._call(data, wait, idempotent, metadata, reply_metadata)
        seconds = self.wait if wait is None else check_seconds("wait", wait)
        return await self._send(data, seconds, idempotent, metadata, reply_metadata)

    async def _send(
        self,
        data: Any,
        seconds: float,
        idempotent: bool,
        metadata: Metadata | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        time = CallTime(timeout=self.timeout, wait=seconds, now=monotonic())
        connections = self._here()
        encode = self.security.codec.encode_pieces
        payload = await connections.encode(encode, data, time.deadline) if is_large(data) else encode(data)
        if not connections.try_acquire():
            await connections.acquire(time.deadline)
        try:
            reply = await self._request(connections, payload, time, idempotent, metadata, reply_metadata)
        except DeadlineExceeded as late:
            late.sent = late.sent or time.sent
            raise
        finally:
            connections.release()
        del payload  # so that a large request is not kept in memory while a large reply is decoded
        return (
            self._decode(reply) if len(reply) <= MAX_DECODED_ON_LOOP else await connections.decode(self._decode, reply)
        )

    async def close(self) -> None:
        """Close the connection and any retired ones; pending calls raise ConnectionClosed.

        This takes two seconds at most, whatever the server does, and also works in another event loop than that of the
        requests. The next request opens a new connection.
        """
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()

    def __del__(self) -> None:
        connections = getattr(self, "_connections", None)
        if connections is not None:
            text = f"{self!r} was not closed; use `async with` or `await client.close()`"
            if connections.drop_soon():
                warnings.warn(text, ResourceWarning, stacklevel=1, source=self)

    def _here(self) -> Connections[_C]:
        """Return the connections in the running event loop. Raises InvalidState."""
        connections = self._connections
        if connections is None or not connections.is_here:
            if connections is not None:
                connections.leave()
            connections = self._connections = Connections(self.security, self._address, self._max_in_flight)
        return connections

    async def _request(
        self,
        connections: Connections[_C],
        payload: Payload,
        time: CallTime,
        idempotent: bool,
        metadata: Metadata | None,
        reply_metadata: dict[str, str] | None,
    ) -> VerifiedPayload:
        """Send a request and return the reply, on a second connection if the first one is lost and that is harmless."""
        resend: Resend | None = None
        while True:
            channel = connections.ready() or await connections.usable(time, self._open, self.timeout)
            try:
                return await channel.request(
                    payload, time.deadline, idempotent=idempotent, metadata=metadata, reply_metadata=reply_metadata
                )
            except ConnectionLost as lost:
                resend = resend or Resend(time.deadline, idempotent=idempotent)
                await self._look(resend, lost)
                time.sent = not lost.unprocessed

    async def _look(self, resend: Resend, lost: ConnectionLost) -> None:
        """Return if a lost request is to be sent again. Raises ConnectionClosed, DeadlineExceeded."""
        if resend.wants_look(lost):
            await look(self.security, resend.deadline)
        resend.after(lost)

    async def _open(self, deadline: float) -> _C:
        retry = ConnectRetry(self.security, deadline)
        while True:
            try:
                return await within(self._connect(deadline), deadline - monotonic(), self._address)
            except DeadlineExceeded as late:
                raise retry.refused or late from None
            except (HandshakeFailed, HandshakeRejected) as failed:
                if retry.wants_look(failed):
                    await look(self.security, deadline)
                await asyncio.sleep(retry.delay(failed))


class _AsyncStreamClient(AsyncPartsClient, AsyncClient[AsyncClientChannel]):
    """The base class of the clients on TCP and Unix sockets."""

    def _lender(self, *, idempotent: bool) -> Lender:  # noqa: ARG002 - a pool's
        return self

    async def _connection(self, connections: Connections[AsyncClientChannel], time: CallTime) -> AsyncClientChannel:
        return connections.ready() or await connections.usable(time, self._open, self.timeout)

    async def _encoded(self, connections: Connections[AsyncClientChannel], data: Any, deadline: float) -> Payload:
        return await connections.encode(self.security.codec.encode_pieces, data, deadline)

    async def _decoded(self, connections: Connections[AsyncClientChannel], payload: VerifiedPayload) -> Any:
        return await connections.decode(self._decode, payload)


class AsyncTCPClient(TCPHostClient, _AsyncStreamClient):
    """A client for one server on TCP, for asyncio.

    It connects on first use, and again if the connection has ended. Up to 256 requests are in flight at a time, on one
    connection. As an asynchronous context manager it closes the connection at the end. In another event loop, when the
    first one no longer runs, and in a forked child it makes a new connection.

    Args:
        host: Name or IP address of the server. It is verified against the server's certificate, unless
            ``security.peers`` names a URI or fingerprint instead.
        port: TCP port of the server.
        timeout: Seconds for connecting, with TCP, TLS and Sealwire's handshake together. Default: 10.
        wait: Seconds for one request, until the reply's last byte; see :meth:`send_request`. Default: 10.
        security: The client's security configuration.
        keepalive: Seconds without a request after which a PING is sent, so that no NAT or load balancer drops the
            connection. If it is not answered, the connection is replaced. Default: None, no PING.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`.
            They may be coroutine functions. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    async def _connect(self, deadline: float) -> AsyncClientChannel:
        channel = await connect(self.host, self.port, self.security, timeout=max(0.001, deadline - monotonic()))
        channel.keep_alive(self.keepalive)
        return channel


class AsyncUnixClient(PathClient, _AsyncStreamClient):
    """A client for one server on a Unix socket of this machine, otherwise like AsyncTCPClient.

    ``peer`` has the uid, gid and pid of the server's process.

    Args:
        path: Path of the socket.
        timeout: Seconds for connecting. Default: 10.
        wait: Seconds for one request, until the reply's last byte; see :meth:`send_request`. Default: 10.
        security: The client's security configuration. It needs ``peers``, the users that may run the server, as in
            ``uid:1000``, and a ``service``, since there is no host name to verify.
        keepalive: Seconds without a request after which a PING is sent, so that no NAT or load balancer drops the
            connection. If it is not answered, the connection is replaced. Default: None, no PING.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`.
            They may be coroutine functions. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    async def _connect(self, deadline: float) -> AsyncClientChannel:
        channel = await connect_unix(self.path, self.security, timeout=max(0.001, deadline - monotonic()))
        channel.keep_alive(self.keepalive)
        return channel
