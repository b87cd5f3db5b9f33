"""Blocking sockets and threads: bare TLS, the same with msgpack and an HMAC, and what has no TLS.

``bare-tls`` is the yardstick: a four-byte length and raw pickle with TLS 1.3 and certificates on both
sides, TCP_NODELAY, header and body in one write, ``recv_into`` a buffer of the right size.
"""

from __future__ import annotations

import hashlib
import hmac
import pickle
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from benchmarks.data import Item

AT_ONCE = 32
Dump = Callable[[Any], bytes]
Load = Callable[[Any], Any]


def tls_context(directory: Path, side: int, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(directory / "ca.pem")
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def read_exactly(sock: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = sock.recv_into(view[filled:])
        if not count:
            raise EOFError
        filled += count
    return data


def dump(value: Any) -> bytes:
    return pickle.dumps(value, protocol=5)


class Bare:
    """One end of a connection."""

    def __init__(self, sock: socket.socket, dump: Dump = dump, load: Load = pickle.loads) -> None:
        self.sock, self.dump, self.load = sock, dump, load

    def send(self, value: Any) -> None:
        body = self.dump(value)
        self.sock.sendall(len(body).to_bytes(4, "big") + body)

    def receive(self) -> Any:
        return self.load(read_exactly(self.sock, int.from_bytes(read_exactly(self.sock, 4), "big")))

    def ask(self, value: Any) -> Any:
        self.send(value)
        return self.receive()

    def pipeline(self, values: list[Any]) -> None:
        for start in range(0, len(values), AT_ONCE):
            bodies = [self.dump(value) for value in values[start : start + AT_ONCE]]
            self.sock.sendall(b"".join(len(body).to_bytes(4, "big") + body for body in bodies))
            for _ in bodies:
                self.receive()

    def close(self) -> None:
        self.sock.close()


def serve_threads(ready: Callable[[int], None], accepted: Callable[[socket.socket], Bare]) -> None:
    def converse(raw: socket.socket) -> None:
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end = accepted(raw)
            while True:
                end.send(end.receive())
        except (EOFError, OSError):
            raw.close()

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        ready(listener.getsockname()[1])
        while True:
            threading.Thread(target=converse, args=(listener.accept()[0],), daemon=True).start()


def connected(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


_contexts: dict[Path, ssl.SSLContext] = {}


def connected_tls(directory: Path, port: int) -> ssl.SSLSocket:
    if directory not in _contexts:
        _contexts[directory] = tls_context(directory, ssl.PROTOCOL_TLS_CLIENT, "client")
    return _contexts[directory].wrap_socket(connected(port), server_hostname="localhost")


def serve(directory: Path, ready: Callable[[int], None]) -> None:
    context = tls_context(directory, ssl.PROTOCOL_TLS_SERVER, "server")
    serve_threads(ready, lambda raw: Bare(context.wrap_socket(raw, server_side=True)))


def connect(directory: Path, port: int) -> Bare:
    return Bare(connected_tls(directory, port))


# With msgpack and an HMAC


def _signed(directory: Path) -> tuple[Dump, Load]:
    import msgpack

    secret = hashlib.sha256((directory / "keyring.toml").read_bytes()).digest()

    def default(value: Item) -> Any:
        return msgpack.ExtType(1, msgpack.packb((value.id, value.name, value.price)))

    def hook(_code: int, data: bytes) -> Item:
        return Item(*msgpack.unpackb(data))

    def dump(value: Any) -> bytes:
        body = msgpack.packb(value, default=default)
        return hmac.digest(secret, body, "sha256") + body

    def load(data: bytearray) -> Any:
        body = memoryview(data)[32:]
        if not hmac.compare_digest(data[:32], hmac.digest(secret, body, "sha256")):
            raise ValueError("another key, or altered")
        return msgpack.unpackb(body, ext_hook=hook)

    return dump, load


def serve_signed(directory: Path, ready: Callable[[int], None]) -> None:
    context = tls_context(directory, ssl.PROTOCOL_TLS_SERVER, "server")
    codec = _signed(directory)
    serve_threads(ready, lambda raw: Bare(context.wrap_socket(raw, server_side=True), *codec))


def connect_signed(directory: Path, port: int) -> Bare:
    return Bare(connected_tls(directory, port), *_signed(directory))


# Without TLS


def serve_plain(_directory: Path, ready: Callable[[int], None]) -> None:
    """The article's service."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            end = Bare(self.request)
            try:
                while True:
                    end.send(end.receive())
            except (EOFError, OSError):
                pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 1024

    with Server(("127.0.0.1", 0), Handler) as server:
        ready(server.server_address[1])
        server.serve_forever()


def connect_plain(_directory: Path, port: int) -> Bare:
    return Bare(socket.create_connection(("127.0.0.1", port)))


def serve_connection(directory: Path, ready: Callable[[int], None]) -> None:
    def converse(end: Any) -> None:
        try:
            while True:
                end.send(end.recv())
        except (EOFError, OSError):
            end.close()

    with Listener(("127.0.0.1", 0), backlog=1024, authkey=(directory / "keyring.toml").read_bytes()) as listener:
        ready(listener.address[1])
        while True:
            threading.Thread(target=converse, args=(listener.accept(),), daemon=True).start()


class _Connection:
    def __init__(self, end: Any) -> None:
        self.end = end

    def ask(self, value: Any) -> Any:
        self.end.send(value)
        return self.end.recv()

    def close(self) -> None:
        self.end.close()


def connect_connection(directory: Path, port: int) -> _Connection:
    return _Connection(Client(("127.0.0.1", port), authkey=(directory / "keyring.toml").read_bytes()))
