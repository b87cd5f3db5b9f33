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
