"""NumPy arrays and scalars, of all kinds but Python objects.

None of NumPy's own functions of unpickling is called: they take a peer's word for shapes and sizes. An array is a view
of the bytes that came for it: of a bytearray, where the array that was sent could be written to, so can this one.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, Final

import numpy

from sealwire.errors import ConfigurationError, EncodeError, InvalidValue, TypeNotAllowed
from sealwire.pickling.adapters.adapter import Adapter, spelling
from sealwire.pickling.adapters.dtypes import DTYPES, SCALARS, dtype_grant, has_gaps, is_plain, is_shape
from sealwire.pickling.adapters.record import MISSING, built
from sealwire.pickling.annotations import Types
from sealwire.pickling.constructors import only_named
from sealwire.pickling.grants import CALL, DEFERRED, REBUILDS, TAKES_STATE, UNHASHABLE, Grant, Name

np: Any = numpy

MAX_EMPTY: Final = 2**20
"""Bytes that an array without any may announce in its lengths other than 0; who iterates over (2**60, 0) never ends."""
_CHUNK: Final = 2**20
"""Bytes of an array whose content is looked at at a time."""
_ARRAY: Final = "numpy.ndarray"

_frombuffer: Final = np.empty(1).__reduce_ex__(5)[0]
_reconstruct: Final = np.empty(1).__reduce_ex__(2)[0]
_scalar: Final = np.float64(0).__reduce__()[0]


class NumpyAdapter(Adapter):
    """What is common: the dtype comes along."""

    runs = False

    def reduce(self, value: Any) -> Any:
        """As NumPy does it; not for Python objects, and without what is in memory between the fields of a structure."""
        dtype = value if isinstance(value, np.dtype) else value.dtype
        if not is_plain(dtype):
            raise EncodeError(
                f"{spelling(type(value))} of dtype {str(dtype)[:64]}: what is not made of bytes alone, such as Python "
                "objects, cannot be sent; send a list"
            )
        if dtype is not value and has_gaps(dtype):
            clean = np.zeros(value.shape, dtype, order="F" if value.flags.fnc else "C")
            _copy_fields(np.asarray(value), clean)
            return (clean if isinstance(value, np.ndarray) else clean[()]).__reduce_ex__(5)
        return NotImplemented


def _copy_fields(source: Any, target: Any) -> None:
    if not source.dtype.names:
        target[...] = source
    for name in source.dtype.names or ():
        _copy_fields(source[name], target[name])


class DtypeAdapter(NumpyAdapter):
    """``numpy.dtype``: which array or scalar the values are, without one."""

    kind = "NumPy dtype"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        self.covers = DTYPES
        self.functions = (np.dtype,)

    def grants(self, types: Types) -> Iterator[Grant]:
        """REDUCE with what it is in short, and state with the rest."""
        del types
        yield dtype_grant()


class ScalarAdapter(NumpyAdapter):
    """``numpy.float64`` and the like; ``numpy.generic``, ``numpy.integer`` and the like for all below them."""

    kind = "NumPy scalar"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        these = frozenset(each for each in SCALARS if issubclass(each, cls))
        if not these:
            raise ConfigurationError(
                f"{self.spelling} is no type of NumPy's scalars that have bytes alone; register an adapter"
            )
        # On a given platform two of them are the same (long and long long); a pickle comes back as the first.
        self.covers = these.union((np.dtype(np.dtype(each).str).type for each in these), DTYPES)
        self.functions = (_scalar, np.dtype)

    def grants(self, types: Types) -> Iterator[Grant]:
        """REDUCE of ``scalar`` with a dtype and bytes."""
        allowed = types.configured

        def load(dtype: Any = None, data: Any = None, *more: Any) -> Any:
            if type(data) is not bytes or more or not is_plain(dtype):
                raise InvalidValue("numpy.generic: not a dtype and bytes")
            # Of a bytearray, so that a structure can be written to and is no key, as NumPy has it.
            made = _view(bytearray(data), dtype, (1,), "C")[0]
            if type(made) not in allowed:
                raise TypeNotAllowed(f"{spelling(type(made))} is not on the allowlist")
            return made

        yield dtype_grant()
        yield Grant(
            spelling="NumPy's scalar",
            names=_names(_scalar),
            powers=CALL | DEFERRED,
            load=lambda *parts: built("numpy.generic", load, *parts),
            memory=512,
            stretch=1,
        )


class ArrayAdapter(NumpyAdapter):
    """``numpy.ndarray`` itself. Subclasses (masked arrays, matrices, record arrays) have more than bytes to them."""

    kind = "NumPy array"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        if cls is not np.ndarray:
            raise ConfigurationError(
                f"{self.spelling} is a subclass of numpy.ndarray, and has more to it than an array; register an adapter"
            )
        self.covers = frozenset((np.ndarray, *DTYPES))
        self.functions = (_frombuffer, _reconstruct, np.dtype)

    def grants(self, types: Types) -> Iterator[Grant]:
        """REDUCE of ``_frombuffer`` with the bytes; or of ``_reconstruct``, and the bytes as state."""
        del types
        yield dtype_grant()
        yield Grant(spelling=_ARRAY, names=(("numpy", "ndarray"),), powers=0, load=only_named(_ARRAY))
        yield Grant(
            spelling="NumPy's _frombuffer",
            names=_names(_frombuffer),
            powers=CALL | DEFERRED | UNHASHABLE,
            load=lambda *parts: built(_ARRAY, _from_buffer, *parts),
            memory=512,
            stretch=1,
        )
        yield Grant(
            spelling="NumPy's _reconstruct", names=_names(_reconstruct), powers=REBUILDS, load=only_named(_ARRAY)
        )
        yield Grant(
            spelling=_ARRAY,
            names=(),
            rebuilt=((_names(_reconstruct)[0], ("numpy", "ndarray")),),
            powers=TAKES_STATE | UNHASHABLE,
            load=lambda *parts: built(_ARRAY, _from_state, *parts),
            memory=512,
            stretch=1,
        )

    def narrow(self, arguments: tuple[Any, ...]) -> Callable[[Any], bool] | None:
        """Of ``ndarray[shape, dtype]``, which is what NDArray stands for: the number of dimensions, the scalar type."""
        shape, dtype = (*map(_aliased, arguments), Any, Any)[:2]
        lengths = typing.get_args(shape)
        dimensions = len(lengths) if typing.get_origin(shape) is tuple and Ellipsis not in lengths else None
        fits = _dtype_check(dtype)
        return lambda value: (dimensions is None or value.ndim == dimensions) and fits(value.dtype)


def adapter_for_numpy(cls: Any) -> Adapter:
    """The adapter for one of NumPy's classes or a subclass of them. Raises ConfigurationError."""
    if issubclass(cls, np.ndarray):
        return ArrayAdapter(cls)
    if issubclass(cls, np.generic):
        return ScalarAdapter(cls)
    if cls is not np.dtype:
        raise ConfigurationError(f"{spelling(cls)}: allow numpy.dtype, which is all of them")
    return DtypeAdapter(cls)


def _names(function: Any) -> tuple[Name, ...]:
    """As NumPy 2 and NumPy 1 name it."""
    module = function.__module__.rpartition(".")[2]
    return tuple((f"{package}.{module}", function.__name__) for package in ("numpy._core", "numpy.core"))


# Making arrays


def _from_state(arguments: tuple[Any, ...], state: Any = MISSING) -> Any:
    if arguments != ((0,), b"b") or type(state) is not tuple or len(state) != 5 or state[0] != 1:
        raise InvalidValue(f"{_ARRAY}: not the state of an array")
    _, shape, dtype, fortran, data = state
    if type(fortran) not in (bool, int) or type(data) is not bytes:
        raise InvalidValue(f"{_ARRAY}: not the state of an array of bytes")
    return _view(bytearray(data), dtype, shape, "F" if fortran else "C")


def _from_buffer(
    data: Any = None, dtype: Any = None, shape: Any = None, order: Any = None, axes: Any = MISSING, *more: Any
) -> Any:
    if type(data) not in (bytes, bytearray) or type(order) is not str or more:
        raise InvalidValue(f"{_ARRAY}: not a buffer, dtype, shape and order")
    if axes is None or axes is MISSING:
        if order not in ("C", "F"):
            raise InvalidValue(f"{_ARRAY}: its order is not known")
        return _view(data, dtype, shape, order)
    if order != "K" or not is_shape(axes) or not is_shape(shape) or sorted(axes) != list(range(len(shape))):
        raise InvalidValue(f"{_ARRAY}: its axes are not those of its shape")
    return _view(data, dtype, shape, "C").transpose(axes)


def _view(data: bytes | bytearray, dtype: Any, shape: Any, order: str) -> Any:
    """The bytes as an array of exactly that many."""
    if not is_plain(dtype) or dtype.subdtype is not None or not is_shape(shape):
        raise InvalidValue(f"{_ARRAY}: not a dtype of items, and lengths")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise InvalidValue(f"{_ARRAY}: of another size than its bytes")
    if not data and math.prod(filter(None, shape)) * max(dtype.itemsize, 1) > MAX_EMPTY:
        raise InvalidValue(f"{_ARRAY}: without bytes, but of lengths over {MAX_EMPTY}")
    if not dtype.itemsize:
        if dtype.kind != "V" and math.prod(shape) > 1:  # NumPy would make room for a character each
            raise InvalidValue(f"{_ARRAY}: items without bytes")
        return np.zeros(shape, dtype)
    # Keeps the bytes from being moved; not so numpy.ndarray(buffer=…).
    items = np.frombuffer(data, dtype)
    if _is_checked(dtype):
        step = max(1, _CHUNK // dtype.itemsize)
        for start in range(0, len(items), step):
            _check(items[start : start + step])
    return items.reshape(shape, order=order)


def _is_checked(dtype: Any) -> bool:
    """Whether there are items of which not all bytes are good."""
    base = dtype.base  # of a subarray
    if base.names:
        return any(_is_checked(base.fields[name][0]) for name in base.names)
    return base.kind in "bU"


def _check(items: Any) -> None:
    """Refuse a bool other than 0 and 1, which NumPy counts as so many when it makes room; and what is no character."""
    if items.dtype.names:
        for name in items.dtype.names:
            _check(items[name])
    elif items.dtype.kind == "b":
        if items.view(np.uint8).max(initial=0) > 1:
            raise InvalidValue(f"{_ARRAY}: a bool that is neither 0 nor 1")
    elif items.dtype.kind == "U" and items.dtype.itemsize:
        numbers = np.ascontiguousarray(items).view(np.dtype(np.uint32).newbyteorder(items.dtype.byteorder))
        most = numbers.max(initial=0)
        if most >= 0xD800 and (most > 0x10FFFF or ((numbers >> 11) == 0x1B).any()):
            raise InvalidValue(f"{_ARRAY}: a str with a lone surrogate, or with what is no character")


# Annotations


def _aliased(annotation: Any) -> Any:
    while hasattr(annotation, "__value__"):  # `type X = …` of Python 3.12
        annotation = annotation.__value__
    return annotation


def _dtype_check(annotation: Any) -> Callable[[Any], bool]:
    """Whether a dtype is what ``annotation`` says."""
    annotation = _aliased(annotation)
    if annotation is Any or isinstance(annotation, typing.TypeVar):
        return lambda _: True
    if typing.get_origin(annotation) is np.dtype:
        return _scalar_check(typing.get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, np.dtype):
        return lambda dtype: isinstance(dtype, annotation)
    raise TypeError


def _scalar_check(annotation: Any) -> Callable[[Any], bool]:
    annotation = _aliased(annotation)
    if annotation is Any or isinstance(annotation, typing.TypeVar):
        return lambda _: True
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, UnionType):
        checks = [_scalar_check(each) for each in typing.get_args(annotation)]
        return lambda dtype: any(check(dtype) for check in checks)
    cls = annotation if origin is None else origin  # numpy.floating[Any]
    return lambda dtype: issubclass(dtype.type, cls)
