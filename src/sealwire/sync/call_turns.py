"""Gives one call at a time its turn, and survives an exception anywhere.

A signal handler can raise between any two steps of a program: just after a lock was acquired, before the ``try`` that
would release it, or at the beginning of its ``finally``. A lock is lost then, and all that waits for it hangs. So a
turn is bound to a call's frame: it is over when the call ends it, or when the frame is no longer on its thread's stack.

Turns form a chain. Each has one successor at most, set by ``dict.setdefault``, which is atomic; the successor of a turn
that is over has the next turn. No step leaves anything behind that the next call could not take over.
"""

from __future__ import annotations

import sys
import threading
from time import monotonic
from types import FrameType
from typing import Final, Generic, Self, TypeVar

from sealwire.bell import Bell

_FIRST_PAUSE: Final = 0.05
_LONGER_PAUSE: Final = 0.25
"""Seconds after which a waiting call looks if the frame of the present turn is still there."""
_LOOKS: Final = 3


class Turn:
    """The turn of one call.

    Args:
        frame: The frame of the call.

    Attributes:
        is_over: True if the call has ended it.
    """

    __slots__ = ("_frame", "_thread", "is_over", "successor")

    def __init__(self, frame: FrameType | None) -> None:
        self.is_over = False
        self._frame = frame
        self._thread = threading.get_ident()
        self.successor: dict[None, Self] = {}
        """The next turn, by ``setdefault``."""

    @property
    def is_here(self) -> bool:
        """True if the call is one of this thread, below the caller: in a signal handler, say."""
        return self._thread == threading.get_ident() and self.is_under_way()

    def is_under_way(self) -> bool:
        """Return True if the turn is not over, and its frame is on the stack of its thread."""
        # A generator's frame that is left meanwhile cuts the stack short; it is not there each time.
        return not self.is_over and any(self._is_on_stack() for _ in range(_LOOKS))

    def end(self) -> None:
        """End the turn."""
        self.is_over = True
        self._frame = None  # which refers to the turn

    def _is_on_stack(self) -> bool:
        frame = sys._current_frames().get(self._thread)
        while frame is not None:
            if frame is self._frame:
                return True
            frame = frame.f_back
        return False


_T = TypeVar("_T", bound=Turn)


class Turns(Generic[_T]):
    """The turns of one client.

    Args:
        first: A turn, which is over.
    """

    def __init__(self, first: _T) -> None:
        first.end()
        self._last = first
        self._bell = Bell()
        """Rings when a turn ends."""

    @property
    def last(self) -> _T:
        """The last turn, perhaps over."""
        return self._last

    def take(self, turn: _T, seconds: float) -> bool:
        """Wait for the turn; return False if it did not come in time, or cannot come while this call waits."""
        deadline = pause = 0.0
        while True:
            last = self._last
            if last.is_over or (pause and not last.is_under_way()):
                # If another call was first, look at its turn. If a third one has moved on from it, do so again.
                self._last = successor = last.successor.setdefault(None, turn)
                if not last.is_over:
                    last.end()  # its frame and what that holds are freed now
                if successor is turn:
                    return True
                continue
            if not pause:
                pause = _FIRST_PAUSE
                deadline = monotonic() + seconds
                if last.is_here:
                    return False
                continue  # it may be a turn of this thread that was not ended
            remaining = deadline - monotonic()
            if remaining <= 0:
                return False
            self._bell.wait(min(pause, remaining))
            pause = _LONGER_PAUSE

    def end(self, turn: _T) -> None:
        """End a turn."""
        turn.end()
        self._bell.ring()
