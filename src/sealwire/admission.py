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

from sealwire.limits import Limits

GRACE = 1.0
"""Seconds that a pending connection has before it can be dropped to make room."""


class Place:
    """One connection's place. A thread of this process serves it."""

    def __init__(self, admission: Admission, sock: socket.socket) -> None:
        self._admission = admission
        self._sock: socket.socket | None = sock
        self.since = monotonic()
        self.established = False
        self.dropped = False
        self.thread: threading.Thread | None = None

    def hold(self, sock: socket.socket | None) -> None:
        """This is the connection's socket from now on; None just before it is closed."""
        with self._admission.changed:
            self._sock = sock

    def promote(self) -> bool:
        """The peer has proved who it is. False where there is no room for it."""
        with self._admission.changed:
            self.established = not self._admission.full
            self._admission.changed.notify_all()
            return self.established

    def leave(self) -> None:
        """The connection is over."""
        self._admission.remove(self)

    def drop(self) -> None:
        """End the connection from outside; whoever serves it sees the end of its stream. The lock is held."""
        self.dropped = True
        if self._sock is not None:
            # Not SSLSocket.shutdown, which takes the TLS layer away from under the thread that serves it. The lock
            # that hold() takes before a close keeps this from hitting a descriptor that is in use again.
            with suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def join(self, deadline: float) -> None:
        """Wait until whoever serves it is gone."""
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(min(threading.TIMEOUT_MAX, max(0.0, deadline - monotonic())))


class ProcessPlace(Place):
    """A place that a child process serves. What it proves, the parent reads in memory that both share."""

    def __init__(self, admission: Admission, sock: socket.socket) -> None:
        super().__init__(admission, sock)
        self._proved = mmap.mmap(-1, 1)
        self.pid: int | None = None

    def promote(self) -> bool:
        room = super().promote()
        self._proved[0] = room
        return room

    def refresh(self) -> None:
        """Take over, in the parent, what the child has proved. The lock is held."""
        if not self.established and self._proved[0] and not self._admission.full:
            self.established = True

    def drop(self) -> None:
        self.dropped = True
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def join(self, deadline: float) -> None:
        """The server reaps its children itself."""

    def leave(self) -> None:
        super().leave()
        self._proved.close()


class Admission:
    """The places of one server."""

    def __init__(self, limits: Limits, kind: type[Place] = Place) -> None:
        self._limits = limits
        self._kind = kind
        self._places: dict[Place, None] = {}
        self.changed = threading.Condition()

    def enter(self, sock: socket.socket) -> Place:
        """A place for a connection just accepted."""
        place = self._kind(self, sock)
        with self.changed:
            self._places[place] = None
        return place

    def remove(self, place: Place) -> None:
        """That connection is over."""
        with self.changed:
            self._places.pop(place, None)
            self.changed.notify_all()

    @property
    def full(self) -> bool:
        """Whether no further connection can be established. The lock is held."""
        return sum(place.established for place in self._places) >= self._limits.max_connections

    def overloaded(self) -> bool:
        """Whether no further connection can be established."""
        with self.changed:
            return self.full

    def room(self, timeout: float) -> bool:
        """Whether one more may be accepted; where there is no room, makes some and waits up to ``timeout`` seconds."""
        with self.changed:
            if len(self._pending()) >= self._limits.max_handshakes:
                self.drop_oldest()
                self.changed.wait(timeout)
            return len(self._pending()) < self._limits.max_handshakes

    def drop_oldest(self) -> None:
        """Drop the pending connection that has waited longest, if it has had its time."""
        with self.changed:
            oldest = next((place for place in self._pending() if not place.dropped), None)
            if oldest is not None and monotonic() - oldest.since >= GRACE:
                oldest.drop()

    def places(self) -> list[Place]:
        """All that are there now."""
        with self.changed:
            return list(self._places)

    def pending(self) -> list[Place]:
        """Those whose peers have proved nothing yet."""
        with self.changed:
            return self._pending()

    def drop(self, places: Iterable[Place]) -> None:
        """End those connections from outside."""
        with self.changed:
            for place in places:
                if place in self._places:
                    place.drop()

    def _pending(self) -> list[Place]:
        for place in self._places:
            if isinstance(place, ProcessPlace):
                place.refresh()
        return [place for place in self._places if not place.established]
