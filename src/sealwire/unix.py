"""Servers on Unix sockets, for clients on the same machine: the same as on TCP, TLS and keys included.

There is no host name; what takes its place is the service's name, and the list of peers at both ends. The kernel says
in addition which process is at the other end: ``peer.uid``, ``peer.gid``, ``peer.pid``, and ``uid:1000`` as a peer.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Any

from sealwire.errors import ConfigurationError, TransportError
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
    ) -> None:
        if isinstance(security, Security):
            security.check_local()
        if type(mode) is not int or not 0 <= mode <= 0o777:
            raise ConfigurationError(f"mode must be the permissions of a file, like 0o660, not {mode!r}")
        self._mode = mode
        self._file: os.stat_result | None = None
        super().__init__(os.fspath(server_address), RequestHandlerClass, security, bind_and_activate)

    def _prepare(self, server_address: Any) -> None:
        pass

    def server_bind(self) -> None:
        """Bind. Raises TransportError, naming the path."""
        path = str(self.server_address)
        # The mode that the file is made with (unix(7)): at no moment does it let others in.
        os.fchmod(self.socket.fileno(), self._mode)
        try:
            try:
                self.socket.bind(path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not _is_stale(path):
                    raise
                os.unlink(path)
                self.socket.bind(path)
            os.chmod(path, self._mode)  # what the umask has taken
        except OSError as error:
            why = error.strerror or str(error)
            raise TransportError(error.errno, f"cannot listen on {path}: {why}") from None
        self._file = os.stat(path)

    def server_close(self) -> None:
        """As on TCP; the socket's file goes, too, if it is still ours."""
        super().server_close()
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None and os.path.samestat(file, os.lstat(str(self.server_address))):
                os.unlink(str(self.server_address))


class ThreadingUnixStreamServer(Threading, UnixStreamServer):
    """Serves each connection in a thread of its own; at most Limits.max_threads of them."""


class ForkingUnixStreamServer(Forking, UnixStreamServer):
    """Serves each connection in a child process; at most Limits.max_threads of them."""


def _is_stale(path: str) -> bool:
    """Whether there is a socket on which nobody listens."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED
