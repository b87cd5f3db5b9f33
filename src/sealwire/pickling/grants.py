"""What a name in a message may do: the table that the vetting pass and the building pass share.

A pickle names classes and functions ("globals"). Nothing is ever imported or looked up on the word of a message: a name
is a key of this table or it is refused, and what its entry does not grant is refused too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

CALL: Final = 1
"""REDUCE: call the entry's ``load`` with a tuple of values."""
CALL_EMPTY: Final = 2
"""REDUCE with the empty tuple, too."""
NEW: Final = 4
"""NEWOBJ without arguments: an inert stand-in, which takes state once and is resolved after the end."""
TAKES_ITEMS: Final = 8
"""The result of a call takes APPEND and APPENDS until it is used."""
TAKES_PAIRS: Final = 16
"""The result of a call takes SETITEM and SETITEMS until it is used."""
UNHASHABLE: Final = 32
"""The result cannot be a key."""
TAKES_FACTORY: Final = 64
"""A call may have a factory as its sole argument (``defaultdict``)."""
FACTORY: Final = 128
"""May be that argument."""
PHRASE_GETATTR: Final = 256
"""Only in ``getattr(ZoneInfo, '_unpickle')``, which stands for the entry after PHRASE_ZONE's."""
PHRASE_ZONE: Final = 512
"""Only as the first argument of that phrase."""
PHRASE_ENCODE: Final = 1024
"""Only in ``_codecs.encode(str, 'latin1')``: bytes, as protocol 2 writes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One entry.

    ``spelling``: our name for it in errors. ``names``: the (module, name) pairs under which a pickle may name it.
    ``powers``: a sum of the constants above. ``memory``: bytes charged for one object. ``load``: makes the checked
    value out of its parts; for NEW out of its state; for PHRASE_ZONE and mere factories it is never called.
    """

    spelling: str
    names: tuple[tuple[str, str], ...]
    powers: int
    load: Callable[..., Any]
    memory: int = 0


class GrantTable:
    """Grants by number, and numbers by name, as the vetting pass reads them."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self.grants: Final = tuple(grants)
        self.powers: Final = [grant.powers for grant in self.grants]
        self.memory: Final = [grant.memory for grant in self.grants]
        self.numbers: Final = {name: number for number, grant in enumerate(self.grants) for name in grant.names}
