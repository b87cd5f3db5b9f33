"""Requests of peers within their share go first, for a moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import sealwire.contention
from sealwire import encode
from sealwire.contention import Precedence, precedence
from sealwire.pickling.message_file import LONG_MESSAGE
from support.service import eventually

pytestmark = pytest.mark.usefixtures("clean")

MOMENT = sealwire.contention._MOMENT


@pytest.fixture
def long_moment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The moment does not end by itself."""
    monkeypatch.setattr(sealwire.contention, "_MOMENT", 1000.0)
    yield
    precedence.reset()


def in_thread(function: object) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)  # type: ignore[arg-type]  # it is called without arguments
    thread.start()
    return thread


@pytest.mark.usefixtures("long_moment")
def test_others_wait_until_it_is_finished() -> None:
    first, order = Precedence(), []
    first.take(sealwire.contention.monotonic())

    def other() -> None:
        first.wait()
        order.append("other")

    thread = in_thread(other)
    eventually(lambda: first._waiting)
    order.append("first")
    first.give()
    thread.join(10)
    assert order == ["first", "other"]
    assert not first._waiting
    first.wait()  # for nobody


@pytest.mark.usefixtures("long_moment")
def test_a_thread_does_not_wait_for_itself() -> None:
    first = Precedence()
    first.take(sealwire.contention.monotonic())
    first.wait()
    first.give()
    first.give()


def test_not_for_longer_than_a_moment() -> None:
    """Its handler may wait for something that takes long."""
    first = Precedence()
    first.take(sealwire.contention.monotonic())
    thread = in_thread(first.wait)
    thread.join(10)
    assert not thread.is_alive()


class Clock:
    """A clock that goes on by what is waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(sealwire.contention, "monotonic", lambda: self.now)


def take_in_thread(first: Precedence, now: float) -> None:
    """Take precedence in a thread that then hangs, as far as others see: it does not give it back."""
    in_thread(lambda: first.take(now)).join(10)


def test_each_request_has_a_moment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in whose handler a thread hangs is not first again because another one is."""
    clock, first = Clock(monkeypatch), Precedence()
    take_in_thread(first, clock.now)
    clock.now += 2 * MOMENT
    first.take(clock.now)
    first.wait()  # for nobody: the other thread's moment is over
    first.give()
    assert not first._first
    assert not first._waiting


def test_those_that_come_later_do_not_prolong_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    first, hanging, done = Precedence(), threading.Event(), threading.Event()
    first._first[1] = sealwire.contention.monotonic() + 0.05  # as of another thread

    def wait() -> None:
        hanging.set()
        first.wait()
        done.set()

    in_thread(wait)
    assert hanging.wait(10)
    eventually(lambda: first._waiting or done.is_set())
    monkeypatch.setattr(sealwire.contention, "_MOMENT", 1000.0)
    first.take(sealwire.contention.monotonic())
    assert done.wait(10)
    eventually(lambda: not first._waiting)


@pytest.mark.usefixtures("long_moment")
def test_the_last_one_that_is_first_ends_the_wait_beside_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Precedence()
    take_in_thread(first, sealwire.contention.monotonic() - 2000)  # whose moment is over
    first.take(sealwire.contention.monotonic())
    thread = in_thread(first.wait)
    eventually(lambda: first._waiting)
    first.give()
    thread.join(10)
    assert not thread.is_alive()


def test_nothing_is_kept_of_a_wait_that_time_ended() -> None:
    first = Precedence()
    for _ in range(10):
        take_in_thread(first, sealwire.contention.monotonic())
        first.wait()
    assert not first._waiting


@pytest.mark.usefixtures("long_moment")
def test_a_long_message_is_decoded_behind_it() -> None:
    message, decoded = encode([str(number) for number in range(LONG_MESSAGE)]), []

    def decode() -> None:
        decoded.append(len(sealwire.decode(message)))

    precedence.take(sealwire.contention.monotonic())
    thread = in_thread(decode)
    eventually(lambda: precedence._waiting)
    assert not decoded
    precedence.give()
    thread.join(10)
    assert decoded == [LONG_MESSAGE]
