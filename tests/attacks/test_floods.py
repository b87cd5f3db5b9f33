"""Peers that keep a server busy with what is no request: it ends them, in time, and serves the others."""

from __future__ import annotations

import _ssl
import asyncio
import ctypes
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from reference import protocol as p
from reference.peer import Ended, Frame, RefClient
from reference.transport import Endpoint
from sealwire import AsyncTCPClient, DeadlineExceeded, RemoteProtocolError, SynchronousTCPClient
from support.aio import served_by
from support.service import Deployment

pytestmark = pytest.mark.usefixtures("clean")

KINDS = ["threads", "asyncio", "uvloop"]
_openssl = ctypes.CDLL(_ssl.__file__)
_openssl.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
_openssl.SSL_do_handshake.argtypes = [ctypes.c_void_p]
_SSL_IN_OBJECT = 3 * ctypes.sizeof(ctypes.c_void_p)
"""The offset of OpenSSL's object in CPython's: behind reference count, type and a weak reference."""


def key_updates(client: Endpoint, count: int) -> None:
    """Send KeyUpdates (RFC 8446, section 4.6.3), which ask for none in return."""
    assert isinstance(client.link.tls, ssl.SSLObject)
    handle = ctypes.c_void_p.from_address(id(client.link.tls._sslobj) + _SSL_IN_OBJECT).value
    for _ in range(count):
        assert _openssl.SSL_key_update(handle, 0) == 1
        assert _openssl.SSL_do_handshake(handle) == 1
    client.send_raw(b"")
    client.link._flush()


def end_of(client: RefClient) -> int | None:
    """Read to the end; return the code of CLOSE, None if the flood made the kernel discard it with a reset."""
    code = None
    with suppress(OSError, Ended):
        while True:
            frame = client.read_unverified()
            if frame.kind == p.CLOSE:
                code = frame.code
    return code


@contextmanager
def server(deployment: Deployment, kind: str, **limits: float) -> Iterator[int]:
    """A server, with the check that it still serves."""
    with served_by(kind, lambda message: message, deployment.server_security(raw=True, limits=limits)) as port:
        yield port
        with deployment.ref_client(port) as client:
            assert client.request(b"honest")[1] == b"honest"


@pytest.mark.parametrize("kind", KINDS)
class TestKeyUpdates:
    def test_before_hello(self, deployment: Deployment, kind: str) -> None:
        with (
            server(deployment, kind, handshake_timeout=60.0) as port,
            deployment.ref_client(port, role="other client", until="tls") as client,
            suppress(OSError),
        ):
            while not client.link.over:
                key_updates(client, 100)
                with suppress(TimeoutError):
                    client.link.fill(0.001)

    def test_on_an_established_connection(self, deployment: Deployment, kind: str) -> None:
        with server(deployment, kind) as port, deployment.ref_client(port) as client:
            assert client.request(b"1")[1] == b"1"
            with suppress(OSError):
                for _ in range(20):
                    key_updates(client, 100)
            assert end_of(client) in (4, None)

    def test_a_few_are_none(self, deployment: Deployment, kind: str) -> None:
        with server(deployment, kind) as port, deployment.ref_client(port, until="tls") as client:
            key_updates(client, 10)
            client.send_hello()
            client.read_welcome()
            for number in range(5):
                key_updates(client, 100)
                payload = bytes(10_000)
                assert client.request(payload)[1] == payload, number


@pytest.mark.parametrize("kind", KINDS)
class TestPings:
    def test_more_than_pongs_were_taken(self, deployment: Deployment, kind: str) -> None:
        with server(deployment, kind) as port, deployment.ref_client(port) as client:
            frames = [p.frame(p.PING, b"", client.next_sequence + number, 0, client.key_out) for number in range(100)]
            client.next_sequence += len(frames)
            client.send_raw(b"".join(frames))
            assert end_of(client) in (4, None)

    def test_pings_are_not_activity(self, deployment: Deployment, kind: str) -> None:
        """A connection with a PING at every moment is idle all the same."""
        with server(deployment, kind, idle_timeout=0.2) as port, deployment.ref_client(port) as client:
            assert client.request(b"1")[1] == b"1"
            frame = None
            while frame is None or frame.kind == p.PONG:
                client.send(p.PING)
                frame = client.read_frame()
            assert (frame.kind, frame.code) == (p.CLOSE, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_in_records_of_one_byte(deployment: Deployment, kind: str) -> None:
    """It is taken, but not for longer than frame_timeout, although something comes all the time."""
    with server(deployment, kind, frame_timeout=0.3) as port, deployment.ref_client(port) as client:
        frame = p.frame(p.MESSAGE, b"whole", client.next_sequence, 0, client.key_out)
        client.next_sequence += 1
        for byte in frame:
            client.send_raw(bytes([byte]))
        assert client.read_unverified().payload == b"whole"
        frame = p.frame(p.MESSAGE, bytes(range(256)) * 2048, client.next_sequence, 0, client.key_out)
        with suppress(OSError):
            for number, byte in enumerate(frame):
                client.send_raw(bytes([byte]))
                if number % 500 == 0:
                    with suppress(TimeoutError):
                        client.link.fill(0.001)
                if client.link.plain or client.link.over:
                    break
            else:
                pytest.fail("the whole frame was taken")
        assert end_of(client) in (1, None)


def forever(act: Callable[[Endpoint], None]) -> Callable[[Endpoint, Frame], None]:
    """Instead of a reply, that, until the client leaves."""

    def flood(connection: Endpoint, _: Frame) -> None:
        with suppress(OSError, ssl.SSLError):
            while True:
                act(connection)
        connection.ended = connection.discard = True

    return flood


def one_byte(connection: Endpoint) -> None:
    if connection.next_sequence != -1:
        connection.next_sequence = -1
        connection.link.send((1 << 19).to_bytes(4, "big"))
    connection.link.send(b"x")


@pytest.mark.parametrize("client_class", [SynchronousTCPClient, AsyncTCPClient])
class TestServers:
    """A client is not held by a server that floods it."""

    def ask(self, deployment: Deployment, port: int, client_class: type[Any], wait: float) -> None:
        if client_class is SynchronousTCPClient:
            with deployment.client(port, raw=True, wait=wait) as client:
                client.send_request(b"?")
            return

        async def main() -> None:
            security = deployment.security("client", raw=True)
            async with AsyncTCPClient("localhost", port, 5, wait, security=security) as client:
                await client.send_request(b"?")

        asyncio.run(main())

    def test_key_updates(self, deployment: Deployment, client_class: type[Any]) -> None:
        flood = forever(lambda connection: key_updates(connection, 100))
        with (
            deployment.ref_server({1: flood}) as server,
            pytest.raises(RemoteProtocolError, match="records without data"),
        ):
            self.ask(deployment, server.port, client_class, 30)

    def test_a_reply_in_records_of_one_byte(self, deployment: Deployment, client_class: type[Any]) -> None:
        with deployment.ref_server({1: forever(one_byte)}) as server, pytest.raises(DeadlineExceeded):
            self.ask(deployment, server.port, client_class, 0.2)
