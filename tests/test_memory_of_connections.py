"""The memory of a connection is freed as soon as it ends, however it ends, without the garbage collector."""

from __future__ import annotations

import gc
import socket
import struct
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reference import protocol as p
from sealwire import AsyncTCPServer, ThreadingTCPServer, fork
from sealwire.aio.byte_stream import ByteStream
from sealwire.sync.pump import Channel
from support.aio import serving
from support.service import Deployment, eventually, running

LARGE = 600_000
TINY = {"handshake_timeout": 0.3, "idle_timeout": 0.3, "frame_timeout": 0.3}

_earlier: weakref.WeakSet[Any] = weakref.WeakSet()
"""Ends that other tests keep: an exception that is a test's parameter has a traceback once it was raised."""


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    _earlier.update(alive())
    gc.disable()
    yield
    gc.enable()


def answer(message: bytes) -> Any:
    if message == b"fail":
        raise ValueError
    return bytes(1_000_000) if message == b"large" else message


async def answer_on_the_loop(message: bytes) -> Any:
    return answer(message)


def alive() -> list[Any]:
    """The ends of connections that there are, with their buffers.

    Not from the garbage collector's list of all objects: looking at that holds the buffers meanwhile.
    """
    return [each for each in fork._owners if isinstance(each, Channel | ByteStream) and each not in _earlier]


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def cut_in_a_frame(deployment: Deployment, port: int) -> None:
    client = deployment.ref_client(port)
    client.request(b"x")
    frame = p.frame(p.MESSAGE, bytes(LARGE), 2, 0, client.key_out)
    client.send_raw(frame[: LARGE // 2])
    reset(client.link.sock)


def cut_in_a_record(deployment: Deployment, port: int) -> None:
    client = deployment.ref_client(port)
    client.request(b"x")
    client.link.sock.sendall(b"\x17\x03\x03\x40\x00abc")
    reset(client.link.sock)


def broken_record(deployment: Deployment, port: int) -> None:
    with deployment.ref_client(port) as client:
        client.request(b"x")
        client.link.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        client.expect_end()


def wrong_tag(deployment: Deployment, port: int) -> None:
    with deployment.ref_client(port) as client:
        client.request(b"x")
        client.send_raw(p.frame(p.MESSAGE, bytes(LARGE), 2, 0, bytes(32)))
        client.expect_end()


def stuck_in_a_frame(deployment: Deployment, port: int) -> None:
    with deployment.ref_client(port) as client:
        client.request(b"x")
        client.send_raw(p.frame(p.MESSAGE, bytes(LARGE), 2, 0, client.key_out)[: LARGE // 2])
        client.expect_end()


def takes_no_reply(deployment: Deployment, port: int) -> None:
    client = deployment.ref_client(port)
    for _ in range(12):
        client.send_message(b"large")
    eventually(lambda: not alive(), 8)
    client.link.sock.close()


def handler_fails(deployment: Deployment, port: int) -> None:
    with deployment.ref_client(port) as client:
        client.receive(client.send_message(b"fail"))
        client.send_close()
        client.expect_end()


def idle(deployment: Deployment, port: int) -> None:
    with deployment.ref_client(port) as client:
        client.request(b"x")
        client.expect_end()


def no_tls(deployment: Deployment, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while sock.recv(1000):
            pass


def silent(deployment: Deployment, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        assert sock.recv(1) == b""


def cut_before_hello(deployment: Deployment, port: int) -> None:
    reset(deployment.ref_client(port, until="tls").link.sock)


ENDS = [
    cut_in_a_frame, cut_in_a_record, broken_record, wrong_tag, stuck_in_a_frame, takes_no_reply, handler_fails, idle,
    no_tls, silent, cut_before_hello,
]  # fmt: skip


def with_server(deployment: Deployment, kind: str, use: Callable[[int], None], **limits: float) -> None:
    """Call a function with the port of a server."""
    security = deployment.server_security(raw=True, limits=limits)
    address = ("127.0.0.1", 0)
    if kind == "threads":
        with running(ThreadingTCPServer(address, answer, security)) as port:
            use(port)
    else:
        handler = answer_on_the_loop if kind == "coroutines" else answer
        with serving(lambda: AsyncTCPServer(address, handler, security)) as one:
            use(one.port)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


KINDS = pytest.mark.parametrize("kind", ["threads", "asyncio", "coroutines"])


@KINDS
def test_an_idle_connection_keeps_no_message(deployment: Deployment, traced: None, kind: str) -> None:
    def ask(port: int) -> None:
        with deployment.ref_client(port) as client:
            client.request(b"x")
            before = tracemalloc.get_traced_memory()[0]
            client.request(bytes(LARGE))
            eventually(lambda: tracemalloc.get_traced_memory()[0] < before + LARGE / 2, 8)

    with_server(deployment, kind, ask)


@KINDS
def test_an_idle_connection_has_no_buffer_for_frames(deployment: Deployment, kind: str) -> None:
    """Neither after a request nor in the middle of a TLS record, which has nothing to read yet."""

    def buffer(end: Any) -> int:
        return len(end._protocol.reader._staging)

    def ask(port: int) -> None:
        others = alive()  # of clients that other tests have left to the garbage collector
        with deployment.ref_client(port) as client:
            client.request(b"x")
            (end,) = [end for end in alive() if hasattr(end, "_protocol") and end not in others]
            eventually(lambda: not buffer(end))
            carrier = end if isinstance(end, ByteStream) else end._sock
            before = carrier._ciphertext.surplus
            client.link.sock.sendall(b"\x17\x03\x03\x40\x00abc")
            eventually(lambda: carrier._ciphertext.surplus > before)
            eventually(lambda: not buffer(end))
            reset(client.link.sock)
            eventually(lambda: carrier.fileno() < 0 if carrier is not end else end.lost.done(), 8)

    gc.collect()
    with_server(deployment, kind, ask)


@KINDS
def test_everything_is_free_at_the_end(deployment: Deployment, without_collector: None, kind: str) -> None:
    def try_all(port: int) -> None:
        for end in ENDS:
            end(deployment, port)
            try:
                eventually(lambda: not alive(), 8)
            except AssertionError:
                raise AssertionError(f"{end.__name__} leaves {alive()}") from None

    with_server(deployment, kind, try_all, **TINY)
