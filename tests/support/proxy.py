"""A proxy that passes TCP through, behind bytes of the test's own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Proxy:
    """Listens on ``port`` of 127.0.0.1, and begins each connection to the server with ``first``.

    pieces: the bytes of each send, all at once for 0. glued: together with the client's first bytes.
    """

    def __init__(self, server: Any, first: bytes, *, pieces: int = 0, glued: bool = False) -> None:
        self._server = server
        self._first = first
        self._pieces = pieces or len(first) or 1
        self._glued = glued
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, name="proxy")]
        self._sockets = [self._listener]

    def start(self) -> None:
        self._threads[0].start()

    def stop(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                server = socket.create_connection(self._server)
                self._sockets.append(server)
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._run(self._forward, client, server)
                self._run(_copy, server, client)

    def _run(self, target: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, name="proxy"))
        self._threads[-1].start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            more = client.recv(65_536) if self._glued else b""
            whole = self._first + more
            size = len(whole) if more else self._pieces
            for start in range(0, len(whole), size):
                server.sendall(whole[start : start + size])
        _copy(client, server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def proxy(server: Any, first: bytes, **options: Any) -> Iterator[Proxy]:
    """A proxy to the end of the block."""
    made = Proxy(server, first, **options)
    made.start()
    try:
        yield made
    finally:
        made.stop()
