"""Clients that sit there and do nothing, or next to nothing, do not keep the others out."""

from __future__ import annotations

import socket
import statistics
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic

import pytest

from reference.peer import RefClient
from support.aio import KINDS, served_by
from support.service import Deployment, eventually

pytestmark = pytest.mark.usefixtures("clean")

EACH = 100


def median(deployment: Deployment, port: int) -> float:
    """Seconds for a new client's first request, connecting included."""
    times = []
    for _ in range(15):
        start = monotonic()
        with deployment.client(port, raw=True) as client:
            assert client.send_request(b"ask") == b"ask"
        times.append(monotonic() - start)
    return statistics.median(times)


@contextmanager
def dripping(sockets: list[socket.socket]) -> Iterator[None]:
    """One byte a second from each, of a TLS record that is never complete."""
    over = threading.Event()

    def drip() -> None:
        record = b"\x16\x03\x01\x01\xff" + bytes(500)
        for byte in record:
            for sock in sockets:
                with suppress(OSError):
                    sock.send(bytes([byte]))
            if over.wait(1):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_three_hundred_idlers(deployment: Deployment, kind: str) -> None:
    limits = {"max_handshakes": 700, "handshake_timeout": 30.0, "drain_timeout": 0.1}
    security = deployment.server_security(raw=True, limits=limits)
    with served_by(kind, lambda message: message, security) as port, ExitStack() as stack:
        alone = median(deployment, port)
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(EACH)]
        drips = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(EACH)]
        after_tls: list[RefClient] = [
            stack.enter_context(deployment.ref_client(port, until="tls")) for _ in range(EACH)
        ]
        assert len(silent + drips + after_tls) == 3 * EACH
        with dripping(drips):
            if kind == "threads":
                eventually(lambda: threading.active_count() > 3 * EACH)
            crowded = median(deployment, port)
    # Twenty times is far from what a server would need that waits for any of them: seconds for each.
    assert crowded < max(20 * alone, 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_idlers_make_room(deployment: Deployment, kind: str) -> None:
    """More of them than there are places: after a second the oldest goes."""
    limits = {"max_handshakes": 10, "handshake_timeout": 30.0, "drain_timeout": 0.1}
    security = deployment.server_security(raw=True, limits=limits)
    with served_by(kind, lambda message: message, security) as port, ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(25)]
        # Those that fill the places must be 1 s old first, then the next in the queue, and so on.
        with deployment.client(port, raw=True, timeout=10) as client:
            assert client.send_request(b"ask") == b"ask"
        ended = 0
        for sock in idle:
            sock.setblocking(False)
            try:
                ended += sock.recv(1) == b""
            except BlockingIOError:
                pass
            except ConnectionResetError:
                ended += 1
        assert ended >= 16
