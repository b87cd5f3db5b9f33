"""One request over datagrams: when it is sent again, and which answer counts."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from sealwire.dtls.exchange import Exchange
from sealwire.errors import ConnectionClosed, DeadlineExceeded, PayloadTooLarge, RemoteError
from sealwire.wire.events import Closed, Faulted, Reply
from sealwire.wire.frames import CloseCode, FaultCode, verified
from support.datagrams import SERVER, Client, Network
from support.service import Deployment


@pytest.fixture
def network(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(deployment.server_security(raw=True), monkeypatch)


@pytest.fixture
def client(deployment: Deployment, network: Network) -> Client:
    return network.client(deployment.security("client", raw=True))


def overloaded(number: int) -> Faulted:
    return Faulted(number, FaultCode.OVERLOADED, "the server is overloaded")


def reply(number: int, payload: bytes = b"!") -> Reply:
    return Reply(number, verified(payload))


class TestResending:
    def test_pauses(self, client: Client, network: Network) -> None:
        """0.25 s, and then twice as long each time, 2 s at most."""
        exchange = client.ask(idempotent=True)
        pauses = []
        for _ in range(6):
            pauses.append(exchange.resend_at - network.now)
            network.now = exchange.resend_at
            exchange.send(network.now)
        assert pauses == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]

    def test_never_unless_it_does_no_harm(self, client: Client) -> None:
        assert client.ask().resend_at == math.inf

    def test_says_how_long_is_left(self, client: Client, network: Network) -> None:
        exchange = client.ask(wait=2.0, idempotent=True)
        network.now += 1.5
        exchange.send(network.now)
        network.now += 10
        exchange.send(network.now)  # 0 would say that it waits for ever
        network.carry()
        assert [request.wait for _, request, _ in network.in_hand] == [2.0, 0.5, 0.01]

    @pytest.mark.parametrize("answered", [0, 1, 2])
    def test_any_answer_counts_and_only_the_first(self, client: Client, network: Network, answered: int) -> None:
        exchange = client.ask(idempotent=True)
        for _ in range(2):
            exchange.send(network.now)
        network.carry()
        numbers = [request.sequence for _, request, _ in network.in_hand]
        assert len(client.exchanges) == 3
        client.exchanges.receive(reply(numbers[answered], b"first"))
        client.exchanges.receive(reply(numbers[answered - 1], b"second"))
        assert exchange.result == b"first"

    def test_late_answers_are_dropped(self, client: Client, network: Network) -> None:
        exchange = client.ask(idempotent=True)
        exchange.send(network.now)
        network.carry()
        network.answer(b"first")
        assert exchange.result == b"first"
        exchange.close()
        assert len(client.exchanges) == 0
        network.answer(b"second")
        other = client.ask()
        network.answer(b"other")
        assert (client.error, exchange.result, other.result) == (None, b"first", b"other")


class TestResult:
    def test_in_any_order(self, client: Client, network: Network) -> None:
        exchanges = [client.ask(b"%d" % number) for number in range(3)]
        network.in_hand.reverse()
        for payload in (b"two", b"one", b"nought"):
            network.answer(payload)
        assert [exchange.result for exchange in exchanges] == [b"nought", b"one", b"two"]

    def test_an_answer_to_no_request_under_way(self, client: Client) -> None:
        client.exchanges.receive(reply(99))
        assert client.exchanges.loss() is None

    def test_is_told_once(self, client: Client) -> None:
        told: list[str] = []
        exchange = client.ask()
        exchange.on_result = lambda: told.append("told")
        (number,) = client.exchanges.in_flight
        exchange.fail(DeadlineExceeded("x"))
        client.exchanges.receive(reply(number))
        exchange.fail(DeadlineExceeded("y"))
        assert told == ["told"]
        assert str(exchange.result) == "x"

    def test_a_fault(self, client: Client) -> None:
        exchange = client.ask()
        (number,) = client.exchanges.in_flight
        client.exchanges.receive(Faulted(number, 19, "no such order"))
        assert isinstance(exchange.result, RemoteError)
        assert (exchange.result.code, exchange.result.text) == (19, "no such order")

    def test_overloaded(self, client: Client) -> None:
        """FAULT 21 is an answer, unless the request may be sent again: then it is the error if no better one comes."""
        once, again = client.ask(), client.ask(idempotent=True)
        for number in client.exchanges.in_flight:
            client.exchanges.receive(overloaded(number))
        assert isinstance(once.result, RemoteError)
        assert again.result is None
        error = again.timed_out()
        assert isinstance(error, RemoteError)
        assert error.code == FaultCode.OVERLOADED
        client.exchanges.receive(reply(2))
        assert again.result == b"!"

    def test_timed_out(self, client: Client) -> None:
        for idempotent in (True, False):
            error = client.ask(idempotent=idempotent).timed_out()
            assert isinstance(error, DeadlineExceeded)
            assert str(error).startswith(f"nothing came from {SERVER} in time; allow more time (wait), or")

    def test_too_large(self, client: Client, network: Network) -> None:
        with pytest.raises(PayloadTooLarge, match="over TCP"):
            Exchange(client.exchanges, bytes(1200), network.now + 1, network.now, idempotent=True)
        assert len(client.exchanges) == 0

    def test_all_fail_together(self, client: Client, network: Network) -> None:
        exchanges = [client.ask(idempotent=True) for _ in range(3)]
        exchanges[0].send(network.now)
        client.exchanges.fail(ConnectionClosed("gone"))
        assert [str(exchange.result) for exchange in exchanges] == ["gone"] * 3


class TestEnd:
    @pytest.mark.parametrize("code", list(CloseCode))
    def test_close(self, client: Client, code: CloseCode) -> None:
        client.exchanges.receive(Closed(code, 1))
        closed = client.exchanges.loss()
        assert closed is not None
        assert (closed.code, closed.last) == (code, 1)

    def test_without_close(self, client: Client) -> None:
        """A CLOSE can be lost, so that its absence is no error; but then it proves nothing."""
        assert client.exchanges.loss() is None
        exchange = client.ask()
        client.association.dtls_ended = True
        closed = client.exchanges.loss()
        assert closed is not None
        assert client.exchanges.loss() is closed
        assert (closed.code, exchange.lost(closed).unprocessed) == (None, False)

    @pytest.mark.parametrize(
        ("last", "unprocessed"),
        [(lambda first, second: first - 1, True), (lambda first, _: first, False), (lambda _, second: second, False)],
        ids=["before both", "between them", "after both"],
    )
    def test_the_first_number_counts(
        self, client: Client, network: Network, last: Callable[[int, int], int], unprocessed: bool
    ) -> None:
        """A request that was sent twice was seen if either was."""
        client.ask()
        exchange = client.ask(idempotent=True)
        exchange.send(network.now)
        _, first, second = client.exchanges.in_flight
        client.exchanges.receive(Closed(CloseCode.GOING_AWAY, last(first, second)))
        closed = client.exchanges.loss()
        assert closed is not None
        assert exchange.lost(closed).unprocessed is unprocessed
