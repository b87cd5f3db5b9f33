"""Forks and steps of TLS handshakes wait for each other."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sealwire import fork_gate
from sealwire.fork_gate import apart_from_forks


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def fork() -> bool:
    """Return True if a forked child is free to shake hands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of other threads, which this is about
        child = os.fork()
    if child == 0:
        os._exit(bool(fork_gate._handshaking or fork_gate._forking))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_fork_waits_for_a_handshake(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_gate, "PATIENCE", 60.0)
    shakes, goes_on, waits = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(fork_gate, "sleep", lambda _: waits.set())
    order = []

    def step() -> None:
        shakes.set()
        assert goes_on.wait(20)
        order.append("handshake")

    first = pool.submit(apart_from_forks, step)
    assert shakes.wait(20)
    forked = pool.submit(lambda: (fork(), order.append("fork"))[0])
    assert waits.wait(20)
    goes_on.set()  # a fork holds the lock of all thread pools meanwhile
    assert first.result(20) is None
    assert forked.result(20)
    assert order == ["handshake", "fork"]
    assert not fork_gate._handshaking
    assert not fork_gate._forking


def test_a_handshake_waits_for_a_fork(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_gate, "PATIENCE", 60.0)
    waits = threading.Event()
    monkeypatch.setattr(fork_gate, "sleep", lambda _: waits.set())
    fork_gate._before_fork()
    try:
        shaken = pool.submit(apart_from_forks, lambda: True)
        assert waits.wait(20)
        assert not shaken.done()
    finally:
        fork_gate._after_fork()
    assert shaken.result(20)


def test_neither_waits_for_ever(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_gate, "PATIENCE", 0.01)
    goes_on = threading.Event()
    stuck = pool.submit(apart_from_forks, lambda: goes_on.wait(20))
    try:
        assert fork()
        fork_gate._before_fork()
        assert pool.submit(apart_from_forks, lambda: True).result(20)
    finally:
        goes_on.set()
        fork_gate._after_fork()
    assert stuck.result(20)


def test_a_thread_does_not_wait_for_itself() -> None:
    """A signal handler may fork after a step, or shake hands before a fork."""
    assert apart_from_forks(fork)
    fork_gate._before_fork()
    try:
        assert apart_from_forks(lambda: True)
    finally:
        fork_gate._after_fork()
