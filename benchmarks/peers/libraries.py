"""RPyC, gRPC and ZeroMQ, each with its own kind of security and raw pickle for the values."""

from __future__ import annotations

import pickle
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def dump(value: Any) -> bytes:
    return pickle.dumps(value, protocol=5)


def files(directory: Path, name: str) -> tuple[str, str, str]:
    return str(directory / f"{name}.key"), str(directory / f"{name}.pem"), str(directory / "ca.pem")


# RPyC


def serve_rpyc(directory: Path, ready: Callable[[int], None]) -> None:
    import rpyc
    from rpyc.utils.authenticators import SSLAuthenticator
    from rpyc.utils.server import ThreadedServer

    class Service(rpyc.Service):
        def exposed_echo(self, data: bytes) -> bytes:
            return dump(pickle.loads(data))

    key, cert, ca = files(directory, "server")
    authenticator = SSLAuthenticator(key, cert, ca_certs=ca, cert_reqs=ssl.CERT_REQUIRED)
    server = ThreadedServer(Service, hostname="127.0.0.1", port=0, authenticator=authenticator, backlog=1024)
    ready(server.port)
    server.start()


class _Rpyc:
    def __init__(self, connection: Any) -> None:
        self.connection, self.echo = connection, connection.root.echo

    def ask(self, value: Any) -> Any:
        return pickle.loads(self.echo(dump(value)))

    def close(self) -> None:
        self.connection.close()


def connect_rpyc(directory: Path, port: int) -> _Rpyc:
    import rpyc

    key, cert, ca = files(directory, "client")
    return _Rpyc(rpyc.ssl_connect("localhost", port, keyfile=key, certfile=cert, ca_certs=ca))


# gRPC

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


def serve_grpc(directory: Path, ready: Callable[[int], None]) -> None:
    import grpc

    key, cert, ca = (Path(name).read_bytes() for name in files(directory, "server"))
    server = grpc.server(ThreadPoolExecutor(16), options=_OPTIONS)
    echo = grpc.unary_unary_rpc_method_handler(lambda value, _: value, pickle.loads, dump)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench", {"echo": echo})])
    credentials = grpc.ssl_server_credentials([(key, cert)], ca, require_client_auth=True)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    ready(port)
    server.wait_for_termination()


class _Grpc:
    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.ask = channel.unary_unary("/bench/echo", dump, pickle.loads)

    def pipeline(self, values: list[Any]) -> None:
        for future in [self.ask.future(value) for value in values]:
            future.result()

    def close(self) -> None:
        self.channel.close()


def connect_grpc(directory: Path, port: int) -> _Grpc:
    import grpc

    key, cert, ca = (Path(name).read_bytes() for name in files(directory, "client"))
    return _Grpc(grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca, key, cert), _OPTIONS))


# ZeroMQ


def _curve_keys(directory: Path) -> tuple[bytes, bytes]:
    """Return the server's public and secret key; each client makes its own."""
    import zmq

    path = directory / "curve"
    if not path.exists():
        path.write_bytes(b" ".join(zmq.curve_keypair()))
    public, secret = path.read_bytes().split()
    return public, secret


def serve_zmq(directory: Path, ready: Callable[[int], None]) -> None:
    import zmq

    sock = zmq.Context().socket(zmq.REP)
    sock.curve_publickey, sock.curve_secretkey = _curve_keys(directory)
    sock.curve_server = True
    ready(sock.bind_to_random_port("tcp://127.0.0.1"))
    while True:
        sock.send(dump(pickle.loads(sock.recv())))


class _Zmq:
    def __init__(self, sock: Any) -> None:
        self.sock = sock

    def send(self, value: Any) -> None:
        self.sock.send_multipart([b"", dump(value)])

    def receive(self) -> Any:
        return pickle.loads(self.sock.recv_multipart()[1])

    def ask(self, value: Any) -> Any:
        self.send(value)
        return self.receive()

    def pipeline(self, values: list[Any]) -> None:
        for value in values:
            self.send(value)
        for _ in values:
            self.receive()

    def close(self) -> None:
        self.sock.close(linger=0)


_zmq_contexts: list[Any] = []


def connect_zmq(directory: Path, port: int) -> _Zmq:
    import zmq

    if not _zmq_contexts:
        _zmq_contexts.append(zmq.Context())
    sock = _zmq_contexts[0].socket(zmq.DEALER)
    sock.curve_serverkey = _curve_keys(directory)[0]
    sock.curve_publickey, sock.curve_secretkey = zmq.curve_keypair()
    sock.set_hwm(0)
    sock.connect(f"tcp://127.0.0.1:{port}")
    return _Zmq(sock)
