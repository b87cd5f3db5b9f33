"""Long computations: few at a time, in turn by peer, and with quick switches between threads."""

from __future__ import annotations

import gc
import math
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from functools import partial

import pytest

import sealwire.computing
import sealwire.paces
from sealwire.collector import NEVER
from sealwire.computing import AT_ONCE, Computations, DecodingCells, Memory
from sealwire.contention import Activity, PeerTurns, QuickSwitches, activity, switches
from sealwire.native import NATIVE
from sealwire.session.round_robin import CONTENDED
from support.interruption import signalled
from support.service import eventually

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture(autouse=True)
def _without_quick_switches() -> None:
    """The connections of tests before these may have asked for them."""
    activity.calm(math.inf)


def is_paused() -> bool:
    """Return True if the garbage collector is paused."""
    return gc.get_threshold()[0] == NEVER


def test_switches_are_quick_meanwhile() -> None:
    computations = Computations(2)
    before = sys.getswitchinterval()
    with computations.one("a"):
        shortened = sys.getswitchinterval()
        assert shortened < before
        with computations.one("b"):
            pass
        assert sys.getswitchinterval() == shortened
    assert sys.getswitchinterval() == before


def test_also_after_an_error() -> None:
    computations = Computations(1)
    before = sys.getswitchinterval()
    with pytest.raises(ValueError, match="wrong"), computations.one("a"):
        raise ValueError("wrong")
    assert sys.getswitchinterval() == before
    with computations.one("a"):
        pass


def test_those_that_wait_are_let_in_in_turn() -> None:
    computations, go, waiting, seen = Computations(1), threading.Event(), [], []

    def compute(key: str, name: str) -> None:
        waiting.append(name)
        with computations.one(key):
            seen.append(name)

    def held() -> None:
        with computations.one("flood"):
            seen.append("held")
            go.wait(10)

    threads = [threading.Thread(target=held)]
    threads[0].start()
    eventually(lambda: seen == ["held"])
    for key, name in [("flood", "1"), ("flood", "2"), ("flood", "3"), ("good", "good")]:
        threads.append(threading.Thread(target=compute, args=[key, name]))
        threads[-1].start()
        eventually(lambda name=name: name in waiting)
        eventually(lambda: len(waiting) == computations.waiting)
    go.set()
    for thread in threads:
        thread.join(10)
    assert seen == ["held", "1", "good", "2", "3"]


def test_several_peers_are_active() -> None:
    activity = Activity()
    assert not activity.note("a", 1.0)
    assert not activity.note("a", 2.0)
    assert activity.note("b", 3.0)
    assert activity.note("b", 3.0 + CONTENDED / 2)
    assert not activity.note("b", 3.0 + CONTENDED)


def test_switches_are_quick_while_several_peers_are_active() -> None:
    activity, before = Activity(), sys.getswitchinterval()
    activity.note("a", 1.0)
    assert sys.getswitchinterval() == before
    activity.note("b", 1.0)
    assert sys.getswitchinterval() < before
    activity.calm(1.0 + CONTENDED / 2)
    assert sys.getswitchinterval() < before
    activity.calm(1.0 + CONTENDED)
    assert sys.getswitchinterval() == before


def test_a_handshake_counts_for_a_moment() -> None:
    activity, before = Activity(), sys.getswitchinterval()
    activity.note("flood", 1.0)
    activity.newcomer(1.0)
    assert sys.getswitchinterval() < before
    assert activity.note("flood", 1.05)
    assert not activity.note("flood", 1.2)
    assert sys.getswitchinterval() == before


def test_the_last_one_to_end_restores_the_interval() -> None:
    quick, before = QuickSwitches(), sys.getswitchinterval()
    quick.begin(1)
    quick.begin(2)
    quick.end(1)
    quick.end(1)
    assert sys.getswitchinterval() < before
    quick.end(2)
    assert sys.getswitchinterval() == before


def test_an_interval_that_the_program_sets_meanwhile_stays() -> None:
    quick, before = QuickSwitches(), sys.getswitchinterval()
    try:
        quick.begin(1)
        sys.setswitchinterval(0.002)
        quick.begin(2)
        for asker in (1, 2):
            quick.end(asker)
            assert sys.getswitchinterval() == pytest.approx(0.002)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("call", ["begin", "end"])
def test_quick_switches_end_after_an_interruption_and_in_a_child_forked_then(call: str) -> None:
    before, number, was = sys.getswitchinterval(), 0, True
    while was:
        number += 1
        for quick, after in ((QuickSwitches(), "end"), (QuickSwitches(), "reset")):
            if call == "end":
                quick.begin(1)
            was = signalled(number, partial(getattr(quick, call), 1))
            quick.end(1) if after == "end" else quick.reset()
            assert sys.getswitchinterval() == before
    assert number > 3


def test_other_computations_ask_for_the_same() -> None:
    """Two that ended in another order than they began left the short interval for good."""
    before = sys.getswitchinterval()
    with Computations(1).one("a"):
        switches.begin("another")
    switches.end("another")
    assert sys.getswitchinterval() == before


class TestPeerTurns:
    def test_one_thread_of_each_peer(self) -> None:
        turns, order = PeerTurns(), []

        def work(name: str) -> None:
            turn = threading.Lock()
            turns.take("flood", turn)
            order.append(name)
            turns.give("flood", turn)

        first = threading.Lock()
        turns.take("flood", first)
        threads = []
        for name in ("first", "second"):
            threads.append(threading.Thread(target=work, args=[name]))
            threads[-1].start()
            eventually(lambda: len(turns._turns["flood"]) == 1 + len(threads))
        turns.take("good", threading.Lock())  # does not wait
        assert order == []
        turns.give("flood", first)
        for thread in threads:
            thread.join(10)
        assert order == ["first", "second"]
        assert not turns.is_taken("flood")

    def test_one_that_is_interrupted_at_any_step_leaves_nothing(self) -> None:
        turns, number = PeerTurns(), 0

        def work() -> None:
            turn = threading.Lock()
            try:
                turns.take("a", turn)
            finally:
                try:
                    turns.give("a", turn)
                finally:
                    turns.give("a", turn)

        was = True
        while was:
            number += 1
            was = signalled(number, work)
            assert not turns.is_taken("a")
        assert number > 5

    def test_an_interrupted_thread_waits_no_more(self) -> None:
        turns, held, turn = PeerTurns(), threading.Lock(), threading.Lock()

        class Interrupted(Exception):
            pass

        def interrupt(*_: object) -> None:
            raise Interrupted

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            turns.take("a", held)

            def send() -> None:
                eventually(lambda: len(turns._turns["a"]) == 2)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

            thread = threading.Thread(target=send)
            thread.start()
            with pytest.raises(Interrupted):
                turns.take("a", turn)
            thread.join(10)
        finally:
            signal.signal(signal.SIGUSR1, before)
        turns.give("a", turn)
        assert turns.is_taken("a")
        turns.give("a", held)
        assert not turns.is_taken("a")


class TestInterruptions:
    """A signal handler raises, at any step that it can."""

    def test_nothing_stays_taken(self) -> None:
        computations, cells = Computations(1), DecodingCells(2)
        memory = Memory(cells, 1, 1 << 20)
        computations.share(memory)
        interval, number, was = sys.getswitchinterval(), 0, True

        def compute() -> None:
            with computations.one("a", 3000):
                pass

        while was:
            number += 1
            was = signalled(number, compute)
            assert not computations._running
            assert not is_paused()
            assert sys.getswitchinterval() == interval
            assert cells.large.total == 0
            assert not memory._held
        assert number > 50

    def test_one_that_waits_gives_its_turn_to_the_next(self) -> None:
        computations, seen = Computations(1), []

        class Interrupted(Exception):
            pass

        def interrupt(*_: object) -> None:
            raise Interrupted

        def signal_and_compute() -> None:
            eventually(lambda: computations.waiting == 1)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            with computations.one("b"):
                seen.append("computed")

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            with computations.one("a"):
                thread = threading.Thread(target=signal_and_compute)
                thread.start()
                with pytest.raises(Interrupted), computations.one("a"):
                    pass
                eventually(lambda: computations.waiting == 2)
            thread.join(10)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == ["computed"]
        assert not computations._running

    def test_a_child_that_is_forked_in_a_computation_has_all_places(self) -> None:
        computations = Computations(1)
        with computations.one("a"):
            computations.reset()
        with computations.one("a"):
            assert len(computations._running) == 1
        assert not computations._running


class TestMemoryOfSeveralProcesses:
    """Each has its cells."""

    def test_large_messages_wait_for_each_other(self) -> None:
        cells, limit = DecodingCells(4), 1 << 20
        memories = [Memory(cells, index, limit) for index in range(4)]
        seen: list[int] = []

        def decode() -> None:
            with memories[3].room(1 << 19):
                seen.append(cells.large.total)

        waiting = threading.Thread(target=decode, daemon=True)
        with ExitStack() as stack:
            for memory in memories[1:AT_ONCE]:
                stack.enter_context(memory.room(1 << 20))
            with memories[0].room(1 << 20):
                assert cells.large.total == AT_ONCE * limit
                waiting.start()
                with memories[2].room(100):  # a small one does not wait
                    assert cells.small.total == 51_200
                assert seen == []
            waiting.join(10)
            assert seen == [AT_ONCE * limit]
        assert cells.large.total == cells.small.total == 0

    def test_small_ones_wait_for_small_ones(self) -> None:
        cells, limit = DecodingCells(2), 1 << 20
        first, second = Memory(cells, 0, limit), Memory(cells, 1, limit)
        seen: list[str] = []

        def decode() -> None:
            with second.room(200):
                seen.append("decoded")

        waiting = threading.Thread(target=decode, daemon=True)
        with ExitStack() as stack:
            for _ in range(limit // (200 * 512)):
                stack.enter_context(first.room(200))
            waiting.start()
            assert seen == []
        waiting.join(10)
        assert seen == ["decoded"]

    def test_computations_take_and_give_it(self) -> None:
        computations, cells = Computations(1), DecodingCells(2)
        computations.share(Memory(cells, 1, 1 << 20))
        with computations.one("a", 3000):
            assert cells.large[1] == 1 << 20
        assert cells.large.total == 0
        with computations.one("a"):
            assert cells.large.total == 0

    def test_a_process_that_has_ended_needs_nothing(self) -> None:
        cells = DecodingCells(3)
        for index in range(3):
            cells.large[index] = cells.small[index] = 1
        cells.clear(0)
        assert (cells.large.total, cells.small.total) == (2, 2)
        cells.clear_others({1})
        assert (cells.large.total, cells.small.total) == (1, 1)


class Clock:
    """A clock that stands still until it is told to go on, for the time of day and for the processor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(sealwire.paces, "monotonic", lambda: self.now)
        monkeypatch.setattr(sealwire.computing, "thread_time", lambda: self.now)
        monkeypatch.setattr(activity, "until", math.inf)

    def compute(self, computations: Computations, key: str, size: int, seconds: float) -> float:
        """Compute for a peer, and return the pause before it."""
        pause = computations.paces.pause(key, size)
        with computations.one(key, size):
            self.now += seconds
        return pause


def test_a_peer_has_a_fifth_of_the_time_while_others_are_active(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    computations = Computations(2)
    assert clock.compute(computations, "flood", 1000, 0.010) == 0
    assert computations.paces.pause("other", 1000) == 0
    assert clock.compute(computations, "flood", 1000, 0.010) == pytest.approx(0.040)  # and does not wait for it
    assert computations.paces.pause("flood", 2000) == pytest.approx(0.080)  # the time that both have used too early
    # A message that does not arrive as the third one now is counted by its size: twice that of the others.
    assert computations.paces.pause("flood", 1000) == pytest.approx(0.180)


def test_short_messages_do_not_wait_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    computations = Computations(2)
    assert [clock.compute(computations, "a", 10, 0.001) for _ in range(4)] == pytest.approx([0, 0, 0.008, 0.012])


def test_a_pause_is_no_longer_than_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    computations = Computations(2)
    clock.compute(computations, "flood", 1000, 10.0)
    assert computations.paces.pause("flood", 1000) == 1.0


def test_a_peer_that_is_alone_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    computations = Computations(2)
    clock.compute(computations, "alone", 1000, 1.0)
    monkeypatch.setattr(activity, "until", clock.now)
    assert computations.paces.pause("alone", 1000) == 0
    monkeypatch.setattr(activity, "until", math.inf)
    assert computations.paces.pause("alone", 1000) == 0  # what was before is forgotten


def test_peers_that_need_not_wait_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(sealwire.paces, "_PACED", 2)
    computations = Computations(2)
    clock.compute(computations, "flood", 1000, 1.0)
    for number in range(10):
        computations.paces.pause(str(number), 1000)
    assert len(computations.paces._paces) <= 3
    assert computations.paces.pause("flood", 1000) > 0


@pytest.mark.skipif(not NATIVE, reason="without the native core, no long message is decoded on a loop")
def test_a_loop_decodes_what_is_brief_while_nobody_else_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(sealwire.computing, "monotonic", lambda: clock.now)
    computations = Computations(2)
    monkeypatch.setattr(activity, "until", clock.now)
    assert computations.may_be_on_loop("a", 65_536)
    assert not computations.may_be_on_loop("a", 65_537)
    monkeypatch.setattr(activity, "until", clock.now + 1)
    assert not computations.may_be_on_loop("a", 5000)
    monkeypatch.setattr(activity, "until", clock.now)
    computations.share(Memory(DecodingCells(1), 0, 1 << 20))
    assert not computations.may_be_on_loop("a", 5000)


@pytest.mark.skipif(not NATIVE, reason="without the native core, no long message is decoded on a loop")
def test_a_loop_decodes_nothing_of_a_peer_whose_messages_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are accepted or refused, and however many such peers there are."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr(sealwire.computing, "monotonic", lambda: clock.now)
    monkeypatch.setattr(activity, "until", 0.0)
    computations = Computations(2)
    with computations.on_loop("brief"):
        assert is_paused()
        clock.now += 0.0019
    with suppress(ValueError), computations.on_loop("long"):
        clock.now += 0.0021
        raise ValueError
    assert not is_paused()
    assert computations.may_be_on_loop("brief", 5000)
    assert not computations.may_be_on_loop("long", 5000)
    clock.now += 10
    assert computations.may_be_on_loop("long", 5000)
    for number in range(3000):
        with computations.on_loop(number):
            clock.now += 0.0021
    assert len(computations._slow) == 1024
    assert not computations.may_be_on_loop(2999, 5000)
