"""Requests and their replies."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from conformance.combinations import Running
from conformance.conftest import Case
from conformance.handlers import Order
from sealwire import EncodeError, Limits, PayloadTooLarge, RemoteError
from support.admin import status

VALUES = [
    None, False, 0, 1, -1, 2**200, "", "ab\u00e9\U0001f600", b"", b"\0\xff", 0.0, math.inf, 1j, [], {}, (), set(),
    frozenset({1}), [1, [2, [3]]], {"a": {"b": (1, 2)}}, {1, 2}, Decimal("1.10"), datetime(2026, 1, 1, tzinfo=UTC),
    UUID(int=5), Path("a/b"), bytearray(b"x"), Order("apples", 3),
]  # fmt: skip
Shared = tuple[Case, Running]
EVERY_PAIR = pytest.mark.pairs(lambda server, client: True)


@EVERY_PAIR
def test_values(shared: Shared) -> None:
    case, running = shared
    client = case.client(running)
    for value in VALUES:
        reply = client.request(value)
        assert (type(reply), reply) == (type(value), value)


@EVERY_PAIR
def test_many_at_once(shared: Shared) -> None:
    case, running = shared
    assert case.client(running).many(list(range(200))) == list(range(200))


@pytest.mark.pairs(lambda server, client: client.name in ("SynchronousTCPClient", "SynchronousUnixClient"))
def test_no_reply_waits_for_a_slow_handler(case: Case) -> None:
    """The last one of quick handlers is here before the next one has ended, which has been sent already."""
    log, fifo = case.ends.directory / "log", case.ends.directory / "fifo"
    os.mkfifo(fifo)
    with case.start() as running:
        client = case.client(running)
        held = ["hold", str(log), str(fifo)]
        for _ in range(3):
            assert client.many([*range(20), held], lambda: fifo.write_text("go")) == [*range(20), held]


def test_requests_beside_those_under_way(shared: Shared) -> None:
    """Also at a server that accepts no other connection meanwhile."""
    case, running = shared
    assert case.client(running).echoes(list(range(50))) == list(range(50))


@EVERY_PAIR
def test_large_ones(shared: Shared) -> None:
    case, running = shared
    client = case.client(running)
    for size in (1, 900) if not case.server.transport.stream else (1, 900, 20_000, 70_000, 3_000_000):
        assert client.request(bytes(size)) == bytes(size)
        assert client.request(["zeros", size]) == bytes(size)


@EVERY_PAIR
@pytest.mark.local
def test_without_certificates(case: Case) -> None:
    """Neither end of a Unix socket has a CA: the kernel says which process is at the other end."""
    with case.start(bare=True, observed=True) as running:
        client = case.client(running, bare=True)
        assert client.request(["who"])[:3] == [(), "k1", os.getuid()]
        assert client.peer().uid == os.getuid()
        assert status(case.ends.server.path("admin"))["problems"] == []


@EVERY_PAIR
def test_the_client_is_identified(shared: Shared) -> None:
    case, running = shared
    client = case.client(running, wait=8)
    names, key, uid, left = client.request(["who"])
    assert key == "k1"
    assert (names, uid) == (((), os.getuid()) if case.server.transport.local else (("client.example",), None))
    assert 6 < left <= 8.02
    peer = client.peer()
    assert (peer.uid == os.getuid()) if case.server.transport.local else ("localhost" in peer.dns)


def test_two_clients(shared: Shared) -> None:
    case, running = shared
    first = case.client(running)
    assert first.request(1) == 1
    if case.server.one_at_a_time:
        first.close()
    second = case.client(running)
    assert second.request(2) == 2
    if case.server.one_at_a_time:
        second.close()
    assert first.request(3) == 3


@pytest.mark.parametrize("handler", ["function", "handle"])
def test_kinds_of_handlers(case: Case, handler: str) -> None:
    with case.start(handler=handler) as running:
        client = case.client(running)
        assert [client.request(value) for value in (0, "x", Order("pears", 1))] == [0, "x", Order("pears", 1)]
        with pytest.raises(RemoteError) as failed:
            client.request(["fail"])
        assert failed.value.code == 19
        assert client.request({}) == {}


@EVERY_PAIR
def test_too_large(shared: Shared) -> None:
    case, running = shared
    client = case.client(running, limits={"max_frame": 2000})
    with pytest.raises(RemoteError) as large:
        client.request(["zeros", 5000])
    assert large.value.code == 18
    with pytest.raises((EncodeError, PayloadTooLarge)):
        client.request(bytes(Limits().max_frame))
    assert client.request(1) == 1


@pytest.mark.parametrize("handler", ["respond", "handle"])
def test_a_reply_over_the_servers_own_limit(case: Case, handler: str) -> None:
    """The fault is the same for every limit, and the connection goes on."""
    deep: list[Any] = []
    for _ in range(30):
        deep = [deep]
    with case.start(handler=handler, limits={"max_frame": 2000, "max_depth": 40}) as running:
        client = case.client(running)
        for request in (["zeros", 5000], ["deep", deep]):
            with pytest.raises(RemoteError) as large:
                client.request(request)
            assert large.value.code == 18
            assert client.request(1) == 1


def test_closed_and_used_again(shared: Shared) -> None:
    case, running = shared
    client = case.client(running)
    for number in range(3):
        assert client.request(number) == number
        client.close()
