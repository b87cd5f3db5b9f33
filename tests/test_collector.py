"""The garbage collector is paused during a long computation, and is as the program has set it afterwards."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

import sealwire.computing
from sealwire.collector import NEVER, collector
from sealwire.computing import Computations, DecodingCells, Memory
from support.forks import forked
from support.interruption import signalled

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[tuple[int, ...]]:
    """The program's own."""
    before = gc.get_threshold()
    yield before
    gc.set_threshold(*before)
    gc.enable()


def is_paused() -> bool:
    return gc.get_threshold()[0] == NEVER


def test_a_pause_ends_after_an_error() -> None:
    with suppress(ZeroDivisionError), collector.paused():
        assert is_paused()
        raise ZeroDivisionError
    assert not is_paused()


def test_it_does_not_run_during_a_computation(thresholds: tuple[int, ...]) -> None:
    computations = Computations(2)
    with suppress(ValueError), computations.one("a"):
        assert is_paused()
        raise ValueError
    assert gc.get_threshold() == thresholds


def test_but_it_runs_now_and_then_however_many_there_are() -> None:
    computations = Computations(2)
    first, second = computations.one("a"), computations.one("b")
    with first:
        second.__enter__()
        assert is_paused()
    assert not is_paused()
    second.__exit__(None, None, None)
    assert not is_paused()


def test_it_runs_while_a_computation_waits_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have that for long."""
    computations, cells, seen = Computations(1), DecodingCells(2), []
    computations.share(Memory(cells, 0, 1 << 20))
    cells.large[1] = 2 << 20

    def pause(_: float) -> None:
        seen.append(("waiting", is_paused()))
        cells.large[1] = 0

    monkeypatch.setattr(sealwire.computing, "sleep", pause)
    with computations.one("a", 1 << 20):
        seen.append(("decoding", is_paused()))
    assert seen == [("waiting", False), ("decoding", True)]


def test_what_the_program_sets_meanwhile_stays() -> None:
    with Computations(1).one("a"):
        gc.disable()
    assert not gc.isenabled()
    with Computations(1).one("a"):
        gc.enable()
        gc.set_threshold(123, 4, 5)
    assert gc.isenabled()
    assert gc.get_threshold()[0] == 123


def test_what_the_program_reads_meanwhile_and_sets_later_ends_with_the_next_pause(thresholds: tuple[int, ...]) -> None:
    with Computations(1).one("a"):
        read = gc.get_threshold()
    gc.set_threshold(*read)
    with Computations(1).one("a"):
        pass
    assert gc.get_threshold() == thresholds


@pytest.mark.parametrize("call", [collector.begin, collector.end])
def test_a_child_forked_at_any_step_of_another_thread(call: object, thresholds: tuple[int, ...]) -> None:
    """What the thread would have done next never happens in the child: here it does not happen in this process."""
    number, was = 0, True
    while was:
        number += 1
        if call == collector.end:
            collector.begin("thread")
        was = signalled(number, lambda: call("thread"))  # type: ignore[operator]  # each is a method
        assert os.waitpid(forked(check_that_it_runs), 0)[1] == 0
        collector.reset()
        assert gc.get_threshold() == thresholds
    assert number > 2


def check_that_it_runs() -> None:
    assert not is_paused()
    with Computations(1).one("a"):
        assert is_paused()
    assert not is_paused()
