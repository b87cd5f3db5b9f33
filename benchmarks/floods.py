"""The floods of ``fairness``: what hostile or greedy clients send to a server as fast as they can."""

from __future__ import annotations

import _ssl
import asyncio
import ctypes
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sealwire
from sealwire import AsyncTCPClient, Limits, Security
from sealwire.session import terms
from sealwire.sync import connect, connect_unix
from sealwire.wire.frames import Kind

SMALL = {"op": "get", "id": 12345, "tags": ["a", "b"], "flag": True, "x": 1.5}


def security_of(directory: Path, role: str) -> Security:
    peers = {"server": ["dns:client.example", "dns:flood.example", f"uid:{os.getuid()}"]}
    return Security.from_files(
        cert=directory / f"{role}.pem", key=directory / f"{role}.key", ca=directory / "ca.pem",
        keyring=directory / "keyring.toml", peers=peers.get(role), service="fairness",
        limits=Limits(max_connections=1000, drain_timeout=0.5),
    )  # fmt: skip


def unix_security(directory: Path, role: str) -> Security:
    security = security_of(directory, role)
    return Security(
        credentials=security.credentials, keys=security.keys, peers=[f"uid:{os.getuid()}"], service="fairness",
        limits=security.limits,
    )  # fmt: skip


def channel_to(directory: Path, address: Any) -> Any:
    if isinstance(address, str):
        return connect_unix(address, unix_security(directory, "flood"), timeout=20)
    return connect("localhost", address[1], security_of(directory, "flood"), timeout=20)


def endless(directory: Path, address: Any, attack: Callable[[Any], None]) -> None:
    """Attack on one connection after the other."""
    while True:
        with suppress(Exception):
            channel = channel_to(directory, address)
            channel._sock.setblocking(True)
            try:
                attack(channel)
            finally:
                channel._sock.close()


def requests(directory: Path, address: Any, *, connections: int, each: int) -> None:
    import uvloop

    async def main() -> None:
        if isinstance(address, str):
            security = unix_security(directory, "flood")
            clients = [
                sealwire.AsyncUnixClient(address, wait=60, timeout=60, security=security) for _ in range(connections)
            ]
        else:
            security = security_of(directory, "flood")
            clients = [
                AsyncTCPClient("localhost", address[1], wait=60, timeout=60, security=security)
                for _ in range(connections)
            ]

        async def one(client: Any) -> None:
            while True:
                with suppress(sealwire.SealwireError):
                    await client.send_request(SMALL)

        await asyncio.gather(*(one(client) for client in clients for _ in range(each)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def repeated(payload: bytes, window: int) -> Callable[[Any], None]:
    def attack(channel: Any) -> None:
        for _ in range(window):
            channel.send_msg(payload)
        while True:
            with suppress(sealwire.RemoteError):
                channel.recv_msg()
            channel.send_msg(payload)

    return attack


def pings(channel: Any) -> None:
    """PINGs without end; the PONGs are taken."""
    sock = channel._sock
    sock.setblocking(False)
    buffer = memoryview(bytearray(1 << 16))
    unsent = b""
    while True:
        while len(unsent) < 1 << 16:
            channel._protocol._send(Kind.PING, b"")
            unsent += b"".join(channel._protocol.data_to_send())
        with suppress(ssl.SSLWantWriteError):
            unsent = unsent[sock.write(unsent) :]
        with suppress(ssl.SSLWantReadError):
            while sock.read(1 << 16, buffer):
                pass


def one_byte_records(channel: Any) -> None:
    channel._protocol.send_request(bytes(8 << 20))
    for piece in channel._protocol.data_to_send():
        for byte in memoryview(piece):
            channel._sock.write(bytes((byte,)))


def key_updates(directory: Path, address: Any) -> None:
    """TLS KeyUpdates before HELLO, with a certificate that is on no list."""
    if isinstance(address, str):
        return
    security = security_of(directory, "stranger")
    context = terms.client_tls(security, security.credentials.current)
    library = ctypes.CDLL(_ssl.__file__)
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.SSL_do_handshake.argtypes = [ctypes.c_void_p]
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", address[1])) as raw:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    incoming.write(raw.recv(1 << 16))
            handle = ctypes.c_void_p.from_address(id(tls._sslobj) + 24).value  # private to CPython
            while True:
                for _ in range(1000):
                    library.SSL_key_update(handle, 0)
                    library.SSL_do_handshake(handle)
                raw.sendall(outgoing.read())


def unfinished(directory: Path, address: Any) -> None:
    """300 connections, each of which begins a frame of 16 MiB."""
    channels = []
    for _ in range(300):
        channel = channel_to(directory, address)
        channel._protocol.send_request(bytes((16 << 20) - 52))
        channel._sock.setblocking(True)
        channels.append((channel, iter(next(iter(channel._protocol.frames_to_send())))))
    while channels:
        for each in list(channels):
            try:
                each[0]._sock.settimeout(0.5)
                each[0]._sock.write(next(each[1]))
            except (OSError, StopIteration):
                channels.remove(each)


def takes_nothing(directory: Path, address: Any) -> None:
    """24 connections that send requests for replies and take none."""
    payload = sealwire.encode("x" * 90)
    channels = [channel_to(directory, address) for _ in range(24)]
    while channels:
        for channel in list(channels):
            try:
                for _ in range(100):
                    channel._protocol.send_request(payload)
                channel._sock.settimeout(0.5)
                channel._sock.write(b"".join(channel._protocol.data_to_send()))
            except OSError:
                channels.remove(channel)


BURNING = sealwire.encode([{"key": (number, str(number))} for number in range(15_000)])
LARGE = sealwire.encode(bytes(8 << 20))
FLOODS: dict[str, tuple[int, Callable[..., None], Any]] = {
    "small, 1 connection": (1, requests, {"connections": 1, "each": 64}),
    "small, 100 connections": (1, requests, {"connections": 100, "each": 1}),
    "vetting": (2, endless, {"attack": "burning"}),
    "large, 4 connections": (4, endless, {"attack": "large"}),
    "key updates": (1, key_updates, {}),
    "pings": (1, endless, {"attack": "pings"}),
    "one-byte records": (1, endless, {"attack": "one-byte"}),
    "unfinished frames": (1, unfinished, {}),
    "no replies taken": (1, takes_nothing, {}),
}
ATTACKS = {"burning": repeated(BURNING, 2), "large": repeated(LARGE, 1), "pings": pings, "one-byte": one_byte_records}


def processes(address: Any, name: str) -> int:
    """Return the number of processes of a flood. On a Unix socket each would be a peer of its own."""
    return 1 if isinstance(address, str) else FLOODS[name][0]


def flood(directory: Path, address: Any, name: str, link: Connection) -> None:
    count, attack, options = FLOODS[name]
    if "attack" in options:
        options = {"attack": ATTACKS[options["attack"]]}
    link.send(None)
    with suppress(KeyboardInterrupt):
        for _ in range(count - processes(address, name)):
            threading.Thread(target=attack, args=(directory, address), kwargs=options, daemon=True).start()
        attack(directory, address, **options)
        time.sleep(600)
