"""NumPy's dtypes, parsed and bounded before NumPy sees them.

NumPy's own ``__setstate__`` trusts the offsets, sizes and flags of a message. Here a dtype is made from scratch, out of
parts that were understood. None contains Python objects, because their addresses would be a peer's bytes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy

from sealwire.errors import InvalidValue
from sealwire.pickling.adapters.record import MISSING, built
from sealwire.pickling.globals import CALL, TAKES_STATE, GlobalRule

np: Any = numpy

MAX_ITEMSIZE: Final = 2**31 - 1
"""Bytes of one item; NumPy 1 keeps it in a C int."""
MAX_FIELDS: Final = 4096
MAX_DIMENSIONS: Final = 32
"""Dimensions in NumPy 1; NumPy 2 has 64."""

_CODES: Final = "?bhilqBHILQefdgFDGSUVMm"
DTYPES: Final = frozenset(type(np.dtype(code)) for code in _CODES)
"""The classes of the dtypes without Python objects."""
SCALARS: Final = frozenset(np.dtype(code).type for code in _CODES)

_NUMBERS: Final = frozenset(np.dtype(code).str[1:] for code in "?bhilqBHILQefdgFDG")
_FORM: Final = re.compile(r"([biufcSUVMmO])([0-9]{1,10})", re.ASCII)
_UNITS: Final = frozenset((b"Y", b"M", b"W", b"D", b"h", b"m", b"s", b"ms", b"us", b"ns", b"ps", b"fs", b"as"))
_ALIGNED: Final = 0x80  # NPY_ALIGNED_STRUCT
_QUALIFIED_NAME: Final = "numpy.dtype"


def dtype_rule() -> GlobalRule:
    """Return the rule for ``dtype("f8", False, True)`` and its state."""
    return GlobalRule(
        qualified_name=_QUALIFIED_NAME,
        names=(("numpy", "dtype"),),
        permissions=CALL | TAKES_STATE,
        load=lambda *parts: built(_QUALIFIED_NAME, _load, *parts),
        memory=1024,
    )


def is_plain(dtype: Any) -> bool:
    """Return True for a dtype of a kind that can be sent, without Python objects."""
    return type(dtype) in DTYPES and not dtype.hasobject


def item_of(dtype: Any) -> Any:
    """Return the dtype of the items of a subarray, and of subarrays in it; other dtypes themselves."""
    while dtype.subdtype is not None:
        dtype = dtype.base
    return dtype


def has_gaps(dtype: Any) -> bool:
    """Return True if an item has bytes outside of its fields: they are not set, and must not be sent."""
    dtype = item_of(dtype)
    if not dtype.names:
        return bool(dtype.names is not None and dtype.itemsize)
    parts = [dtype.fields[name][0] for name in dtype.names]
    return bool(sum(part.itemsize for part in parts) < dtype.itemsize or any(map(has_gaps, parts)))


def is_shape(shape: Any) -> bool:
    """Return True for a tuple of at most MAX_DIMENSIONS lengths."""
    return (
        type(shape) is tuple
        and len(shape) <= MAX_DIMENSIONS
        and all(type(length) is int and length >= 0 for length in shape)
    )


def _refuse(why: str) -> InvalidValue:
    return InvalidValue(f"{_QUALIFIED_NAME}: {why}")


@dataclass(frozen=True)
class _DtypeState:
    """The state of a dtype, with the types of its parts checked, except for those of a subarray or structure."""

    order: str
    subarray: Any
    names: Any
    fields: Any
    itemsize: int
    flags: int
    metadata: Any
    """The unit of a datetime64 or timedelta64; None for other kinds."""


def _load(arguments: tuple[Any, ...], state: Any = MISSING) -> Any:
    form, kind, size = _parse_form(arguments)
    parsed = _parse_state(state, has_unit=kind in "Mm")
    if not parsed.subarray is parsed.names is parsed.fields is None:
        return _compound(kind, size, parsed)
    if kind in "Mm":
        if size != 8:
            raise _refuse("of a size that is not known")
        return np.dtype(f"{parsed.order}{form}{_unit(parsed.metadata)}")
    if kind in "SUV":
        _check_itemsize(size * (4 if kind == "U" else 1), parsed)
    elif form not in _NUMBERS or (parsed.order == "|" and size > 1):
        raise _refuse("of a size that is not known")
    return np.dtype(f"{parsed.order}{form}")


def _parse_form(arguments: tuple[Any, ...]) -> tuple[str, str, int]:
    """Return the form in ``("f8", False, True)``, and its kind and size: ``("f8", "f", 8)``."""
    form = _FORM.fullmatch(arguments[0]) if len(arguments) == 3 and type(arguments[0]) is str else None
    if form is None or not all(type(flag) in (bool, int) for flag in arguments[1:]) or arguments[1:] != (0, 1):
        raise _refuse("of a kind that is not known")
    if form[1] == "O":
        raise _refuse("arrays of Python objects are not accepted")
    return form[0], form[1], int(form[2])


def _parse_state(state: Any, *, has_unit: bool) -> _DtypeState:
    if type(state) is not tuple or len(state) not in (8, 9) or state[0] != len(state) - 5 or type(state[0]) is not int:
        raise _refuse("not a state of version 3 or 4")
    _, order, subarray, names, fields, itemsize, alignment, flags, *metadata = state
    if type(order) is not str or order not in ("<", ">", "=", "|"):
        raise _refuse("its byte order is not known")
    if not type(itemsize) is type(alignment) is type(flags) is int:
        raise _refuse("its state has other types")
    if bool(metadata) != has_unit:
        raise _refuse("metadata are not accepted")
    return _DtypeState(order, subarray, names, fields, itemsize, flags, metadata[0] if metadata else None)


def _check_itemsize(size: int, state: _DtypeState) -> None:
    if size != state.itemsize or size > MAX_ITEMSIZE:
        raise _refuse("its item is too large, or of two sizes")


def _unit(metadata: Any) -> str:
    """Return the unit of a datetime64 or timedelta64, as NumPy writes it in brackets."""
    if type(metadata) is not tuple or len(metadata) != 2 or metadata[0] not in (None, {}):
        raise _refuse("metadata are not accepted")
    unit = metadata[1]
    if unit == (b"generic", 1, 1, 1):
        return ""
    if (
        type(unit) is not tuple
        or len(unit) != 4
        or unit[0] not in _UNITS
        or not all(type(number) is int for number in unit[1:])
        or not 0 < unit[1] < 2**31
        or unit[2:] != (1, 1)
    ):
        raise _refuse("its unit is not known")
    return f"[{unit[1]}{unit[0].decode()}]"


def _compound(kind: str, size: int, state: _DtypeState) -> Any:
    """Return a subarray or a structure."""
    if kind == "V":
        _check_itemsize(size, state)
        if state.subarray is not None and state.names is state.fields is None:
            return _subarray(state.subarray, size)
        if state.subarray is None and type(state.names) is tuple and type(state.fields) is dict:
            return _structure(state.names, state.fields, size, bool(state.flags & _ALIGNED))
    raise _refuse("its state has other parts")


def _subarray(parts: Any, itemsize: int) -> Any:
    if type(parts) is not tuple or len(parts) != 2 or not is_plain(parts[0]) or not is_shape(parts[1]):
        raise _refuse("not a subarray")
    # Without bytes, its lengths could be anything.
    if not itemsize or math.prod(parts[1]) * parts[0].itemsize != itemsize:
        raise _refuse("a subarray of another size than its item")
    made = np.dtype(parts)
    if made.itemsize != itemsize or made.subdtype != parts:  # pragma: no cover - another NumPy may make something else
        raise _refuse("not a subarray")
    return made


def _structure(names: tuple[Any, ...], fields: dict[Any, Any], itemsize: int, aligned: bool) -> Any:
    if not all(type(name) is str for name in names) or len(names) > MAX_FIELDS or len(names) != len(fields):
        raise _refuse(f"not fields of at most {MAX_FIELDS} names; titles are not accepted")
    formats, offsets = [], []
    for name in names:
        field = fields.get(name)
        if type(field) is not tuple or len(field) != 2 or not is_plain(field[0]) or type(field[1]) is not int:
            raise _refuse("a field that is not a dtype and an offset; titles are not accepted")
        formats.append(field[0])
        offsets.append(field[1])
    end = 0
    for offset, part in sorted(zip(offsets, (part.itemsize for part in formats), strict=True)):
        if offset < end:
            raise _refuse("fields that overlap are not accepted")
        end = offset + part
    if end > itemsize:
        raise _refuse("a field beyond its item")
    made = np.dtype({"names": list(names), "formats": formats, "offsets": offsets, "itemsize": itemsize}, align=aligned)
    if made.names != names or made.itemsize != itemsize:  # pragma: no cover - another NumPy may make something else
        raise _refuse("its fields are not acceptable")
    return made
