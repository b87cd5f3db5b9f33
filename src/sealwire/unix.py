"""Servers on Unix sockets, for clients on the same machine: the same frames, keys and handlers, without TLS.

What takes its place is the kernel (docs/protocol.md, section 1): the mode of the socket's file says who can connect,
and ``peer.uid``, ``peer.gid``, ``peer.pid`` which process it is; ``uid:1000`` is an entry of the list of peers, at
both ends. What takes the place of the host name is the service's name. The certificates of a Security are not used.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from sealwire.listening import SocketFile
from sealwire.security import Security
from sealwire.server import Forking, TCPServer, Threading


class UnixStreamServer(TCPServer):
    """Serves one connection at a time; socketserver.UnixStreamServer's API.

    server_address: the path of the socket, at most 107 bytes. RequestHandlerClass: as for TCPServer. security: a
    Security with ``peers`` and a ``service``. mode: of the socket's file, by default for its owner alone: who can write
    to it can connect. A file that a server has left behind which is not there any more is replaced.

    Raises ConfigurationError, TransportError.
    """

    address_family = socket.AF_UNIX
    allow_reuse_address = False

    def __init__(
        self,
        server_address: str | os.PathLike[str],
        RequestHandlerClass: Any,  # noqa: N803 - socketserver's name
        security: Security,
        bind_and_activate: bool = True,
        *,
        mode: int = 0o600,
        listener: socket.socket | None = None,
    ) -> None:
        self._file = SocketFile(server_address, mode)
        super().__init__(os.fspath(server_address), RequestHandlerClass, security, bind_and_activate, listener=listener)

    def _prepare(self, server_address: Any) -> None:
        pass

    def server_bind(self) -> None:
        """Bind. Raises TransportError, naming the path."""
        self._file.bind(self.socket)

    def server_close(self) -> None:
        """As on TCP; the socket's file goes, too, if it is still ours."""
        super().server_close()
        self._file.remove()


class ThreadingUnixStreamServer(Threading, UnixStreamServer):
    """Serves each connection in a thread of its own; at most Limits.max_threads of them."""


class ForkingUnixStreamServer(Forking, UnixStreamServer):
    """Serves each connection in a child process; at most Limits.max_threads of them."""
