"""Accepts the connections of an asyncio server while there are slots for them."""

from __future__ import annotations

import asyncio
import errno
import socket
from functools import partial
from typing import Any, Final

from sealwire.admission import Admission
from sealwire.descriptors import Reserve
from sealwire.listeners import OUT_OF_RESOURCES

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
            await self._wait_for_connection()
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

    async def _wait_for_connection(self) -> None:
        """Wait until the listening socket has a connection to accept."""
        descriptor = self._listener.fileno()
        if descriptor < 0:
            return
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(descriptor, _settle, waiting)
        try:
            await waiting
        finally:
            self._loop.remove_reader(descriptor)

    async def _handle_error(self, error: OSError) -> None:
        """Make room and pause after a temporary error. Raises a permanent one."""
        if error.errno in (errno.EBADF, errno.ENOTSOCK, errno.EINVAL):
            raise error  # the socket was closed from outside
        if error.errno in OUT_OF_RESOURCES and self._reserve.make_room(error):
            return
        # The connection may stay in the queue, so the loop would spin without a pause.
        await self._wait_for_change(_RETRY_WAIT)


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
