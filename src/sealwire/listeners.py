"""Listening sockets, on TCP and on Unix sockets, and addresses as text.

A Unix socket appears under its path when it listens, and not before. It is bound to a name beside it, listens, and is
renamed, all while the directory is locked (flock(2)). So of several servers that find a socket left behind exactly one
replaces it, and no client meets a socket that does not listen yet.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import Any, Final

from sealwire.address_owner import path_owner, port_owner
from sealwire.errors import ConfigurationError, TransportError
from sealwire.wire.frames import escaped

BACKLOG: Final = 1024
"""Connections that the kernel queues until they are accepted."""
OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of accept(2) that say that descriptors or memory are used up."""
_MAX_PATH: Final = 107
"""Bytes of a Unix socket's path, at most (unix(7))."""
_LOCK_WAIT: Final = 5.0
"""Seconds to wait for a directory's lock, which servers hold for some milliseconds."""
_LOCK_POLL: Final = 0.01
_REMEDIES: Final = {
    errno.EACCES: "a port below 1024 needs privileges; choose another, or 0 for a free one",
    errno.EADDRINUSE: "choose another port, or end what listens there",
    errno.EADDRNOTAVAIL: "the host must be an address of this machine",
    errno.ENAMETOOLONG: "choose a shorter one",
    errno.ENOENT: "make its directory first",
    errno.ENOTDIR: "make its directory first",
    socket.EAI_NONAME: "the host must be an address of this machine, or its name",
}
_PATH_REMEDIES: Final = _REMEDIES | {
    errno.EACCES: "this user needs permission to read and write the directory",
    errno.EADDRINUSE: "choose another path, or end what listens there",
}


def address_text(address: object) -> str:
    """Return ``host:port`` for a message, with brackets around an IPv6 address; for a session on NATS, its inbox."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return address if isinstance(address, str) and address.startswith("nats:") else "a local peer"


def family_of(address: tuple[str, int]) -> socket.AddressFamily:
    """Return AF_INET6 for an IPv6 address, else AF_INET."""
    return socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET


def check_port(port: object, lowest: int = 1) -> None:
    """Raise ConfigurationError if this is not a port number from ``lowest`` on."""
    if type(port) is not int or not lowest <= port < 65536:
        raise ConfigurationError(f"port must be a whole number from {lowest} to 65535")


def check_address(address: object) -> Any:
    """Return the host and port to listen on, with what else an IPv6 address has.

    Raises:
        ConfigurationError: It is not the address of a server on TCP or UDP; the message says what is wrong.
    """
    if not isinstance(address, tuple | list) or len(address) not in (2, 4):
        raise ConfigurationError("server_address must be a pair of host and port, like ('127.0.0.1', 7443)")
    host, port, *more = address
    check_port(port, 0)
    if not isinstance(host, str):
        raise ConfigurationError("the host to listen on must be a str; '' stands for all IPv4 addresses")
    with suppress(UnicodeError):
        if "\0" not in host:
            host.removesuffix(".").encode("idna")
            if not more or (":" in host and all(type(each) is int and 0 <= each < 1 << 32 for each in more)):
                return (host, port, *more)
    raise ConfigurationError(f"{host[:300]!a} is not a host to listen on: it is neither a DNS name nor an IP address")


def check_listener(listener: Any) -> None:
    """Raise ConfigurationError if this is not a socket that listens."""
    with suppress(OSError, AttributeError):
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return
    raise ConfigurationError("listener must be an open socket that listens for connections")


def cannot_listen(address: str, error: Exception, owner: str = "", *, unix: bool = False) -> TransportError:
    """Return the error for an address, as text, that cannot be bound. ``owner``: see port_owner."""
    number = error.errno if isinstance(error, OSError) else None
    reason = getattr(error, "strerror", None) or str(error)
    remedy = (_PATH_REMEDIES if unix else _REMEDIES).get(number or 0)
    message = f"cannot listen on {address}: {reason}{owner}" + (f"; {remedy}" if remedy else "")
    return TransportError(message) if number is None else TransportError(number, message)


def bind(sock: socket.socket, address: Any) -> None:
    """Bind a socket to host and port. Raises TransportError, naming the address and the process that has it."""
    try:
        sock.bind(address)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise cannot_bind(sock, address, error) from None


def cannot_bind(sock: socket.socket, address: Any, error: Exception) -> TransportError:
    """Return the error for host and port that cannot be bound, with the process that has them."""
    in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
    return cannot_listen(address_text(address), error, port_owner(sock, address) if in_use else "")


def is_unix(listener: object) -> bool:
    """Return True for a listening Unix socket; False also without a socket."""
    return getattr(listener, "family", None) == socket.AF_UNIX


def listen(address: object) -> socket.socket:
    """Return a socket that listens on host and port; port 0 picks a free one.

    Raises ConfigurationError, TransportError.
    """
    checked = check_address(address)
    sock = socket.socket(family_of(checked), socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind(sock, checked)
        try:
            sock.listen(BACKLOG)
        except OSError as error:
            raise cannot_bind(sock, checked, error) from None
    except BaseException:
        sock.close()
        raise
    return sock


def socket_path(path: object) -> str:
    """Return the path of a Unix socket as text; an abstract name begins with a NUL.

    Raises:
        ConfigurationError: It is not the path of any file.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise ConfigurationError(f"the path of a Unix socket must be a str or a Path, not {type(path).__name__}")
    name = os.fsdecode(path)
    try:
        os.fsencode(name)
    except UnicodeError:
        raise ConfigurationError(f"{name[:300]!a} cannot be the path of a file on this system") from None
    if not name or "\0" in name[1:]:
        raise ConfigurationError(f"{name[:300]!a} is not a path: give the socket a file name without NUL")
    return name


def path_text(path: str) -> str:
    """Return the path of a Unix socket for a message, with @ before an abstract name, as systemd writes it."""
    return escaped(path.replace("\0", "@", 1))


def too_long(path: str) -> str | None:
    """Return the reason if a path is too long for a Unix socket, else None."""
    size = len(os.fsencode(path))
    return f"the path has {size} bytes, and that of a Unix socket {_MAX_PATH} at most" if size > _MAX_PATH else None


class SocketFile:
    """The file of a Unix socket.

    Args:
        path: At most 107 bytes.
        mode: Permissions; users with write permission can connect.

    Raises:
        ConfigurationError: ``mode`` is not a file's permissions, or ``path`` is not a path.
    """

    def __init__(self, path: str | os.PathLike[str], mode: int) -> None:
        if type(mode) is not int or not 0 <= mode <= 0o777:
            raise ConfigurationError(f"mode must be the permissions of a file, like 0o660, not {mode!r}")
        self.path = socket_path(path)
        if self.path[0] == "\0":
            raise ConfigurationError(
                "an abstract Unix socket has no permissions, so every user could connect: give it the path of a file"
            )
        self._text = path_text(self.path)
        self._mode = mode
        self._file: os.stat_result | None = None

    def bind(self, sock: socket.socket, backlog: int = BACKLOG) -> None:
        """Listen, and create the file then, replacing one left behind by a server that has ended.

        Raises:
            TransportError: The file cannot be created; the message has its path.
        """
        if reason := too_long(self.path):
            raise cannot_listen(self._text, OSError(errno.ENAMETOOLONG, reason))
        try:
            with self._locked_directory() as directory:
                owner = self._owner()
                if owner is not None:
                    in_use = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
                    raise cannot_listen(self._text, in_use, owner, unix=True)
                self._create(sock, backlog, directory)
        except OSError as error:
            if isinstance(error, TransportError):
                raise
            raise cannot_listen(self._text, error, unix=True) from None

    def _create(self, sock: socket.socket, backlog: int, directory: int) -> None:
        new = f"{self.path}.new"
        # A path through the directory's descriptor is short enough in any case.
        bound = f"/proc/self/fd/{directory}/{os.path.basename(new)}" if too_long(new) else new
        with suppress(FileNotFoundError):
            os.unlink(new)
        # The file is created with this mode (unix(7)), so that others cannot connect at any moment.
        os.fchmod(sock.fileno(), self._mode)
        sock.bind(bound)
        try:
            os.chmod(new, self._mode)  # bits cleared by the umask
            sock.listen(backlog)
            self._file = os.stat(new)
            os.rename(new, self.path)
        except BaseException:
            os.unlink(new)
            raise

    def leave_to_parent(self) -> None:
        """Remove nothing, in a forked child: the file is its parent's."""
        self._file = None

    def remove(self) -> None:
        """Remove the file, if it is still ours."""
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None:
                with self._locked_directory():
                    present = os.lstat(self.path)
                    # The file of another server may have got the inode number of ours.
                    if os.path.samestat(file, present) and file.st_mtime_ns == present.st_mtime_ns:
                        os.unlink(self.path)

    @contextmanager
    def _locked_directory(self) -> Iterator[int]:
        """Hold the lock of the file's directory; yield its descriptor."""
        directory = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            deadline = monotonic() + _LOCK_WAIT
            while True:
                try:
                    fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if monotonic() >= deadline:
                        raise OSError(errno.EAGAIN, "another process holds the lock of the directory") from None
                    sleep(_LOCK_POLL)
            try:
                yield directory
            finally:
                fcntl.flock(directory, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor open
        finally:
            os.close(directory)

    def _owner(self) -> str | None:
        """Return None if the path is free, or a socket without a listening process; else the text of its owner."""
        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                return ": it is not a socket"
        except FileNotFoundError:
            return None
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            result = probe.connect_ex(self.path)
            if result == errno.ECONNREFUSED:
                return None
            return path_owner(probe) if result == 0 else ""


def source_of(sock: socket.socket) -> str | None:
    """Return the address of a client, of IPv6 the part that identifies a network; None on a Unix socket."""
    try:
        return source_of_address(sock.getpeername())
    except OSError:  # it has gone already
        return None


def source_of_address(address: object) -> str | None:
    """Return the same for a client's address."""
    if not isinstance(address, tuple):
        return None
    host: str = address[0]
    if ":" not in host:
        return host
    network = ipaddress.IPv6Address(host.partition("%")[0])
    return str(network.ipv4_mapped or ipaddress.IPv6Network((network, 64), strict=False).network_address)
