"""Certificates that are expensive to read or to verify: with ten thousand names, or below 120 CAs of one name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sealwire import AsyncTCPClient, HandshakeFailed, Keyring, Security, SynchronousTCPClient
from sealwire.dtls import AsyncUDPClient, SynchronousUDPClient, ThreadingUDPServer
from sealwire.wire.keys import Key
from support.aio import KINDS, served_by
from support.certificates import Files, Made, make, make_ca, raw_names
from support.events import logged
from support.udp import ADDRESS, echo, running

pytestmark = pytest.mark.usefixtures("clean")

SERVERS = [*KINDS, "UDP"]
CLIENTS = [SynchronousTCPClient, AsyncTCPClient, SynchronousUDPClient, AsyncUDPClient]
KEYS = Keyring([Key("k1", b"k" * 32)])
DNS = 2


class Place:
    """A CA, and the expensive certificates; ``security`` is an end with a certificate and the CAs above it."""

    def __init__(self, directory: Path) -> None:
        self._files = Files(directory)
        self.root = make_ca()
        names = raw_names(*((DNS, b"%s" % name) for name in (b"localhost", b"client.example", *self._many())))
        self.many_names = make(issuer=self.root, raw_san=names)
        self.chain = [make_ca("same")]
        for _ in range(120):
            self.chain.insert(0, make_ca("same", issuer=self.chain[0]))
        self.below = make("localhost", "client.example", issuer=self.chain[0])

    def _many(self) -> list[bytes]:
        return [b"n%d" % number for number in range(10_000)]

    def security(self, own: Made | None = None, *above: Made) -> Security:
        own = own or make("localhost", "client.example", issuer=self.root)
        credentials = self._files.credentials(own, self.root, chain=above)
        return Security(credentials=credentials, keys=KEYS, peers=["dns:client.example"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@contextmanager
def served(kind: str, security: Security) -> Iterator[int]:
    if kind == "UDP":
        with running(ThreadingUDPServer(ADDRESS, echo, security)) as port:
            yield port
    else:
        with served_by(kind, echo, security) as port:
            yield port


def ask(client_class: Any, port: int, security: Security) -> None:
    if issubclass(client_class, SynchronousTCPClient | SynchronousUDPClient):
        with client_class("localhost", port, security=security) as one:
            assert one.send_request(1) == 1
        return

    async def main() -> None:
        async with client_class("localhost", port, security=security) as one:
            assert await one.send_request(1) == 1

    asyncio.run(main())


@pytest.mark.parametrize("kind", SERVERS)
def test_from_a_client(place: Place, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """It gets in with many names, and is refused with the chain in one short line; others are served."""
    caplog.set_level(logging.INFO, "sealwire")
    client_class = SynchronousUDPClient if kind == "UDP" else SynchronousTCPClient
    with served(kind, place.security()) as port:
        ask(client_class, port, place.security(place.many_names))
        with pytest.raises(HandshakeFailed):
            ask(client_class, port, place.security(place.below, *place.chain[:-1]))
        ask(client_class, port, place.security())
    (line,) = (record.getMessage() for record in logged(caplog) if "refused" in record.getMessage())
    assert "chain too long" in line
    assert len(line) < 300


@pytest.mark.parametrize("client_class", CLIENTS)
def test_from_a_server(place: Place, client_class: Any) -> None:
    kind = "UDP" if client_class in (SynchronousUDPClient, AsyncUDPClient) else "threads"
    with served(kind, place.security(place.many_names)) as port:
        ask(client_class, port, place.security())
    with (
        served(kind, place.security(place.below, *place.chain[:-1])) as port,
        pytest.raises(HandshakeFailed, match="chain too long") as failed,
    ):
        ask(client_class, port, place.security())
    assert len(str(failed.value)) < 500
