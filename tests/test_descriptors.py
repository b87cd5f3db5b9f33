"""A server goes on accepting when its process has no descriptors left, and says so in one line."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sealwire import Limits
from sealwire.admission import Admission
from sealwire.descriptors import RESERVED, Reserve
from support.aio import KINDS, served_by
from support.service import ChildServer, Deployment, descriptors, eventually

pytestmark = pytest.mark.usefixtures("clean")
ERROR = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize(
    "options",
    [{"server": "ThreadingTCPServer"}, {"server": "PreforkTCPServer", "options": {"workers": 1, "loop": "asyncio"}}],
    ids=["threads", "asyncio"],
)
def test_strangers_that_hold_all_descriptors(deployment: Deployment, tmp_path: Path, options: dict[str, Any]) -> None:
    """They give way to waiting clients, and are counted instead of listed. An established client is not one of them."""
    limits = {"handshake_timeout": 60.0, "drain_timeout": 0.1}
    with (
        ChildServer(deployment, tmp_path, descriptors=32, limits=limits, **options) as server,
        deployment.client(server.port, raw=True, wait=30) as established,
        ExitStack() as stack,
    ):
        assert established.send_request(b"x") == b"X"
        connection = established._channel
        for _ in range(80):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        eventually(lambda: "cannot accept: Too many open files; ended" in server.log.read_text(), 20)
        with deployment.client(server.port, raw=True, timeout=30, wait=30) as newcomer:
            assert newcomer.send_request(b"x") == b"X"
        assert established.send_request(b"x") == b"X"
        assert established._channel is connection
        lines = server.log.read_text().splitlines()
        assert sum(line.startswith(("WARNING", "ERROR")) for line in lines) < 10


@pytest.mark.parametrize("kind", KINDS)
def test_strangers_are_not_listed_when_the_server_stops(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    security = deployment.server_security(raw=True, limits={"handshake_timeout": 60.0, "drain_timeout": 2.0})
    with ExitStack() as stack:
        with served_by(kind, lambda message: message, security) as port:
            for _ in range(5):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            with deployment.client(port, raw=True) as client:
                assert client.send_request(b"x") == b"x"  # they were accepted before it
        assert [record for record in caplog.records if "refused" in record.getMessage()] == []


class TestReserve:
    def test_is_given_back_and_filled_again_later(self, caplog: pytest.LogCaptureFixture) -> None:
        before = descriptors()
        reserve = Reserve(Admission(Limits()))
        reserve.fill()
        assert len(descriptors() - before) == RESERVED
        assert reserve.make_room(ERROR)
        assert descriptors() == before
        reserve.fill()  # too early
        assert descriptors() == before
        assert not reserve.make_room(ERROR)
        assert len(caplog.records) == 1

    def test_evicts_the_oldest_that_have_proved_nothing(self) -> None:
        admission = Admission(Limits())
        with ExitStack() as stack:
            pairs = [[stack.enter_context(sock) for sock in socket.socketpair()] for _ in range(RESERVED + 4)]
            slots = [admission.acquire(pair[0]) for pair in pairs]
            slots[0].mark_authenticated()
            for slot in slots[:-1]:
                slot.since -= 1.0
            reserve = Reserve(admission)
            reserve.make_room(ERROR)
            assert [slot.evicted for slot in slots] == [False, *[True] * RESERVED, False, False, False]
            reserve.make_room(ERROR)
            assert [slot.evicted for slot in slots][-3:] == [True, True, False]
            assert all(slot.is_counted == slot.evicted for slot in slots)
