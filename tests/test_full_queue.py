"""A Unix socket whose queue is full: clients wait as long as they would on TCP."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sealwire import (
    AsyncUnixClient,
    DeadlineExceeded,
    Limits,
    Security,
    SynchronousUnixClient,
    ThreadingUnixStreamServer,
)
from support.service import QUICK, Deployment

pytestmark = pytest.mark.usefixtures("clean")


def security(deployment: Deployment, role: str) -> Security:
    return deployment.security(role, peers=[f"uid:{os.getuid()}"], service="orders", limits=Limits(**QUICK))


def echo(message: Any) -> Any:
    return message


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that listens, with a queue that is full; ``getsockname`` tells the path."""
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as stack:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(0)
        full = False
        while not full:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            full = waiting.connect_ex(listener.getsockname()) != 0
        yield listener


def request(kind: Any, path: str, deployment: Deployment, timeout: float) -> Any:
    client = kind(path, timeout, 20, security=security(deployment, "client"))
    if kind is SynchronousUnixClient:
        with client:
            return client.send_request(1)

    async def on_a_loop() -> Any:
        async with client:
            return await client.send_request(1)

    return asyncio.run(on_a_loop())


@pytest.mark.parametrize("kind", [SynchronousUnixClient, AsyncUnixClient])
def test_waits_until_its_timeout(deployment: Deployment, listener: socket.socket, kind: Any) -> None:
    with pytest.raises(DeadlineExceeded, match="did not answer in time"):
        request(kind, listener.getsockname(), deployment, 0.3)


@pytest.mark.parametrize("kind", [SynchronousUnixClient, AsyncUnixClient])
def test_is_served_when_the_server_accepts_again(deployment: Deployment, listener: socket.socket, kind: Any) -> None:
    """Also if a signal comes meanwhile, after which Python takes the connection for made."""
    path = listener.getsockname()
    before = signal.signal(signal.SIGALRM, lambda *_: start.set())
    start = threading.Event()

    server = ThreadingUnixStreamServer(path, echo, security(deployment, "server"), listener=listener)

    def serve() -> None:
        start.wait(20)
        server.serve_forever(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert request(kind, path, deployment, 20) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        start.set()
        server.server_close()
        thread.join(20)
        assert not thread.is_alive()
