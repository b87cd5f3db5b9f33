"""Pyro5 over mutual TLS, with its msgpack serialiser. Its configuration is the process's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import Pyro5.api

from benchmarks.peers.libraries import files


def _configure(directory: Path, role: str) -> None:
    key, cert, ca = files(directory, role)
    config = Pyro5.api.config
    config.SSL = True
    config.SERIALIZER = "msgpack"
    config.SERVERTYPE = "thread"
    config.THREADPOOL_SIZE = 1100
    config.SSL_CACERTS = ca
    if role == "server":
        config.SSL_SERVERCERT, config.SSL_SERVERKEY, config.SSL_REQUIRECLIENTCERT = cert, key, True
    else:
        config.SSL_CLIENTCERT, config.SSL_CLIENTKEY = cert, key


@Pyro5.api.expose
class Echo:
    def echo(self, value: Any) -> Any:
        return value


def serve(directory: Path, ready: Callable[[int], None]) -> None:
    _configure(directory, "server")
    daemon = Pyro5.api.Daemon(host="localhost", port=0)
    daemon.register(Echo(), "echo")
    ready(int(daemon.locationStr.rpartition(":")[2]))
    daemon.requestLoop()


class _Pyro:
    def __init__(self, proxy: Any) -> None:
        self.proxy = proxy

    def ask(self, value: Any) -> Any:
        self.proxy._pyroClaimOwnership()  # a connection is made in one thread and used in another
        return self.proxy.echo(value)

    def close(self) -> None:
        self.proxy._pyroClaimOwnership()
        self.proxy._pyroRelease()


def connect(directory: Path, port: int) -> _Pyro:
    _configure(directory, "client")
    proxy = Pyro5.api.Proxy(f"PYRO:echo@localhost:{port}")
    proxy._pyroBind()
    return _Pyro(proxy)
