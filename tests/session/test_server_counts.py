"""What a server's metrics say of one connection."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import pytest

from sealwire.wire.features import Features
from sealwire.wire.frames import FaultCode, Flag
from support.session import Connection, Slot, counted

Connect = Callable[..., Connection]
FEATURES = Features(metadata=True, cancel=True, window=65_536, at_once=8)


@pytest.fixture
def connection(connect: Connect) -> Connection:
    return connect()


def test_counts_of_the_handshake(connection: Connection) -> None:
    assert counted(connection, "handshakes")["complete"] == 1
    took = counted(connection, "handshake_duration_seconds")
    assert took["buckets"]["+Inf"] == 1
    assert 0 <= took["sum"] <= monotonic() - connection.slot.since


def test_counts_of_requests_by_outcome(connection: Connection) -> None:
    first, second, third, fourth = (connection.in_hand() for _ in range(4))
    assert counted(connection, "requests_started") == counted(connection, "requests_in_flight") == 4
    connection.session.reply(first.sequence, b"!", connection.clock.now)
    assert counted(connection, "requests_in_flight") == 3
    connection.session.fault(second.sequence, FaultCode.HANDLER_FAILED)
    connection.session.fault(third.sequence, FaultCode.HANDLER_FAILED)
    assert counted(connection, "requests_in_flight") == 1
    connection.session.fault(fourth.sequence, 64, "closed")
    ended = {outcome: number for outcome, number in counted(connection, "requests").items() if number}
    assert ended == {"answered": 1, "failed": 2, "refused": 1}
    assert counted(connection, "requests_in_flight") == 0
    assert counted(connection, "request_duration_seconds")["buckets"]["+Inf"] == 4


def test_counts_of_what_was_lost_with_the_connection(connection: Connection) -> None:
    for _ in range(2):
        for _ in range(3):
            connection.in_hand()
        connection.session.drop_unanswered()
        assert counted(connection, "requests_in_flight") == 0
        connection.session.drop_unanswered()  # each is lost once
    assert counted(connection, "requests_in_flight") == 0
    assert counted(connection, "requests")["dropped"] == 6


def test_counts_of_what_no_handler_began(connection: Connection) -> None:
    """It is neither begun nor in flight, and has no duration."""
    refused = connection.ask()
    connection.session.fault(refused.sequence, FaultCode.OVERLOADED)
    assert counted(connection, "requests")["overloaded"] == 1
    assert counted(connection, "requests_in_flight") == counted(connection, "requests_started") == 0
    assert counted(connection, "request_duration_seconds")["buckets"]["+Inf"] == 0


def test_counts_of_a_reply_to_what_no_handler_began(connection: Connection) -> None:
    answered = connection.ask()
    connection.session.reply(answered.sequence, b"", connection.clock.now)
    assert counted(connection, "requests")["answered"] == 1
    assert counted(connection, "requests_in_flight") == counted(connection, "requests_started") == 0
    assert counted(connection, "request_duration_seconds")["buckets"]["+Inf"] == 0


def test_counts_of_the_time_to_a_reply(connection: Connection) -> None:
    for seconds in (0.5, 0.25, 0.25):
        request = connection.in_hand()
        connection.session.reply(request.sequence, b"", connection.clock.forward(seconds))
        connection.session.finish_handling(connection.clock.now)
    took = counted(connection, "request_duration_seconds")
    assert took["sum"] == 1.0
    assert counted(connection, "requests")["answered"] == 3
    buckets = took["buckets"]
    assert (buckets["0.1"], buckets["0.25"], buckets["0.5"], buckets["+Inf"]) == (0, 2, 3, 3)


def test_counts_of_the_time_to_a_fault(connection: Connection) -> None:
    begun = connection.clock.now = monotonic() - 100.0
    for _ in range(2):
        request = connection.in_hand()
        connection.session.fault(request.sequence, FaultCode.HANDLER_FAILED)
    took = counted(connection, "request_duration_seconds")
    assert 200.0 <= took["sum"] <= 2 * (monotonic() - begun)
    assert (took["buckets"]["10.0"], took["buckets"]["+Inf"]) == (0, 2)


def test_counts_of_bytes(connect: Connect) -> None:
    connection = connect(features=FEATURES)
    for payload, reply in ((b"four", b"sixsix"), (b"12345", b"1"), (b"", [b"ab", b"c"])):
        request = connection.in_hand(payload)
        connection.session.reply(request.sequence, reply, connection.clock.now)
    assert counted(connection, "payload_bytes") == {"received": 9, "sent": 10}
    connection.session.note_part(b"1234567")
    connection.session.note_part([b"12", b"345"])
    assert counted(connection, "payload_bytes") == {"received": 9, "sent": 22}


def test_counts_of_bytes_in_parts(connect: Connect) -> None:
    connection = connect(features=FEATURES)
    request = connection.client.send_request(b"", flags=Flag.UPLOAD)
    connection.client.send_part(request, b"123")
    connection.client.send_part(request, b"4567")
    connection.to_server()
    assert counted(connection, "payload_bytes")["received"] == 7


def test_counts_of_limits(connect: Connect) -> None:
    connection = connect(slot=Slot(room=False))
    connection.client.send_request(b"?")
    connection.to_server()
    assert counted(connection, "limit_hits")["max_connections"] == 1
