"""The addresses that ``sealwire serve`` listens on, all at once."""

from __future__ import annotations

import os
import re
import select
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import click

from sealwire.cli import systemd
from sealwire.cli.addresses import Address, UnixAddress, host_and_port, unix_path
from sealwire.errors import ConfigurationError
from sealwire.listeners import SocketFile, address_text, check_address, listen, path_text
from sealwire.security import Security
from sealwire.session.terms import check_server
from sealwire.wire.frames import escaped


class Descriptor(NamedTuple):
    """A descriptor that listens already.

    Attributes:
        number: Its number.
        name: The address, for messages; empty to ask the socket.
    """

    number: int
    name: str = ""


Bind = Address | UnixAddress | Descriptor
_DESCRIPTOR: Final = re.compile(r"fd:([0-9]{1,7})", re.ASCII)


class BindType(click.ParamType[Any]):
    """An address to listen on."""

    name = "ADDRESS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Bind:
        """Return the address that a text names."""
        try:
            if value.startswith("unix:"):
                return UnixAddress(unix_path(value))
            if (match := _DESCRIPTOR.fullmatch(value)) is not None:
                return Descriptor(int(match[1]))
            address = Address(*host_and_port(value, lowest=0))
            check_address(address)
        except (ValueError, ConfigurationError) as error:
            forms = "HOST:PORT like 0.0.0.0:7443 or [::]:7443, unix:PATH, or fd:N"
            return self.fail(escaped(f"{value[:200]!r}: {error}; expected {forms}"), param, ctx)
        return address


class ListenerGroup:
    """Several listening sockets, which a server uses as one: it becomes readable with any of them.

    The server's bounds count for all of them together. In a forked process it stands for the same sockets, and leaves
    the files of Unix sockets to the process that made them.

    Args:
        binds: The addresses.

    Raises:
        ConfigurationError: A descriptor is not a listening socket.
        TransportError: An address cannot be listened on.

    Attributes:
        sockets: The sockets.
        names: Their addresses, for messages.
    """

    type = socket.SOCK_STREAM

    def __init__(self, binds: Sequence[Bind]) -> None:
        self._process = os.getpid()
        self._files: list[SocketFile] = []
        self.sockets: list[socket.socket] = []
        self.names: list[str] = []
        self._ready = select.epoll()
        with ExitStack() as stack:
            stack.callback(self.close)
            for bind in binds:
                self._add(bind)
            stack.pop_all()

    def _add(self, bind: Bind) -> None:
        if isinstance(bind, Descriptor):
            sock = _inherited(bind)
        elif isinstance(bind, Address):
            sock = listen(tuple(bind))
        else:
            sock = socket.socket(socket.AF_UNIX)
        self.sockets.append(sock)
        if isinstance(bind, UnixAddress):
            file = SocketFile(bind.path, 0o600)
            file.bind(sock)
            self._files.append(file)
        sock.setblocking(False)
        name = bind.name if isinstance(bind, Descriptor) else bind.path if isinstance(bind, UnixAddress) else ""
        self.names.append(name or listening_address(sock.getsockname()))
        self._ready.register(sock, select.EPOLLIN)

    @property
    def family(self) -> socket.AddressFamily:
        """AF_UNIX if all of them are Unix sockets, else the family of one that is not."""
        return next((each.family for each in self.sockets if each.family != socket.AF_UNIX), socket.AF_UNIX)

    def check(self, security: Security) -> None:
        """Check that servers on all of them can use a Security. Raises ConfigurationError."""
        for unix in {each.family == socket.AF_UNIX for each in self.sockets}:
            check_server(security, unix=unix)

    def fileno(self) -> int:
        """Return a descriptor that is readable when a connection waits; -1 after the end."""
        return -1 if self._ready.closed else self._ready.fileno()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection of one that has any; the kernel takes them in turn. Raises OSError if there is none."""
        numbers = [number for number, _ in self._ready.poll(0, 1)]
        for sock in self.sockets:
            if sock.fileno() in numbers:
                return sock.accept()
        raise BlockingIOError

    def getsockopt(self, *arguments: int) -> int | bytes:
        """Return an option of the first one, which has those of all."""
        return self.sockets[0].getsockopt(*arguments)

    def getsockname(self) -> Any:
        """Return the address of the first one."""
        return self.sockets[0].getsockname()

    def setblocking(self, _: bool) -> None:
        """Do nothing: none of them ever blocks."""

    def close(self) -> None:
        """Close all of them, and remove the files of those that were made here. Without effect when called again."""
        self._ready.close()
        for sock in self.sockets:
            sock.close()
        while self._files:
            file = self._files.pop()
            if self._process == os.getpid():
                file.remove()

    def __str__(self) -> str:
        return ", ".join(self.names)


def is_unix_bind(bind: Bind) -> bool:
    """Return True for the address or descriptor of a Unix socket. Raises ConfigurationError."""
    if not isinstance(bind, Descriptor):
        return isinstance(bind, UnixAddress)
    sock = _inherited(bind)
    sock.detach()
    return sock.family == socket.AF_UNIX


def _inherited(bind: Descriptor) -> socket.socket:
    return systemd.listening_socket(bind.number, f"fd:{bind.number} is")


def listening_address(address: Any) -> str:
    """Return host and port, or the path of a Unix socket."""
    if isinstance(address, bytes):
        address = address.decode(errors="replace")
    return path_text(address) if isinstance(address, str) else address_text(address)
