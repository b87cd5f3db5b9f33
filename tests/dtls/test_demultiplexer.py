"""A UDP server's peers, told apart without a socket: what is kept for which address, and for how long."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealwire.dtls.cookies import PERIOD
from sealwire.errors import HandshakeRejected, PayloadTooLarge, RemoteError
from sealwire.session.buffers import STEP
from sealwire.wire.frames import FaultCode
from support.datagrams import HANDSHAKE, IDLE, Bounded, Network, with_cookie

ALERT = 21
"""The type of a record of DTLS that says nothing but that it ends."""


def announcing(size: int) -> bytes:
    """A datagram with the first byte of a handshake message of that size (RFC 6347, section 4.2.2)."""
    message = bytes([11]) + size.to_bytes(3, "big") + b"\0\1" + bytes(3) + b"\0\0\1" + b"x"
    return b"\x16\xfe\xfd" + bytes(7) + b"\x05" + len(message).to_bytes(2, "big") + message


class TestStrangers:
    def test_nothing_is_kept_without_a_cookie(self, made: Bounded) -> None:
        network = made.network()
        (hello,) = made.client(network, established=False).association.datagrams_to_send()
        for port in range(100):
            network.server.datagram_received(hello, ("192.0.2.1", port), network.now)
        assert network.server.peers == 0
        assert len(network.sent) == 100
        assert all(len(answer) < len(hello) for answer, _ in network.sent)

    def test_a_cookie_of_another_address(self, made: Bounded) -> None:
        network = made.network()
        client = made.client(network, established=False)
        answer = with_cookie(network, client)
        network.server.datagram_received(answer, ("192.0.2.1", 1), network.now)
        assert network.server.peers == 0
        network.server.datagram_received(answer, client.address, network.now)
        assert network.server.peers == 1

    def test_a_cookie_of_another_server(self, made: Bounded) -> None:
        network, other = made.network(), made.network()
        client = made.client(network, established=False)
        other.server.datagram_received(with_cookie(network, client), client.address, network.now)
        assert other.server.peers == 0

    @pytest.mark.parametrize("place", [*range(25, 62), -60, -30, -1])
    def test_a_cookie_of_another_hello(self, made: Bounded, place: int) -> None:
        """A cookie is good for the ClientHello that it was made for (RFC 6347, section 4.2.1)."""
        network = made.network()
        client = made.client(network, established=False)
        hello = with_cookie(network, client)
        changed = bytearray(hello)
        changed[place] ^= 1
        network.server.datagram_received(bytes(changed), client.address, network.now)
        assert network.server.peers == 0
        network.server.datagram_received(hello, client.address, network.now)
        assert network.server.peers == 1

    @pytest.mark.parametrize(("periods", "taken"), [(0.9, True), (1.9, True), (2.0, False), (20.0, False)])
    def test_an_old_cookie(self, made: Bounded, periods: float, taken: bool) -> None:
        network = made.network()
        network.now = PERIOD * 100
        client = made.client(network, established=False)
        hello = with_cookie(network, client)
        network.now += PERIOD * periods
        network.server.datagram_received(hello, client.address, network.now)
        assert network.server.peers == int(taken)

    def test_a_cookie_does_not_amplify(self, made: Bounded) -> None:
        """A ClientHello with a forged address and its cookie brings that address three times as much at most."""
        network = made.network()
        client = made.client(network, established=False)
        hello = with_cookie(network, client)
        network.clients.remove(client)
        sent, received = len(network.sent), 0
        for again in range(20):
            network.server.datagram_received(hello, client.address, network.now)
            received += len(hello)
            network.forward(HANDSHAKE / 7)
            if again % 3 == 2:
                network.server.datagram_received(hello[:40], client.address, network.now)
                received += 40
            assert sum(len(answer) for answer, _ in network.sent[sent:]) <= 3 * received

    def test_nothing_is_sent_to_silence(self, made: Bounded) -> None:
        network = made.network()
        client = made.client(network, established=False)
        network.server.datagram_received(with_cookie(network, client), client.address, network.now)
        network.clients.remove(client)
        sent = len(network.sent)
        for _ in range(20):
            network.forward(HANDSHAKE / 10)
        assert len(network.sent) == sent

    @settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_anything_at_all(self, made: Bounded, data: st.DataObject) -> None:
        """Nothing is raised for a datagram, and nothing is kept of one that is made up."""
        network = made.network()
        (hello,) = made.client(network, established=False).association.datagrams_to_send()
        piece = st.one_of(
            st.binary(max_size=100),
            st.integers(0, len(hello)).map(lambda end: hello[:end]),
            st.tuples(st.integers(0, len(hello) - 1), st.integers(1, 255)).map(
                lambda change: hello[: change[0]] + bytes([hello[change[0]] ^ change[1]]) + hello[change[0] + 1 :]
            ),
        )
        for datagram in data.draw(st.lists(piece, max_size=5)):
            network.server.datagram_received(datagram, ("192.0.2.1", 1), network.now)
        assert network.server.peers == 0


class TestHandshakes:
    def test_bytes_of_all_handshakes(self, made: Bounded, caplog: pytest.LogCaptureFixture) -> None:
        """max_buffered: above it those that have announced most are ended. An established client stays."""
        network = made.network(max_buffered=1 << 20)
        made.client(network, 100).ask()
        for port in range(20):
            client = made.client(network, port, established=False)
            network.server.datagram_received(with_cookie(network, client), client.address, network.now)
            network.clients.remove(client)
            network.server.datagram_received(announcing(100_000), client.address, network.now)
        assert network.server.peers == 1 + (1 << 20) // 100_000
        assert "max_buffered" in caplog.text
        assert made.client(network, 101).ask().result is None

    def test_a_rejected_client_may_ask_again(self, made: Bounded) -> None:
        """It gets the same answer for the same HELLO, since the first may be lost, until its time is over."""
        network = made.network()
        client = made.client(network, role="other client", established=False)
        network.verify(client)
        for _ in range(2):
            for datagram in client.association.datagrams_to_send():
                network.server.datagram_received(datagram, client.address, network.now)
            network.sent.clear()
            client.association.protocol.handle_timeout(math.inf)
        assert network.server.peers == 1
        network.carry()
        assert isinstance(client.error, HandshakeRejected)
        assert client.error.code == 3
        assert network.server.peers == 0

    def test_a_rejected_client_that_says_no_more(self, made: Bounded) -> None:
        network = made.network()
        client = made.client(network, role="other client", established=False)
        while not network.server.peers or client.error is None:
            for datagram in client.association.datagrams_to_send():
                network.server.datagram_received(datagram, client.address, network.now)
            for datagram, _ in network.sent:
                client.receive(datagram)
            network.sent.clear()
        network.clients.remove(client)
        assert network.server.peers == 1
        network.forward(HANDSHAKE)
        assert network.server.peers == 0


class TestSameAddress:
    def test_a_client_that_begins_again(self, made: Bounded) -> None:
        """The old association stays until the new one has proved itself (RFC 6347, section 4.2.8)."""
        network = made.network()
        old = made.client(network)
        first = old.ask(b"1")
        network.answer(b"one")
        new = made.client(network)
        assert network.server.peers == 2
        second = old.ask(b"2")
        network.answer(b"two")
        new.ask(b"3")
        assert network.server.peers == 1
        assert (first.result, second.result) == (b"one", b"two")
        old.ask(b"4")
        assert [bytes(request.payload) for _, request, _ in network.in_hand] == [b"3"]

    def test_one_that_proves_nothing(self, made: Bounded) -> None:
        network = made.network()
        client = made.client(network)
        client.ask(b"1")
        network.answer()
        for _ in range(5):
            other = made.client(network, established=False)
            network.server.datagram_received(with_cookie(network, other), client.address, network.now)
            network.clients.remove(other)
        assert network.server.peers <= 2
        exchange = client.ask(b"2")
        network.answer(b"two")
        assert exchange.result == b"two"
        network.forward(HANDSHAKE)
        assert network.server.peers == 1

    def test_a_repeated_hello_changes_nothing(self, made: Bounded) -> None:
        network = made.network()
        client = made.client(network, established=False)
        hello = with_cookie(network, client)
        for _ in range(3):
            network.server.datagram_received(hello, client.address, network.now)
        network.carry()
        client.ask()
        network.answer()
        network.server.datagram_received(hello, client.address, network.now)
        assert network.server.peers == 1


class TestRequests:
    def test_are_handed_over_with_their_deadline(self, made: Bounded) -> None:
        network = made.network()
        exchange = made.client(network).ask(b"1", wait=7.0)
        ((association, request, deadline),) = network.in_hand
        assert bytes(request.payload) == b"1"
        assert deadline == pytest.approx(network.now + 7.0)
        assert association.peer is not None
        assert network.server.in_progress == 1
        network.answer(b"one")
        assert exchange.result == b"one"
        assert network.server.in_progress == 0

    @pytest.mark.parametrize(("late", "run"), [(-0.1, True), (0.1, False)])
    def test_late_ones(self, made: Bounded, late: float, run: bool) -> None:
        """A datagram may lie in the kernel for a while: its request's wait counts from its arrival."""
        network = made.network()
        client = made.client(network)
        client.ask()
        network.answer()
        client.exchanges.association.protocol.send_request(b"2", wait=1.0)
        (datagram,) = client.association.datagrams_to_send()
        arrived = network.now
        network.now += 1.0 + late
        network.server.datagram_received(datagram, client.address, arrived)
        assert len(network.in_hand) == int(run)

    @pytest.mark.parametrize("limit", ["max_in_flight", "max_in_flight_total"])
    def test_too_many(self, made: Bounded, limit: str) -> None:
        network = made.network(**{limit: 2})
        client = made.client(network)
        exchanges = [client.ask(b"%d" % number) for number in range(3)]
        assert len(network.in_hand) == network.server.in_progress == 2
        refused = exchanges[2].result
        assert isinstance(refused, RemoteError)
        assert refused.code == FaultCode.OVERLOADED
        network.answer()
        client.ask(b"again")
        assert [bytes(request.payload) for _, request, _ in network.in_hand] == [b"1", b"again"]

    def test_each_client_has_its_own_share(self, made: Bounded) -> None:
        network = made.network(max_in_flight=1)
        for port in range(3):
            made.client(network, port).ask()
        assert len(network.in_hand) == 3

    def test_each_identity_has_its_own_share(self, made: Bounded) -> None:
        limits = {"max_in_flight_total": 4, "max_identity_share": 50}
        peers = ["dns:client.example", "dns:other.example"]
        network = Network(made.deployment.server_security(raw=True, limits=limits, peers=peers), made.monkeypatch)
        clients = [made.client(network, port) for port in range(3)]
        other = made.client(network, 4, role="other client")
        refused = [client.ask().result for client in clients]
        assert refused[:2] == [None, None]
        assert isinstance(refused[2], RemoteError)
        assert refused[2].code == FaultCode.OVERLOADED
        assert other.ask().result is None
        network.answer()
        assert clients[2].ask().result is None
        assert len(network.in_hand) == 3

    def test_bytes_of_all_requests(self, made: Bounded) -> None:
        """The association that holds most gets no more of them handled, when half of max_buffered is in use."""
        network = made.network(
            max_buffered=1 << 20, max_in_flight=1024, max_in_flight_total=10_000, max_identity_share=100
        )
        first, second = made.client(network, 1), made.client(network, 2)
        for _ in range(100):
            first.ask(bytes(1100))
        accepted = [second.ask(bytes(1100)).result is None for _ in range(500)]
        assert accepted[0]
        assert not accepted[-1]
        assert first.ask(bytes(1100)).result is None
        while network.in_hand:
            network.answer()
        assert second.ask(bytes(1100)).result is None
        assert network.server.peers == 2

    def test_an_association_that_holds_too_much_is_ended(self, made: Bounded, caplog: pytest.LogCaptureFixture) -> None:
        """max_buffered holds for established associations, too: requests that no handler has finished with."""
        limits = {"max_buffered": 1 << 20, "max_in_flight": 1024, "max_in_flight_total": 1024}
        network = made.network(**limits, max_identity_share=100)
        client = made.client(network)
        for _ in range((1 << 20) // 1100):
            client.ask(bytes(1100))
        assert network.server.peers == 1
        for _ in range(STEP // 1100 + 1):
            client.ask(bytes(1100))
        assert network.server.peers == 0
        assert "max_buffered" in caplog.text

    def test_a_reply_over_the_size_of_a_datagram(self, made: Bounded) -> None:
        network = made.network()
        exchange = made.client(network).ask()
        association, request, _ = network.in_hand[0]
        with pytest.raises(PayloadTooLarge, match="over TCP"):
            network.server.send_reply(association, request.sequence, bytes(2000))
        network.carry()
        assert isinstance(exchange.result, RemoteError)
        assert exchange.result.code == FaultCode.TOO_LARGE

    def test_a_reply_to_a_client_that_has_left(self, made: Bounded) -> None:
        network = made.network()
        client = made.client(network)
        client.ask()
        for datagram in client.association.close():
            network.server.datagram_received(datagram, client.address, network.now)
        assert network.server.peers == 0
        sent = len(network.sent)
        network.answer()
        assert network.server.in_progress == 0
        assert all(datagram[0] == ALERT for datagram, _ in network.sent[sent:])


class TestEnds:
    def test_idle(self, made: Bounded) -> None:
        network = made.network(max_connection_age=86_400.0)
        client = made.client(network)
        client.ask()
        network.forward(100)
        assert network.server.peers == 1  # not while its request is in hand
        network.answer()
        network.forward(IDLE - 1)
        assert network.server.peers == 1
        network.forward(1)
        assert network.server.peers == 0
        closed = client.exchanges.loss()
        assert closed is not None
        assert (closed.code, closed.last) == (1, 1)

    def test_age(self, made: Bounded) -> None:
        """It takes no more requests, finishes the one in progress, and ends with CLOSE 0."""
        network = made.network(max_connection_age=20.0)
        client = made.client(network)
        exchange = client.ask()
        network.forward(20)
        late = client.ask(b"late")
        assert len(network.in_hand) == 1
        network.answer()
        assert exchange.result == b"!"
        closed = client.exchanges.loss()
        assert closed is not None
        assert (closed.code, closed.last) == (0, 1)
        assert late.lost(closed).unprocessed
        assert network.server.peers == 0

    def test_drain(self, made: Bounded) -> None:
        """Those with requests in progress are let finish, the others go at once, and nothing begins."""
        network = made.network()
        busy, idle, shaking = made.client(network, 1), made.client(network, 2), made.client(network, 3)
        idle.ask()
        network.answer()
        exchange = busy.ask()
        network.server.drain()
        network.carry()
        assert network.server.peers == 1
        for client, last in ((idle, 1), (shaking, 0)):
            closed = client.exchanges.loss()
            assert closed is not None
            assert (closed.code, closed.last) == (2, last)
        late = busy.ask(b"late")
        assert len(network.in_hand) == 1
        stranger = made.client(network, 4, established=False)
        network.carry()
        assert not stranger.association.secured
        network.answer()
        assert exchange.result == b"!"
        closed = busy.exchanges.loss()
        assert closed is not None
        assert (closed.code, closed.last) == (2, 1)
        assert late.lost(closed).unprocessed
        assert network.server.peers == network.server.in_progress == 0
        network.server.resume()
        made.client(network, 5)

    def test_close(self, made: Bounded) -> None:
        network = made.network()
        client = made.client(network)
        client.ask()
        network.server.close()
        network.carry()
        assert network.server.peers == 0
        assert client.exchanges.loss() is not None
        network.answer()
        assert network.server.in_progress == 0

    def test_the_pause(self, made: Bounded) -> None:
        network = made.network(reload_interval=5.0, handshake_timeout=3.0)
        network.server.handle_timeouts()
        assert network.server.until_due == pytest.approx(5.0)
        shaking = made.client(network, 2, established=False)
        network.server.datagram_received(with_cookie(network, shaking), shaking.address, network.now)
        assert network.server.until_due == pytest.approx(3.0)
        client = made.client(network)
        client.ask()
        network.answer()
        network.forward(4)
        assert network.server.until_due == pytest.approx(1.0)
