"""Servers and clients on UDP."""

from __future__ import annotations

import os
import select
import socket
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from sealwire.dtls import SynchronousUDPClient, UDPServer
from sealwire.dtls.demultiplexer import Demultiplexer
from sealwire.dtls.server_association import ServerAssociation
from sealwire.security import Security
from sealwire.wire.events import Request
from sealwire.wire.protocol import State
from support.service import Deployment, eventually

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


def echo(message: Any) -> Any:
    return message


class Counting:
    """A handler that counts each message."""

    def __init__(self) -> None:
        self.seen: Counter[Any] = Counter()

    def __call__(self, message: Any) -> Any:
        self.seen[message] += 1
        return message


class Held:
    """A handler that holds messages which begin with "held" until ``go``."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, message: Any) -> Any:
        self.entered.release()
        if str(message).startswith("held"):
            assert self.go.wait(20)
        return message


def forked(action: Callable[[], bool]) -> int:
    """The exit status of a forked child: 0 if the action returns True there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which is the point
        child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if action() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def passed(seconds: float) -> None:
    """Let that much time go by: the test is about its effect."""
    end = monotonic() + seconds
    eventually(lambda: monotonic() > end, timeout=seconds + 5)


class Ending:
    """A server on UDP that ends the associations of its first requests, and answers the others with what they say.

    Args:
        security: The server's.
        ends: For each of the first requests, the code of CLOSE and its ``last``; None for close_notify alone.

    Attributes:
        payloads: The requests that came.
        port: Where it is.
    """

    def __init__(self, security: Security, *ends: tuple[int, int] | None) -> None:
        self._ends = deque(ends)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(ADDRESS)
        self._server = Demultiplexer(security, send=self._sock.sendto, dispatch=self._dispatch)
        self._thread = threading.Thread(target=self._run)
        self._stop, self._stopped = os.pipe()
        self.payloads: list[bytes] = []
        self.port = self._sock.getsockname()[1]

    def __enter__(self) -> Ending:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)
        self._sock.close()

    def _run(self) -> None:
        while self._stop not in select.select([self._sock, self._stop], [], [])[0]:
            datagram, address = self._sock.recvfrom(65536)
            self._server.datagram_received(datagram, address, monotonic())

    def _dispatch(self, association: ServerAssociation, request: Request, _: float | None) -> None:
        self.payloads.append(bytes(request.payload))
        if not self._ends:
            self._server.send_reply(association, request.sequence, request.payload)
            self._server.release(association, request)
            return
        end = self._ends.popleft()
        if end is None:
            association.protocol.state = State.ENDED  # which says nothing any more
        else:
            association.protocol._handed_over = end[1]
        for datagram in association.close(0 if end is None else end[0]):
            self._sock.sendto(datagram, association.address)
        self._server.associations.forget(association)
