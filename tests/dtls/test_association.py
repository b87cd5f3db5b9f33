"""Both ends of an association, without a network: DTLS and the wire protocol in one."""

from __future__ import annotations

import math
import os

import pytest

from sealwire.dtls.client_association import Stalled
from sealwire.errors import HandshakeFailed, HandshakeRejected, PeerNotAllowed
from sealwire.wire.frames import CloseCode
from support.datagrams import SERVER, Client, Network
from support.service import Deployment


@pytest.fixture
def network(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(deployment.server_security(raw=True), monkeypatch)


@pytest.fixture
def client(deployment: Deployment, network: Network) -> Client:
    return network.client(deployment.security("client", raw=True))


class TestHandshake:
    def test_identities(self, network: Network, client: Client) -> None:
        client.ask()
        server = network.in_hand[0][0]
        assert client.association.peer is not None
        assert "localhost" in client.association.peer.dns
        assert server.peer is not None
        assert server.peer.dns == ("client.example",)
        assert server.session.key_id == "k1"

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_names_of_the_server(self, deployment: Deployment, network: Network, host: str) -> None:
        assert network.client(deployment.security("client", raw=True), host=host).association.open

    @pytest.mark.parametrize("host", ["other.example", "127.0.0.2", "client.example"])
    def test_another_name(self, deployment: Deployment, network: Network, host: str) -> None:
        """OpenSSL is not told the name, so that this is checked here, before anything is sent."""
        client = network.client(deployment.security("client", raw=True), host=host, established=False)
        network.carry()
        assert isinstance(client.error, HandshakeFailed)
        assert f"the certificate of {SERVER} is not acceptable: hostname mismatch" in str(client.error)
        assert client.association.ended
        network.forward(60)
        assert network.server.peers == 0

    def test_a_server_that_is_not_listed(self, deployment: Deployment, network: Network) -> None:
        security = deployment.security("client", raw=True, peers=["dns:other.example"])
        client = network.client(security, established=False)
        network.carry()
        assert isinstance(client.error, PeerNotAllowed)

    @pytest.mark.parametrize("service", ["orders", "billing"])
    def test_another_service(self, deployment: Deployment, network: Network, service: str) -> None:
        client = network.client(deployment.security("client", raw=True, service=service), established=False)
        network.carry()
        assert isinstance(client.error, HandshakeRejected)
        assert client.error.code == 3


def test_answers_to_another_handshake(deployment: Deployment, network: Network) -> None:
    """Those of a client that had the port before break this one's, which can be made again."""
    before, client = (network.client(deployment.security("client", raw=True), established=False) for _ in range(2))
    for each in (client, before):
        (hello,) = each.association.datagrams_to_send()
        network.server.datagram_received(hello, each.address, network.now)
        each.receive(network.sent[-1][0])
    network.sent.clear()
    while not before.association.secured:
        for datagram in before.association.datagrams_to_send():
            network.server.datagram_received(datagram, before.address, network.now)
        for datagram, _ in network.sent:
            before.receive(datagram)
            client.receive(datagram)
        network.sent.clear()
    assert isinstance(client.error, HandshakeFailed)
    assert "bad signature" in str(client.error)
    assert client.error.transient


class TestDatagrams:
    def test_garbage_changes_nothing(self, network: Network, client: Client) -> None:
        exchange = client.ask()
        server = network.in_hand[0][0]
        for end in (client.association, server):
            for size in (0, 1, 13, 100, 2000):
                assert end.datagram_received(os.urandom(size)) == []
                assert end.datagram_received(b"\x17\xfe\xfd\0\x01" + os.urandom(size)) == []
        network.answer()
        assert exchange.result == b"!"

    def test_repeated_and_out_of_order(self, network: Network, client: Client) -> None:
        """Each request is handed over once, whatever the network does."""
        datagrams = []
        for number in range(4):
            client.association.protocol.send_request(b"%d" % number)
            datagrams += client.association.datagrams_to_send()
        assert len(datagrams) == 4
        for number in (2, 0, 2, 3, 1, 0, 3):
            network.server.datagram_received(datagrams[number], client.address, network.now)
        assert [bytes(request.payload) for _, request, _ in network.in_hand] == [b"2", b"0", b"3", b"1"]

    def test_another_associations(self, deployment: Deployment, network: Network, client: Client) -> None:
        other = network.client(deployment.security("client", raw=True), 2)
        other.association.protocol.send_request(b"not from here")
        (datagram,) = other.association.datagrams_to_send()
        network.server.datagram_received(datagram, client.address, network.now)
        assert network.in_hand == []


class TestEnd:
    def test_close(self, network: Network, client: Client) -> None:
        last = client.association.close(CloseCode.GOING_AWAY)
        assert 1 <= len(last) <= 2
        assert client.association.ended
        assert not client.association.open
        assert client.association.timeout == math.inf
        assert client.association.close() == []
        for datagram in last:
            network.server.datagram_received(datagram, client.address, network.now)
        assert network.server.peers == 0

    def test_in_the_middle_of_the_handshake(self, deployment: Deployment, network: Network) -> None:
        client = network.client(deployment.security("client", raw=True), established=False)
        client.association.close()
        assert client.association.ended
        assert client.association.datagram_received(b"\x16\xfe\xfd" + bytes(100)) == []
        client.association.handle_timeout()

    def test_nothing_is_due_while_all_is_well(self, client: Client) -> None:
        assert client.association.timeout == math.inf

    def test_hello_is_sent_again(self, deployment: Deployment, network: Network) -> None:
        """WELCOME may be lost on the way (docs/protocol.md, section 6)."""
        client = network.client(deployment.security("client", raw=True), established=False)
        network.verify(client)
        assert client.association.timeout == pytest.approx(network.now + 0.25)
        assert client.association.datagrams_to_send()  # lost
        network.now += 0.25
        client.association.handle_timeout()
        assert client.association.timeout == pytest.approx(network.now + 0.5)
        network.carry()
        assert client.association.open
        assert client.association.timeout == math.inf

    def test_hello_is_sent_again_five_times(self, deployment: Deployment, network: Network) -> None:
        """Then the client gives up, and begins again with another association."""
        client = network.client(deployment.security("client", raw=True), established=False)
        network.verify(client)
        sent = [len(client.association.datagrams_to_send())]
        for _ in range(5):
            network.now = client.association.timeout
            client.association.handle_timeout()
            sent.append(len(client.association.datagrams_to_send()))
        assert sent == [1] * 6
        network.now = client.association.timeout
        with pytest.raises(Stalled):
            client.association.handle_timeout()
        assert network.now == pytest.approx(client.association.started_at + 8)
