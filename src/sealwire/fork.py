"""Signals, buffered output and sockets around a fork, and which process this is.

A process that the program forks, for example a helper of a handler, gets copies of all descriptors. It must neither
keep a port from the server's successor nor send anything on its parent's connections, whose keys and sequence numbers
go on in the parent. So servers and their connections let go of their sockets in every child that they did not fork
themselves (``leave_to_parent``). A server that does not serve yet keeps its listening socket: the child may be meant to
serve.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol
from weakref import WeakSet

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Owner(Protocol):
    """An object with sockets that a child of this process must not use."""

    def leave_to_parent(self) -> None:
        """Close this process's copies of the sockets, send nothing, and take new locks: others' threads are gone."""


_owners: WeakSet[Owner] = WeakSet()
_local = threading.local()


def leave_in_children(owner: Owner) -> None:
    """Call ``owner.leave_to_parent()`` in each process that this one forks, except within :func:`forking`."""
    _owners.add(owner)


@contextmanager
def forking(owner: object) -> Iterator[None]:
    """Surround a fork after which the child goes on with this object."""
    _local.forking = owner
    try:
        yield
    finally:
        _local.forking = None


class ClosedInChildren:
    """Closes a socket in forked children, while this object exists."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        leave_in_children(self)

    def leave_to_parent(self) -> None:
        """Close the child's copy."""
        self._sock.close()


def blank(descriptor: int) -> None:
    """Make a descriptor another file's, and keep its number, in a forked child.

    On an event loop that the child inherited, closing it would take it out of the selector, which the parent uses as
    well.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def this_process() -> object:
    """Return an object that is another one in each forked child. Comparing it is cheaper than ``os.getpid``."""
    return _this_process


def _begin_child() -> None:
    global _this_process
    _this_process = object()
    kept, _local.forking = getattr(_local, "forking", None), None
    for owner in list(_owners):
        if owner is not kept:
            owner.leave_to_parent()


_this_process = object()
os.register_at_fork(after_in_child=_begin_child)


@contextmanager
def signals_held() -> Iterator[set[int]]:
    """Block signals around a fork; yield the set of signals that were blocked before.

    Otherwise the child could run its parent's signal handler, or an exception raised by the parent's own handler could
    make it forget a child that was just forked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_signals(blocked: set[int]) -> None:
    """Set the signal handlers of a forked child, and unblock all signals but ``blocked``.

    A terminal sends SIGINT and SIGHUP to every process. The child ignores them, because its parent reacts to them for
    all of its children.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def flush_output() -> None:
    """Flush stdout and stderr before a fork or os._exit, or buffered text is written twice or not at all."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # None, closed, or a broken pipe
            stream.flush()
