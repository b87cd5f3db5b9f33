"""Peers of several processes share the processors; each process is an object here that has the memory of the others."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from itertools import pairwise

import pytest

from sealwire.session.common_use import CommonUse
from sealwire.session.round_robin import CONTENDED
from sealwire.session.shares import LONGEST, PAUSE, WINDOW, Shares

TURN = 0.0001
PROCESSORS = 4


@pytest.fixture
def new() -> Callable[[], CommonUse]:
    """Make another process of one server, which begins at 1.0."""
    first = CommonUse(PROCESSORS)
    made = []

    def process() -> CommonUse:
        one = copy.copy(first)  # the memory is the same
        made.append(one)
        one.begin(len(made), 1.0, 7.0)
        return one

    return process


@pytest.fixture
def here(new: Callable[[], CommonUse]) -> CommonUse:
    return new()


@pytest.fixture
def there(new: Callable[[], CommonUse]) -> CommonUse:
    return new()


def busy(one: CommonUse, key: str, now: float, processors: float) -> bool:
    """Note a peer after a window in which the process has used so much."""
    return one.note(key, now, one._used + processors * (now - one._since))


def test_a_peer_of_another_process_counts_while_processors_are_in_demand(here: CommonUse, there: CommonUse) -> None:
    assert not here.note("flood", 1.0, 7.0)
    assert not there.note("good", 1.0, 7.0)  # nothing is in demand
    assert busy(here, "flood", 1.25, 1.0)
    assert there.note("good", 1.25, 7.0)
    assert busy(here, "flood", 1.35, 1.0)
    assert not busy(here, "flood", 1.35 + CONTENDED, 1.0)  # nobody else has been active for so long


def test_one_that_is_alone_counts_nobody(here: CommonUse, there: CommonUse) -> None:
    """In several processes as well."""
    for number in range(1, 50):
        now = 1.0 + number * WINDOW
        assert not busy(here, "alone", now, 1.0)
        assert not busy(there, "alone", now, 1.0)


@pytest.mark.parametrize(("each", "demand"), [(0.13, True), (0.12, False)], ids=["a quarter", "less"])
def test_the_demand_is_what_all_processes_use(new: Callable[[], CommonUse], each: float, demand: bool) -> None:
    """A quarter of four processors."""
    processes = [new() for _ in range(8)]
    for number, one in enumerate(processes):
        one.note(f"peer {number}", 1.0, 7.0)
    for number in range(1, 5):
        now = 1.05 + number * WINDOW  # in the middle of each
        found = [busy(one, f"peer {place}", now, each) for place, one in enumerate(processes)]
    assert found == [demand] * 8


def test_peers_that_pause_count_as_before_their_pauses(here: CommonUse, there: CommonUse) -> None:
    """Or they would begin again, and pause again."""
    there.note("good", 1.0, 7.0)
    assert busy(here, "flood", 1.25, 1.0)
    assert there.note("good", 1.25, 7.0)
    for now in (1.35, 1.45, 1.55):
        assert busy(here, "flood", now, 1.01 / (1 + PAUSE))
    assert busy(here, "flood", 1.65, 0.3)  # it does less of itself, but has done more just now
    assert not busy(here, "flood", 1.75, 0.3)


def test_a_process_that_has_ended_is_forgotten(here: CommonUse, there: CommonUse) -> None:
    here.note("good", 1.0, 7.0)
    assert busy(there, "flood", 1.25, 4.0)  # killed now
    assert here.note("good", 1.25, 7.0)
    assert here.note("good", 1.35, 7.0)
    assert not here.note("good", 1.45, 7.0)


def test_the_one_over_its_share_pauses_in_every_process(here: CommonUse, there: CommonUse) -> None:
    there.use("good", TURN, 1.0)
    here.use("flood", 10 * TURN, 1.0)
    assert here.pause("flood", 1.0) == pytest.approx(PAUSE * 10 * TURN)
    assert there.pause("flood", 1.0) == pytest.approx(PAUSE * 10 * TURN)
    assert here.pause("flood", 1.0 + PAUSE * 10 * TURN) <= 0
    assert there.pause("good", 1.0) <= 0
    assert there.pause("unknown", 1.0) <= 0


def test_the_others_do_not(here: CommonUse, there: CommonUse) -> None:
    for number in range(3000):
        now = 1.0 + number * TURN
        here.use("flood", TURN, now)
        if number % 10 == 0:
            there.use("good", TURN, now)
            assert there.pause("good", now) <= 0
    assert here.pause("flood", now) > 0


def test_a_peer_that_is_alone_does_not_pause(here: CommonUse, there: CommonUse) -> None:
    for number in range(3000):
        now = 1.0 + number * TURN
        here.use("alone", TURN, now)
        there.use("alone", TURN, now)
        assert here.pause("alone", now) <= 0


def test_a_pause_is_bounded(here: CommonUse, there: CommonUse) -> None:
    there.use("good", TURN, 1.0)
    for _ in range(10):
        here.use("flood", 1.0, 1.0)
    assert here.pause("flood", 1.0) == pytest.approx(LONGEST)


def test_processes_that_wait_for_one_peer_begin_one_after_the_other(new: Callable[[], CommonUse]) -> None:
    """So that a peer has a third of the processors, however many processes it has."""
    processes = [new() for _ in range(20)]
    processes[0].use("good", TURN, 1.0)
    processes[0].use("flood", 10 * TURN, 1.0)
    begins = []
    for one in processes:
        begins.append(one.pause("flood", 1.0))
        one.queue("flood", 1.0)
    spaces = [after - before for before, after in pairwise(begins)]
    assert spaces == pytest.approx([(1 + PAUSE) * 10 * TURN / PROCESSORS] * 19)
    for _ in range(10_000):
        processes[0].queue("flood", 1.0)
    assert processes[1].pause("flood", 1.0) == pytest.approx(0.25)


def test_a_peer_that_had_nothing_to_do_owes_no_pause(here: CommonUse, there: CommonUse) -> None:
    """If it has nothing to do at other processes, either."""
    there.use("other", TURN, 1.0)
    here.use("busy", 2 * TURN, 1.0)
    there.forgive("busy", 1.0)
    assert here.pause("busy", 1.0) > 0
    here.forgive("busy", 1.0)
    assert here.pause("busy", 1.0) <= 0
    here.forgive("unknown", 1.0)


def test_what_was_used_long_ago_does_not_count(here: CommonUse, there: CommonUse) -> None:
    there.use("once", 1.0, 1.0)
    here.use("now", TURN, 4.0)
    there.use("once", TURN / 2, 4.0)
    assert there.pause("once", 4.0) <= 0
    here.use("now", TURN, 1000.0)
    here.use("now", TURN, 1000.0)
    assert here.pause("now", 1000.0) <= 0  # alone by now


def test_peers_without_number_push_none_out_that_is_active(here: CommonUse, there: CommonUse) -> None:
    """A flood keeps its pause, however many others there are meanwhile."""
    for number in range(1000):
        now = 1.0 + number * TURN
        here.use("flood", 10 * TURN, now)
        there.use(f"peer {number}", TURN, now)
        if number > 100:
            assert there.pause("flood", now) > 0


def test_a_process_pauses_for_its_own_peers_and_for_those_of_others(here: CommonUse, there: CommonUse) -> None:
    shares = Shares()
    shares.common = here
    there.use("good", TURN, 1.0)
    shares.use("flood", 10 * TURN, 1.0)
    assert shares.pause("flood", 1.0, 0.0) == pytest.approx(PAUSE * 10 * TURN)
    shares.forgive("flood", 1.0)
    assert shares.pause("flood", 1.0, 0.0) == 0.0
    shares.reset()
    assert shares.common is None


def test_use_is_counted_once_in_a_window(here: CommonUse) -> None:
    """However many peers are active in it in turn."""
    for number in range(10):
        assert not busy(here, f"peer {number % 2}", 2.0 + (0.05 + number / 20) * WINDOW, 0.3)


def test_a_window_is_compared_with_the_one_before_alone(here: CommonUse, there: CommonUse) -> None:
    here.note("good", 1.0, 7.0)
    assert busy(there, "flood", 1.25, 4.0)
    assert not here.note("good", 1.45, 7.0)


def test_soon_after_the_start_of_the_machine(here: CommonUse, there: CommonUse) -> None:
    """The clock begins at 0, as do all times in the memory."""
    here.begin(1, 0.0, 0.0)
    assert not here.note("alone", 0.05, 0.0)
    assert not busy(here, "alone", 0.25, 4.0)
    here.queue("unknown", 0.25)
    assert here.pause("unknown", 0.25) <= 0
    here.use("alone", TURN, 0.25)
    here.forgive("alone", 0.25)
    assert here.pause("alone", 0.25) <= 0
    assert here.pause("nobody", 0.25) <= 0
    there.begin(2, 0.0, 0.0)
    there.use("flood", 10 * TURN, 0.25)
    assert there.pause("flood", 0.25) > 0


def test_a_share_is_one_of_what_was_used_lately(here: CommonUse, there: CommonUse) -> None:
    there.use("before", 1.0, 1.0)
    here.use("flood", 0.2, 1.0 + 3 * WINDOW)
    assert here.pause("flood", 1.0 + 3 * WINDOW) > 0


def test_a_new_peer_has_used_nothing(here: CommonUse, there: CommonUse) -> None:
    there.use("other", 0.01, 1.0)
    here.use("new", 0.001, 1.0 + WINDOW)
    assert here.pause("new", 1.0 + WINDOW) <= 0


def test_a_process_begins_without_demand(here: CommonUse, there: CommonUse) -> None:
    there.note("good", 1.0, 7.0)
    assert not here.note("flood", 1.05, 7.5)  # its first window has not ended
    assert not busy(here, "flood", 1.25, 0.5)


def test_it_knows_how_many_processors_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that this process may use, where the system says so."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 2, 3}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert CommonUse()._processors == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert CommonUse()._processors == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert CommonUse()._processors == 1
