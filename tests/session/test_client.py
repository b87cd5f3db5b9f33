"""The rules of a client's end, fed by hand, with the time passed in (docs/protocol.md, sections 3 to 5)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sealwire.errors import (
    ConfigurationError,
    ConnectionClosed,
    HandshakeFailed,
    HandshakeRejected,
    RemoteError,
    RemoteProtocolError,
    TruncatedFrame,
)
from sealwire.pki.authority import Issuer, create_ca
from sealwire.session import validity
from sealwire.session.client import ConnectionLost
from sealwire.session.validity import EXPIRY_MARGIN, Termination
from sealwire.trust.known_peers import KnownPeers
from sealwire.wire.events import Closed, Established, Ponged
from sealwire.wire.frames import CloseCode, FaultCode
from support.events import logged
from support.session import ADDRESS, Clock, Connection
from support.sides import Side
from support.wire import feed, sent

Connect = Callable[..., Connection]
HOUR = timedelta(hours=1)


@pytest.fixture
def connection(connect: Connect) -> Connection:
    return connect()


class Rotating:
    """A connection of two ends whose files can be replaced."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.ca: Issuer = create_ca("CA")
        self.server, self.client = Side(directory / "server", "localhost"), Side(directory / "client", "client.example")
        for side in (self.server, self.client):
            side.leaf(self.ca, days=1)
            side.trust(self.ca)
            side.keys("k1", "k2")
        self.clock = clock
        self.securities = {
            "server": self.server.security(peers=["dns:client.example"]),
            "client": self.client.security(limits={"reload_interval": 1.0}),
        }

    def connect(self) -> Connection:
        connection = Connection(self.securities["server"], self.securities["client"], self.clock)
        connection.shake_hands()
        return connection

    def reload(self) -> None:
        assert self.securities["client"].reload()


@pytest.fixture
def rotating(tmp_path: Path, clock: Clock) -> Rotating:
    return Rotating(tmp_path, clock)


class TestEstablish:
    def test_with_the_key(self, connection: Connection) -> None:
        assert connection.asking.usable(connection.clock.now)
        assert "localhost" in connection.asking.peer.dns

    @pytest.mark.parametrize(
        ("busy", "code", "says"), [(4, 4, "overloaded; try again later"), (5, 5, "shutting down; try again later")]
    )
    def test_rejected(self, connect: Connect, busy: int, code: int, says: str) -> None:
        connection = connect(established=False, busy=busy)
        feed(connection.server, sent(connection.client))
        (event,) = connection.to_client()
        with pytest.raises(HandshakeRejected, match=f"^{ADDRESS} refused: .*{says}") as rejected:
            connection.asking.establish(event)
        assert rejected.value.code == code

    def test_not_authorised(self, connect: Connect) -> None:
        connection = connect(established=False, host="other.example")
        with pytest.raises(RemoteProtocolError):
            feed(connection.server, sent(connection.client))
        (event,) = connection.to_client()
        with pytest.raises(
            HandshakeRejected, match="not authorised; check that both sides hold the same key"
        ) as failed:
            connection.asking.establish(event)
        assert failed.value.code == 3

    def test_ended(self, connect: Connect) -> None:
        with pytest.raises(HandshakeFailed, match=f"{ADDRESS} ended the handshake"):
            connect(established=False).asking.establish(None)


class TestReceive:
    def test_replies_and_faults_in_any_order(self, connection: Connection) -> None:
        requests = [connection.in_hand(b"%d" % number) for number in range(6)]
        for request in (requests[4], requests[0], requests[5], requests[2]):
            connection.session.reply(request.sequence, bytes(request.payload) * 2, connection.clock.now)
            if request is requests[0]:
                connection.session.fault(requests[3].sequence, FaultCode.OVERLOADED)
        connection.session.fault(requests[1].sequence, FaultCode.HANDLER_FAILED, "no such order")
        results = [connection.asking.receive(event) for event in connection.to_client()]
        assert all(result is not None for result in results)
        answers = dict(result for result in results if result is not None)
        assert [result[0] for result in results if result is not None] == [5, 1, 4, 6, 3, 2]
        assert {number: answers[number] for number in (1, 3, 5, 6)} == {1: b"00", 3: b"22", 5: b"44", 6: b"55"}
        overloaded, failed = answers[4], answers[2]
        assert isinstance(overloaded, RemoteError)
        assert overloaded.code == FaultCode.OVERLOADED
        assert isinstance(failed, RemoteError)
        assert (failed.code, failed.text) == (FaultCode.HANDLER_FAILED, "no such order")

    def test_a_pong_answers_no_request(self, connection: Connection) -> None:
        connection.client.send_ping(b"!")
        connection.to_server()
        (event,) = connection.to_client()
        assert isinstance(event, Ponged)
        assert connection.asking.receive(event) is None

    def test_a_reply_that_was_given_up(self, connection: Connection) -> None:
        given_up, other = connection.in_hand(), connection.in_hand()
        connection.client.give_up(given_up.sequence)
        for request in (given_up, other):
            connection.session.reply(request.sequence, b"!", connection.clock.now)
        assert [connection.asking.receive(event) for event in connection.to_client()] == [(other.sequence, b"!")]

    @pytest.mark.parametrize("code", list(CloseCode))
    def test_close(self, connection: Connection, code: CloseCode) -> None:
        connection.in_hand()
        connection.ask()
        connection.session.close(code)
        connection.session.send_close()
        (event,) = connection.to_client()
        with pytest.raises(ConnectionClosed, match=rf"closed the connection \(code {code:d}\)") as closed:
            connection.asking.receive(event)
        assert (closed.value.code, closed.value.last) == (code, 1)
        assert not connection.asking.usable(connection.clock.now)

    def test_nothing_else(self, connection: Connection) -> None:
        assert connection.asking.receive(Established("k1", 2000)) is None


def closed_by(code: int | None, last: int | None) -> ConnectionClosed:
    return ConnectionClosed("the connection ended", code=code, last=last)


class TestLost:
    """Finds the requests that no handler can have seen (docs/protocol.md, section 5)."""

    @pytest.mark.parametrize("code", [0, 1, 2])
    @pytest.mark.parametrize(("last", "unprocessed"), [(0, True), (4, True), (5, False), (6, False)])
    def test_above_last(self, connection: Connection, code: int, last: int, unprocessed: bool) -> None:
        lost = connection.asking.lost(closed_by(code, last), 5)
        assert isinstance(lost, ConnectionLost)
        assert (lost.unprocessed, lost.code, lost.last) == (unprocessed, code, last)

    @pytest.mark.parametrize(("code", "last"), [(3, 0), (4, 0), (5, 0), (None, None), (None, 0), (0, None)])
    def test_no_other_end_proves_anything(self, connection: Connection, code: int | None, last: int | None) -> None:
        assert not connection.asking.lost(closed_by(code, last), 1).unprocessed

    @pytest.mark.parametrize("code", [0, 1, 2, 3, 4, None])
    def test_never_sent(self, connection: Connection, code: int | None) -> None:
        lost = connection.asking.lost(closed_by(code, 9), None)
        assert lost.unprocessed
        assert lost.code == code

    def test_inside_a_frame(self, connection: Connection) -> None:
        lost = connection.asking.lost(TruncatedFrame("inside a frame"), 1)
        assert (lost.unprocessed, lost.code, lost.last) == (False, None, None)
        assert str(lost) == "the connection ended inside a frame of the server"
        assert connection.asking.lost(TruncatedFrame("inside a frame"), None).unprocessed

    def test_says_how(self, connection: Connection) -> None:
        assert str(connection.asking.lost(ConnectionClosed("the peer is gone"), 1)) == "the peer is gone"

    @pytest.mark.parametrize("code", list(CloseCode))
    def test_as_a_server_says_it(self, connection: Connection, code: CloseCode) -> None:
        """From end to end: the server's CLOSE, and what its client may conclude."""
        handed_over, received = connection.in_hand(), connection.ask()
        on_its_way = connection.client.send_request(b"on its way")
        connection.session.close(code)
        connection.session.send_close()
        (event,) = connection.to_client()
        assert isinstance(event, Closed)
        with pytest.raises(ConnectionClosed) as closed:
            connection.asking.receive(event)
        proved = code in (0, 1, 2)
        for sequence, expected in ((handed_over.sequence, False), (received.sequence, proved), (on_its_way, proved)):
            assert connection.asking.lost(closed.value, sequence).unprocessed is expected

    @pytest.mark.parametrize(
        ("change", "newer"),
        [
            (lambda ends: None, False),
            (lambda ends: ends.client.leaf(ends.ca, days=1), True),
            (lambda ends: ends.client.keys("k1"), True),
            (lambda ends: ends.client.keys("k2", "k1"), True),
            (lambda ends: ends.client.keys("k2", "k3"), True),
            (lambda ends: ends.client.keys("k3", "k1", "k2"), False),
            (lambda ends: ends.client.trust(ends.ca, create_ca("another")), False),
        ],
        ids=["nothing", "certificate", "without the key", "another order", "another newest", "an older one", "trust"],
    )
    def test_credential_with_newer_ones(
        self, rotating: Rotating, change: Callable[[Rotating], Any], newer: bool
    ) -> None:
        """After CLOSE 3 only if the client would now use another certificate or key."""
        connection = rotating.connect()
        change(rotating)
        rotating.reload()
        for code, last, expected in ((3, 0, newer), (3, 1, False), (4, 0, False), (0, 0, True), (None, None, False)):
            assert connection.asking.lost(closed_by(code, last), 1).unprocessed is expected

    def test_credential_without_any_valid_key(self, rotating: Rotating) -> None:
        rotating.client.keys("k1", k1=(-HOUR, HOUR))
        rotating.server.keys("k1")
        assert rotating.securities["server"].reload()
        rotating.reload()
        connection = rotating.connect()
        rotating.clock.forward(2 * HOUR.total_seconds())
        assert not connection.asking.lost(closed_by(3, 0), 1).unprocessed


class TestUsable:
    def test_as_long_as_it_is_open(self, connection: Connection) -> None:
        assert connection.asking.usable(connection.clock.now)
        connection.session.send_close()
        assert connection.asking.usable(connection.clock.now)  # CLOSE is under way
        connection.to_client()
        assert not connection.asking.usable(connection.clock.now)

    def test_not_before_the_handshake(self, connect: Connect) -> None:
        connection = connect(established=False)
        assert not connection.asking.usable(connection.clock.now)

    def test_after_its_own_end(self, connection: Connection) -> None:
        connection.client.close()
        assert not connection.asking.usable(connection.clock.now)

    def test_is_checked_only_when_it_is_due(self, connection: Connection, clock: Clock) -> None:
        checks: list[float] = []

        def check(now: float) -> Termination | None:
            checks.append(now)
            validity.next_check = now + 1.0
            return None

        validity = connection.asking.validity
        validity.check = check  # what it finds is the business of test_validity
        start = clock.now
        for _ in range(31):
            assert connection.asking.usable(clock.forward(0.1))
        assert [round(each - start, 1) for each in checks] == [1.0, 2.0, 3.0]

    @pytest.mark.parametrize("immediate", [True, False])
    def test_when_it_must_end(
        self, connection: Connection, clock: Clock, immediate: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "sealwire.client")
        validity = connection.asking.validity
        found = Termination("the key was removed", immediate=immediate)
        validity.check = lambda _: found
        assert not connection.asking.usable(clock.forward(10))
        assert f"a connection to {connection.asking.peer} is not used any more: the key was removed" in caplog.text

    @pytest.mark.parametrize("end", ["client", "server", "key"])
    def test_what_expires_soon(self, rotating: Rotating, end: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "sealwire.client")
        clock = rotating.clock
        rotating.client.keys("k1", k1=(-HOUR, HOUR) if end == "key" else (-HOUR, 48 * HOUR))
        if end != "key":
            other = rotating.client if end == "server" else rotating.server
            other.leaf(rotating.ca, days=2)
        rotating.reload()
        assert rotating.securities["server"].reload()
        connection = rotating.connect()
        ends = {side: security.credentials.identity.not_after for side, security in rotating.securities.items()}
        ends |= {
            "key": rotating.securities["client"].keys.current.get("k1").not_after,
        }
        clock.moment = ends[end] - EXPIRY_MARGIN - timedelta(seconds=1)
        assert connection.asking.usable(clock.forward(0.9))
        assert not connection.asking.usable(clock.forward(1.0))
        assert "expires soon" in caplog.text
        # One that was made so late is used to the end, unless something newer is there.
        late = rotating.connect()
        assert late.asking.usable(clock.forward(1.0))
        rotating.client.leaf(rotating.ca, days=2)
        rotating.reload()
        assert not late.asking.usable(clock.forward(1.0))

    @pytest.mark.parametrize("change", ["key", "leaf"])
    def test_what_is_replaced(
        self, rotating: Rotating, change: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is left within half an interval, before it can be taken out of service."""
        caplog.set_level(logging.INFO, "sealwire.client")
        clock = rotating.clock
        connection, idle = rotating.connect(), rotating.connect()
        if change == "key":
            rotating.client.keys("k2", "k1")
        else:
            rotating.client.leaf(rotating.ca, days=1)
        rotating.reload()
        monkeypatch.setattr(validity, "_random", SimpleNamespace(random=lambda: 0.5, uniform=lambda a, _: a))
        assert connection.asking.usable(clock.forward(1.0))  # reload_interval
        assert connection.asking.usable(clock.forward(0.24))
        assert "another certificate or key is in use now" not in caplog.text
        assert not connection.asking.usable(clock.forward(0.02))
        assert "another certificate or key is in use now" in caplog.text
        assert not connection.asking.usable(clock.now), "although the next check is not due"
        assert not idle.asking.usable(clock.now), "its check is overdue"
        assert rotating.connect().asking.usable(clock.forward(10.0))

    def test_what_was_replaced_and_came_back(self, rotating: Rotating) -> None:
        connection = rotating.connect()
        rotating.client.keys("k2", "k1")
        rotating.reload()
        assert connection.asking.usable(rotating.clock.forward(1.0))
        rotating.client.keys("k1", "k2")
        rotating.reload()
        assert connection.asking.usable(rotating.clock.forward(5.0))

    def test_nothing_is_left_of_a_key(self, rotating: Rotating) -> None:
        """A connection needs its key, and a client without any makes no other one."""
        connection = rotating.connect()
        rotating.client.keys("k3", k3=(HOUR, 2 * HOUR))
        rotating.reload()
        assert not connection.asking.usable(rotating.clock.forward(1.0))
        with pytest.raises(ConfigurationError, match="no key of the keyring"):
            rotating.connect()


class TestEvents:
    """What the log says of a request or a connection, with the ids that the server's log has."""

    @pytest.fixture(autouse=True)
    def level(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "sealwire.client")

    def test_a_fault(self, connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
        request = connection.in_hand()
        named = connection.server.request_id(request.sequence)
        connection.session.fault(request.sequence, FaultCode.OVERLOADED)
        (event,) = connection.to_client()
        result = connection.asking.receive(event)
        assert result is not None
        assert isinstance(result[1], RemoteError)
        assert result[1].request_id == named
        (record,) = logged(caplog, "sealwire.client")
        assert record.getMessage() == f"request {named} to {ADDRESS}: fault {FaultCode.OVERLOADED:d}"
        assert record.__dict__["audit"] == {
            "event": "client.fault",
            "address": ADDRESS,
            "request_id": named,
            "fault": FaultCode.OVERLOADED,
        }

    def test_a_request_that_was_lost(self, connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
        request = connection.in_hand()
        named = connection.server.request_id(request.sequence)
        connection.asking.lost(closed_by(None, None), request.sequence)
        (record,) = logged(caplog, "sealwire.client")
        assert record.getMessage() == f"request {named} to {ADDRESS}: lost with its connection"
        assert record.__dict__["audit"] == {"event": "client.lost", "address": ADDRESS, "request_id": named}

    def test_a_request_that_was_not_sent(self, connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
        connection.asking.lost(closed_by(None, None), None)
        assert logged(caplog, "sealwire.client") == []

    def test_a_connection_that_is_left(
        self, connection: Connection, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        validity = connection.asking.validity
        validity.check = lambda _: Termination("the key was removed")  # type: ignore[method-assign]  # as above
        assert not connection.asking.usable(clock.forward(10))
        peer = str(connection.asking.peer)
        (record,) = logged(caplog, "sealwire.client")
        assert record.__dict__["audit"] == {
            "event": "client.left",
            "address": ADDRESS,
            "peer": peer,
            "why": "the key was removed",
        }
        assert not connection.asking.usable(clock.forward(10))
        assert len(logged(caplog, "sealwire.client")) == 1, "it is left once"


class TestRemembers:
    def test_the_server_once_it_has_proved_its_key(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        remembered = KnownPeers()
        monkeypatch.setattr(validity, "known_peers", remembered)
        connection = connect(established=False)
        feed(connection.server, sent(connection.client))
        (event,) = connection.to_client()
        assert len(remembered) == 0
        connection.asking.establish(event)
        assert len(remembered) == 1
