"""A UDP server and its clients in memory: DTLS is real, the network and the clock are the test's."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from sealwire.dtls import association, association_table, client_association, cookies, demultiplexer, server_association
from sealwire.dtls.client_association import ClientAssociation
from sealwire.dtls.demultiplexer import Demultiplexer
from sealwire.dtls.exchange import Exchange, Exchanges
from sealwire.dtls.server_association import ServerAssociation
from sealwire.errors import SealwireError
from sealwire.security import Security
from sealwire.wire.events import Request
from support.service import Deployment

SERVER = "127.0.0.1:4711"
HANDSHAKE, IDLE = 10.0, 30.0


class Client:
    """A client at an address.

    Attributes:
        error: what ended its association, if anything did.
    """

    def __init__(self, network: Network, security: Security, address: Any, *, host: str = "127.0.0.1") -> None:
        self.network = network
        self.address = address
        self.association = ClientAssociation(security, security.credentials.current, host=host, address=SERVER)
        self.exchanges = Exchanges(self.association, SERVER)
        self.error: SealwireError | None = None

    def receive(self, datagram: bytes) -> None:
        try:
            for event in self.association.datagram_received(datagram):
                self.exchanges.receive(event)
        except SealwireError as error:
            self.error = error

    def ask(self, payload: bytes = b"?", *, wait: float = 10.0, idempotent: bool = False) -> Exchange:
        """Begin a request, and carry it to the server."""
        now = self.network.now
        exchange = Exchange(self.exchanges, payload, now + wait, now, idempotent=idempotent)
        self.network.carry()
        return exchange


class Network:
    """A server, and the datagrams on their way to and from it.

    Attributes:
        in_hand: the requests that the server has handed over, with their associations and deadlines.
        sent: all datagrams of the server, with their addresses.
        now: the moment by all clocks but OpenSSL's.
    """

    def __init__(self, security: Security, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (association, association_table, client_association, server_association, cookies, demultiplexer):
            monkeypatch.setattr(module, "monotonic", lambda: self.now)
        self.server = Demultiplexer(security, send=self._send, dispatch=self._handle)
        self.clients: list[Client] = []
        self.in_hand: list[tuple[ServerAssociation, Request, float | None]] = []
        self.sent: list[tuple[bytes, Any]] = []
        self._to_clients: deque[tuple[bytes, Any]] = deque()

    def _send(self, datagram: bytes, address: Any) -> None:
        self.sent.append((datagram, address))
        self._to_clients.append((datagram, address))

    def _handle(self, association: ServerAssociation, request: Request, deadline: float | None) -> None:
        self.in_hand.append((association, request, deadline))

    def client(self, security: Security, port: int = 1, *, established: bool = True, **options: Any) -> Client:
        """Add a client at a port; ``established``: let it shake hands."""
        made = Client(self, security, ("127.0.0.1", port), **options)
        self.clients.append(made)
        if established:
            self.carry()
            assert made.association.open, made.error
        return made

    def carry(self) -> None:
        """Carry all datagrams until there are no more."""
        while self._to_server() or self._to_clients:
            while self._to_clients:
                datagram, address = self._to_clients.popleft()
                for client in self.clients:
                    if client.address == address:
                        client.receive(datagram)

    def _to_server(self) -> bool:
        carried = False
        for client in self.clients:
            for datagram in client.association.datagrams_to_send():
                self.server.datagram_received(datagram, client.address, self.now)
                carried = True
        return carried

    def verify(self, client: Client) -> None:
        """Carry datagrams until a client has verified the server; its HELLO is still to be sent."""
        while not client.association.secured:
            for datagram in client.association.datagrams_to_send():
                self.server.datagram_received(datagram, client.address, self.now)
            while self.sent:
                client.receive(self.sent.pop(0)[0])

    def answer(self, payload: bytes = b"!") -> None:
        """Answer the request that was handed over first."""
        association, request, _ = self.in_hand.pop(0)
        self.server.send_reply(association, request.sequence, payload)
        self.server.release(association, request)
        self.carry()

    def forward(self, seconds: float) -> None:
        """Let time pass, and the server do what is due."""
        self.now += seconds
        self.server.handle_timeouts()
        self.carry()


class Bounded:
    """Makes networks whose server has these limits, and clients in them."""

    def __init__(self, deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deployment = deployment
        self.monkeypatch = monkeypatch

    def network(self, **limits: Any) -> Network:
        limits = {"handshake_timeout": HANDSHAKE, "idle_timeout": IDLE} | limits
        return Network(self.deployment.server_security(raw=True, limits=limits), self.monkeypatch)

    def client(self, network: Network, port: int = 1, *, role: str = "client", **options: Any) -> Client:
        return network.client(self.deployment.security(role, raw=True), port, **options)


def with_cookie(network: Network, client: Client) -> bytes:
    """The client's second ClientHello, the one that answers the cookie, kept from the server."""
    (hello,) = client.association.datagrams_to_send()
    network.server.datagram_received(hello, client.address, network.now)
    client.receive(network.sent[-1][0])
    (again,) = client.association.datagrams_to_send()
    return again
