"""``sealwire call --lines``: requests from lines of JSON, and their replies or errors in the same order.

Lines that are there already are sent without waiting for replies. When there is none, the replies to all that were sent
are printed before the next one is waited for: so a program can write a line and read the reply.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from sealwire.cli.messages import Read
from sealwire.errors import ConnectionClosed, DeadlineExceeded, RemoteProtocolError, SealwireError

_READ: Final = 65_536
Show = Callable[[Any], None]


class LineReader:
    """Lines of a descriptor, which are read as they come."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = select.poll()
        self._waiting.register(descriptor, select.POLLIN)
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()
        self._ended = False
        self.taken = 0
        """Bytes that were read."""

    @property
    def size(self) -> int | None:
        """Bytes of all lines together; None if that is not known, as of a pipe."""
        status = os.fstat(self._descriptor)
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def next_line(self, *, wait: bool) -> bytes | None:
        """Return the next line; None at the end, or without ``wait`` if it is not there yet."""
        while not self._lines and not self._ended and (wait or self._waiting.poll(0)):
            block = os.read(self._descriptor, _READ)
            self._ended = not block
            self.taken += len(block)
            first, *more = block.split(b"\n")
            self._rest += first
            for each in more:
                self._lines.append(bytes(self._rest))
                self._rest = bytearray(each)
            if self._ended and self._rest:
                self._lines.append(bytes(self._rest))
        return self._lines.popleft() if self._lines else None


class Lines:
    """The requests of all lines of a file.

    Args:
        send: Sends the requests of an iterable, and yields replies and errors in order.
        reader: The lines.
        read: Makes a message of a line.
        show: Prints a reply, or an error in its place.

    Attributes:
        count: The number of lines that were requests, or should have been.
        failed: The number of those that have no reply.
    """

    def __init__(
        self, send: Callable[[Iterator[Any]], Iterator[Any]], reader: LineReader, read: Read, show: Show
    ) -> None:
        self._send = send
        self._reader = reader
        self._read = read
        self._show = show
        self._number = 0
        self._unanswered: deque[Exception | None] = deque()
        """For each line without an output, its error; None for a request that was sent."""
        self.count = self.failed = 0

    def run(self) -> None:
        """Send all of them. Raises SealwireError if there is no server to send them to."""
        while (line := self._next_line(wait=True)) is not None:
            try:
                for reply in self._send(self._requests(line)):
                    self._unanswered.popleft()
                    self._print(reply)
                    self._print_errors()
            except SealwireError as error:
                lost = len(self._unanswered)
                for _ in range(lost):
                    self._print(self._unanswered.popleft() or error)
                outcome_unknown = isinstance(error, ConnectionClosed | DeadlineExceeded | RemoteProtocolError)
                if not outcome_unknown or not lost or (isinstance(error, DeadlineExceeded) and not error.sent):
                    raise

    def _next_line(self, *, wait: bool) -> bytes | None:
        while (line := self._reader.next_line(wait=wait)) is not None:
            self._number += 1
            if line.strip():
                return line
        return None

    def _requests(self, line: bytes | None) -> Iterator[Any]:
        while line is not None:
            self.count += 1
            try:
                message = self._read(line)
            except ValueError as error:
                self._unanswered.append(ValueError(f"line {self._number}: {error}"))
                self._print_errors()
            else:
                self._unanswered.append(None)
                yield message
            line = self._next_line(wait=False)

    def _print_errors(self) -> None:
        """Print errors of lines before which all replies were printed."""
        while self._unanswered and (error := self._unanswered[0]) is not None:
            self._unanswered.popleft()
            self._print(error)

    def _print(self, reply: Any) -> None:
        self.failed += isinstance(reply, ValueError | SealwireError)
        self._show(reply)
