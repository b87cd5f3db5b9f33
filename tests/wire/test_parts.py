"""Credit for parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import RemoteProtocolError
from sealwire.wire.parts import MAX_CREDIT, IncomingParts, OutgoingParts, cost


def test_a_part_costs_the_length_of_its_frame() -> None:
    parts = OutgoingParts(100)
    parts.note_sent(0)
    assert (parts.credit, parts.count) == (48, 1)
    parts.note_sent(1000)
    assert (parts.credit, parts.count) == (48 - 1052, 2)
    parts.grant(1104)
    assert parts.credit == 100


def test_the_most_credit() -> None:
    parts = OutgoingParts(MAX_CREDIT)
    with pytest.raises(RemoteProtocolError, match="CREDIT beyond"):
        parts.grant(1)
    parts = OutgoingParts(MAX_CREDIT - 1)
    parts.grant(1)
    assert parts.credit == MAX_CREDIT == 2**32 - 1


def test_credit_is_granted_for_exactly_half_a_window() -> None:
    parts = IncomingParts(208)
    assert parts.note_processed(51) == 0
    assert parts.note_processed(0) == 155  # 104 and more
    assert parts.note_processed(52) == 104, "exactly a half"


def test_a_part_needs_credit_above_0() -> None:
    parts = IncomingParts(104)
    parts.note_received(0)
    parts.note_received(10_000)  # a part may be larger than the credit
    assert parts.count == 2
    with pytest.raises(RemoteProtocolError, match="PART without credit"):
        parts.note_received(0)
    parts = IncomingParts(52)
    parts.note_received(0)  # nothing is left
    with pytest.raises(RemoteProtocolError, match="PART without credit"):
        parts.note_received(0)


def test_credit_is_granted_in_steps_of_half_a_window() -> None:
    parts = IncomingParts(209)  # half of it is 104.5
    for _ in range(4):
        parts.note_received(0)
    assert [parts.note_processed(0) for _ in range(4)] == [0, 0, 156, 0]


def test_a_grant_fits_its_field() -> None:
    parts, size = IncomingParts(MAX_CREDIT), 2**32 - 1 - 52
    parts.note_received(2**31 - 52 - 1)
    parts.note_received(size)
    assert parts.note_processed(2**31 - 52 - 1) == 0
    assert parts.note_processed(size) == MAX_CREDIT
    assert parts._processed == 2**31 - 1


@given(st.integers(1, 5000), st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=100))
def test_a_sender_is_never_stuck_and_a_receiver_never_holds_more_than_the_window_and_one_part(
    window: int, steps: list[tuple[int, bool]]
) -> None:
    sender, receiver, held, on_the_way = OutgoingParts(window), IncomingParts(window), list[int](), list[int]()
    for size, sends in steps:
        if sends and sender.credit > 0:
            sender.note_sent(size)
            receiver.note_received(size)
            held.append(size)
        elif held:
            granted = receiver.note_processed(held.pop(0))
            assert granted == 0 or granted >= window / 2
            on_the_way.append(granted)
        elif on_the_way:
            sender.grant(on_the_way.pop(0)) if on_the_way[0] else on_the_way.pop(0)
        assert sum(map(cost, held[:-1])) < window
    for size in held:
        on_the_way.append(receiver.note_processed(size))
    sender.grant(sum(on_the_way))
    assert sender.credit > window / 2 or sender.credit == window
    assert sender.credit == receiver._credit <= window
