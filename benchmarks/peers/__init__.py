"""The peers: what each one is, and where its server and its client are.

A module of this package has functions ``serve…(directory, ready)``, which call ``ready(port)`` and then serve for
ever, and ``connect…(directory, port)``, coroutines where the peer is asynchronous. What they return has ``ask(value)``,
``close()`` and perhaps ``pipeline(values)``, again as coroutines. The certificates are those of the directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec

from sealwire.native import NATIVE

PURE = {"SEALWIRE_NATIVE": "off"}
NATIVELY = {"SEALWIRE_NATIVE": "require"}


@dataclass(frozen=True)
class Peer:
    """A server and a client.

    Attributes:
        name: Its name in tables.
        module: The module in this package.
        server, client: Its functions.
        note: What it is, and what it lacks.
        needs: Packages that must be installed.
        environment: Variables of its processes.
        lacks: Workloads that it cannot do, with the reason.
    """

    name: str
    module: str
    server: str = "serve"
    client: str = "connect"
    note: str = ""
    needs: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)

    @property
    def absence(self) -> str | None:
        """The reason for which it cannot be measured here; None if it can."""
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            return f"{', '.join(missing)} is not installed"
        if self.environment == NATIVELY and not NATIVE:
            return "this installation of Sealwire has no native core"
        return None


def _sealwire() -> list[Peer]:
    forms = [
        ("threads", "serve_threads", "connect", "ThreadingTCPServer, SynchronousTCPClient", ()),
        ("asyncio", "serve_asyncio", "connect_asyncio", "AsyncTCPServer, AsyncTCPClient", ()),
        ("uvloop", "serve_uvloop", "connect_uvloop", "the same on uvloop", ("uvloop",)),
        ("prefork", "serve_prefork", "connect", "PreforkTCPServer with two workers, SynchronousTCPClient", ()),
    ]
    return [
        Peer(f"sealwire-{form}{suffix}", "sealed", server, client, f"{note}; {core}", needs, environment)
        for suffix, core, environment in (("", "native core", NATIVELY), ("-pure", "pure Python", PURE))
        for form, server, client, note, needs in forms
    ]


NO_INSTANCES = {"E": "its serialiser has no classes"}
ONE_AT_A_TIME = {"H": "one request at a time on a connection"}
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("bare-tls", "bare", note="TLS 1.3, mutual; four-byte length, raw pickle; threads. Runs what a peer sends"),
        Peer(
            "bare-tls-msgpack", "bare", "serve_signed", "connect_signed", needs=("msgpack",),
            note="the same with msgpack and an HMAC of each message, as a careful user writes it by hand",
        ),
        Peer("pickle-plain", "bare", "serve_plain", "connect_plain", note="INSECURE: raw pickle, no TLS"),
        Peer(
            "multiprocessing", "bare", "serve_connection", "connect_connection", lacks=ONE_AT_A_TIME,
            note="INSECURE: multiprocessing.connection, a shared key when connecting, no encryption, raw pickle",
        ),
        Peer("asyncio-tls", "streams", note="asyncio streams over mutual TLS, raw pickle"),
        Peer("uvloop-tls", "streams", "serve_uvloop", "connect_uvloop", "the same on uvloop", ("uvloop",)),
        Peer(
            "pyro5", "pyro", note="Pyro5 over mutual TLS, with its msgpack serialiser", needs=("Pyro5", "msgpack"),
            lacks=NO_INSTANCES | ONE_AT_A_TIME,
        ),
        Peer("rpyc", "libraries", "serve_rpyc", "connect_rpyc", "RPyC over mutual TLS, raw pickle", ("rpyc",),
             lacks=ONE_AT_A_TIME),
        Peer("grpc", "libraries", "serve_grpc", "connect_grpc", "gRPC with mutual TLS, raw pickle", ("grpc",)),
        Peer("zmq-curve", "libraries", "serve_zmq", "connect_zmq",
             "ZeroMQ with CURVE keys, one server thread, raw pickle", ("zmq",)),
        *_sealwire(),
    )
}  # fmt: skip
