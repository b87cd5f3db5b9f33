"""The longest time of a call of a client."""

from __future__ import annotations

from sealwire.session.call_time import CallTime


def test_the_first_connection_has_a_time_of_its_own() -> None:
    time = CallTime(timeout=10, wait=3, now=100)
    assert time.deadline == 103
    assert time.begin_connecting(102) == 112  # two seconds behind other requests are gone
    time.end_connecting(109)
    assert time.deadline == 110


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
