"""Requests and replies in parts, the same on every transport."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from sealwire.errors import DeadlineExceeded
from sealwire.wire.frames import VerifiedPayload


class RequestCancelled(Exception):
    """The handler must end: its client does not want the reply.

    Args:
        draining: True if the reason is that the server drains.
    """

    def __init__(self, *, draining: bool = False) -> None:
        super().__init__()
        self.draining = draining


class PartOverdue(DeadlineExceeded):
    """The client neither sent a part nor made room for one within Limits.part_timeout.

    It is raised in the handler's loop over the message, or at its ``yield``. A handler that lets it pass has not
    failed.
    """

    def __init__(self) -> None:
        super().__init__("nothing came from the client within part_timeout", sent=True)


Done = Callable[[BaseException | None], object]


class PartsOfReply(ABC):
    """The parts of a reply, at a client."""

    @abstractmethod
    def add_done_callback(self, function: Done) -> None:
        """Call a function once when the stream has ended, in the thread that ends it; never if it has ended already.

        Args:
            function: Called with None after the last part, with the exception that ended the stream, or with
                GeneratorExit if it was closed before. It must not raise.
        """


class Ending(PartsOfReply):
    """Calls functions at the end of a reply in parts."""

    def __init__(self) -> None:
        self._when_done: list[Done] = []

    def add_done_callback(self, function: Done) -> None:
        """Call a function once at the end."""
        self._when_done.append(function)

    def _done(self, error: BaseException | None) -> None:
        functions, self._when_done = self._when_done, []
        for function in functions:
            function(error)


class Upload:
    """The parts of a request that have come and were not taken.

    Attributes:
        parts: Their payloads.
        is_complete: True if no more come.
    """

    __slots__ = ("is_complete", "parts")

    def __init__(self) -> None:
        self.parts: deque[VerifiedPayload] = deque()
        self.is_complete = False
