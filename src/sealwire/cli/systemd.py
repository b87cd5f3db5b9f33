"""The service's side of sd_listen_fds(3) and sd_notify(3): a listening socket taken over, states reported.

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

_FIRST_DESCRIPTOR: Final = 3
_SEND_SECONDS: Final = 1.0
"""Seconds that sending a state may take: serving matters more than reporting."""


def listener(*, taken: bool = True) -> socket.socket | None:
    """Return the socket that systemd passes to this process, or None; None also unless it is to be ``taken``.

    The variables are taken out of the environment, so that child processes do not take the socket for theirs. Raises
    ConfigurationError.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count or not taken:
        return None
    if count != "1":
        raise ConfigurationError(
            f"systemd passes {count if count.isdecimal() else 'no number of'} sockets, and one is expected: give the "
            "socket unit one ListenStream=, or name each with --bind fd:3 --bind fd:4"
        )
    return listening_socket(_FIRST_DESCRIPTOR, "systemd passes", ": use ListenStream= and Accept=no")


def listening_socket(descriptor: int, origin: str, remedy: str = "") -> socket.socket:
    """Return the listening socket of an inherited descriptor, which child processes do not inherit in turn.

    Args:
        descriptor: The descriptor.
        origin: The beginning of an error, to the verb.
        remedy: The end of the error for a socket that is not such a one.

    Raises:
        ConfigurationError: It is something else.
    """
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        supported = sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    except OSError as error:
        raise ConfigurationError(f"{origin} a descriptor that is not a socket: {error.strerror}") from None
    if not (listens and supported):
        sock.detach()
        raise ConfigurationError(f"{origin} a socket that does not listen for connections on TCP or Unix{remedy}")
    return sock


def notify(*states: str) -> None:
    """Send states to systemd, if it asks for them (``NOTIFY_SOCKET``): READY=1, RELOADING=1, STOPPING=1, STATUS=…"""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if "RELOADING=1" in states:
        states = (*states, f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        suppress(OSError),  # the socket is gone, or full
    ):
        sock.settimeout(_SEND_SECONDS)
        sock.sendto("\n".join(states).encode(), "\0" + address[1:] if address[0] == "@" else address)
