"""The floor of ``fairness``: a server and floods of it on bare TLS and raw pickle, without anything of Sealwire.

The server is a thread for each connection, as short as it can be. What its good client suffers beside a flood is the
part of the interpreter's lock and of the operating system's scheduler, which no server of threads goes below unless it
holds the flood back.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import uvloop

from benchmarks.floods import SMALL
from benchmarks.peers.bare import Bare, connected, dump, serve_threads, tls_context

LARGE = bytes(8 << 20)
BURNING = [{"key": (number, str(number))} for number in range(15_000)]


class Echo(Bare):
    """An end that sends back small messages, and the length of others."""

    def send(self, value: Any) -> None:
        super().send(value if len(value) < 100 else len(value))


class Client(Bare):
    """An end with the methods of Sealwire's clients that ``fairness`` uses."""

    send_request = Bare.ask

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(directory: Path, ready: Callable[[int], None]) -> None:
    context = tls_context(directory, ssl.PROTOCOL_TLS_SERVER, "server")
    serve_threads(ready, lambda raw: Echo(context.wrap_socket(raw, server_side=True)))


def connect(directory: Path, port: int, name: str) -> Client:
    context = tls_context(directory, ssl.PROTOCOL_TLS_CLIENT, name)
    return Client(context.wrap_socket(connected(port), server_hostname="localhost"))


def requests(directory: Path, port: int, *, connections: int, each: int) -> None:
    """Keep ``each`` small requests under way on every connection."""
    context = tls_context(directory, ssl.PROTOCOL_TLS_CLIENT, "flood")
    message = framed(dump(SMALL))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(message * each)
        while True:
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            writer.write(message)

    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(connections)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def repeated(directory: Path, port: int, *, value: Any, window: int) -> None:
    end, message = connect(directory, port, "flood"), framed(dump(value))
    for _ in range(window):
        end.sock.sendall(message)
    while True:
        end.receive()
        end.sock.sendall(message)


def one_byte_records(directory: Path, port: int) -> None:
    end, message = connect(directory, port, "flood"), framed(dump(LARGE))
    while True:
        receiving = threading.Thread(target=end.receive)
        receiving.start()
        for byte in memoryview(message):
            end.sock.send(bytes((byte,)))
        receiving.join()


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


FLOODS: dict[str, Callable[[Path, int], None]] = {
    "small, 1 connection": partial(requests, connections=1, each=64),
    "small, 100 connections": partial(requests, connections=100, each=1),
    "vetting": partial(repeated, value=BURNING, window=2),
    "large, 4 connections": partial(repeated, value=LARGE, window=1),
    "one-byte records": one_byte_records,
}
"""Those of ``floods`` that need nothing of the protocol."""


def flood(directory: Path, port: int, name: str) -> None:
    with suppress(KeyboardInterrupt, EOFError, OSError):
        FLOODS[name](directory, port)
