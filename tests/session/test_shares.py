"""Beside others, a peer that uses more than its share pauses; nobody else does."""

from __future__ import annotations

import pytest

from sealwire.session.shares import LONGEST, PAUSE, Shares

TURN = 0.0001


@pytest.fixture
def shares() -> Shares:
    return Shares()


def test_a_peer_that_is_alone_does_not_pause(shares: Shares) -> None:
    for number in range(100):
        shares.use("alone", TURN, number * TURN)
    assert shares.pause("alone", 100 * TURN, 0.0) == 0.0


def test_the_one_over_its_share_pauses(shares: Shares) -> None:
    shares.use("good", TURN, 1.0)
    shares.use("flood", 10 * TURN, 1.0)
    assert shares.pause("flood", 1.0, 0.0) == pytest.approx(PAUSE * 10 * TURN)
    assert shares.pause("flood", 1.0 + PAUSE * 10 * TURN, 0.0) == 0.0
    assert shares.pause("good", 1.0, 0.0) == 0.0


def test_the_others_do_not(shares: Shares) -> None:
    for number in range(1000):
        now = 1.0 + number * TURN
        shares.use("flood", TURN, now)
        if number % 10 == 0:
            shares.use("good", TURN, now)
            assert shares.pause("good", now, 0.0) == 0.0
    assert shares.pause("flood", now, 0.0) > 0


def test_several_floods_pause(shares: Shares) -> None:
    for _ in range(10):
        shares.use("good", TURN, 1.0)
        shares.use("one flood", 9 * TURN, 1.0)
        shares.use("another", 10 * TURN, 1.0)
    assert shares.pause("one flood", 1.0, 0.0) > 0
    assert shares.pause("another", 1.0, 0.0) > 0
    assert shares.pause("good", 1.0, 0.0) == 0.0


def test_a_peer_has_one_pause_for_all_of_its_connections(shares: Shares) -> None:
    shares.use("good", TURN, 1.0)
    for _ in range(3):
        shares.use("flood", 2 * TURN, 1.0)
    assert shares.pause("flood", 1.0, 0.0) == pytest.approx(3 * PAUSE * 2 * TURN)


def test_a_pause_is_bounded(shares: Shares) -> None:
    shares.use("good", TURN, 1.0)
    for _ in range(10):
        shares.use("flood", 1.0, 1.0)
    assert shares.pause("flood", 1.0, 0.0) == pytest.approx(LONGEST)


def test_a_pause_begins_when_the_turn_ends(shares: Shares) -> None:
    shares.use("good", TURN, 0.5)
    shares.use("flood", 10 * TURN, 0.5)
    pause = shares.pause("flood", 0.5, 0.0)
    assert pause == pytest.approx(PAUSE * 10 * TURN)
    assert shares.pause("flood", 0.5, pause) == pause  # the grain of timers is enough


@pytest.mark.parametrize(
    ("now", "left"), [(1.05, 1.0), (1.1, 0.5), (1.15, 0.5), (1.25, 0.25), (1.35, 0.125)], ids=lambda number: f"{number}"
)
def test_each_tenth_of_a_second_halves_what_was_used(shares: Shares, now: float, left: float) -> None:
    """A second peer is over its share as soon as it has used more than is left of the first one's second."""
    shares.use("first", 1.0, 1.0)
    shares.use("second", 0.9 * left, now)
    assert shares.pause("second", now, 0.0) == 0.0
    shares.use("second", 0.2 * left, now)
    assert shares.pause("second", now, 0.0) > 0.0


def test_a_pause_below_the_grain_of_timers_is_saved_up(shares: Shares) -> None:
    shares.use("good", TURN, 1.0)
    shares.use("flood", 2 * TURN, 1.0)
    grain = 1.5 * PAUSE * 2 * TURN
    assert shares.pause("flood", 1.0, grain) == 0.0
    shares.use("flood", 2 * TURN, 1.0)
    assert shares.pause("flood", 1.0, grain) == pytest.approx(2 * PAUSE * 2 * TURN)


def test_a_peer_that_had_nothing_to_do_owes_no_pause(shares: Shares) -> None:
    shares.use("other", TURN, 1.0)
    shares.use("busy", 2 * TURN, 1.0)
    assert shares.pause("busy", 1.0, 0.0) > 0
    shares.forgive("busy", 1.0)
    assert shares.pause("busy", 1.0, 0.0) == 0.0
    shares.forgive("unknown", 1.0)


def test_what_was_used_long_ago_does_not_count(shares: Shares) -> None:
    shares.use("once", 1.0, 1.0)
    shares.use("now", TURN, 4.0)
    shares.use("once", TURN / 2, 4.0)
    assert shares.pause("once", 4.0, 0.0) == 0.0
    shares.use("now", TURN, 1000.0)
    shares.use("now", TURN, 1000.0)
    assert shares.pause("now", 1000.0, 0.0) == 0.0  # alone by now


def test_peers_that_are_silent_are_forgotten(shares: Shares) -> None:
    for number in range(1000):
        shares.use(str(number), TURN, float(number))
    assert len(shares._used) < 20
    assert len(shares._pauses) < 20
