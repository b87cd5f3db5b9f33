"""An error that other code left in OpenSSL's queue ends no connection; and a client of another protocol is told."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from OpenSSL._util import ffi, lib

from sealwire import AsyncTCPClient, AsyncTCPServer, TCPServer, ThreadingTCPServer, dtls
from sealwire.trust.stale_errors import repeat
from support.aio import served_by, serving
from support.service import Deployment, running

pytestmark = pytest.mark.usefixtures("clean")
ADDRESS = ("127.0.0.1", 0)


def leave_errors() -> None:
    """One in the queue of Python's ssl, one in that of pyOpenSSL's library."""
    with suppress(ValueError):
        ssl._ASN1Object("nonsense")
    bio = lib.BIO_new(lib.BIO_s_mem())
    lib.PEM_read_bio_X509(bio, ffi.NULL, ffi.NULL, ffi.NULL)
    lib.BIO_free(bio)
    assert lib.ERR_peek_error()


def answer(message: Any) -> Any:
    leave_errors()
    return message


async def answer_on_the_loop(message: Any) -> Any:
    return answer(message)


@pytest.mark.parametrize("server_class", [TCPServer, ThreadingTCPServer])
def test_on_tcp(deployment: Deployment, server_class: Any) -> None:
    """At either end, also before the connection is made."""
    with (
        running(server_class(ADDRESS, answer, deployment.server_security())) as port,
        deployment.client(port) as client,
    ):
        leave_errors()
        assert client.send_request(0) == 0
        connection = client._channel
        for size in (1, 500_000, 1):
            leave_errors()
            assert client.send_request(b"x" * size) == b"x" * size
        assert client._channel is connection


def test_on_asyncio(deployment: Deployment) -> None:
    async def converse(port: int) -> None:
        async with AsyncTCPClient("localhost", port, security=deployment.security("client")) as client:
            leave_errors()
            assert await client.send_request(0) == 0
            connection = client.peer
            for size in (1, 500_000, 1):
                leave_errors()
                assert await client.send_request(b"x" * size) == b"x" * size
            assert client.peer is connection

    with serving(lambda: AsyncTCPServer(ADDRESS, answer_on_the_loop, deployment.server_security())) as one:
        asyncio.run(converse(one.port))


@pytest.mark.parametrize("server_class", [dtls.UDPServer, dtls.ThreadingUDPServer])
def test_on_udp(deployment: Deployment, server_class: Any) -> None:
    with (
        running(server_class(ADDRESS, answer, deployment.server_security())) as port,
        dtls.SynchronousUDPClient("localhost", port, 5, 5, security=deployment.security("client")) as client,
    ):
        leave_errors()
        assert client.send_request(0) == 0
        connection = client._channel
        for number in range(3):
            leave_errors()
            assert client.send_request(number) == number
        assert client._channel is connection


class TestRepeat:
    def fails_with(self, error: OSError) -> Callable[[], int]:
        def operation() -> int:
            raise error

        return operation

    def test_second_attempt_counts(self) -> None:
        assert repeat(ssl.SSLError("stale"), lambda: 5) == 5
        with pytest.raises(ssl.SSLWantReadError):
            repeat(ssl.SSLError("stale"), self.fails_with(ssl.SSLWantReadError()))

    @pytest.mark.parametrize("second", [ssl.SSLEOFError(), ssl.SSLError(), OSError()])
    def test_true_error_is_the_first(self, second: OSError) -> None:
        first = ssl.SSLError("bad record mac")
        with pytest.raises(ssl.SSLError) as caught:
            repeat(first, self.fails_with(second))
        assert caught.value is first
        with pytest.raises(ssl.SSLError) as caught:
            repeat(first, lambda: 0)
        assert caught.value is first

    def test_other_errors_are_not_repeated(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):
            repeat(ssl.SSLWantReadError(), self.fails_with(AssertionError()))  # never called


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]])
@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_client_of_another_protocol_is_told(deployment: Deployment, kind: str, protocols: list[str]) -> None:
    """The end is a close_notify: its TLS does not take it for an attack that cuts the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(deployment.ca)
    context.load_cert_chain(*deployment.files["client"])
    if protocols:
        context.set_alpn_protocols(protocols)
    with (
        served_by(kind, answer, deployment.server_security()) as port,
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert tls.recv(100) == b""
