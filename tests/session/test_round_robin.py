"""Peers take turns, however many connections one of them has."""

from __future__ import annotations

import pytest

from sealwire.session.round_robin import CONTENDED, MANY, ROUND, RoundRobin, Turns


def test_keys_are_served_in_turn() -> None:
    queue: RoundRobin[str] = RoundRobin()
    assert not queue
    for key, item in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2")]:
        queue.append(key, item)
    assert "a" in queue
    assert [queue.pop() for _ in range(6)] == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert not queue
    assert "a" not in queue
    with pytest.raises(IndexError):
        queue.pop()


def test_a_queue_has_a_length() -> None:
    queue: RoundRobin[str] = RoundRobin()
    assert len(queue) == 0
    for item in ("a1", "a2", "b1"):
        queue.append(item[0], item)
        assert queue
    assert len(queue) == 3
    queue.pop()
    assert len(queue) == 2


def test_some_of_each_key() -> None:
    queue: RoundRobin[str] = RoundRobin()
    for item in ("a1", "a2", "a3", "b1"):
        queue.append(item[0], item)
    assert queue.pop_each(2) == [("a", "a1"), ("b", "b1"), ("a", "a2")]
    assert queue.pop_each(2) == [("a", "a3")]
    assert queue.pop_each(2) == []


class TestAlone:
    @pytest.mark.parametrize("now", [0.0, 1.0, 1000.0])
    def test_many_turns_in_a_round_which_the_clock_ends(self, now: float) -> None:
        turns: Turns[str] = Turns()
        for _ in range(3):
            assert all(turns.take("a", now) for _ in range(MANY))
            assert not turns.take("a", now)
            assert not turns.running
            now += ROUND

    def test_connections_wait_in_order(self) -> None:
        turns: Turns[str] = Turns()
        while turns.take("a", 1.0):
            pass
        turns.wait("a", "first")
        turns.wait("a", "second")
        assert turns.running
        # The time is over, but the others of this peer were here before.
        assert not turns.take("a", 1.0 + ROUND)
        assert turns.end_round(1.0 + ROUND) == ["first", "second"]
        assert turns.take("a", 1.0 + ROUND)
        turns.end_round(2.0)
        assert not turns.running

    def test_those_that_waited_have_had_their_turns(self) -> None:
        turns: Turns[str] = Turns()
        while turns.take("a", 1.0):
            pass
        for name in ("first", "second", "third"):
            turns.wait("a", name)
        assert turns.end_round(1.0) == ["first", "second", "third"]
        assert sum(turns.take("a", 1.0) for _ in range(2 * MANY)) == MANY - 3

    def test_those_that_wait_before_anybody_had_a_turn(self) -> None:
        turns: Turns[str] = Turns()
        turns.wait("a", "first")
        turns.wait("a", "second")
        assert turns.end_round(0.0) == ["first", "second"]

    def test_at_first_nobody_waits(self) -> None:
        turns: Turns[str] = Turns()
        assert not turns.running
        assert turns.end_round(1.0) == []

    def test_another_that_was_there_before_does_not_count_for_ever(self) -> None:
        turns: Turns[str] = Turns()
        turns.take("before", 1.0)
        assert turns.take("a", 2.0)
        assert not turns.take("a", 2.0), "contended"
        now = 2.0 + CONTENDED
        assert all(turns.take("a", now) for _ in range(MANY))
        assert not turns.take("a", now)


class TestBesideOthers:
    def test_one_turn_in_a_round_for_each_peer(self) -> None:
        turns: Turns[str] = Turns()
        assert turns.take("flood", 1.0)
        assert turns.take("good", 1.0)
        for number in range(100):
            assert not turns.take("flood", 1.0)
            turns.wait("flood", f"flood {number}")
        turns.wait("good", "good")
        assert turns.end_round(1.0) == ["flood 0", "good"]
        assert not turns.take("good", 1.0)
        assert turns.end_round(1.0) == ["flood 1"]
        assert turns.take("good", 1.0)

    def test_at_the_end_of_that_time_all_of_one_have_their_turn(self) -> None:
        turns: Turns[str] = Turns()
        turns.take("good", 1.0)
        turns.take("flood", 1.0)
        turns.wait("flood", "first")
        turns.wait("flood", "second")
        assert turns.end_round(1.0 + CONTENDED) == ["first", "second"]

    def test_until_the_other_has_been_silent_for_a_while(self) -> None:
        turns: Turns[str] = Turns()
        turns.take("good", 1.0)
        turns.take("flood", 1.0)
        turns.end_round(1.0)
        assert turns.take("flood", 1.0 + CONTENDED - 0.1)
        assert not turns.take("flood", 1.0 + CONTENDED - 0.1)
        assert turns.running
        turns.end_round(1.0 + CONTENDED)
        assert turns.take("flood", 1.0 + CONTENDED)
        assert turns.take("flood", 1.0 + CONTENDED)
        assert not turns.running
