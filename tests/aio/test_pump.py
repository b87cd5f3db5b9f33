"""How bytes and their moments pass through the pump of asyncio."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from reference import protocol as p
from sealwire import AsyncTCPServer, ConnectionClosed, SynchronousTCPClient, encode
from sealwire.pki.authority import create_ca
from support.aio import serving
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
