"""Numbers that the processes of one server share: a cell of memory for each process, which no other one writes.

So the processes need no common lock, and one that is killed leaves nothing locked. Their parent clears its cell.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection
from typing import Final

_CELL: Final = 8


class Cells:
    """Cells in memory that this process shares with those that it forks from now on.

    Args:
        count: Number of cells.
    """

    def __init__(self, count: int) -> None:
        self._numbers = memoryview(mmap.mmap(-1, _CELL * count)).cast("Q")

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> int:
        return self._numbers[index]

    def __setitem__(self, index: int, number: int) -> None:
        self._numbers[index] = number

    @property
    def total(self) -> int:
        """The sum of all cells."""
        return sum(self._numbers)

    @property
    def largest(self) -> int:
        """The largest number in a cell."""
        return max(self._numbers)

    def clear_others(self, used: Collection[int]) -> None:
        """Clear the cells of processes that have ended."""
        for index in range(len(self._numbers)):
            if index not in used:
                self._numbers[index] = 0
