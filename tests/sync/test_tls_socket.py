"""One read takes a bounded amount, and loses neither data nor the end behind them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from sealwire.sync.tls_socket import TLSSocket
from support.service import Deployment
from support.tls_peer import Peer, connected

RECORD = 16_384


@pytest.fixture
def ends(deployment: Deployment) -> Iterator[tuple[TLSSocket, Peer]]:
    with connected(deployment) as ends:
        yield ends


def read(sock: TLSSocket, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: sock.read(size, memoryview(buffer))])


def test_the_records_of_a_large_frame_are_read_together(ends: tuple[TLSSocket, Peer]) -> None:
    sock, peer = ends
    data = [bytes([number]) * RECORD for number in range(5)]
    peer.sock.sendall(b"".join(map(peer.record, data)))
    assert read(sock, 10 * RECORD) == b"".join(data)
    with pytest.raises(ssl.SSLWantReadError):
        read(sock, 10 * RECORD)


def test_one_record_otherwise(ends: tuple[TLSSocket, Peer]) -> None:
    sock, peer = ends
    peer.sock.sendall(peer.record(b"a" * 100) + peer.record(b"b" * 100))
    assert [read(sock, RECORD), read(sock, RECORD)] == [b"a" * 100, b"b" * 100]


def test_a_call_reads_few_records_however_small_they_are(ends: tuple[TLSSocket, Peer]) -> None:
    """Its caller looks at the clock between two calls."""
    sock, peer = ends
    peer.sock.sendall(b"".join(peer.record(b"x") for _ in range(1000)))
    assert 0 < len(read(sock, 10 * RECORD)) < 20


def test_the_end_is_found_by_the_next_call(ends: tuple[TLSSocket, Peer]) -> None:
    """Although the peer leaves the stream open after close_notify, so that nothing more arrives."""
    sock, peer = ends
    peer.sock.sendall(peer.record(b"a" * 50_000) + peer.close_notify())
    assert read(sock, 10 * RECORD) == b"a" * 50_000
    assert sock.buffered
    assert read(sock, 10 * RECORD) == b""


@pytest.mark.parametrize("spoilt", ["record", "stream"])
def test_an_error_is_raised_by_the_next_call(ends: tuple[TLSSocket, Peer], spoilt: str) -> None:
    sock, peer = ends
    peer.sock.sendall(peer.record(b"a" * 50_000))
    if spoilt == "record":
        data = bytearray(peer.record(b"b" * 1000))
        data[-1] ^= 1
        peer.sock.sendall(data)
    peer.sock.close()
    assert read(sock, 10 * RECORD) == b"a" * 50_000
    assert sock.buffered
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC" if spoilt == "record" else "EOF"):
        read(sock, 10 * RECORD)
