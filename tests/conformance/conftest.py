"""Files of both ends, a server of each kind, and clients that are closed at the end of a test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.combinations import (
    CLIENTS,
    LOOP,
    NATS,
    SERVERS,
    TCP,
    UDP,
    UNIX,
    Caller,
    Client,
    Running,
    Server,
    Transport,
)
from conformance.given import SERVICE, Given
from conformance.handlers import Order, Secret
from sealwire.pki.authority import create_ca
from support.nats import shared_nats
from support.service import nothing_left
from support.sides import Side

PAIRS = [(server, client) for server in SERVERS for client in CLIENTS if server.transport is client.transport]


def in_turn(transport: Transport) -> Iterator[tuple[Server, Client]]:
    """Return pairs with each server and each client of a transport."""
    servers = [each for each in SERVERS if each.transport is transport]
    clients = [each for each in CLIENTS if each.transport is transport]
    for number in range(max(len(servers), len(clients))):
        yield servers[number % len(servers)], clients[number % len(clients)]


IN_TURN = [*in_turn(TCP), *in_turn(UNIX), *in_turn(UDP), *in_turn(NATS)]
"""Each server and the clients of its transport in turn: what one end does is seen at every server and with every
client. That each pair understands each other is seen in test_requests."""


class Ends:
    """A CA, and a directory of files for the server and for the client."""

    def __init__(self, directory: Path, transport: Transport) -> None:
        self.ca = create_ca("first")
        self.directory = directory
        self.transport = transport
        self.local = transport.local
        self.server = Side(directory / "server", "localhost", "127.0.0.1")
        self.client = Side(directory / "client", "client.example")
        for side in (self.server, self.client):
            side.leaf(self.ca)
            side.trust(self.ca)
            side.keys("k1")

    @property
    def address(self) -> Any:
        """The address that a server is to listen on."""
        if self.transport is NATS:
            return f"{shared_nats().url}/{self.directory.name}"
        return str(self.directory / "socket") if self.local else ("127.0.0.1", 0)

    def security(self, side: Side | None = None, **options: Any) -> Any:
        """The client's, or that of somebody else's files."""
        peers = [f"uid:{os.getuid()}"] if self.local else None if self.transport.host else ["dns:localhost"]
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
        self,
        running: Running,
        *,
        timeout: float = 10,
        wait: float = 10,
        side: Side | None = None,
        middleware: Sequence[Any] = (),
        **options: Any,
    ) -> Caller:
        """A client, which is closed at the end of the test. options: of Security."""
        security = self.ends.security(side, **options)
        caller = self.client_kind.make(running.address, security, timeout=timeout, wait=wait, middleware=middleware)
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
            return Ends(Path(directory), server.transport)

        yield new


@pytest.fixture
def case(server: Server, client: Client, new_ends: Callable[[Server], Ends]) -> Iterator[Case]:
    """For a test that starts servers of its own, and leaves nothing behind."""
    if server.transport is NATS:
        shared_nats()
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
    """Each test is run once with each server, or with the pairs that its mark chooses; one about certificates where
    there are any, and one about parts with each ``way`` that a server's handlers can give and take them."""
    if not {"case", "shared"} & set(metafunc.fixturenames):
        return
    pairs = IN_TURN
    if (mark := metafunc.definition.get_closest_marker("pairs")) is not None:
        pairs = [pair for pair in PAIRS if mark.args[0](*pair)]
    for mark, local in (("certificates", False), ("local", True)):
        if metafunc.definition.get_closest_marker(mark) is not None:
            pairs = [(server, client) for server, client in pairs if server.transport.local is local]
    if "way" not in metafunc.fixturenames:
        chosen = [pytest.param(*pair, id="-".join(map(str, pair))) for pair in pairs]
        metafunc.parametrize(("server", "client"), chosen)
        return
    ways = {False: ["in parts"], True: ["in parts", "in parts on the loop"]}
    chosen = [
        pytest.param(*pair, way, id="-".join(map(str, (*pair, way))))
        for pair in pairs
        for way in ways[pair[0].runs_coroutines]
    ]
    metafunc.parametrize(("server", "client", "way"), chosen)
