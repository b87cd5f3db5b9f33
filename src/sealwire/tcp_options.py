"""The options of TCP sockets, the same on both ends of every connection.

With keepalive a connection without requests stays known to the NATs and load balancers on its way, which forget one
that was silent for some minutes, and either end learns when the other has vanished. With the user timeout, that of data
under way, an end learns it as soon when something waits to be acknowledged.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from sealwire.limits import Limits

_BYTES_RECEIVED: Final = struct.Struct("@128xQ")
"""tcpi_bytes_received of struct tcp_info (Linux 4.1 and later, uapi/linux/tcp.h)."""


def bytes_received(sock: socket.socket) -> int | None:
    """Return the number of bytes that have come on a TCP connection, read or not; None if the system cannot tell."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
        return int(_BYTES_RECEIVED.unpack(info)[0])
    except (AttributeError, OSError, struct.error):  # another system or kernel, no TCP, or closed
        return None


def set_options(sock: socket.socket, limits: Limits) -> None:
    """Turn off Nagle's algorithm, and set keepalive and the user timeout, as far as this system has them."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", limits.keepalive_idle),
        ("TCP_KEEPINTVL", limits.keepalive_interval),
        ("TCP_KEEPCNT", limits.keepalive_count),
        ("TCP_USER_TIMEOUT", max(1, round(limits.tcp_user_timeout * 1000))),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
