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
GETATTR: Final = 256
"""Only in ``getattr(X, "y")``, which stands for the entry that has X's and y's names among its ``members``."""
PHRASE_ENCODE: Final = 512
"""Only in ``_codecs.encode(str, 'latin1')``: bytes, as protocol 2 writes them."""
NEW_WITH: Final = 1024
"""NEWOBJ with a tuple of arguments: an inert stand-in, too."""
TAKES_STATE: Final = 2048
"""The result of a call is an inert stand-in, which takes state once until it is used."""
DEFERRED: Final = 8192
"""The result of a call is an inert stand-in: the call is made after the end, when its arguments are values."""
REBUILDS: Final = 4096
"""Only in ``f(X, …)``, a call of the entry that has f's and X's names among its ``rebuilt``, without X."""

PAIRED: Final = 16384
"""It is hashed by a table of the whole process that is searched by its two arguments, integers (``Fraction``)."""

Name = tuple[str, str]
PYTHON_2: Final = frozenset(("__builtin__", "exceptions"))
"""Modules by whose old names protocol 2 names things, and CPython reads them at that protocol alone."""

LEAVES: Final = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
"""Types whose values are themselves from the start: nothing in them is to be resolved."""
UNSETTLED: Final = object()
"""What ``quick`` of a grant returns for what it has nothing to say of."""


def unsettled(_: Any) -> Any:
    """The ``quick`` of most grants."""
    return UNSETTLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One entry.

    ``spelling``: our name for it in errors. ``names``: the (module, name) pairs under which a pickle may name it.
    ``members``: the ((module, name), attribute) pairs by which the phrase of GETATTR may. ``rebuilt``: the pairs of
    such names, of a function and a class, by which the phrase of REBUILDS calls it.
    ``powers``: a sum of the constants above. ``memory``: bytes charged for one object. ``stretch``: bytes charged for
    each byte of its arguments, which calls can share: for what is made of it, or the time that it takes.
    ``load``: makes the checked value out of its parts; for NEW out of its state, if it was given one; for NEW_WITH and
    TAKES_STATE out of the tuple of arguments, and the state; for what is only named it is never called.
    ``quick``: for NEW, makes the value out of a dict of leaves of which many like it were good before, or is UNSETTLED.
    """

    spelling: str
    names: tuple[Name, ...]
    powers: int
    load: Callable[..., Any]
    memory: int = 0
    stretch: int = 4
    quick: Callable[..., Any] = unsettled
    members: tuple[tuple[Name, str], ...] = ()
    rebuilt: tuple[tuple[Name, Name], ...] = ()


class GrantTable:
    """Grants by number, and numbers by name, as the vetting pass reads them."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self.grants: Final = tuple(grants)
        self.powers: Final = [grant.powers for grant in self.grants]
        self.memory: Final = [grant.memory for grant in self.grants]
        self.stretch: Final = [grant.stretch for grant in self.grants]
        self.numbers: Final = {name: number for number, grant in enumerate(self.grants) for name in grant.names}
        self.members: Final = {
            (self.numbers[outer], attribute): number
            for number, grant in enumerate(self.grants)
            for outer, attribute in grant.members
        }
        """The number of a grant and an attribute's name, to the number of the grant that the phrase stands for."""
        self.rebuilt: Final = {
            (self.numbers[function], self.numbers[cls]): number
            for number, grant in enumerate(self.grants)
            for function, cls in grant.rebuilt
        }
        """The numbers of a function and a class, to the number of the grant that a call of the two stands for."""
