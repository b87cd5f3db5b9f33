"""Sockets that listen, on TCP and on the local machine."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from sealwire.errors import ConfigurationError, TransportError

BACKLOG = 128
"""Connections that the kernel holds until they are accepted."""


def address_text(address: object) -> str:
    """host:port, for a log."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "a local peer"


def family_of(address: tuple[str, int]) -> socket.AddressFamily:
    """IPv6 for an address of that kind, else IPv4."""
    return socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET


def cannot_listen(where: str, error: OSError) -> TransportError:
    """Why an address cannot be had."""
    return TransportError(error.errno, f"cannot listen on {where}: {error.strerror or error}")


def is_local(listener: socket.socket | None) -> bool:
    """Whether a socket that listens already, if there is one, is for clients on this machine."""
    return listener is not None and listener.family == socket.AF_UNIX


def listen(address: tuple[str, int]) -> socket.socket:
    """A socket that listens on host and port; port 0 picks a free one. Raises TransportError."""
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as error:
            raise cannot_listen(address_text(address), error) from None
    except BaseException:
        sock.close()
        raise
    return sock


class SocketFile:
    """The file of a Unix socket. path: at most 107 bytes. mode: who can write to it can connect.

    Raises ConfigurationError.
    """

    def __init__(self, path: str | os.PathLike[str], mode: int) -> None:
        if type(mode) is not int or not 0 <= mode <= 0o777:
            raise ConfigurationError(f"mode must be the permissions of a file, like 0o660, not {mode!r}")
        self.path = os.fspath(path)
        self._mode = mode
        self._file: os.stat_result | None = None

    def bind(self, sock: socket.socket) -> None:
        """Make the file; one that a server has left behind which is not there any more is replaced.

        Raises TransportError, naming the path.
        """
        # The mode that the file is made with (unix(7)): at no moment does it let others in.
        os.fchmod(sock.fileno(), self._mode)
        try:
            try:
                sock.bind(self.path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not _is_stale(self.path):
                    raise
                os.unlink(self.path)
                sock.bind(self.path)
            os.chmod(self.path, self._mode)  # what the umask has taken
        except OSError as error:
            raise cannot_listen(self.path, error) from None
        self._file = os.stat(self.path)

    def remove(self) -> None:
        """Remove the file, if it is still ours."""
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None and os.path.samestat(file, os.lstat(self.path)):
                os.unlink(self.path)


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
