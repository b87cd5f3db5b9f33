"""A Unix socket in the place of TLS (docs/protocol.md, section 1): the kernel says who is there, nobody reads along."""

from __future__ import annotations

import os
import socket
import ssl
import struct

from sealwire.errors import TransportError
from sealwire.tls.identity import PeerIdentity


class PlainSocket(socket.socket):
    """With what of an SSLSocket's methods a channel uses."""

    def write(self, data: bytes | memoryview) -> int:
        """Send what goes. Raises SSLWantWriteError where nothing does."""
        try:
            return self.send(data)
        except BlockingIOError:
            raise ssl.SSLWantWriteError from None

    def read(self, size: int, buffer: memoryview) -> int:
        """Read what is there; 0 at the end. Raises SSLWantReadError where nothing is."""
        try:
            return self.recv_into(buffer, size)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None

    def pending(self) -> int:
        """Bytes that poll does not see."""
        return 0

    def unwrap(self) -> None:
        """TLS has an end of its own; here it is the stream's."""


class PlainObject:
    """The same for an SSLObject, between two memory BIOs."""

    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def do_handshake(self) -> None:
        """There is none."""

    def write(self, data: bytes | memoryview) -> int:
        """To the outgoing BIO."""
        return self._outgoing.write(data)

    def read(self, size: int, buffer: memoryview) -> int:
        """From the incoming BIO; 0 at the end. Raises SSLWantReadError where nothing is there."""
        data = self._incoming.read(size)
        if not data and not self._incoming.eof:
            raise ssl.SSLWantReadError
        buffer[: len(data)] = data
        return len(data)

    def unwrap(self) -> None:
        """TLS has an end of its own; here it is the stream's."""


def process_at(sock: socket.socket) -> PeerIdentity:
    """The process at the other end, as the kernel knows it (SO_PEERCRED, unix(7)). Raises TransportError."""
    if not hasattr(socket, "SO_PEERCRED"):
        raise TransportError("this system does not say which process is at the other end of a Unix socket; use TCP")
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return PeerIdentity.of_process(uid, gid, pid)


def this_process() -> PeerIdentity:
    """What the other end sees of us."""
    return PeerIdentity.of_process(os.geteuid(), os.getegid(), os.getpid())
