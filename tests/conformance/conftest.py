"""Files of both ends, a server of each kind, and clients that are closed at the end of a test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.combinations import CLIENTS, LOOP, SERVERS, Caller, Client, Running, Server
from conformance.given import SERVICE, Given
from conformance.handlers import Order, Secret
from sealwire.pki.authority import create_ca
from support.service import nothing_left
from support.sides import Side

COMBINATIONS = [
    pytest.param(server, client, id=f"{server}-{client}")
    for server in SERVERS
    for client in CLIENTS
    if server.transport is client.transport
]


class Ends:
    """A CA, and a directory of files for the server and for the client."""

    def __init__(self, directory: Path, *, local: bool) -> None:
        self.ca = create_ca("first")
        self.directory = directory
        self.local = local
        self.server = Side(directory / "server", "localhost", "127.0.0.1")
        self.client = Side(directory / "client", "client.example")
        for side in (self.server, self.client):
            side.leaf(self.ca)
            side.trust(self.ca)
            side.keys("k1")

    @property
    def address(self) -> Any:
        """Where a server is to listen."""
        return str(self.directory / "socket") if self.local else ("127.0.0.1", 0)

    def security(self, side: Side | None = None, **options: Any) -> Any:
        """The client's, or that of somebody else's files."""
        peers = [f"uid:{os.getuid()}"] if self.local else None
        return (side or self.client).security(
            **({"peers": peers, "service": SERVICE, "allow": [Order, Secret]} | options)
        )


class Case:
    """One combination of server and client."""

    def __init__(self, server: Server, client: Client, ends: Ends, stack: ExitStack) -> None:
        self.server = server
        self.client_kind = client
        self.ends = ends
        self._stack = stack

    @contextmanager
    def start(self, address: Any = None, **given: Any) -> Iterator[Running]:
        """A server of its own, which has no clients any more when it stops; see Given."""
        where = self.ends.address if address is None else address
        with self.server.start(Given(self.ends.server.directory, where, **given)) as running:
            yield running
            self._stack.close()

    def close(self) -> None:
        """Close all clients that there are so far."""
        self._stack.close()

    def keep(self) -> ExitStack:
        """The clients that there are so far outlive the server; for the caller to close."""
        return self._stack.pop_all()

    def client(
        self, running: Running, *, timeout: float = 10, wait: float = 10, side: Side | None = None, **options: Any
    ) -> Caller:
        """A client, which is closed at the end of the test. options: of Security."""
        security = self.ends.security(side, **options)
        caller = self.client_kind.make(running.address, security, timeout=timeout, wait=wait)
        self._stack.callback(caller.close)
        return caller

    def other_side(self, name: str, *names: str) -> Side:
        """Somebody else's files: of the same CA, with the same key."""
        side = Side(self.ends.directory / name, *names)
        side.leaf(self.ends.ca)
        side.trust(self.ends.ca)
        side.keys("k1")
        return side


@pytest.fixture(scope="session", autouse=True)
def clients_loop() -> None:
    LOOP.start()


@pytest.fixture(scope="module")
def new_ends() -> Iterator[Callable[[Server], Ends]]:
    """Files in a directory whose name is short enough for a socket in it."""
    with ExitStack() as stack:

        def new(server: Server) -> Ends:
            directory = tempfile.mkdtemp(prefix="sealwire-")
            stack.callback(shutil.rmtree, directory)
            return Ends(Path(directory), local=server.transport.local)

        yield new


@pytest.fixture
def case(server: Server, client: Client, new_ends: Callable[[Server], Ends]) -> Iterator[Case]:
    """For a test that starts servers of its own, and leaves nothing behind."""
    with nothing_left(), ExitStack() as stack:
        yield Case(server, client, new_ends(server), stack)


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Callable[[Server, Callable[[Server], Ends]], Any]]:
    """One server of each kind for all tests of a module, started when it is first wanted."""
    with ExitStack() as stack:
        found: dict[str, tuple[Ends, Running]] = {}

        def get(server: Server, new_ends: Callable[[Server], Ends]) -> tuple[Ends, Running]:
            if server.name not in found:
                ends = new_ends(server)
                found[server.name] = ends, stack.enter_context(server.start(Given(ends.server.directory, ends.address)))
            return found[server.name]

        yield get


@pytest.fixture
def shared(
    server: Server, client: Client, running: Any, new_ends: Callable[[Server], Ends]
) -> Iterator[tuple[Case, Running]]:
    """For a test that a server shared with others will do for."""
    ends, one = running(server, new_ends)
    with ExitStack() as stack:
        yield Case(server, client, ends, stack), one


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of the suite is run with all combinations; one about certificates where there are any."""
    if {"case", "shared"} & set(metafunc.fixturenames):
        certificates = metafunc.definition.get_closest_marker("certificates") is not None
        chosen = [each for each in COMBINATIONS if not (certificates and each.values[0].transport.local)]
        metafunc.parametrize(("server", "client"), chosen)
