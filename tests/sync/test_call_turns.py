"""Turns of calls, which no exception can leave behind."""

from __future__ import annotations

import sys
import threading
from inspect import currentframe
from time import monotonic

import pytest

from sealwire.sync.call_turns import Turn, Turns
from support.service import eventually

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
def turns() -> Turns[Turn]:
    return Turns(Turn(None))


def lose(turns: Turns[Turn]) -> Turn:
    """A call that takes its turn, and does not end it."""
    turn = Turn(currentframe())
    assert turns.take(turn, 0.0)
    return turn


def test_one_after_the_other(turns: Turns[Turn]) -> None:
    for _ in range(3):
        turn = Turn(currentframe())
        assert turns.take(turn, 0.0)
        assert turns.last is turn
        assert turn.is_here
        turns.end(turn)
        assert not turn.is_here


def test_a_call_within_a_call_has_none(turns: Turns[Turn]) -> None:
    """As of a signal handler: waiting would never end."""
    turn = Turn(currentframe())
    assert turns.take(turn, 0.0)
    start = monotonic()
    assert not turns.take(Turn(currentframe()), 60.0)
    assert monotonic() - start < 10
    assert turns.last is turn


def test_a_turn_that_was_not_ended(turns: Turns[Turn]) -> None:
    """It is over with its frame, also if that is kept, as a traceback keeps it."""
    lost = lose(turns)
    assert not lost.is_over
    assert not lost.is_under_way()
    turn = Turn(currentframe())
    assert turns.take(turn, 0.0)


def test_a_turn_that_a_thread_did_not_end(turns: Turns[Turn]) -> None:
    thread = threading.Thread(target=lose, args=[turns])
    thread.start()
    thread.join(10)
    assert turns.take(Turn(currentframe()), 0.0)


def test_a_thread_waits(turns: Turns[Turn]) -> None:
    first, second = Turn(currentframe()), []
    assert turns.take(first, 0.0)

    def wait() -> None:
        turn = Turn(currentframe())
        second.append(turns.take(turn, 0.02))
        second.append(turns.take(turn, 20.0))
        turns.end(turn)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: second == [False])
    turns.end(first)
    thread.join(10)
    assert second == [False, True]


def test_each_alone(turns: Turns[Turn]) -> None:
    """Also if some end with an exception, and do not end their turns."""
    inside, most, done = 0, 0, []

    def call(number: int) -> None:
        nonlocal inside, most
        turn = Turn(currentframe())
        assert turns.take(turn, 30.0)
        inside += 1
        most = max(most, inside)
        sys.setswitchinterval(1e-5)
        inside -= 1
        if number % 10:
            turns.end(turn)

    def run() -> None:
        for number in range(40):
            call(number)
        done.append(True)

    interval = sys.getswitchinterval()
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    sys.setswitchinterval(interval)
    assert done == [True] * 4
    assert most == 1
