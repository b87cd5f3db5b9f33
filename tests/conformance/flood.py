"""A client in a process of its own, which keeps fifty requests under way: ``main`` sends them until it is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import sealwire
from conformance.given import SERVICE
from sealwire import nats
from support.constants import QUICK


def main(settings: dict[str, Any]) -> None:
    """Send the first request alone, and after its reply the second one again and again."""
    asyncio.run(flood(**settings))


async def flood(directory: str, peers: list[str], address: Any, first: Any, second: Any) -> None:
    path = Path(directory).joinpath
    security = sealwire.Security.from_files(
        cert=path("cert"), key=path("key"), ca=path("ca"), keyring=path("keyring"), peers=peers, service=SERVICE,
        limits=sealwire.Limits(**QUICK),
    )  # fmt: skip
    options: Any = {"security": security, "timeout": 1000, "wait": 1000}
    client: Any
    if not isinstance(address, str):
        client = sealwire.AsyncTCPClient("localhost", address[1], **options)
    elif address.startswith("/"):
        client = sealwire.AsyncUnixClient(address, **options)
    else:
        url, _, subject = address.rpartition("/")
        client = nats.AsyncNATSClient(url, subject=subject, sessions=1, **options)

    async def send() -> None:
        while True:
            await client.send_request(second)

    async with client:
        await client.send_request(first)
        await asyncio.gather(*(send() for _ in range(50)))
