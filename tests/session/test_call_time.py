"""The longest time of a call of a client."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest

from sealwire.session.call_time import CallTime, end_of, time_limit


def test_the_first_connection_has_a_time_of_its_own() -> None:
    time = CallTime(timeout=10, wait=3, now=100)
    assert time.deadline == 103
    assert time.begin_connecting(102) == 112  # two seconds behind other requests are gone
    time.end_connecting(109)
    assert time.deadline == 110


def test_a_connection_that_another_call_makes_meanwhile_has_it_too() -> None:
    time = CallTime(timeout=10, wait=3, now=100)
    time.end_connecting(102)
    assert time.deadline == 105


def test_later_ones_do_not() -> None:
    time = CallTime(timeout=10, wait=20, now=0)
    time.begin_connecting(1)
    time.end_connecting(1)
    assert time.begin_connecting(5) == 15
    time.end_connecting(6)
    assert time.begin_connecting(16) == 20
    time.end_connecting(19)
    assert time.deadline == 20


def test_an_attempt_that_failed_leaves_it_as_it_was() -> None:
    time = CallTime(timeout=10, wait=3, now=0)
    time.begin_connecting(1)
    assert time.begin_connecting(2) == 12
    time.end_connecting(3)
    assert time.deadline == 4


def test_at_its_beginning() -> None:
    time = CallTime(timeout=10, wait=3, now=0)
    assert (time.connected, time.sent) == (False, False)


class TestInAHandler:
    """No call takes longer than the handler's own client waits."""

    @pytest.fixture(autouse=True)
    def limit(self) -> Iterator[float]:
        token = time_limit.set(105.0)
        yield 105.0
        time_limit.reset(token)

    def test_the_request(self, limit: float) -> None:
        assert CallTime(timeout=10, wait=3, now=100).deadline == 103
        assert CallTime(timeout=10, wait=30, now=100).deadline == limit

    def test_the_connection(self, limit: float) -> None:
        time = CallTime(timeout=10, wait=3, now=100)
        assert time.begin_connecting(100) == limit
        time.end_connecting(104)
        assert time.deadline == limit

    def test_anything_else(self, limit: float) -> None:
        time_limit.set(before := monotonic())
        assert end_of(10.0) == before
        time_limit.set(before + 1000.0)
        assert before + 10.0 <= end_of(10.0) <= monotonic() + 10.0


def test_outside_of_a_handler_there_is_no_limit() -> None:
    before = monotonic()
    assert before + 1e6 <= end_of(1e6) <= monotonic() + 1e6
