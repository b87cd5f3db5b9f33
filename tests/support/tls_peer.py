"""The peer of a TLS socket under test, without frames."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from sealwire.session import terms
from sealwire.sync.tls_socket import TLSSocket
from support.service import Deployment


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


@contextmanager
def connected(deployment: Deployment) -> Iterator[tuple[TLSSocket, Peer]]:
    """A client's socket after its handshake, and the peer at the other end of it."""
    server, client = deployment.security("server", peers=["dns:client.example"]), deployment.security("client")
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    peer = Peer(theirs, terms.server_tls(server, server.credentials.current))
    with theirs, TLSSocket(ours, terms.client_tls(client, client.credentials.current), host="localhost") as sock:
        thread = threading.Thread(target=peer.shake_hands)
        thread.start()
        sock.handshake(monotonic() + 10)
        sock.write(b"x")  # with the last message of the handshake
        thread.join()
        peer.read()
        sock.opened()
        sock.setblocking(False)
        yield sock, peer
