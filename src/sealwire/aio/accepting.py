"""Accepts the connections of an asyncio server while there are slots for them."""

from __future__ import annotations

import asyncio
import errno
import socket
from functools import partial
from time import monotonic
from typing import Any, Final

from sealwire.admission import Admission
from sealwire.descriptors import Reserve
from sealwire.listeners import OUT_OF_RESOURCES
from sealwire.proxy_header_reader import take_header, too_slow
from sealwire.slot import Slot

_RETRY_WAIT: Final = 0.05
"""Seconds until another attempt to accept, if no resources are free."""


class Acceptor:
    """Accepts connections.

    Args:
        listener: The listening socket, which does not block.
        admission: The slots of the server.
        reserve: A descriptor in reserve.
    """

    def __init__(self, listener: socket.socket, admission: Admission, reserve: Reserve) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._admission = admission
        self._reserve = reserve

    async def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection and its client's address, once there is a slot. Raises OSError if that is over."""
        while True:
            if not self._admission.wait_for_room(0.0):
                await self._wait_for_change(self._admission.until_late())
                continue
            # Not loop.sock_accept, which can lose a connection when it is cancelled.
            await _readable(self._listener)
            try:
                sock, client_address = self._listener.accept()
            except BlockingIOError:
                continue  # another process has taken it
            except OSError as error:
                await self._handle_error(error)
                continue
            sock.setblocking(False)
            self._reserve.fill()
            return sock, client_address

    async def _wait_for_change(self, seconds: float) -> None:
        """Wait until a connection has ended or authenticated, for ``seconds`` at most."""
        waiting: asyncio.Future[None] = self._loop.create_future()
        timer = self._loop.call_later(seconds, _settle, waiting)
        self._admission.on_change = partial(_settle, waiting)
        try:
            await waiting
        finally:
            timer.cancel()
            self._admission.on_change = None

    async def _handle_error(self, error: OSError) -> None:
        """Make room and pause after a temporary error. Raises a permanent one."""
        if error.errno in (errno.EBADF, errno.ENOTSOCK, errno.EINVAL):
            raise error  # the socket was closed from outside
        if error.errno in OUT_OF_RESOURCES and self._reserve.make_room(error):
            return
        # The connection may stay in the queue, so the loop would spin without a pause.
        await self._wait_for_change(_RETRY_WAIT)


async def receive_header(sock: socket.socket, slot: Slot, client_address: Any, deadline: float) -> Any:
    """Return the client's address, after the header of a proxy if there is to be one.

    Raises HandshakeFailed, RemoteProtocolError, DeadlineExceeded. The socket is closed if this raises.
    """
    if slot.header is None:
        return client_address
    try:
        async with asyncio.timeout(max(0.0, deadline - monotonic())):
            while (found := take_header(sock, slot, client_address)) is None:
                await _readable(sock)
    except BaseException as error:
        sock.close()
        if type(error) is TimeoutError:
            raise too_slow(slot) from None
        raise
    return found


async def _readable(sock: socket.socket) -> None:
    """Wait until a socket has something to read, or a listening one a connection to accept."""
    descriptor = sock.fileno()
    if descriptor < 0:
        return
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, waiting)
    try:
        await waiting
    finally:
        loop.remove_reader(descriptor)


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
