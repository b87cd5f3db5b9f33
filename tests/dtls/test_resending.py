"""A request that was lost with its association is sent again by the same rule as on a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sealwire import ConnectionClosed
from sealwire.dtls import AsyncUDPClient, SynchronousUDPClient
from support.service import Deployment
from support.udp import Ending

pytestmark = pytest.mark.usefixtures("clean")


def ask(deployment: Deployment, port: int, **options: Any) -> Any:
    with SynchronousUDPClient("localhost", port, security=deployment.security("client", raw=True)) as client:
        return client.send_request(b"ask", **options)


def ask_on_asyncio(deployment: Deployment, port: int, **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncUDPClient("localhost", port, security=deployment.security("client", raw=True)) as client:
            return await client.send_request(b"ask", **options)

    return asyncio.run(main())


every_client = pytest.mark.parametrize("way", [ask, ask_on_asyncio])


@every_client
@pytest.mark.parametrize(
    ("end", "idempotent", "again"),
    [
        ((0, 0), False, True),
        ((2, 0), False, True),
        ((2, 1), False, False),
        ((2, 1), True, True),
        ((3, 0), False, False),
        (None, False, False),
        (None, True, True),
        ((4, 0), True, False),
        ((99, 0), True, False),
    ],
)
def test_only_if_it_does_no_harm(
    deployment: Deployment, way: Callable[..., Any], end: tuple[int, int] | None, idempotent: bool, again: bool
) -> None:
    with Ending(deployment.security("server", raw=True, peers=["dns:client.example"]), end) as server:
        if again:
            assert way(deployment, server.port, idempotent=idempotent) == b"ask"
        else:
            with pytest.raises(ConnectionClosed, match="may or may not have acted"):
                way(deployment, server.port, idempotent=idempotent)
        assert server.payloads == [b"ask"] * (1 + again)


@every_client
def test_once_at_most(deployment: Deployment, way: Callable[..., Any]) -> None:
    with Ending(deployment.security("server", raw=True, peers=["dns:client.example"]), *[(2, 0)] * 4) as server:
        with pytest.raises(ConnectionClosed):
            way(deployment, server.port, idempotent=True)
        assert server.payloads == [b"ask"] * 2
