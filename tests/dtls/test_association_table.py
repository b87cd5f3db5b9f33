"""Which association has a place at a UDP server, and which gives way to another."""

from __future__ import annotations

import pytest

from sealwire.dtls.client_association import PATIENCE as GRACE
from sealwire.errors import HandshakeRejected
from support.datagrams import HANDSHAKE, Bounded, Network, with_cookie


class TestHandshakes:
    def test_takes_a_place_until_it_is_too_slow(self, made: Bounded) -> None:
        network = made.network()
        client = made.client(network, established=False)
        network.server.datagram_received(with_cookie(network, client), client.address, network.now)
        network.now += HANDSHAKE - 0.1
        network.server.handle_timeouts()
        assert network.server.peers == 1
        network.now += 0.1
        network.server.handle_timeouts()
        assert network.server.peers == 0

    def test_all_that_are_too_slow_go_at_once(self, made: Bounded) -> None:
        network = made.network()
        for port in range(5):
            client = made.client(network, port, established=False)
            network.server.datagram_received(with_cookie(network, client), client.address, network.now)
        assert network.server.until_due == 0.0
        network.server.handle_timeouts()
        network.now += HANDSHAKE
        assert network.server.until_due == 0.0
        network.server.handle_timeouts()
        assert network.server.peers == 0
        assert network.server.until_due > 0.0

    def test_each_source_has_its_share(self, made: Bounded) -> None:
        """A source of many pushes out its own, and neither another's handshake nor what is established."""
        network = made.network(max_handshakes=8)
        made.client(network, 1).ask()
        slow = made.client(network, 2, established=False)
        network.server.datagram_received(with_cookie(network, slow), slow.address, network.now)
        for port in range(20):
            flooding = made.client(network, established=False)
            flooding.address = ("192.0.2.1", port)
            network.server.datagram_received(with_cookie(network, flooding), flooding.address, network.now)
            network.clients.remove(flooding)
        assert network.server.peers == 9
        network.carry()
        assert slow.association.open
        assert made.client(network, 3).association.open

    def test_a_bound_for_each_source(self, made: Bounded) -> None:
        network = made.network(max_handshakes_per_source=3)
        made.client(network, 1).ask()
        for port in range(2, 9):
            client = made.client(network, port, established=False)
            network.server.datagram_received(with_cookie(network, client), client.address, network.now)
            network.clients.remove(client)
        assert network.server.peers == 4
        network.now += GRACE
        assert made.client(network, 9).association.open

    def test_those_that_fall_silent_give_way_sooner(self, made: Bounded) -> None:
        """A flood of cookies that are answered, and nothing more, does not keep others of its address waiting."""
        network = made.network(max_handshakes=3)
        slow = made.client(network, 1, established=False)
        network.server.datagram_received(with_cookie(network, slow), slow.address, network.now)
        for port in (2, 3):
            silent = made.client(network, port, established=False)
            network.server.datagram_received(with_cookie(network, silent), silent.address, network.now)
            network.clients.remove(silent)
        slow.association.handle_timeout()
        network.now += 0.2
        for datagram in slow.association.datagrams_to_send():  # again, since the answer was lost
            network.server.datagram_received(datagram, slow.address, network.now)
        early = made.client(network, 4, established=False)
        network.server.datagram_received(with_cookie(network, early), early.address, network.now)
        network.clients.remove(early)
        assert len(network.server.associations.unauthenticated) == 3
        assert early.address not in network.server.associations.unauthenticated
        network.now += 0.2
        assert made.client(network, 5).association.open
        assert slow.association.open

    def test_a_crowd_of_one_source_does_not_push_itself_out(self, made: Bounded) -> None:
        """Clients in the middle of a handshake finish it; the others ask again until there is room."""
        network = made.network(max_handshakes=3)
        crowd = [made.client(network, port, established=False) for port in range(1, 9)]
        for _ in range(4):
            network.carry()
            for client in crowd:
                if client.association.open:
                    client.exchanges or client.ask()
            network.now += 1
            for client in crowd:
                client.association.handle_timeout()
        assert all(client.association.open for client in crowd)
        assert len(network.in_hand) == len(crowd)

    def test_one_that_was_welcomed_has_more_time(self, made: Bounded) -> None:
        """It may have sent a request, whose fate it could not know."""
        network = made.network(max_handshakes=1)
        welcomed = made.client(network, 1)
        network.now += HANDSHAKE - 0.1
        made.client(network, 2, established=False)
        network.carry()
        welcomed.ask()
        assert len(network.in_hand) == 1

    def test_one_whose_certificate_was_accepted_has_more_time(self, made: Bounded) -> None:
        network = made.network(max_handshakes=1)
        verified = made.client(network, 1, established=False)
        network.verify(verified)
        network.now += HANDSHAKE - 0.1
        other = made.client(network, 2, established=False)
        network.server.datagram_received(with_cookie(network, other), other.address, network.now)
        network.clients.remove(other)
        network.carry()
        assert verified.association.open

    def test_a_client_hello_begins_one_association(self, made: Bounded) -> None:
        """The client has answered the first, which was ended; to the second those answers would be wrong."""
        network = made.network(max_handshakes=1)
        first, second = (made.client(network, port, established=False) for port in (1, 2))
        hello = with_cookie(network, first)
        network.server.datagram_received(hello, first.address, network.now)
        network.now += GRACE
        network.server.datagram_received(with_cookie(network, second), second.address, network.now)
        network.now += GRACE
        sent = len(network.sent)
        network.server.datagram_received(hello, first.address, network.now)
        assert len(network.sent) == sent
        network.clients.remove(first)
        network.carry()
        assert second.association.open

    def test_client_hellos_are_not_remembered_without_end(self, made: Bounded) -> None:
        network = made.network(max_handshakes=1)
        hellos = []
        for port in range(1, 10):
            one = made.client(network, port, established=False)
            hellos.append((with_cookie(network, one), one.address))
            network.server.datagram_received(*hellos[-1], network.now)
            network.now += GRACE
        network.clients.clear()
        sent = len(network.sent)
        for hello in hellos[-4:-1]:  # the last one is being answered still
            network.server.datagram_received(*hello, network.now)
        assert len(network.sent) == sent
        network.server.datagram_received(*hellos[0], network.now)
        assert len(network.sent) > sent

    @pytest.mark.parametrize(
        ("hosts", "same"),
        [
            (("2001:db8::1", "2001:db8::2:1"), True),
            (("2001:db8:0:1::1", "2001:db8:0:2::1"), False),
            (("::ffff:192.0.2.1", "192.0.2.1"), True),
            (("::ffff:192.0.2.1", "::ffff:192.0.2.2"), False),
            (("fe80::1%lo", "fe80::2"), True),
        ],
    )
    def test_sources(self, made: Bounded, hosts: tuple[str, str], same: bool) -> None:
        """A client with one IPv6 address has a network of them."""
        network = made.network(max_handshakes=2)
        victim = made.client(network, established=False)
        victim.address = (hosts[0], 1)
        network.server.datagram_received(with_cookie(network, victim), victim.address, network.now)
        network.now += GRACE
        for port in (1, 2, 3):
            other = made.client(network, established=False)
            other.address = (hosts[1], port)
            network.server.datagram_received(with_cookie(network, other), other.address, network.now)
            network.clients.remove(other)
        network.carry()
        assert victim.association.open is not same

    def test_established_ones_do_not_count(self, made: Bounded) -> None:
        network = made.network(max_handshakes=1)
        for port in range(3):
            made.client(network, port).ask()
            assert network.server.peers == port + 1


class TestEstablished:
    def test_a_bound_for_each_identity(self, made: Bounded) -> None:
        network = made.network(max_connections=4, max_identity_share=50)
        clients = [made.client(network, port) for port in (1, 2)]
        for client in clients:
            client.ask()
        refused = made.client(network, 3, established=False)
        network.carry()
        assert isinstance(refused.error, HandshakeRejected)
        assert refused.error.code == 4
        network.answer()
        network.answer()
        for datagram in clients[0].association.close():
            network.server.datagram_received(datagram, clients[0].address, network.now)
        made.client(network, 4).ask()
        assert network.server.peers == 2

    @pytest.mark.parametrize("limits", [{"max_connections": 4, "max_identity_share": 50}, {"max_connections": 3}])
    def test_the_silent_one_of_an_identity_gives_way(self, made: Bounded, limits: dict[str, int]) -> None:
        """Clients that were interrupted cannot say that they are gone. Others' associations stay, however silent."""
        peers = ["dns:client.example", "dns:other.example"]
        network = Network(made.deployment.server_security(raw=True, limits=limits, peers=peers), made.monkeypatch)
        other = made.client(network, 9, role="other client")
        other.ask()
        network.answer()
        busy, silent = made.client(network, 1), made.client(network, 2)
        for client in (busy, silent):
            network.now += 1
            client.ask()
        network.answer()
        network.answer()
        network.now += 1
        busy.ask()
        network.answer()  # so that the other has been silent for longer
        ended = silent.exchanges
        for port in (3, 4, 5):
            network.now += 1
            newcomer = made.client(network, port)
            exchange = newcomer.ask(b"new")
            network.answer(b"reply")
            assert exchange.result == b"reply"
            assert network.server.peers == 3
            if port == 3:
                assert ended.loss() is not None
                assert ended.loss().code == 1
                assert busy.association.open
                busy.ask()  # and keeps its request, while the newcomers take each other's place
                held = network.in_hand.pop()
        network.in_hand.append(held)
        network.answer()
        assert not busy.association.ended
        assert other.association.open
        assert other.ask().result is None

    def test_an_association_is_kept_while_its_request_is_in_progress(self, made: Bounded) -> None:
        network = made.network(max_connections=1)
        first, second = made.client(network, 1), made.client(network, 2)
        exchange = first.ask()
        assert second.ask().result is None
        assert second.exchanges.loss() is not None
        network.answer(b"reply")
        assert exchange.result == b"reply"
        made.client(network, 3).ask()
        network.answer()
        assert first.exchanges.loss() is not None

    def test_without_room(self, made: Bounded) -> None:
        network = made.network(max_connections=1)
        made.client(network, 1).ask()
        late = made.client(network, 2, established=False)
        network.carry()
        assert isinstance(late.error, HandshakeRejected)
        assert late.error.code == 4

    def test_two_that_are_authenticated_at_once(self, made: Bounded) -> None:
        """Both were let in when there was room: the second to prove itself is sent away, unheard."""
        network = made.network(max_connections=1)
        first, second = made.client(network, 1), made.client(network, 2)
        first.ask(b"1")
        exchange = second.ask(b"2")
        assert [bytes(request.payload) for _, request, _ in network.in_hand] == [b"1"]
        closed = second.exchanges.loss()
        assert closed is not None
        assert (closed.code, closed.last) == (2, 0)
        assert exchange.lost(closed).unprocessed
        assert network.server.peers == 1
