"""The asyncio server on Unix sockets; see :mod:`sealwire.sync.unix_server`."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from sealwire.aio.server import AsyncTCPServer
from sealwire.listeners import SocketFile
from sealwire.middleware.chain import Middleware
from sealwire.security import Security


class AsyncUnixServer(AsyncTCPServer):
    """A server on a Unix socket and one event loop, otherwise like AsyncTCPServer.

    Args:
        server_address: Path of the socket, at most 107 bytes. A socket left behind by a server that has ended is
            replaced.
        RequestHandlerClass: A class derived from RequestHandler, or a function from message to reply; see
            AsyncTCPServer.
        security: The server's security configuration, with ``peers`` and a ``service``.
        workers: Number of threads for handlers that are not coroutine functions, 1 to 1024. Default: 32.
        listener: A socket that listens already, instead of ``server_address``. The server closes it. Default: none.
        mode: Permissions of the socket; users with write permission can connect. Default: 0o600, its owner only.
        middleware: As for AsyncTCPServer. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
        TransportError: The socket cannot be created.
    """

    _is_unix = True

    def __init__(
        self,
        server_address: str | os.PathLike[str],
        RequestHandlerClass: Any,
        security: Security,
        *,
        workers: int = 32,
        listener: socket.socket | None = None,
        mode: int = 0o600,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._file = None if listener is not None else SocketFile(server_address, mode)
        super().__init__(
            server_address, RequestHandlerClass, security, workers=workers, listener=listener, middleware=middleware
        )
        if self._file is not None:
            self.server_address = self._file.path  # the socket's own name is the one before it was renamed

    def _listen(self, _server_address: Any) -> socket.socket:  # self._file has it
        sock = socket.socket(socket.AF_UNIX)
        try:
            assert self._file is not None  # there is no listener
            self._file.bind(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def leave_to_parent(self) -> None:
        """Let go of the parent's socket in a forked child; see AsyncTCPServer. The file is the parent's, too."""
        super().leave_to_parent()
        if self._file is not None:
            self._file.leave_to_parent()

    def _release(self) -> None:
        """Stop listening, and remove the socket's file if it is still this server's."""
        super()._release()
        if self._file is not None:
            self._file.remove()
