"""Keeps one row for each slot of a server in memory that forked children share."""

from __future__ import annotations

import mmap
from typing import Final

from sealwire.computing import DecodingCells
from sealwire.session.shared import Cells

FREE: Final = 0
UNAUTHENTICATED: Final = 1
ESTABLISHED: Final = 2
WELCOMED: Final = 3
"""Unauthenticated still, but HELLO was good."""
PENDING: Final = (UNAUTHENTICATED, WELCOMED)
ACCOUNT: Final = 8
"""Bytes of an account's hash."""
NO_ACCOUNT: Final = bytes(ACCOUNT)
_NAME: Final = 160
"""Bytes of a peer's identity, for reports."""


class SlotTable:
    """The rows of a server's slots. Each is written by one process: the parent, or the child that serves the slot.

    Args:
        rows: The number of slots.

    Attributes:
        states: A byte for each slot, FREE at first.
        held: The bytes that each connection holds.
        decoding: The bytes that the messages being decoded take.
    """

    def __init__(self, rows: int) -> None:
        self.states = mmap.mmap(-1, rows)
        self._accounts = mmap.mmap(-1, ACCOUNT * rows)
        self._names = mmap.mmap(-1, _NAME * rows)
        self.held = Cells(rows)
        self.decoding = DecodingCells(rows)

    def emptied(self) -> SlotTable:
        """Return a table of as many rows, all free, that no other process shares."""
        return SlotTable(len(self.states))

    def take(self) -> int:
        """Return the number of a free slot, which becomes UNAUTHENTICATED."""
        index = self.states.find(bytes((FREE,)), 0)
        self.states[index] = UNAUTHENTICATED
        return index

    def clear(self, index: int) -> None:
        """Free a slot."""
        self.states[index] = FREE
        self.set_account(index, NO_ACCOUNT)
        self.held[index] = 0
        self.decoding.clear(index)

    def set_name(self, index: int, name: str) -> None:
        """Note the name of a slot's client, for the process that does not serve it."""
        self._names[index * _NAME : (index + 1) * _NAME] = name.encode()[:_NAME].ljust(_NAME, b"\0")

    def name(self, index: int) -> str:
        """Return the name that was noted."""
        return self._names[index * _NAME : (index + 1) * _NAME].rstrip(b"\0").decode(errors="replace")

    def set_account(self, index: int, account: bytes) -> None:
        """Note the hash of an established client's account; NO_ACCOUNT for none."""
        self._accounts[ACCOUNT * index : ACCOUNT * (index + 1)] = account

    def count_account(self, account: bytes) -> int:
        """Return the number of slots that have this account."""
        accounts = self._accounts[:]
        count = 0
        position = accounts.find(account)
        while position >= 0:
            count += position % ACCOUNT == 0
            position = accounts.find(account, position + 1)
        return count

    def count(self, *states: int) -> int:
        """Return the number of slots in one of these states."""
        # Counting bytes is faster than walking the slots, of which there may be thousands.
        copied = self.states[:]
        return sum(map(copied.count, states))
