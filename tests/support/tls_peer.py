"""The peer of a TLS socket under test, without frames."""

from __future__ import annotations

import socket
import ssl

import pytest


class Peer:
    """A server's end whose records are made one by one, and may be spoilt before they are sent."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self.sock.recv(65_536))
            else:
                return

    def read(self) -> None:
        try:
            self.tls.read()
        except ssl.SSLWantReadError:
            self.incoming.write(self.sock.recv(65_536))
            self.tls.read()

    def read_all(self, size: int) -> bytes:
        """Return so many bytes."""
        found = b""
        while len(found) < size:
            try:
                found += self.tls.read(65_536)
            except ssl.SSLWantReadError:
                self.incoming.write(self.sock.recv(65_536))
        return found

    def record(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()

    def close_notify(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()
