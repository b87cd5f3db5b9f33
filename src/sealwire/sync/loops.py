"""The loops of a client that have a connection to themselves: over ``send_requests``, over a stream, in ``send_parts``.

They are referred to weakly. A signal handler can raise between any two steps of a program, also in those that end a
loop. What it leaves behind must vanish with its frame: the loop, its connection, and its place in a pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from weakref import ref

_L = TypeVar("_L")


class Loops(Generic[_L]):
    """The loops under way. Any thread may call any method."""

    def __init__(self) -> None:
        self._references: dict[int, ref[_L]] = {}

    def add(self, loop: _L) -> None:
        """Add a loop. Does nothing if it is here."""
        key, references = id(loop), self._references
        references[key] = ref(loop, lambda _: references.pop(key, None))

    def discard(self, loop: _L) -> None:
        """Take a loop out. Does nothing if it is not here."""
        self._references.pop(id(loop), None)

    def __iter__(self) -> Iterator[_L]:
        return iter([loop for each in list(self._references.values()) if (loop := each()) is not None])

    def __len__(self) -> int:
        return len(self._references)
