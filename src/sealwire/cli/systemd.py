"""What systemd and a service say to one another: sd_listen_fds(3) and sd_notify(3).

Two environment variables and one datagram each way, which are documented to stay as they are; a dependency would be
larger than this.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import Final

from sealwire.errors import ConfigurationError

_FIRST: Final = 3
_PATIENCE: Final = 1.0
"""Seconds for whoever is told something. To serve is more important than that somebody knows."""


def listener() -> socket.socket | None:
    """The socket that systemd listens on for us; None where it does not.

    The variables are taken out of the environment, so that processes which we start do not take it for theirs. Raises
    ConfigurationError.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count:
        return None
    if count != "1":
        raise ConfigurationError(
            f"systemd hands over {count if count.isdecimal() else 'no number of'} sockets, and one is wanted: give the "
            "socket unit one ListenStream="
        )
    os.set_inheritable(_FIRST, False)
    try:
        sock = socket.socket(fileno=_FIRST)
        listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        known = sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    except OSError as error:
        raise ConfigurationError(f"what systemd hands over is no socket: {error.strerror}") from None
    if not (listens and known):
        sock.close()
        raise ConfigurationError(
            "systemd hands over a socket that does not listen for connections on TCP or Unix: use "
            "ListenStream= and Accept=no"
        )
    return sock


def notify(*states: str) -> None:
    """Tell systemd, if it wants to be told (``NOTIFY_SOCKET``): READY=1, RELOADING=1, STOPPING=1, STATUS=…"""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if "RELOADING=1" in states:
        states = (*states, f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        suppress(OSError),  # he is not there, or does not read
    ):
        sock.settimeout(_PATIENCE)
        sock.sendto("\n".join(states).encode(), "\0" + address[1:] if address[0] == "@" else address)
