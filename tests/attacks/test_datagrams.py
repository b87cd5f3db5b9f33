"""Datagrams that anybody can write, and records that only a client with a good certificate can: associations stay."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire.session import terms
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.datagram import ClientDatagrams
from support.datagrams import Client, Network
from support.hostile_dtls import ALERT, APPLICATION, CHANGE_CIPHER_SPEC, HANDSHAKE, HostileClient, message_part, record
from support.service import Deployment

FATAL = b"\x02\x28"
LAST = (1 << 48) - 1


@pytest.fixture
def network(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(deployment.server_security(raw=True), monkeypatch)


@pytest.fixture
def client(deployment: Deployment, network: Network) -> Client:
    """One whose request is in the hands of the server's handler."""
    made = network.client(deployment.security("client", raw=True))
    made.ask(b"0")
    network.answer()
    return made


def serves(network: Network, client: Client) -> bool:
    """The association is as good as ever."""
    exchange = client.ask(b"?")
    network.answer(b"!")
    return exchange.result == b"!" and client.error is None and network.server.peers == 1


@pytest.mark.parametrize("epoch", [0, 1, 2, 3, 255, 65535])
def test_forged_records(network: Network, client: Client, epoch: int) -> None:
    """Of each type, with the first, a used and the last number, in each epoch: to both ends."""
    made = random.Random(epoch)
    for kind in (CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION, 24, 25, 26, 0, 255):
        for sequence in (0, 1, 2, 63, 64, 1000, LAST):
            for body in (b"", b"\0", FATAL, *(made.randbytes(size) for size in (8, 16, 23, 24, 25, 40, 1000))):
                forged = record(kind, epoch, sequence, body)
                network.server.datagram_received(forged, client.address, network.now)
                client.receive(forged)
    assert network.in_hand == []
    assert serves(network, client)


def test_what_was_changed_on_the_way(network: Network, client: Client) -> None:
    """Each bit, each place to cut at, and behind or before others: only the record itself is taken, and once."""
    exchange = client.ask(b"")
    network.in_hand.clear()
    client.exchanges.association.protocol.send_request(b"genuine")
    (genuine,) = client.association.datagrams_to_send()
    places = range(len(genuine))
    changed = [bytes([*genuine[:place], genuine[place] ^ 1 << place % 8, *genuine[place + 1 :]]) for place in places]
    changed += [genuine[:size] for size in places]
    changed += [record(APPLICATION, 1, LAST, genuine[13:]), record(ALERT, 1, 7, genuine[13:]), b"\0" + genuine]
    for each in changed:
        network.server.datagram_received(each, client.address, network.now)
        client.receive(each)
    assert network.in_hand == []
    for _ in range(3):
        network.server.datagram_received(record(ALERT, 0, 0, FATAL) + genuine, client.address, network.now)
        network.server.datagram_received(genuine + genuine, client.address, network.now)
    assert [bytes(request.payload) for _, request, _ in network.in_hand] == [b"genuine"]
    assert exchange.result is None


def test_from_another_association(deployment: Deployment, network: Network, client: Client) -> None:
    other = network.client(deployment.security("client", raw=True), 2)
    other.exchanges.association.protocol.send_request(b"not from here")
    (datagram,) = other.association.datagrams_to_send()
    network.server.datagram_received(datagram, client.address, network.now)
    client.receive(datagram)
    assert network.in_hand == []
    network.clients.remove(other)
    exchange = client.ask()
    network.answer(b"!")
    assert exchange.result == b"!"


def test_all_that_a_client_said_again(deployment: Deployment, network: Network) -> None:
    """From its address, while its cookie is valid: it is a handshake that comes to nothing, and no request."""
    client = network.client(deployment.security("client", raw=True), established=False)
    said: list[bytes] = []
    deliver = network.server.datagram_received
    network.server.datagram_received = lambda data, *rest: (said.append(data), deliver(data, *rest))  # to record them
    network.carry()
    client.ask(b"once")
    network.answer()
    for datagram in client.association.close():
        network.server.datagram_received(datagram, client.address, network.now)
    assert network.server.peers == 0
    network.clients.remove(client)
    for datagram in said:
        deliver(datagram, client.address, network.now)
    assert network.in_hand == []
    assert network.server.peers == 0


class TestHandshake:
    """Before DTLS has keys, a party that can forge a client's address can break its handshake, and nothing more."""

    def begun(self, deployment: Deployment, network: Network, port: int = 1) -> Client:
        """A client that has answered the cookie, and whose server waits for its certificate."""
        client = network.client(deployment.security("client", raw=True), port, established=False)
        before = network.server.peers
        while network.server.peers == before:
            for datagram in client.association.datagrams_to_send():
                network.server.datagram_received(datagram, client.address, network.now)
            for datagram, _ in network.sent:
                client.receive(datagram)
            network.sent.clear()
        return client

    @pytest.mark.parametrize("number", range(14))
    def test_forged_parts_of_messages(self, deployment: Deployment, network: Network, number: int) -> None:
        """Overlapping ones, too long ones, those of messages to come: nothing is raised, and others are served."""
        made = random.Random(number)
        client = self.begun(deployment, network)
        parts = ((0, 0, 0), (100, 0, 50), (100, 25, 50), (90, 0, 50), (100, 90, 20), (0xFFFFFF, 0, 9))
        for size, offset, length in parts:
            part = message_part(number, size, offset, made.randbytes(length), made.choice((1, 2, 11, 14, 15, 16, 20)))
            network.server.datagram_received(record(HANDSHAKE, 0, 50 + offset, part), client.address, network.now)
        network.clients.remove(client)
        network.forward(11.0)
        assert network.server.peers == 0
        assert network.client(deployment.security("client", raw=True), 2).association.open

    def test_long_messages_to_come_take_little_memory(self, deployment: Deployment, network: Network) -> None:
        """OpenSSL sets their length aside for ten of them, ten times the longest chain, in each handshake."""
        clients = [self.begun(deployment, network, port) for port in range(30)]
        before = resident()
        for client in clients:
            for number in range(6, 12):
                for offset in range(0, 100_000, 4096):
                    part = message_part(number, 100_000, offset, b"x")
                    forged = record(HANDSHAKE, 0, 50 + number * 30 + offset // 4096, part)
                    network.server.datagram_received(forged, client.address, network.now)
        assert resident() - before < 10_000_000
        assert network.client(deployment.security("client", raw=True), 99).association.open


def resident() -> int:
    """The bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class TestWithKeys:
    """A client that has authenticated itself and seals what it likes ends its own association at most."""

    @pytest.fixture
    def hostile(self, deployment: Deployment, network: Network, client: Client) -> HostileClient:
        """One that shares a key with the server, and whose request was answered."""
        security = deployment.security("client", raw=True)
        made = HostileClient(network, security, ("127.0.0.1", 9))
        leaf = made.dtls.get_peer_certificate(as_cryptography=True)
        assert leaf is not None
        der = leaf.public_bytes(Encoding.DER)
        current = security.credentials.current
        protocol = ClientDatagrams(
            network.now,
            **terms.client_parameters(security, current, host="localhost", peer=PeerIdentity.from_der(der), leaf=der),
        )
        made.send(made.sealed(frame_of(protocol)))
        made.take_answers()
        protocol.datagram_received(made.dtls.recv(2000))
        for number in range(3):
            protocol.send_request(b"%d" % number)
        self.requests = [b"".join(frame) for frame in protocol.frames_to_send()]
        assert self.asks(network, hostile=made)
        return made

    def asks(self, network: Network, hostile: HostileClient, **options: Any) -> bool:
        """Return True if its next request is handed over."""
        hostile.send(hostile.sealed(self.requests.pop(0), **options))
        taken = bool(network.in_hand)
        if taken:
            network.answer()
        return taken

    def test_empty_records(self, network: Network, client: Client, hostile: HostileClient) -> None:
        for _ in range(1000):
            hostile.send(hostile.sealed(b""))
        assert others_are_served(network, client)

    @pytest.mark.parametrize("epoch", [0, 2, 3, 65535])
    def test_other_epochs(self, network: Network, client: Client, hostile: HostileClient, epoch: int) -> None:
        hostile.send(hostile.sealed(self.requests[0], epoch=epoch, sequence=hostile.sequence))
        assert network.in_hand == []
        assert self.asks(network, hostile)
        assert others_are_served(network, client)

    def test_the_last_number_of_an_epoch(self, network: Network, client: Client, hostile: HostileClient) -> None:
        """Those below it are out of the window from then on: it has shut itself out."""
        assert self.asks(network, hostile, sequence=LAST)
        assert not self.asks(network, hostile)
        assert others_are_served(network, client)
        network.forward(40.0)
        assert network.server.peers == 0

    @pytest.mark.parametrize(
        ("kind", "content"),
        [
            (ALERT, b"\x01\x00"),
            (ALERT, b"\x02\x28"),
            (ALERT, b"\x01\x64"),
            (ALERT, b"\x02"),
            (ALERT, b""),
            (HANDSHAKE, message_part(0, 0, 0, b"", kind=0)),
            (HANDSHAKE, message_part(9, 40, 0, bytes(40), kind=1)),
            (HANDSHAKE, message_part(6, 12, 0, bytes(12), kind=20)),
            (HANDSHAKE, message_part(9, 0xFFFFFF, 0, bytes(900))),
            (HANDSHAKE, b""),
            (CHANGE_CIPHER_SPEC, b"\x01"),
            (24, b"\x01\xff\xff"),
            (255, b"x"),
        ],
    )
    def test_other_records(
        self, network: Network, client: Client, hostile: HostileClient, kind: int, content: bytes
    ) -> None:
        """Alerts, heartbeats, another handshake: nothing is raised, little is said, and nobody else notices."""
        sent = len(network.sent)
        for _ in range(200):
            hostile.send(hostile.sealed(content, kind=kind))
        assert sum(len(answer) for answer, _ in network.sent[sent:]) < 200 * 60
        assert others_are_served(network, client)


def frame_of(protocol: ClientDatagrams) -> bytes:
    (frame,) = protocol.frames_to_send()
    return b"".join(frame)


def others_are_served(network: Network, client: Client) -> bool:
    exchange = client.ask(b"?")
    network.answer(b"!")
    return exchange.result == b"!"
