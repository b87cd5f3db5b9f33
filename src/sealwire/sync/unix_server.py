"""Servers on Unix sockets, for clients on the same machine: the same frames, keys and handlers, without TLS.

The kernel replaces TLS (docs/protocol.md, section 1). The mode of the socket's file controls access, and the kernel
reports the uid, gid and pid of the process at the other end. Both ends list acceptable users in ``peers``, as in
``uid:1000``. The service's name replaces the host name. The certificates of a Security are not used.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from sealwire.listeners import SocketFile
from sealwire.middleware.chain import Middleware
from sealwire.security import Security
from sealwire.sync.mixins import Forking, Threading
from sealwire.sync.server import TCPServer


class UnixStreamServer(TCPServer):
    """A server on a Unix socket that serves one connection at a time, with the API of socketserver.UnixStreamServer.

    Otherwise it is like TCPServer.

    Args:
        server_address: Path of the socket, at most 107 bytes. A socket left behind by a server that has ended is
            replaced.
        RequestHandlerClass: A class derived from RequestHandler, or a function from message to reply.
        security: The server's security configuration, with ``peers`` and a ``service``.
        bind_and_activate: Listen at once. Default: True.
        mode: Permissions of the socket; users with write permission can connect. Default: 0o600, its owner only.
        listener: A socket that listens already, instead of ``server_address``. The server closes it. Default: none.
        middleware: As for TCPServer. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
        TransportError: The socket cannot be created.
    """

    address_family = socket.AF_UNIX
    allow_reuse_address = False

    def __init__(
        self,
        server_address: str | os.PathLike[str],
        RequestHandlerClass: Any,
        security: Security,
        bind_and_activate: bool = True,
        *,
        mode: int = 0o600,
        listener: socket.socket | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._file = None if listener is not None else SocketFile(server_address, mode)
        address = server_address if self._file is None else self._file.path
        super().__init__(
            address, RequestHandlerClass, security, bind_and_activate, listener=listener, middleware=middleware
        )

    def _prepare(self, server_address: Any) -> Any:
        return server_address

    def server_bind(self) -> None:
        """Bind the socket, and listen: the file is there from then on. Raises TransportError, naming the path."""
        assert self._file is not None  # there is no listener
        self._file.bind(self.socket, self.request_queue_size)

    def leave_to_parent(self) -> None:
        """Let go of the parent's sockets in a forked child; see TCPServer. The file is the parent's, too."""
        if self._file is not None:
            self._file.leave_to_parent()
        super().leave_to_parent()

    def _release(self) -> None:
        """Release everything, and remove the socket's file if it is still this server's."""
        super()._release()
        if self._file is not None:
            self._file.remove()


class ThreadingUnixStreamServer(Threading, UnixStreamServer):
    """A server on a Unix socket that serves each connection in a thread, Limits.max_threads of them at most.

    Arguments and errors are those of UnixStreamServer.
    """


class ForkingUnixStreamServer(Forking, UnixStreamServer):
    """A server on a Unix socket that serves each connection in a child process, Limits.max_threads of them at most.

    Arguments and errors are those of UnixStreamServer.
    """
