"""Makes a client's connection on asyncio: TCP or Unix socket, TLS, then HELLO and WELCOME."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

from sealwire.aio.client_connection import AsyncClientChannel
from sealwire.aio.threads import refresh, run_in_thread
from sealwire.client_base import check_seconds
from sealwire.client_counts import counted_on_loop
from sealwire.errors import DeadlineExceeded
from sealwire.listeners import address_text, check_port, path_text, socket_path
from sealwire.retry import shares
from sealwire.security import Security
from sealwire.session import explain, terms
from sealwire.trust.identity import canonical_host

_T = TypeVar("_T")
_QUEUE_POLL: Final = 0.01
"""Seconds between two attempts to connect to a Unix socket with a full queue."""


async def connect(host: str, port: int, security: Security, *, timeout: float = 10.0) -> AsyncClientChannel:
    """Connect to a server, for send_msg and recv_async::

        channel = await sealwire.aio.connect("server.example", 7443, security)
        send_msg(channel, encode(data))
        if (message := await recv_async(channel)) is not None:  # None: the server has closed the connection
            reply = decode(message)
        await channel.end()

    Args:
        host: Name or IP address of the server. It is verified against the server's certificate, unless
            ``security.peers`` names a URI or fingerprint instead.
        port: TCP port of the server.
        security: The client's security configuration.
        timeout: Seconds for TCP, TLS and Sealwire's handshake together. Default: 10.

    Returns:
        The connection. Close it with ``await channel.end()``.

    Raises:
        ConfigurationError: An argument cannot be used, or no certificate or key is valid now.
        TransportError: The connection failed. Its subclasses say more: HandshakeFailed, HandshakeRejected,
            PeerNotAllowed.
        DeadlineExceeded: The connection was not complete in time.
    """
    deadline = monotonic() + check_seconds("timeout", timeout)
    check_port(port)
    canonical_host(host)
    terms.check_client(security)
    address = address_text((host, port))
    await refresh(security, timeout / 2)  # a disk that does not answer leaves time to connect
    found = await within(resolve(host, port, socket.SOCK_STREAM, address), deadline - monotonic(), address)
    return await connect_to(found, host, port, security, deadline)


@counted_on_loop()
async def connect_to(
    found: Sequence[Any], host: str, port: int, security: Security, deadline: float
) -> AsyncClientChannel:
    """Connect to the first address of a host that answers; see :func:`sealwire.sync.connecting.connect_to`."""
    name, address = canonical_host(host), address_text((host, port))
    security = security.pinned()
    failed, last = "no address", None
    for (*_, endpoint), seconds in shares(found, deadline):
        channel = AsyncClientChannel(security, security.credentials.current, host=name, address=address)
        try:
            await within(_connect_to(endpoint, channel), seconds, address)
        except DeadlineExceeded:
            failed = "no answer in time"
        except OSError as error:
            failed, last = os.strerror(error.errno) if error.errno else explain.reason(error), error
        else:
            return await establish(channel, deadline)
    raise explain.no_answer(address) if monotonic() >= deadline else explain.not_accepted(address, failed, last)


async def _connect_to(endpoint: Any, channel: AsyncClientChannel) -> None:
    await asyncio.get_running_loop().create_connection(lambda: channel, *endpoint[:2])


@counted_on_loop()
async def connect_unix(path: str, security: Security, *, timeout: float = 10.0) -> AsyncClientChannel:
    """Connect to a server on a Unix socket, for send_msg and recv_async.

    Args:
        path: Path of the socket.
        security: The client's security configuration, with ``peers`` and a ``service``.
        timeout: Seconds for connecting and Sealwire's handshake together. Default: 10.

    Returns:
        The connection. Close it with ``await channel.end()``.

    Raises:
        ConfigurationError: No key is valid now.
        TransportError: The connection failed. Its subclasses say more: HandshakeFailed, HandshakeRejected,
            PeerNotAllowed.
        DeadlineExceeded: The connection was not complete in time.
    """
    deadline = monotonic() + check_seconds("timeout", timeout)
    path = socket_path(path)
    terms.check_client(security, unix=True)
    address = path_text(path)
    await refresh(security, timeout / 2)  # a disk that does not answer leaves time to connect
    security = security.pinned()
    channel = AsyncClientChannel(security, security.credentials.current, host=None, address=address)
    try:
        await within(_connect_unix(channel, path), deadline - monotonic(), address)
    except DeadlineExceeded:
        raise
    except OSError as error:
        raise explain.unreachable_path(address, path, error) from None
    return await establish(channel, deadline)


async def _connect_unix(channel: AsyncClientChannel, path: str) -> None:
    """Connect to a Unix socket. While the server's queue is full, try again: nothing reports that it has room."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(path)
                break
            except BlockingIOError:
                await asyncio.sleep(_QUEUE_POLL)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=sock)
    except BaseException:
        sock.close()
        raise


async def resolve(host: str, port: int, kind: socket.SocketKind, address: str) -> list[Any]:
    """Return the results of getaddrinfo. Raises TransportError.

    A name is resolved in a thread of its own: those of the loop's executor do not exist in a forked child.
    """
    try:
        return socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass
    try:
        return await run_in_thread(partial(socket.getaddrinfo, host, port, type=kind), "sealwire names")
    except (OSError, UnicodeError, OverflowError):
        raise explain.unresolved(address) from None


async def within(step: Awaitable[_T], seconds: float, address: str = "the server") -> _T:
    """Return the result of an awaitable. Raises DeadlineExceeded after ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError as error:
        if isinstance(error, DeadlineExceeded):
            raise
        raise explain.no_answer(address) from None


async def establish(channel: AsyncClientChannel, deadline: float) -> AsyncClientChannel:
    """Complete the handshakes on a channel that is connected, and return it; close it if they fail."""
    try:
        await channel.establish(deadline)
    except BaseException:
        # No lingering: the server's explanation was read, and nothing of ours can get lost.
        await channel.close(linger=0)
        raise
    return channel
