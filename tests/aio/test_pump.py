"""Bytes and their arrival times pass through the pump of asyncio."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from reference import protocol as p
from sealwire import AsyncTCPServer, ConnectionClosed, SynchronousTCPClient, encode
from sealwire.pki.authority import create_ca
from support.aio import LOOPS, serving
from support.service import Deployment, eventually
from support.sides import Side

pytestmark = pytest.mark.usefixtures("clean")


def test_a_request_that_was_decrypted_with_another_one(deployment: Deployment) -> None:
    """It arrived with that one, and not with what came when it was looked at."""
    entered, go = threading.Event(), threading.Event()
    seen: list[Any] = []

    def handler(message: Any) -> Any:
        seen.append(message)
        if message == "held":
            entered.set()
            assert go.wait(10)
        return message

    security = deployment.server_security(limits={"max_in_flight": 1})
    with (
        serving(lambda: AsyncTCPServer(("127.0.0.1", 0), handler, security)) as one,
        deployment.ref_client(one.port, codec="pickle-5") as client,
        deployment.ref_client(one.port, codec="pickle-5") as other,
    ):
        record = p.frame(p.MESSAGE, encode("held"), 1, 0, client.key_out)
        client.send_raw(record + p.frame(p.MESSAGE, encode("late"), 2, 0, client.key_out, 5))
        assert entered.wait(10)
        end = monotonic() + 0.06
        eventually(lambda: monotonic() > end)
        client.send_raw(p.frame(p.MESSAGE, encode("later"), 3, 0, client.key_out))
        other.request(encode("the loop has read it by now"))
        go.set()
        answers = [client.read_unverified() for _ in range(3)]
        assert [(each.kind, each.reply_to) for each in answers] == [(p.MESSAGE, 1), (p.FAULT, 2), (p.MESSAGE, 3)]
    assert seen == ["held", "the loop has read it by now", "later"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "sizes", [[300_000, 56, 1_000_000, 200, 56], [131_072, 131_073, 262_144, 70_000, 56], [140_000] * 7], ids=repr
)
def test_large_frames_in_one_write(deployment: Deployment, loop: str, sizes: list[int]) -> None:
    """Those that are read in larger pieces, and what is read with their ends."""
    security = deployment.server_security(raw=True)
    with (
        serving(
            lambda: AsyncTCPServer(("127.0.0.1", 0), lambda message: b"%d" % len(message), security), LOOPS[loop]
        ) as one,
        deployment.ref_client(one.port) as client,
    ):
        client.send_raw(b"".join(p.frame(p.MESSAGE, bytes(n), i, 0, client.key_out) for i, n in enumerate(sizes, 1)))
        answers = {each.reply_to: each.payload for each in (client.read_unverified() for _ in sizes)}
        assert answers == {i: b"%d" % n for i, n in enumerate(sizes, 1)}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", [100, 2000, 5000])
def test_large_frames_in_small_records(deployment: Deployment, loop: str, size: int) -> None:
    security = deployment.server_security(raw=True)
    with (
        serving(
            lambda: AsyncTCPServer(("127.0.0.1", 0), lambda message: b"%d" % len(message), security), LOOPS[loop]
        ) as one,
        deployment.ref_client(one.port) as client,
    ):
        assert client.link.tls is not None
        for number in range(1, 4):
            frame = p.frame(p.MESSAGE, bytes(500_000), number, 0, client.key_out)
            for start in range(0, len(frame), size):
                client.link.tls.write(frame[start : start + size])
            client.link.sock.sendall(client.link.outgoing.read())
            assert client.read_unverified().payload == b"500000"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("end", ["close_notify", "fin", "spoilt"])
def test_an_end_in_the_middle_of_a_large_frame(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, loop: str, end: str
) -> None:
    security = deployment.server_security(raw=True)
    with (
        serving(lambda: AsyncTCPServer(("127.0.0.1", 0), lambda message: message, security), LOOPS[loop]) as one,
        deployment.ref_client(one.port, timeout=8) as client,
    ):
        link = client.link
        assert link.tls is not None
        link.tls.write(p.frame(p.MESSAGE, bytes(800_000), 1, 0, client.key_out)[:500_000])
        if end == "close_notify":
            with pytest.raises(ssl.SSLWantReadError):
                link.tls.unwrap()
        data = bytearray(link.outgoing.read())
        if end == "spoilt":
            data[-1] ^= 1
        link.sock.sendall(data)
        if end == "fin":
            link.sock.shutdown(socket.SHUT_WR)
        link.sock.settimeout(8)
        while link.sock.recv(65_536):  # the server sees the end, and does not wait for the rest
            pass
        with deployment.ref_client(one.port) as other:
            assert other.request(b"still here")
    assert "ended: the stream ended inside a frame" in caplog.text


def test_a_revocation_while_the_server_drains(tmp_path: Path) -> None:
    """CLOSE 3 goes out at once, and does not wait for the handlers that the drain waits for."""
    ca = create_ca("CA")
    sides = [Side(tmp_path / "server", "localhost"), Side(tmp_path / "client", "client.example")]
    for side in sides:
        side.leaf(ca)
        side.trust(ca)
        side.keys("k1")
    entered, go = threading.Event(), threading.Event()

    def held(message: Any) -> Any:
        entered.set()
        assert go.wait(20)
        return message

    async def drain() -> None:
        one.server.start_shutdown()
        for _ in range(3):
            await asyncio.sleep(0)

    def ask() -> int | None:
        with pytest.raises(ConnectionClosed) as ended:
            client.send_request(1)
        return ended.value.code

    security = sides[0].security(peers=["dns:client.example"], limits={"drain_timeout": 20.0})
    with (
        serving(lambda: AsyncTCPServer(("127.0.0.1", 0), held, security)) as one,
        SynchronousTCPClient("localhost", one.port, 5, 15, security=sides[1].security()) as client,
        ThreadPoolExecutor() as executor,
    ):
        asking = executor.submit(ask)
        try:
            assert entered.wait(10)
            one.call(drain())
            sides[0].keys("k2")
            assert asking.result(10) == 3
        finally:
            go.set()
