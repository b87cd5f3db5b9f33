"""Tells which process has an address, for the error of another that wants it: Linux's /proc knows.

Every step may find nothing, because a process has ended or is another user's; then the error does without.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp (proc(5))."""
_ANY = "0"


def port_owner(sock: socket.socket, address: Any) -> str:
    """Return `` by process 4711 (name)`` for the process that has host and port, or an empty text."""
    kind = "udp" if sock.type == socket.SOCK_DGRAM else "tcp"
    with suppress(OSError, ValueError):
        host, port = str(address[0]).partition("%")[0], int(str(address[1]))
        family = socket.AF_INET6 if sock.family == socket.AF_INET6 else socket.AF_INET
        wanted = _hexadecimal(socket.getaddrinfo(host or None, port, family, flags=socket.AI_PASSIVE)[0][4][0], family)
        for inode in _inodes(kind, wanted, port):
            if owner := _holder(inode):
                return owner
    return ""


def path_owner(probe: socket.socket) -> str:
    """Return the same for the process that listens at the other end of a connected Unix socket."""
    if not hasattr(socket, "SO_PEERCRED"):
        return ""
    pid = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little", signed=True)
    return _named(pid) if pid > 0 else ""


def _hexadecimal(host: object, family: socket.AddressFamily) -> str:
    """Return an address as /proc/net has it: words of 32 bits in the machine's order; ``0`` for any address."""
    packed = socket.inet_pton(family, str(host).partition("%")[0])
    words = [packed[start : start + 4][::-1].hex().upper() for start in range(0, len(packed), 4)]
    return "".join(words).lstrip("0") or _ANY


def _inodes(kind: str, wanted: str, port: int) -> Iterator[str]:
    """Yield the inodes of sockets that have the port at this address, or at any."""
    for name in (kind, f"{kind}6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                host, _, number = fields[1].partition(":")
                host = host.lstrip("0") or _ANY
                listens = kind == "udp" or fields[3] == _LISTENS
                if listens and int(number, 16) == port and (host == wanted or _ANY in (host, wanted)):
                    yield fields[9]


def _holder(inode: str) -> str:
    """Return the first process that has a socket, by its inode."""
    link = f"socket:[{inode}]"
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):  # it was closed meanwhile
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") == link:
                        return _named(pid)
    return ""


def _named(pid: int) -> str:
    if pid == os.getpid():
        return " by this process"
    name = ""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return f" by process {pid}" + (f" ({ascii(name)[1:-1]})" if name else "")
