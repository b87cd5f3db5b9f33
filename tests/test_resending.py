"""A request that was lost with its connection is sent again by the same rule for every client of a stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from reference.peer import answer, close, do, drop, hold
from sealwire import AsyncTCPClient, ConnectionClosed, DeadlineExceeded, HandshakeFailed
from support.service import Deployment

pytestmark = pytest.mark.usefixtures("clean")

Ask = Callable[..., Any]


def ask(deployment: Deployment, port: int, **options: Any) -> Any:
    with deployment.client(port, raw=True, timeout=9) as client:
        return client.send_request(b"ask", **options)


def ask_in_pipeline(deployment: Deployment, port: int, **options: Any) -> Any:
    with deployment.client(port, raw=True, timeout=9) as client:
        (reply,) = client.send_requests([b"ask"], **options)
        return reply


def ask_on_asyncio(deployment: Deployment, port: int, **options: Any) -> Any:
    async def main() -> Any:
        security = deployment.security("client", raw=True)
        async with AsyncTCPClient("localhost", port, 9, security=security) as client:
            return await client.send_request(b"ask", **options)

    return asyncio.run(main())


every_client = pytest.mark.parametrize("way", [ask, ask_in_pipeline, ask_on_asyncio])


@every_client
@pytest.mark.parametrize(
    ("end", "idempotent", "again"),
    [
        (close(0, 0), False, True),
        (close(2, 0), False, True),
        (close(2, 1), False, False),
        (close(2, 1), True, True),
        (close(3, 0), False, False),
        (drop(), False, False),
        (drop(), True, True),
        (close(4, 0), True, False),
        (close(99, 0), True, False),
    ],
)
def test_only_if_it_does_no_harm(deployment: Deployment, way: Ask, end: Any, idempotent: bool, again: bool) -> None:
    with deployment.ref_server({1: end}, {1: answer(b"reply")}) as server:
        if again:
            assert way(deployment, server.port, idempotent=idempotent) == b"reply"
        else:
            with pytest.raises(ConnectionClosed, match="may or may not have acted"):
                way(deployment, server.port, idempotent=idempotent)
        assert server.payloads() == [b"ask"] * (1 + again)


@every_client
@pytest.mark.parametrize("end", [close(2, 0), drop()])
def test_once_at_most(deployment: Deployment, way: Ask, end: Any) -> None:
    with deployment.ref_server(*[{1: end}] * 4) as server:
        with pytest.raises(ConnectionClosed):
            way(deployment, server.port, idempotent=True)
        assert server.payloads() == [b"ask"] * 2


@every_client
def test_within_the_callers_time(deployment: Deployment, way: Ask) -> None:
    """The next connection would use up that time, as the server there says nothing."""
    over = threading.Event()
    with deployment.ref_server({1: close(2, 0)}, {"tls": hold(over)}) as server:
        start = monotonic()
        with pytest.raises(DeadlineExceeded):
            way(deployment, server.port, wait=0.4)
        assert monotonic() - start < 4
        assert server.payloads() == [b"ask"]
        over.set()


@pytest.mark.parametrize("idempotent", [False, True])
def test_each_of_a_pipeline_once(deployment: Deployment, idempotent: bool) -> None:
    """The server answers one request for each connection."""
    script = do(answer(), close(2, 1))
    with (
        deployment.ref_server(*[{1: script}] * 6) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        replies = client.send_requests([b"a", b"b", b"c", b"d"], idempotent=idempotent)
        assert next(replies) == b"a"
        assert next(replies) == b"b"
        with pytest.raises(ConnectionClosed):
            next(replies)
        assert len(server.connections) == 2


@every_client
def test_a_connection_that_is_cut_is_made_again(deployment: Deployment, way: Ask) -> None:
    """By an overloaded server, during TLS and after it."""
    script = {"accept": drop("reset")}, {"tls": drop()}, {"hello": drop("reset")}, {1: answer(b"reply")}
    with deployment.ref_server(*script) as server:
        assert way(deployment, server.port) == b"reply"
        assert len(server.connections) == 4


def test_one_that_is_cut_each_time(deployment: Deployment) -> None:
    """The error does not send the reader to the certificates."""
    with deployment.ref_server(*[{"tls": drop()}] * 99) as server:
        client = deployment.client(server.port, raw=True, timeout=2)
        with pytest.raises(HandshakeFailed, match="it was overloaded") as cut:
            client.send_request(b"ask")
        assert cut.value.transient
        assert 2 < len(server.connections) < 99
