"""A Unix socket in place of TLS: the kernel keeps it private and reports the peer (docs/protocol.md, section 1)."""

from __future__ import annotations

import os
import socket
import ssl
import struct

from sealwire.errors import TransportError
from sealwire.trust.identity import PeerIdentity


class PlainSocket(socket.socket):
    """A socket with the methods of TLSSocket that a channel uses."""

    flooded = False
    """True if the peer sends records without data; there are no records here."""
    held = False
    """True to keep what is written until :meth:`unwrap`; without TLS, nothing follows that it could go with."""
    buffered = False
    """True if input is here that poll(2) does not report."""

    def records(self) -> None:
        """Return None: there is no twin."""

    def opened(self) -> None:
        """Do nothing: without records, nothing but frames is expected at any time."""

    def write(self, data: bytes | memoryview) -> int:
        """Send as much as possible. Raises SSLWantWriteError if nothing can be sent now."""
        try:
            return self.send(data)
        except BlockingIOError:
            raise ssl.SSLWantWriteError from None

    def read(self, size: int, buffer: memoryview) -> int:
        """Read into the buffer; return 0 at the end. Raises SSLWantReadError if nothing has arrived."""
        try:
            return self.recv_into(buffer, size)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None

    def unwrap(self, deadline: float) -> None:
        """Do nothing: without TLS, the end of the stream is the only one."""


def peer_process(sock: socket.socket) -> PeerIdentity:
    """Return the identity of the process at the other end (SO_PEERCRED, unix(7)). Raises TransportError."""
    if not hasattr(socket, "SO_PEERCRED"):
        raise TransportError("this system cannot identify the process at the other end of a Unix socket; use TCP")
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return PeerIdentity.of_process(uid, gid, pid)


def own_process() -> PeerIdentity:
    """Return the identity that the other end sees for this process."""
    return PeerIdentity.of_process(os.geteuid(), os.getegid(), os.getpid())
