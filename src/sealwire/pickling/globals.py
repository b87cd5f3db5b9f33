"""The table of globals: everything that a message may name, and how it may use each name.

A pickle refers to classes and functions by module and name, which the pickle module calls *globals*. No message causes
an import or an attribute lookup: a name is a key of this table, or the message is refused; and a use that the entry
does not permit is refused as well. The vetting pass and the building pass share the table.
"""

from __future__ import annotations

import builtins
import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sealwire.errors import TypeNotAllowed
from sealwire.wire.frames import escaped

# Permissions.
CALL: Final = 1
"""REDUCE: call ``load`` with a tuple of values."""
CALL_EMPTY: Final = 2
"""REDUCE with the empty tuple as well."""
NEW: Final = 4
"""NEWOBJ without arguments: makes a placeholder that takes state once, and is resolved after building."""
TAKES_ITEMS: Final = 8
"""The result of a call takes APPEND and APPENDS until it is used."""
TAKES_PAIRS: Final = 16
"""The result of a call takes SETITEM and SETITEMS until it is used."""
UNHASHABLE: Final = 32
"""The result cannot be a key."""
TAKES_FACTORY: Final = 64
"""A call may have a factory as its only argument (``defaultdict``)."""
FACTORY: Final = 128
"""May be that argument."""
CALL_GETATTR: Final = 256
"""Only ``getattr(X, "y")``, which yields the entry with X and "y" among its ``members``."""
CALL_ENCODE: Final = 512
"""Only ``_codecs.encode(str, "latin1")``: bytes, as protocol 2 writes them."""
NEW_WITH: Final = 1024
"""NEWOBJ with a tuple of arguments: makes a placeholder as well."""
TAKES_STATE: Final = 2048
"""The result of a call is a placeholder that takes state once, until it is used."""
CALL_REBUILD: Final = 4096
"""Only ``f(X, ...)``, which calls the entry with f and X among its ``rebuilt``, without the argument X."""
DEFERRED: Final = 8192
"""The result of a call is a placeholder: the call is made after building, when its arguments are values."""
TAKES_KEYS: Final = 32768
"""A call makes keys of the items of its argument (``set``), which are checked after building."""
HASHED_BY_PAIR: Final = 16384
"""CPython caches the result's hash in a table of the whole process, by its two integer arguments (``Fraction``)."""

Name = tuple[str, str]
"""A module, and a name in it, with dots for nested classes."""
LEAVES: Final = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
"""Types that contain no other values, so that building completes them."""

# The forms of state that are the fields of an instance, and nothing else.
IN_DICT: Final = 1
"""A dict of all fields."""
IN_SLOTS: Final = 2
"""A tuple of None and such a dict."""
IN_ORDER: Final = 4
"""A list or tuple of all fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalRule:
    """One entry of the table."""

    qualified_name: str
    """The name that errors use for the entry."""
    names: tuple[Name, ...]
    """The names by which a pickle may refer to it."""
    permissions: int
    """A sum of the constants above."""
    load: Callable[..., Any]
    """Makes the checked value: with NEW out of its state, if it has one; with NEW_WITH or TAKES_STATE out of the tuple
    of its arguments, and its state; otherwise out of its arguments. Never called for a name that may only be named."""
    memory: int = 0
    """Bytes to charge for one object."""
    memory_per_byte: int = 4
    """Bytes to charge for each byte of its arguments, because calls can share them; more if they take time."""
    members: tuple[tuple[Name, str], ...] = ()
    """The pairs of a name and an attribute by which CALL_GETATTR may refer to it."""
    rebuilt: tuple[tuple[Name, Name], ...] = ()
    """The pairs of a function and a class by which CALL_REBUILD may call it."""
    record: Any = None
    """The Record (:mod:`.adapters.record`) that ``load`` passes the fields of an instance to, if it does no more."""
    states: int = 0
    """The sum of the forms of state for which that is true."""
    shape: Any = None
    """The Shape (:mod:`.adapters.shapes`) of values that can be surveyed, if it has one."""


_MAX_SHOWN: Final = 100
_IDENTIFIERS: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_NUMPY_MODULES: Final = ("numpy._core.multiarray", "numpy.core.multiarray", "numpy._core.numeric", "numpy.core.numeric")


def how_to_allow(name: str) -> str:
    """Return the line to write so that a type is accepted, given its name as ``module:name``."""
    return f'types = ["{name}"] under [allowlist] in the configuration, or Allowlist({name.partition(":")[2]})'


_ARRAY: Final = f"if peers may send arrays: {how_to_allow('numpy:ndarray')}"
_NUMPY_FUNCTIONS: Final = {
    "scalar": f"if peers may send NumPy's scalars, allow their types, such as {how_to_allow('numpy:float64')}; "
    "or let them send .item(), which is a value of Python's own",
    "_reconstruct": _ARRAY,
    "_frombuffer": _ARRAY,
}
"""The advice for functions that no allowlist can have, and that make values of types which it can."""


def shown(text: str) -> str:
    """Return a name that a peer chose, bounded and escaped."""
    return escaped(text[:_MAX_SHOWN])[:_MAX_SHOWN] + ("…" if len(text) > _MAX_SHOWN else "")


def not_listed(module: str, name: str, place: str, *, protocol: int = 5) -> TypeNotAllowed:
    """Return the error for a name in a message of a pickle protocol that is not on the allowlist."""
    full = shown(f"{module}:{name}")
    if protocol == 2:
        module, name = _todays_name(module, name)
    # No advice to allow what an attack names: os.system, builtins.eval.
    own = module.partition(".")[0] not in sys.stdlib_module_names or _is_exception(module, name)
    today = shown(f"{module}:{name}")
    if module in _NUMPY_MODULES and name in _NUMPY_FUNCTIONS:
        remedy = f"; {_NUMPY_FUNCTIONS[name]}"
    elif own and _IDENTIFIERS.fullmatch(today):
        remedy = f"; if peers may send it: {how_to_allow(today)}"
    else:
        remedy = ""
    return TypeNotAllowed(f"the message names a type that is not on the allowlist{place}: {full}{remedy}", full)


def _todays_name(module: str, name: str) -> Name:
    """Return the name that CPython's unpickler takes for one of Python 2."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    else:
        module = "builtins" if module == "exceptions" else IMPORT_MAPPING.get(module, module)
    # IOError is OSError.
    return module, getattr(builtins, name).__name__ if _is_exception(module, name) else name


def _is_exception(module: str, name: str) -> bool:
    """Return True if a name belongs to one of CPython's exceptions."""
    found = getattr(builtins, name, None) if module == "builtins" else None
    return isinstance(found, type) and issubclass(found, Exception)


def _old_names(name: Name) -> Iterator[Name]:
    """Yield the names of Python 2 that CPython's unpickler takes for a name."""
    yield from (old for old, new in NAME_MAPPING.items() if new == name)
    if name == ("builtins", "OSError"):  # whose other names in Python 2 are other names of it in Python 3
        yield from (("exceptions", alias) for alias in ("EnvironmentError", "IOError"))
    for old_module, new_module in IMPORT_MAPPING.items():
        if new_module == name[0] and (old_module, name[1]) not in NAME_MAPPING:
            yield old_module, name[1]


class GlobalTable:
    """The rules by number, and the numbers by name, as parallel lists and dicts for the vetting pass."""

    def __init__(self, rules: Iterable[GlobalRule]) -> None:
        self.rules: Final = tuple(rules)
        self.permissions: Final = [rule.permissions for rule in self.rules]
        self.memory: Final = [rule.memory for rule in self.rules]
        self.memory_per_byte: Final = [rule.memory_per_byte for rule in self.rules]
        self.numbers: Final = {name: number for number, rule in enumerate(self.rules) for name in rule.names}
        self.old_numbers: Final = {
            old: number for name, number in self.numbers.items() for old in _old_names(name) if old not in self.numbers
        }
        """The numbers by names of Python 2, which CPython's unpickler translates at protocol 2 and not later."""
        self.members: Final = {
            (self.numbers[outer], attribute): number
            for number, rule in enumerate(self.rules)
            for outer, attribute in rule.members
        }
        """The number of a rule and an attribute, to the number of the rule that getattr yields."""
        self.rebuilt: Final = {
            (self.numbers[function], self.numbers[cls]): number
            for number, rule in enumerate(self.rules)
            for function, cls in rule.rebuilt
        }
        """The numbers of a function and a class, to the number of the rule that is called."""
