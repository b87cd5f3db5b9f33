"""Signals and output around a fork, in children that say what they find."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from sealwire.fork import flush_output, signals_held, take_signals
from support.forks import forked

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def blocked() -> set[int]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def in_child(action: Callable[[], None]) -> int:
    """The exit code of a child that runs ``action``, which may raise; minus the number of a signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(action), 0)[1])


@pytest.fixture
def caught() -> Iterator[list[int]]:
    """The signals that this process has handled."""
    numbers: list[int] = []
    before = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in HELD}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


class TestHeld:
    def test_come_afterwards(self, caught: list[int]) -> None:
        with signals_held():
            for number in HELD:
                signal.raise_signal(number)  # for this thread: another one has no reason to hold it
            assert caught == []
        assert sorted(caught) == sorted(HELD)

    def test_come_after_an_error(self, caught: list[int]) -> None:
        before = blocked()

        def fork() -> None:
            with signals_held():
                signal.raise_signal(signal.SIGTERM)
                raise OSError("no more processes")

        with pytest.raises(OSError, match="no more processes"):
            fork()
        assert caught == [signal.SIGTERM]
        assert blocked() == before

    def test_what_was_blocked_stays_blocked(self, caught: list[int]) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            with signals_held() as held_before:
                assert held_before == before | {signal.SIGHUP}
                assert blocked() >= set(HELD)
            assert blocked() == before | {signal.SIGHUP}
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class TestChild:
    def test_takes_its_own(self, caught: list[int]) -> None:
        """It dies of SIGTERM, ignores what a terminal sends to all, and has nothing of its parent's handlers."""

        def child(number: int) -> Callable[[], None]:
            def action() -> None:
                take_signals(before)
                assert blocked() == before
                os.kill(os.getpid(), number)

            return action

        with signals_held() as before:
            codes = {number: in_child(child(number)) for number in HELD}
        assert codes == {signal.SIGINT: 0, signal.SIGHUP: 0, signal.SIGTERM: -signal.SIGTERM}
        assert caught == []

    def test_a_signal_that_came_at_the_fork(self, caught: list[int]) -> None:
        """It was meant for the parent's handler, which must not run in the child."""

        def action() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            take_signals(before)
            assert caught == []

        with signals_held() as before:
            assert in_child(action) == 0


class Stream(io.StringIO):
    """A stream whose flush fails as it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1
        if self.error is not None:
            raise self.error


class TestOutput:
    @pytest.mark.parametrize("error", [None, BrokenPipeError(), ValueError("I/O operation on closed file")])
    def test_both_are_flushed(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
        out, err = Stream(error), Stream(error)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            flush_output()
        assert (out.flushed, err.flushed) == (1, 1)

    def test_without_streams(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", None)
            patched.setattr(sys, "stderr", None)
            flush_output()

    def test_text_is_written_once(self) -> None:
        reader, writer = os.pipe()
        with os.fdopen(reader) as seen:
            with os.fdopen(writer, "w") as out:
                out.write("before the fork; ")
                with pytest.MonkeyPatch.context() as patched:
                    patched.setattr(sys, "stdout", out)
                    flush_output()
                    assert in_child(out.flush) == 0
            assert seen.read() == "before the fork; "
