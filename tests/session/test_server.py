"""The rules of a server's end, fed by hand, with the time passed in (docs/protocol.md, sections 2, 4 and 5)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from sealwire.errors import ConnectionClosed, HandshakeFailed, InvalidState, PayloadTooLarge, RemoteProtocolError
from sealwire.server_events import Source
from sealwire.session import explain
from sealwire.session import validity as module
from sealwire.session.server import MAX_UNANSWERED
from sealwire.session.validity import Termination
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.known_peers import KnownPeers
from sealwire.wire.events import Closed, Faulted, Ponged, Rejected, Reply, Request
from sealwire.wire.features import Features
from sealwire.wire.frames import CloseCode, FaultCode, Flag
from support.events import logged
from support.session import Clock, Connection, Slot, counted
from support.wire import feed, sent

Connect = Callable[..., Connection]
IDLE, FRAME, INTERVAL = 30.0, 5.0, 1.0
LIMITS = {"idle_timeout": IDLE, "frame_timeout": FRAME, "reload_interval": INTERVAL}
FEATURES = Features(metadata=True, cancel=True, window=65_536, at_once=8)
CLIENT = PeerIdentity.of_process(1000, 1000, 1)
EXPIRED = Termination("the key expired")
REVOKED = Termination("the key was removed", immediate=True)


@pytest.fixture
def connection(connect: Connect) -> Connection:
    slot = Slot()
    slot.peer = CLIENT
    return connect(limits=LIMITS, slot=slot)


def close_of(connection: Connection) -> Closed:
    """The server's CLOSE, which must be the last that it sends."""
    *_, closed = connection.to_client()
    assert isinstance(closed, Closed)
    assert sent(connection.server) == b""
    return closed


def finished(connection: Connection) -> Closed:
    """The CLOSE of a server that closes now."""
    connection.session.send_close()
    assert connection.session.ended
    return close_of(connection)


def will_be(connection: Connection, *terminations: Termination | None) -> list[float]:
    """Let the next checks find that; return the list of the moments at which they are made."""
    results: Iterator[Termination | None] = iter(terminations)
    checks: list[float] = []

    def check(now: float) -> Termination | None:
        checks.append(now)
        validity.next_check = now + INTERVAL
        return next(results)

    validity = connection.session.validity
    validity.check = check  # what it finds is the business of test_validity
    return checks


class TestHandshake:
    def test_gives_the_key(self, connection: Connection) -> None:
        assert connection.session.key_id == "k1"
        assert connection.slot.welcomed
        assert not connection.session.ended

    def test_there_is_no_key_before_it(self, connect: Connect) -> None:
        session = connect(established=False).session
        assert session.key_id == session.source().key_id == ""

    @pytest.mark.parametrize(("code", "says"), [(4, "max_connections"), (5, "shutting down")])
    def test_busy(self, connect: Connect, code: int, says: str) -> None:
        connection = connect(established=False, busy=code)
        with pytest.raises(HandshakeFailed, match=says):
            connection.shake_hands()
        assert connection.session.ended
        assert connection.to_client() == [Rejected(code)]

    def test_a_client_that_leaves_in_it(self, connect: Connect) -> None:
        with pytest.raises(HandshakeFailed, match="the client ended the handshake"):
            connect(established=False).session.establish(None)


class TestKnownPeers:
    def test_each_end_remembers_the_other_once_that_has_proved_its_key(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        remembered = KnownPeers()
        monkeypatch.setattr(module, "known_peers", remembered)
        refused = connect(established=False, host="other.example")
        with pytest.raises(RemoteProtocolError):
            feed(refused.server, sent(refused.client))
        assert len(remembered) == 0
        connect()
        assert len(remembered) == 2


class TestAuthentication:
    """HELLO may be a replay; the first frame under the traffic keys is none."""

    def test_not_by_the_handshake(self, connection: Connection) -> None:
        assert connection.slot.authenticated == 0

    def test_once_by_the_first_request(self, connection: Connection) -> None:
        for number in range(1, 4):
            assert connection.ask().sequence == number
            assert connection.slot.authenticated == 1

    def test_by_a_ping(self, connection: Connection) -> None:
        connection.client.send_ping(b"!")
        assert connection.to_server() == []
        assert connection.slot.authenticated == 1
        assert connection.to_client() == [Ponged(1, b"!")]

    def test_without_room(self, connect: Connect) -> None:
        """Neither the request that authenticates nor any behind it is handed over."""
        connection = connect(slot=Slot(room=False))
        connection.client.send_request(b"1")
        connection.client.send_request(b"2")
        assert connection.to_server() == []
        assert connection.slot.authenticated == 1  # not asked for again
        assert connection.session.closing == CloseCode.GOING_AWAY
        assert finished(connection) == Closed(CloseCode.GOING_AWAY, 0)

    def test_no_forged_frame(self, connection: Connection) -> None:
        connection.client.send_request(b"x")
        frame = bytearray(sent(connection.client))
        frame[-1] ^= 1
        with pytest.raises(RemoteProtocolError):
            feed(connection.server, bytes(frame))
        assert connection.slot.authenticated == 0


class TestRate:
    def test_requests_above_it_are_not_run(self, connect: Connect) -> None:
        slot = Slot()
        allowed, asked = iter([True, False, True]), []
        slot.allow_request = lambda now: asked.append(now) or next(allowed)  # as the slots of a server have
        connection = connect(slot=slot)
        requests = [connection.ask() for _ in range(3)]
        assert [connection.take(request) for request in requests] == [True, False, True]
        (fault,) = connection.to_client()
        assert fault == Faulted(2, FaultCode.OVERLOADED, explain.FAULT_TEXTS[FaultCode.OVERLOADED])
        assert connection.session.working == 2
        assert asked == [connection.clock.now] * 3
        assert counted(connection, "limit_hits")["max_requests_per_second"] == 1


class TestSource:
    """What reports say of the client."""

    def test_of_a_connection(self, connection: Connection) -> None:
        ids = connection.server.connection_id
        assert connection.session.source() == Source(("192.0.2.1", 4711), CLIENT, "k1", ids, "")

    def test_of_a_request(self, connection: Connection) -> None:
        request = connection.ask()
        found = connection.session.source(request.sequence)
        assert found == connection.session.source()._replace(request=connection.client.request_id(request.sequence))
        assert found.request


class TestLog:
    def test_a_client_that_has_proved_its_key(self, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "sealwire.server")
        connection = connect()
        assert logged(caplog) == []
        for _ in range(2):
            connection.ask()
        (record,) = logged(caplog)
        assert record.getMessage() == f"{connection.session.source()}: connected"

    def test_a_refused_request(self, connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
        """A client can cause it at will, so that it is no warning."""
        request = connection.ask()
        caplog.set_level(logging.INFO, "sealwire.server")
        connection.session.refuse(request.sequence, "max_in_flight")
        (record,) = logged(caplog)
        assert record.levelno == logging.INFO
        source = connection.session.source(request.sequence)
        assert record.getMessage() == f"{source}: refused a request: max_in_flight"
        assert record.__dict__["audit"]["limit"] == "max_in_flight"
        code = FaultCode.OVERLOADED
        assert connection.to_client() == [Faulted(request.sequence, code, explain.FAULT_TEXTS[code])]


class TestCancelled:
    """A client that has given up gets FAULT 22 for what no handler has begun (docs/protocol.md, section 4)."""

    def test_is_not_run(self, connect: Connect) -> None:
        connection = connect(features=FEATURES)
        cancelled, other = connection.ask(), connection.ask()
        connection.client.cancel(cancelled.sequence)
        assert connection.to_server() == []
        assert connection.take(other)
        assert not connection.take(cancelled)
        assert connection.session.working == connection.slot.requests == 1
        assert connection.session.unanswered == 1
        assert counted(connection, "requests")["cancelled"] == 1
        assert counted(connection, "requests_started") == 1

    def test_is_still_answered_by_its_handler(self, connect: Connect) -> None:
        connection = connect(features=FEATURES)
        request = connection.in_hand()
        connection.client.cancel(request.sequence)
        connection.to_server()
        connection.session.fault(request.sequence, FaultCode.CANCELLED)
        assert connection.session.unanswered == 0


class TestStreams:
    """Requests with parts hold buffers and credit, so that there are only so many of one connection."""

    def stream(self, connection: Connection) -> Request:
        connection.client.send_request(b"?", flags=Flag.PARTS)
        (request,) = connection.to_server()
        return request

    def test_above_the_limit_they_are_not_run(self, connect: Connect) -> None:
        connection = connect(features=FEATURES, limits=LIMITS | {"max_streams": 2})
        first, second, third = (self.stream(connection) for _ in range(3))
        assert [connection.take(each) for each in (first, second, third)] == [True, True, False]
        assert connection.session.working == 2
        assert counted(connection, "limit_hits")["max_streams"] == 1
        assert counted(connection, "requests")["overloaded"] == 1
        assert connection.take(connection.ask()), "a request without parts"

    def test_those_that_are_answered_count_no_more(self, connect: Connect) -> None:
        connection = connect(features=FEATURES, limits=LIMITS | {"max_streams": 2})
        for _ in range(5):
            one, other = self.stream(connection), self.stream(connection)
            assert connection.take(one)
            assert connection.take(other)
            assert not connection.take(self.stream(connection))
            connection.session.reply(one.sequence, b"", connection.clock.now)
            connection.session.fault(other.sequence, FaultCode.HANDLER_FAILED)


class TestMetadata:
    def test_of_a_reply(self, connect: Connect) -> None:
        connection = connect(features=FEATURES)
        request = connection.in_hand()
        connection.session.reply(request.sequence, b"!", connection.clock.now, {"a": "b"})
        assert connection.to_client() == [Reply(1, b"!", {"a": "b"})]

    def test_a_client_that_does_not_know_it_gets_none(self, connection: Connection) -> None:
        request = connection.in_hand()
        connection.session.reply(request.sequence, b"!", connection.clock.now, {"a": "b"})
        assert connection.to_client() == [Reply(1, b"!")]


class TestTake:
    @pytest.mark.parametrize(
        ("late", "taken"), [(-10.0, True), (-0.01, True), (0.0, False), (0.01, False), (1000.0, False)]
    )
    def test_deadline(self, connection: Connection, late: float, taken: bool) -> None:
        """A client stops waiting at its deadline, so that a reply that begins then would reach no caller."""
        request = connection.ask(wait=7.0)
        assert request.wait == 7.0
        deadline = connection.clock.now + 7.0
        now = connection.clock.forward(7.0 + late)
        assert connection.session.start_handling(request, deadline, now) is taken
        assert connection.session.working == connection.slot.requests == int(taken)
        answers = connection.to_client()
        if taken:
            assert answers == []
        else:
            code = FaultCode.DEADLINE_EXCEEDED
            assert answers == [Faulted(request.sequence, code, explain.FAULT_TEXTS[code])]
            assert connection.session.unanswered == 0

    def test_without_a_deadline(self, connection: Connection) -> None:
        request = connection.ask()
        assert request.wait is None
        assert connection.session.start_handling(request, None, connection.clock.forward(1e6))

    def test_each_is_counted(self, connection: Connection) -> None:
        for number in range(1, 4):
            connection.in_hand()
            assert (connection.session.working, connection.slot.requests) == (number, number)

    def test_a_slot_that_does_not_count(self, connect: Connect) -> None:
        slot = Slot()
        slot.on_request = None  # as of servers that count nothing
        assert connect(slot=slot).in_hand()

    def test_the_connection_goes_on_after_a_late_one(self, connection: Connection) -> None:
        late, good = connection.ask(wait=1.0), connection.ask(wait=9.0)
        start = connection.clock.now
        now = connection.clock.forward(2.0)
        assert not connection.session.start_handling(late, start + 1.0, now)
        assert connection.session.start_handling(good, start + 9.0, now)
        connection.session.reply(good.sequence, b"!", now)
        assert [type(event) for event in connection.to_client()] == [Faulted, Reply]

    @pytest.mark.parametrize("code", [CloseCode.IDLE, CloseCode.GOING_AWAY, CloseCode.CREDENTIAL])
    def test_not_when_closing(self, connection: Connection, code: CloseCode) -> None:
        """A request that waited for a handler is dropped without an answer: CLOSE says that it may be sent again."""
        request = connection.ask()
        connection.session.close(code)
        assert not connection.take(request)
        assert connection.session.working == connection.slot.requests == 0
        assert finished(connection) == Closed(code, 0)

    def test_not_at_its_end(self, connection: Connection) -> None:
        request = connection.ask(wait=1.0)
        connection.server.close(CloseCode.PROTOCOL_ERROR)
        assert not connection.session.start_handling(request, connection.clock.now - 1, connection.clock.now)
        assert close_of(connection).last == 0


class TestLast:
    """``last`` of CLOSE is the highest request that was handed over or answered."""

    def test_nothing(self, connection: Connection) -> None:
        connection.client.send_ping()
        connection.to_server()
        assert finished(connection).last == 0

    def test_handed_over(self, connection: Connection) -> None:
        first, _, third = (connection.ask() for _ in range(3))
        assert connection.take(first)
        assert connection.take(third)
        assert finished(connection).last == third.sequence

    def test_received_alone(self, connection: Connection) -> None:
        connection.in_hand()
        connection.ask()
        assert finished(connection).last == 1

    def test_a_late_one_was_answered(self, connection: Connection) -> None:
        """It got FAULT 20, so that its client knows that it was not run, and sends it no second time."""
        late = connection.ask(wait=1.0)
        assert not connection.session.start_handling(late, connection.clock.now, connection.clock.now)
        assert finished(connection).last == late.sequence

    def test_answered_unseen(self, connection: Connection) -> None:
        request = connection.ask()
        connection.session.fault(request.sequence, FaultCode.OVERLOADED)
        assert finished(connection).last == request.sequence


class TestReply:
    def test_in_any_order(self, connection: Connection) -> None:
        requests = [connection.in_hand() for _ in range(3)]
        for request in reversed(requests):
            connection.session.reply(request.sequence, b"%d" % request.sequence, connection.clock.now)
        assert connection.to_client() == [Reply(3, b"3"), Reply(2, b"2"), Reply(1, b"1")]
        assert connection.session.unanswered == 0

    def test_once(self, connection: Connection) -> None:
        request = connection.in_hand()
        connection.session.reply(request.sequence, b"!", connection.clock.now)
        for again in (
            lambda: connection.session.reply(request.sequence, b"!", connection.clock.now),
            lambda: connection.session.fault(request.sequence, 19),
        ):
            with pytest.raises(InvalidState, match="no unanswered request"):
                again()
        assert connection.session.unanswered == 0
        assert connection.to_client() == [Reply(1, b"!")]

    @pytest.mark.parametrize(("size", "fits"), [(2000 - 52, True), (2000 - 51, False)])
    def test_over_the_clients_cap(self, connect: Connect, size: int, fits: bool) -> None:
        connection = connect(max_frame=2000)
        request = connection.in_hand()
        if fits:
            connection.session.reply(request.sequence, bytes(size), connection.clock.now)
            assert connection.to_client() == [Reply(1, bytes(size))]
        else:
            with pytest.raises(PayloadTooLarge):
                connection.session.reply(request.sequence, bytes(size), connection.clock.now)
            code = FaultCode.TOO_LARGE
            assert connection.to_client() == [Faulted(1, code, explain.FAULT_TEXTS[code])]
        assert connection.session.unanswered == 0
        assert not connection.session.ended

    @pytest.mark.parametrize("code", list(FaultCode))
    def test_faults_have_texts(self, connection: Connection, code: FaultCode) -> None:
        first, second = connection.in_hand(), connection.in_hand()
        connection.session.fault(first.sequence, code)
        connection.session.fault(second.sequence, code, "the handler's own")
        assert connection.to_client() == [
            Faulted(1, code, explain.FAULT_TEXTS[code]),
            Faulted(2, code, "the handler's own"),
        ]
        assert connection.session.unanswered == 0

    @pytest.mark.parametrize("end", ["ours", "the client's", "broken"])
    def test_after_the_end(self, connection: Connection, end: str) -> None:
        request = connection.in_hand()
        if end == "ours":
            connection.session.send_close()
        elif end == "the client's":
            connection.client.close()
            connection.to_server()
        else:
            connection.server.eof_received()
            with pytest.raises(ConnectionClosed):
                connection.server.next_event()
        sent(connection.server)
        for answer in (
            lambda: connection.session.reply(request.sequence, b"late", connection.clock.now),
            lambda: connection.session.fault(request.sequence, 19),
        ):
            with pytest.raises(ConnectionClosed, match="before the reply, which was dropped"):
                answer()
        assert sent(connection.server) == b""

    def test_while_closing(self, connection: Connection) -> None:
        """Requests in progress are finished."""
        request = connection.in_hand()
        connection.session.close(CloseCode.GOING_AWAY)
        connection.session.reply(request.sequence, b"!", connection.clock.now)
        connection.session.finish_handling(connection.clock.now)
        assert connection.session.working == 0
        connection.session.send_close()
        assert connection.to_client() == [Reply(1, b"!"), Closed(CloseCode.GOING_AWAY, 1)]


class TestUnanswered:
    def test_are_counted(self, connection: Connection) -> None:
        requests = [connection.ask() for _ in range(3)]
        assert connection.session.unanswered == 3
        connection.client.send_ping()
        connection.to_server()
        assert connection.session.unanswered == 3
        assert connection.take(requests[0])
        assert connection.session.unanswered == 3
        connection.session.reply(1, b"", connection.clock.now)
        connection.session.fault(2, 19)
        assert connection.session.unanswered == 1

    def test_too_many(self, connection: Connection) -> None:
        error = connection.session.too_many_unanswered()
        assert isinstance(error, InvalidState)
        assert str(error).startswith(f"{MAX_UNANSWERED} requests are unanswered; answer them")

    def test_are_those_of_the_protocol(self, connection: Connection) -> None:
        for number in range(10):
            request = connection.in_hand()
            if number % 3:
                connection.session.reply(request.sequence, b"", connection.clock.now)
            assert connection.session.unanswered == connection.server.unanswered


class TestIdle:
    def idle_at(self, connection: Connection) -> float:
        """Return the seconds until the connection has been idle for too long."""
        will_be(connection, *[None] * 100)
        now = connection.clock.now
        limit = connection.session.input_deadline(now)
        connection.session.on_timeout(limit - 0.001)
        assert connection.session.closing is None
        connection.session.on_timeout(limit)
        assert connection.session.closing == CloseCode.IDLE
        return limit - now

    def test_from_the_beginning(self, connection: Connection) -> None:
        assert self.idle_at(connection) == IDLE
        assert finished(connection) == Closed(CloseCode.IDLE, 0)

    def test_from_the_last_request(self, connection: Connection) -> None:
        connection.clock.forward(20)
        connection.in_hand()
        connection.session.fault(1, 19)
        connection.session.finish_handling(connection.clock.now)
        connection.clock.forward(1)
        assert self.idle_at(connection) == IDLE - 1

    def test_from_the_reply(self, connection: Connection) -> None:
        request = connection.in_hand()
        connection.session.reply(request.sequence, b"", connection.clock.forward(20))
        connection.session.finish_handling(connection.clock.now)
        assert self.idle_at(connection) == IDLE

    def test_from_a_reply_that_comes_after_its_handler(self, connection: Connection) -> None:
        request = connection.in_hand()
        connection.session.finish_handling(connection.clock.now)
        connection.session.reply(request.sequence, b"", connection.clock.forward(20))
        assert self.idle_at(connection) == IDLE

    def test_from_the_moment_at_which_the_handler_lets_go(self, connection: Connection) -> None:
        request = connection.in_hand()
        connection.session.reply(request.sequence, b"", connection.clock.now)
        connection.session.finish_handling(connection.clock.forward(20))
        assert self.idle_at(connection) == IDLE

    def test_pings_keep_nothing_alive(self, connection: Connection) -> None:
        for _ in range(5):
            connection.clock.forward(5)
            connection.client.send_ping()
            connection.to_server()
            connection.to_client()
        assert self.idle_at(connection) == IDLE - 25

    def test_not_while_requests_are_in_progress(self, connection: Connection) -> None:
        will_be(connection, *[None] * 100)
        connection.in_hand()
        for _ in range(10):
            now = connection.clock.forward(IDLE)
            assert connection.session.input_deadline(now) == now + IDLE
            connection.session.on_timeout(now)
            assert connection.session.closing is None

    def test_not_when_one_of_two_is_done(self, connection: Connection) -> None:
        will_be(connection, *[None] * 100)
        for _ in range(2):
            connection.in_hand()
        connection.session.finish_handling(connection.clock.now)
        connection.session.on_timeout(connection.clock.forward(IDLE))
        assert connection.session.closing is None


class TestSlowFrames:
    def test_limit(self, connection: Connection) -> None:
        will_be(connection, *[None] * 100)
        start = connection.clock.now
        connection.session.begin_frame(start)
        for _ in range(4):
            now = connection.clock.forward(1)
            connection.session.begin_frame(now)  # bytes drip, and buy no time
            assert connection.session.input_deadline(now) == start + FRAME
            connection.session.on_timeout(now)
            assert connection.session.closing is None
        connection.session.on_timeout(connection.clock.forward(1))
        assert finished(connection) == Closed(CloseCode.IDLE, 0)

    def test_also_while_requests_are_in_progress(self, connection: Connection) -> None:
        """The request that the frame carries is not handed over, and those in progress are finished."""
        will_be(connection, None)
        connection.in_hand()
        connection.session.begin_frame(connection.clock.now)
        connection.session.on_timeout(connection.clock.forward(FRAME))
        assert connection.session.closing == CloseCode.IDLE
        connection.session.reply(1, b"!", connection.clock.now)
        connection.session.send_close()
        assert connection.to_client() == [Reply(1, b"!"), Closed(CloseCode.IDLE, 1)]

    def test_does_not_count_between_frames(self, connection: Connection) -> None:
        will_be(connection, *[None] * 100)
        connection.session.begin_frame(connection.clock.now)
        connection.clock.forward(4)
        connection.ask()
        assert connection.session.input_deadline(connection.clock.now) == connection.clock.now + IDLE
        connection.session.on_timeout(connection.clock.forward(4))
        assert connection.session.closing is None
        # And the next frame has all the time that a frame has.
        connection.session.begin_frame(connection.clock.now)
        assert connection.session.input_deadline(connection.clock.now) == connection.clock.now + FRAME

    def test_have_their_time_again_after_this_side_did_not_read(self, connection: Connection) -> None:
        connection.session.restart_frame(connection.clock.now)
        assert connection.session.input_deadline(connection.clock.now) == connection.clock.now + IDLE, "none has begun"
        connection.session.begin_frame(connection.clock.now)
        connection.session.restart_frame(connection.clock.forward(4))
        assert connection.session.input_deadline(connection.clock.now) == connection.clock.now + FRAME

    def test_time_in_which_this_side_does_not_read_does_not_count(self, connection: Connection) -> None:
        start = connection.clock.now
        connection.session.paused(3.0)
        assert connection.session.input_deadline(start) == start + IDLE + 3.0
        connection.session.begin_frame(start)
        connection.session.paused(0.5)
        connection.session.paused(0.25)
        assert connection.session.input_deadline(start) == start + FRAME + 0.75

    def test_checks_are_made_meanwhile(self, connect: Connect) -> None:
        connection = connect(limits=LIMITS | {"reload_interval": 2.0})
        start = connection.clock.now
        assert connection.session.begin_frame(start) == start + 2.0 == connection.session.validity.next_check
        checks = will_be(connection, None)
        connection.session.on_timeout(connection.clock.forward(2.0))
        assert checks == [start + 2.0]
        connection.session.validity.next_check = start + 100
        assert connection.session.begin_frame(connection.clock.now) == start + FRAME


class TestCheck:
    def test_only_when_it_is_due(self, connection: Connection) -> None:
        checks = will_be(connection, *[None] * 9)
        start = connection.clock.now
        for _ in range(31):
            connection.session.check(connection.clock.forward(0.1))
        assert [round(each - start, 1) for each in checks] == [1.0, 2.0, 3.0]

    def test_not_before_the_handshake(self, connect: Connect) -> None:
        connection = connect(established=False)
        checks = will_be(connection, REVOKED)
        connection.session.check(connection.clock.forward(100))
        assert checks == []

    def test_before_a_reply(self, connection: Connection) -> None:
        checks = will_be(connection, None, REVOKED)
        for _ in range(3):
            connection.in_hand()
        connection.session.reply(1, b"", connection.clock.now)
        assert checks == []
        connection.session.reply(2, b"", connection.clock.forward(INTERVAL))
        with pytest.raises(ConnectionClosed, match="dropped"):
            connection.session.reply(3, b"", connection.clock.forward(INTERVAL))
        assert len(checks) == 2

    def test_revoked(self, connection: Connection) -> None:
        """CLOSE 3 at once, and pending replies are dropped."""
        will_be(connection, REVOKED)
        request = connection.in_hand()
        waiting = connection.ask()
        connection.session.on_timeout(connection.clock.forward(INTERVAL))
        assert connection.session.termination == REVOKED
        assert connection.session.closing == CloseCode.CREDENTIAL
        assert connection.session.ended
        assert not connection.take(waiting)
        with pytest.raises(ConnectionClosed, match="dropped"):
            connection.session.reply(request.sequence, b"!", connection.clock.now)
        assert connection.to_client() == [Closed(CloseCode.CREDENTIAL, request.sequence)]

    def test_expired(self, connection: Connection) -> None:
        """Nothing more is handed over, and requests in progress are finished, before CLOSE 3."""
        will_be(connection, EXPIRED)
        request = connection.in_hand()
        waiting = connection.ask()
        connection.session.on_timeout(connection.clock.forward(INTERVAL))
        assert connection.session.termination == EXPIRED
        assert not connection.session.ended
        assert not connection.take(waiting)
        connection.client.send_request(b"another")
        assert connection.to_server() == []
        connection.session.reply(request.sequence, b"!", connection.clock.now)
        connection.session.send_close()
        assert connection.to_client() == [Reply(1, b"!"), Closed(CloseCode.CREDENTIAL, 1)]

    def test_age(self, connect: Connect) -> None:
        """CLOSE 0 between two requests, from the clocks alone."""
        connection = connect(limits=LIMITS | {"max_connection_age": 10.0})
        request = connection.in_hand()
        connection.session.on_timeout(connection.clock.forward(8.9))
        assert connection.session.closing is None
        connection.session.on_timeout(connection.clock.forward(1.1))
        assert connection.session.termination is not None
        assert "max_connection_age" in connection.session.termination.reason
        connection.session.reply(request.sequence, b"!", connection.clock.now)
        connection.session.send_close()
        assert connection.to_client() == [Reply(1, b"!"), Closed(CloseCode.DONE, 1)]

    def test_the_first_finding_counts(self, connection: Connection) -> None:
        will_be(connection, EXPIRED, *[Termination("it is too old", CloseCode.DONE)] * 3)
        request = connection.in_hand()
        for _ in range(3):
            connection.session.on_timeout(connection.clock.forward(INTERVAL))
        connection.session.reply(request.sequence, b"!", connection.clock.now)
        assert connection.session.termination == EXPIRED
        assert connection.session.closing == CloseCode.CREDENTIAL

    @pytest.mark.parametrize("before", [EXPIRED, Termination("it is too old", CloseCode.DONE)])
    def test_a_revocation_counts_all_the_same(self, connection: Connection, before: Termination) -> None:
        will_be(connection, before, REVOKED, REVOKED)
        request = connection.in_hand()
        connection.session.on_timeout(connection.clock.forward(INTERVAL))
        assert not connection.session.ended
        with pytest.raises(ConnectionClosed, match="dropped"):
            connection.session.reply(request.sequence, b"!", connection.clock.forward(INTERVAL))
        assert connection.session.termination == REVOKED
        assert connection.session.closing == before.code
        connection.session.check(connection.clock.forward(INTERVAL))
        assert close_of(connection) == Closed(CloseCode.CREDENTIAL, 1)

    def test_is_made_while_draining(self, connection: Connection) -> None:
        """A revocation takes the replies that a drain would have let go; the reason is still the drain's."""
        will_be(connection, REVOKED)
        request = connection.in_hand()
        connection.session.close(CloseCode.GOING_AWAY)
        with pytest.raises(ConnectionClosed):
            connection.session.reply(request.sequence, b"!", connection.clock.forward(INTERVAL))
        assert connection.session.closing == CloseCode.GOING_AWAY
        assert close_of(connection) == Closed(CloseCode.CREDENTIAL, 1)


class TestClosing:
    def test_drain(self, connection: Connection) -> None:
        first = connection.in_hand()
        waiting = connection.ask()
        connection.client.send_request(b"on its way")
        connection.session.close(CloseCode.GOING_AWAY)
        assert connection.to_server() == []
        assert not connection.take(waiting)
        connection.session.reply(first.sequence, b"!", connection.clock.now)
        connection.session.finish_handling(connection.clock.now)
        connection.session.send_close()
        assert connection.to_client() == [Reply(1, b"!"), Closed(CloseCode.GOING_AWAY, 1)]

    @pytest.mark.parametrize("first", [0, 1, 2, 3])
    @pytest.mark.parametrize("second", [0, 1, 2, 3])
    def test_the_first_reason_counts(self, connection: Connection, first: int, second: int) -> None:
        connection.session.close(first)
        connection.session.close(second)
        assert connection.session.closing == first
        assert finished(connection).code == first

    def test_without_a_reason(self, connection: Connection) -> None:
        assert finished(connection) == Closed(CloseCode.DONE, 0)

    def test_once(self, connection: Connection) -> None:
        connection.session.send_close()
        connection.session.send_close()
        assert connection.to_client() == [Closed(CloseCode.DONE, 0)]

    def test_the_clients(self, connection: Connection) -> None:
        """It is answered with CLOSE 0, and requests that came before it are not run any more."""
        connection.client.send_request(b"?")
        connection.client.close(CloseCode.GOING_AWAY)
        (request,) = connection.to_server()
        assert connection.session.closing == CloseCode.DONE
        assert connection.session.ended
        assert not connection.take(request)
        connection.session.send_close()
        # The client reads no more; so the bytes alone say that one CLOSE was the answer.
        assert sent(connection.server)[4] == 7

    def test_after_a_protocol_error(self, connection: Connection) -> None:
        """CLOSE 4 has the highest request in progress, and their replies are dropped."""
        connection.in_hand()
        connection.ask()
        with pytest.raises(RemoteProtocolError):
            feed(connection.server, b"\0" * 60)
        assert connection.session.ended
        connection.session.send_close()
        assert connection.to_client() == [Closed(CloseCode.PROTOCOL_ERROR, 1)]


class TestWorking:
    def test_counts_what_was_taken(self, connection: Connection) -> None:
        for _ in range(3):
            connection.in_hand()
        for left in (2, 1, 0):
            connection.session.finish_handling(connection.clock.now)
            assert connection.session.working == left

    def test_an_answered_request_still_counts_as_work(self, connection: Connection) -> None:
        """A handler may go on after its reply, and the connection is not closed under it."""
        request = connection.in_hand()
        connection.session.reply(request.sequence, b"!", connection.clock.now)
        assert connection.session.working == 1
        assert connection.session.unanswered == 0

    def test_without_an_answer(self, connection: Connection) -> None:
        connection.in_hand()
        connection.session.finish_handling(connection.clock.now)
        assert (connection.session.working, connection.session.unanswered) == (0, 1)


def test_in_any_pieces(connect: Connect) -> None:
    """However the bytes are cut, the session says the same."""
    seen: list[Any] = []
    for step in (1, 7, 1 << 20):
        connection = connect()
        connection.client.send_request(b"one", wait=2.0)
        connection.client.send_ping(b"!")
        connection.client.send_request(b"two")
        events = feed(connection.server, sent(connection.client), step=step)
        seen.append([connection.session.receive(event, connection.clock.now) for event in events])
    assert seen[0] == [Request(1, b"one", 2.0), None, Request(3, b"two", None)]
    assert seen[0] == seen[1] == seen[2]


def test_the_clock_is_that_of_the_caller(connection: Connection, clock: Clock) -> None:
    """A time of day that is set neither ends a connection nor keeps it."""
    will_be(connection, *[None] * 100)
    clock.moment += timedelta(days=365)
    connection.session.on_timeout(clock.now)
    assert connection.session.closing is None
