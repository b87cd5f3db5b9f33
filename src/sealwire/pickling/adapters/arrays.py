"""NumPy arrays and scalars, of all kinds but Python objects.

NumPy's own unpickling functions are never called, because they trust a peer's shapes and sizes. An array is a view of
the bytes that were sent for it. If the sender's array was writable, they are a bytearray, and this one is writable too.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, Final

import numpy

from sealwire.errors import ConfigurationError, EncodeError, InvalidValue, TypeNotAllowed
from sealwire.pickling.adapters.base import Adapter, qualified_name
from sealwire.pickling.adapters.dtypes import DTYPES, SCALARS, dtype_rule, has_gaps, is_plain, is_shape, item_of
from sealwire.pickling.adapters.record import MISSING, built
from sealwire.pickling.annotations import Types
from sealwire.pickling.constructors import only_named
from sealwire.pickling.globals import CALL, CALL_REBUILD, DEFERRED, TAKES_STATE, UNHASHABLE, GlobalRule, Name

np: Any = numpy

MAX_EMPTY: Final = 2**20
"""Bytes that an empty array may announce by its lengths other than 0; iterating over shape (2**60, 0) never ends."""
_LARGEST: Final = 2**63 - 1
_NOT_A_TIME: Final = -(2**63)
"""The number of NaT."""
_CHUNK: Final = 2**20
"""Bytes of an array to check at a time."""
_ARRAY: Final = "numpy.ndarray"

_frombuffer: Final = np.empty(1).__reduce_ex__(5)[0]
_reconstruct: Final = np.empty(1).__reduce_ex__(2)[0]
_scalar: Final = np.float64(0).__reduce__()[0]


class NumpyAdapter(Adapter):
    """The part that is common to arrays, scalars and dtypes: how they are reduced."""

    runs_foreign_code = False

    def reduce(self, value: Any) -> Any:
        """Reduce a value like NumPy. Refuses Python objects, and clears the memory between the fields of structures."""
        dtype = value if isinstance(value, np.dtype) else value.dtype
        if not is_plain(dtype):
            raise EncodeError(
                f"{qualified_name(type(value))} of dtype {str(dtype)[:64]}: what is not made of bytes alone, such as "
                "Python objects, cannot be sent; send a list"
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
    """``numpy.dtype`` by itself, without an array or scalar."""

    kind = "NumPy dtype"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        self.value_types = DTYPES
        self.functions = (np.dtype,)

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """REDUCE with the form, and state with the rest."""
        del types
        yield dtype_rule()


class ScalarAdapter(NumpyAdapter):
    """``numpy.float64`` and its like. An abstract class like ``numpy.integer`` stands for all scalars below it."""

    kind = "NumPy scalar"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        scalars = frozenset(each for each in SCALARS if issubclass(each, cls))
        if not scalars:
            raise ConfigurationError(
                f"{self.qualified_name} is not a NumPy scalar that consists of bytes alone; register an adapter"
            )
        # On each platform two of them have one form (long and long long), and a pickle comes back as the first.
        self.value_types = scalars.union((np.dtype(np.dtype(each).str).type for each in scalars), DTYPES)
        self.functions = (_scalar, np.dtype)

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """REDUCE of ``scalar`` with a dtype and bytes."""
        allowed = types.configured

        def load(dtype: Any = None, data: Any = None, *more: Any) -> Any:
            if type(data) is not bytes or more or not is_plain(dtype):
                raise InvalidValue("numpy.generic: not a dtype and bytes")
            # Over a bytearray, so that a structure is writable and not hashable, as in NumPy.
            made = _view(bytearray(data), dtype, (1,), "C")[0]
            if type(made) not in allowed:
                raise TypeNotAllowed(f"{qualified_name(type(made))} is not on the allowlist")
            return made

        yield dtype_rule()
        yield GlobalRule(
            qualified_name="NumPy's scalar",
            names=_names(_scalar),
            permissions=CALL | DEFERRED,
            load=lambda *parts: built("numpy.generic", load, *parts),
            memory=512,
            memory_per_byte=1,
        )


class ArrayAdapter(NumpyAdapter):
    """``numpy.ndarray`` itself. Its subclasses (masked arrays, matrices, record arrays) are not bytes alone."""

    kind = "NumPy array"

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        if cls is not np.ndarray:
            raise ConfigurationError(
                f"{self.qualified_name} is a subclass of numpy.ndarray, and is not bytes alone; register an adapter"
            )
        self.value_types = frozenset((np.ndarray, *DTYPES))
        self.functions = (_frombuffer, _reconstruct, np.dtype)

    def global_rules(self, types: Types) -> Iterator[GlobalRule]:
        """REDUCE of ``_frombuffer`` with the bytes; or of ``_reconstruct``, with the bytes as state."""
        del types
        yield dtype_rule()
        yield GlobalRule(qualified_name=_ARRAY, names=(("numpy", "ndarray"),), permissions=0, load=only_named(_ARRAY))
        yield GlobalRule(
            qualified_name="NumPy's _frombuffer",
            names=_names(_frombuffer),
            permissions=CALL | DEFERRED | UNHASHABLE,
            load=lambda *parts: built(_ARRAY, _from_buffer, *parts),
            memory=512,
            memory_per_byte=1,
        )
        yield GlobalRule(
            qualified_name="NumPy's _reconstruct",
            names=_names(_reconstruct),
            permissions=CALL_REBUILD,
            load=only_named(_ARRAY),
        )
        yield GlobalRule(
            qualified_name=_ARRAY,
            names=(),
            rebuilt=((_names(_reconstruct)[0], ("numpy", "ndarray")),),
            permissions=TAKES_STATE | UNHASHABLE,
            load=lambda *parts: built(_ARRAY, _from_state, *parts),
            memory=512,
            memory_per_byte=1,
        )

    def argument_check(self, arguments: tuple[Any, ...]) -> Callable[[Any], bool] | None:
        """Return a check of the dimensions and scalar type of ``ndarray[shape, dtype]``, which NDArray stands for."""
        shape, dtype = (*map(_aliased, arguments), Any, Any)[:2]
        lengths = typing.get_args(shape)
        dimensions = len(lengths) if typing.get_origin(shape) is tuple and Ellipsis not in lengths else None
        fits = _dtype_check(dtype)
        return lambda value: (dimensions is None or value.ndim == dimensions) and fits(value.dtype)


def adapter_for_numpy(cls: Any) -> Adapter:
    """Return the adapter for one of NumPy's classes or a subclass of one. Raises ConfigurationError."""
    if issubclass(cls, np.ndarray):
        return ArrayAdapter(cls)
    if issubclass(cls, np.generic):
        return ScalarAdapter(cls)
    if cls is not np.dtype:
        raise ConfigurationError(f"{qualified_name(cls)}: allow numpy.dtype, which stands for all of them")
    return DtypeAdapter(cls)


def _names(function: Any) -> tuple[Name, ...]:
    """Return the names of a function in NumPy 2 and NumPy 1."""
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
    """Return an array over bytes, which must be exactly as many as it needs."""
    if not is_plain(dtype) or dtype.subdtype is not None or not is_shape(shape):
        raise InvalidValue(f"{_ARRAY}: not a dtype of items, and lengths")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise InvalidValue(f"{_ARRAY}: of another size than its bytes")
    if not data and math.prod(filter(None, shape)) * max(dtype.itemsize, 1) > MAX_EMPTY:
        raise InvalidValue(f"{_ARRAY}: without bytes, but of lengths over {MAX_EMPTY}")
    if not dtype.itemsize:
        if dtype.kind != "V" and math.prod(shape) > 1:  # NumPy would allocate a character for each
            raise InvalidValue(f"{_ARRAY}: items without bytes")
        return np.zeros(shape, dtype)
    # Unlike numpy.ndarray(buffer=…), frombuffer keeps a bytearray from being resized.
    items = np.frombuffer(data, dtype)
    if _is_checked(dtype):
        step = max(1, _CHUNK // dtype.itemsize)
        for start in range(0, len(items), step):
            _check(items[start : start + step])
    return items.reshape(shape, order=order)


def _is_checked(dtype: Any) -> bool:
    """Return True if some bytes of an item would be invalid: of a bool, a str, or a datetime64 of 7 days."""
    base = item_of(dtype)
    if base.names:
        return any(_is_checked(base.fields[name][0]) for name in base.names)
    return base.kind in "bU" or (base.kind == "M" and _largest_datetime(base) < _LARGEST)


def _check(items: Any) -> None:
    """Refuse a bool other than 0 and 1, since NumPy uses its value as a size, str with invalid characters, and a
    datetime64 that NumPy cannot print.
    """
    if items.dtype.names:
        for name in items.dtype.names:
            _check(items[name])
    elif items.dtype.kind == "b":
        if items.view(np.uint8).max(initial=0) > 1:
            raise InvalidValue(f"{_ARRAY}: a bool that is neither 0 nor 1")
    elif items.dtype.kind == "U" and items.dtype.itemsize:
        numbers = np.ascontiguousarray(items).view(np.dtype(np.uint32).newbyteorder(items.dtype.byteorder))
        largest = numbers.max(initial=0)
        if largest >= 0xD800 and (largest > 0x10FFFF or ((numbers >> 11) == 0x1B).any()):
            raise InvalidValue(f"{_ARRAY}: a str with a lone surrogate or an invalid character")
    elif items.dtype.kind == "M":
        numbers = np.ascontiguousarray(items).view(np.dtype(np.int64).newbyteorder(items.dtype.byteorder))
        numbers = numbers[numbers != _NOT_A_TIME]
        largest = _largest_datetime(items.dtype)
        if ((numbers > largest) | (numbers < -largest)).any() or (largest == 0 and numbers.size):
            raise InvalidValue(f"{_ARRAY}: a datetime64 out of the range of its unit")


def _largest_datetime(dtype: Any) -> int:
    """Return the largest number of a datetime64, which NumPy multiplies by the number in ``[7D]``; 0 without unit."""
    unit, factor = np.datetime_data(dtype)
    return 0 if unit == "generic" else _LARGEST // int(factor)


# Annotations


def _aliased(annotation: Any) -> Any:
    while hasattr(annotation, "__value__"):  # `type X = …` of Python 3.12
        annotation = annotation.__value__
    return annotation


def _dtype_check(annotation: Any) -> Callable[[Any], bool]:
    """Return a function that tells whether a dtype matches an annotation. Raises TypeError."""
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
