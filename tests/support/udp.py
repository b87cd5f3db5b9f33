"""Servers and clients on UDP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sealwire.dtls import SynchronousUDPClient, UDPServer
from support.service import Deployment

ADDRESS = ("127.0.0.1", 0)


@contextmanager
def running(server: UDPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=[0.05], name="udp")
    with server:
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(20)
            assert not thread.is_alive()


def client(deployment: Deployment, port: int, **options: Any) -> SynchronousUDPClient:
    times = {name: options.pop(name) for name in ("timeout", "wait") if name in options}
    security = deployment.security(options.pop("role", "client"), **options)
    return SynchronousUDPClient("127.0.0.1", port, **({"timeout": 10, "wait": 10} | times), security=security)
