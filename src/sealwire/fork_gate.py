"""Keeps forks and TLS handshakes of one process apart.

A fork copies OpenSSL's locks as they are, but only the thread that forks. A lock that another thread held is never
released in the child, which then waits for it for ever. In handshakes such locks are common: that of the random
generator, which each thread has one of and seeds from one for all, and those of the algorithms. The interpreter's lock
does not help, since a handshake runs without it.

So a fork waits for the steps of handshakes that other threads are in, a millisecond each, and no other step begins
before it is over. There is no lock, only two sets, whose methods are atomic: an exception of a signal handler leaves
nothing held. And as neither side waits for more than PATIENCE, what it leaves behind is a delay.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import get_ident
from time import monotonic, sleep
from typing import Final, TypeVar

_T = TypeVar("_T")

PATIENCE: Final = 1.0
"""Seconds that a fork waits for handshakes, and a handshake for forks, at most."""
_PAUSE: Final = 0.0002

_handshaking: set[int] = set()
"""Threads that are in a step of a handshake."""
_forking: set[int] = set()
"""Threads that fork."""


def apart_from_forks(step: Callable[[], _T]) -> _T:
    """Call a function that no fork must come between, and return its result."""
    thread = get_ident()
    try:
        _handshaking.add(thread)
        if _forking:
            _let_forks_pass(thread)
        return step()
    finally:
        _handshaking.discard(thread)


def _let_forks_pass(thread: int) -> None:
    deadline = monotonic() + PATIENCE
    while not _forking <= {thread} and monotonic() < deadline:
        _handshaking.discard(thread)
        sleep(_PAUSE)
        _handshaking.add(thread)


def _before_fork() -> None:
    thread = get_ident()
    _forking.add(thread)
    deadline = monotonic() + PATIENCE
    while not _handshaking <= {thread} and monotonic() < deadline:
        sleep(_PAUSE)


def _after_fork() -> None:
    _forking.discard(get_ident())


def _begin_child() -> None:
    _forking.clear()
    _handshaking.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_child)
