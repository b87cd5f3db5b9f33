"""Who gets a place: bounds on connections, and who makes room.

A connection is *pending* until its peer has proved who it is, then *established*; each state has its own bound. When
the pending ones are too many, the oldest that has had a second is dropped, so that clients which sit and do nothing
cannot keep out those that take milliseconds; while all are younger than that, accepting waits.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic
from typing import Final

from sealwire.limits import Limits
from sealwire.tls.identity import PeerIdentity
from sealwire.worker import Recycling

GRACE = 1.0
"""Seconds that a pending connection has before it can be dropped to make room."""

_FREE: Final = 0
_PENDING: Final = 1
_ESTABLISHED: Final = 2


class Place:
    """One connection's place. A thread of this process serves it."""

    def __init__(self, admission: Admission, slot: int, sock: socket.socket) -> None:
        self._admission = admission
        self._sock: socket.socket | None = sock
        self._process = os.getpid()
        self.slot = slot
        self.since = monotonic()
        self.dropped = False
        self.peer: PeerIdentity | None = None
        """Who it is by the verified certificate, for the log."""
        self.thread: threading.Thread | None = None
        self.recycling: Recycling | None = None
        self.pid: int | None = None
        """The child process that serves it; None where this one does."""

    def count(self) -> None:
        """One more request of that connection goes to a handler."""
        if self.recycling is not None:
            self.recycling.count()

    def hold(self, sock: socket.socket | None) -> None:
        """This is the connection's socket from now on; None just before it is closed."""
        with self._admission.changed:
            self._sock = sock

    def promote(self) -> bool:
        """The peer has proved who it is. False where there is no room for it."""
        return self._admission.promote(self)

    def leave(self) -> None:
        """The connection is over. (A child's copy of a place is not its own to give back.)"""
        if self._process == os.getpid():
            self._admission.remove(self)

    def drop(self) -> None:
        """End the connection from outside; whoever serves it sees the end of its stream. The lock is held."""
        self.dropped = True
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        elif self._sock is not None:
            # Not SSLSocket.shutdown, which takes the TLS layer away from under the thread that serves it. The lock
            # that hold() takes before a close keeps this from hitting a descriptor that is in use again.
            with suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def join(self, deadline: float) -> None:
        """Wait until the thread that serves it is gone."""
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(min(threading.TIMEOUT_MAX, max(0.0, deadline - monotonic())))


class Admission:
    """The places of one server.

    Their states are in memory that forked children share: a child sees what the others have proved, and the parent what
    each child has.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places: dict[Place, None] = {}
        self._states = mmap.mmap(-1, limits.max_threads + 1)
        self.changed = threading.Condition()

    def enter(self, sock: socket.socket) -> Place:
        """A place for a connection just accepted, which :meth:`room` has made."""
        with self.changed:
            slot = self._states.find(bytes((_FREE,)), 0)
            self._states[slot] = _PENDING
            place = Place(self, slot, sock)
            self._places[place] = None
        return place

    def promote(self, place: Place) -> bool:
        """Whether that connection is established now, or there is no room for it."""
        with self.changed:
            # First taken, then counted: of children that do so at the same moment too many cannot both succeed.
            self._states[place.slot] = _ESTABLISHED
            room = self._count(_ESTABLISHED) <= self._limits.max_connections
            if not room:
                self._states[place.slot] = _PENDING
            self.changed.notify_all()
            return room

    def remove(self, place: Place) -> None:
        """That connection is over."""
        with self.changed:
            if place in self._places:
                del self._places[place]
                self._states[place.slot] = _FREE
                self.changed.notify_all()

    def overloaded(self) -> bool:
        """Whether no further connection can be established."""
        return self._count(_ESTABLISHED) >= self._limits.max_connections

    def room(self, timeout: float) -> bool:
        """Whether one more may be accepted; where there is no room, makes some and waits up to ``timeout`` seconds."""
        with self.changed:
            if self._count(_PENDING) >= self._limits.max_handshakes:
                self.drop_oldest()
                self.changed.wait(timeout)
            return self._count(_PENDING) < self._limits.max_handshakes

    def settle(self, timeout: float) -> None:
        """Wait until nobody is pending, or the time is over."""
        with self.changed:
            self.changed.wait_for(lambda: not self._count(_PENDING), timeout)

    def pending(self) -> list[Place]:
        """Those whose peers have proved nothing yet, the oldest first."""
        with self.changed:
            return [place for place in self._places if self._states[place.slot] == _PENDING]

    def places(self) -> list[Place]:
        """All that are there now."""
        with self.changed:
            return list(self._places)

    def drop_oldest(self) -> None:
        """Drop the pending connection that has waited longest, if it has had its time."""
        with self.changed:
            oldest = next((place for place in self.pending() if not place.dropped), None)
            if oldest is not None and monotonic() - oldest.since >= GRACE:
                oldest.drop()

    def drop(self, places: Iterable[Place]) -> None:
        """End those connections from outside."""
        with self.changed:
            for place in places:
                if place in self._places:
                    place.drop()

    def _count(self, state: int) -> int:
        # Of all places' states, which is quicker than to go through the places, however many there are.
        return self._states[:].count(state)
