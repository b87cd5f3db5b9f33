"""Adapters: one for each kind of configured type, and the choice of the adapter for a type."""

from __future__ import annotations

import dataclasses
import enum
import functools
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, Final

from sealwire.errors import ConfigurationError
from sealwire.pickling.adapters.attrs_classes import AttrsAdapter
from sealwire.pickling.adapters.base import Adapter, qualified_name
from sealwire.pickling.adapters.custom import CustomAdapter
from sealwire.pickling.adapters.dataclass import DataclassAdapter
from sealwire.pickling.adapters.enums import EnumAdapter, FlagAdapter
from sealwire.pickling.adapters.exceptions import ExceptionAdapter
from sealwire.pickling.adapters.msgspec_structs import StructAdapter
from sealwire.pickling.adapters.namedtuples import NamedTupleAdapter

__all__ = ["Adapter", "CustomAdapter", "adapter_for", "check_importable", "qualified_name"]

_HOOKS: Final = ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")
_OWNERS: Final = frozenset(("builtins", "enum", "msgspec", "numpy", "pydantic"))
"""Packages that put pickling hooks into base classes."""
_MAKERS: Final = frozenset(("attr._make", "collections", "dataclasses"))
"""Modules that put pickling hooks into the classes that they make."""
_Make = Callable[..., Adapter]


def adapter_for(cls: Any, *, shallow: bool = False) -> Adapter:
    """Return the adapter for a type.

    Args:
        cls: The type.
        shallow: Do not check the items of containers in its fields.

    Raises:
        ConfigurationError: The type cannot be allowed; the error says why, and how to send its values instead.
    """
    if not isinstance(cls, type):
        raise ConfigurationError(f"an allowlist takes types, not {_described(cls)}")
    check_hashable(cls)
    check_importable(cls)
    if issubclass(cls, type):
        raise ConfigurationError(f"{qualified_name(cls)} is a metaclass: its values are classes, which cannot be sent")
    if issubclass(cls, types.ModuleType):
        raise ConfigurationError(f"{qualified_name(cls)}: modules cannot be sent")
    make = _kind(cls)
    if make is None:
        called = any("__call__" in vars(base) for base in cls.__mro__)
        reason = "its values can be called" if called else "it declares no fields to check"
        raise ConfigurationError(
            f"{qualified_name(cls)} cannot be allowed by itself: {reason}; make it a dataclass, or register an "
            f"adapter: allow.register({cls.__name__}, dump=..., load=...)"
        )
    _check_hooks(cls)
    if make in (EnumAdapter, FlagAdapter):
        return make(cls)
    return make(cls, shallow=shallow)


def check_hashable(cls: type) -> None:
    """Raise ConfigurationError for a class that cannot be a key, because its metaclass defines __eq__ alone."""
    try:
        hash(cls)
    except TypeError:
        raise ConfigurationError(
            f"{qualified_name(cls)} is a class that cannot be hashed, so that nothing can be looked up by it; give its "
            "metaclass a __hash__"
        ) from None


def check_importable(cls: type) -> None:
    """Raise ConfigurationError if a class is not found under its module and name, so that no pickle can name it."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not cls:
        raise ConfigurationError(
            f"{qualified_name(cls)} cannot be named in a message: there is another thing, or nothing, of that name in "
            "its module; define it at the top of a module, and allow the class that is there now"
        )


def _kind(cls: Any) -> _Make | None:
    if issubclass(cls, enum.Flag):
        return FlagAdapter
    if issubclass(cls, enum.Enum):
        return EnumAdapter
    if issubclass(cls, BaseException):
        return ExceptionAdapter
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_make"):
        return NamedTupleAdapter
    if dataclasses.is_dataclass(cls):
        return DataclassAdapter
    if "__attrs_attrs__" in vars(cls):
        return AttrsAdapter
    msgspec: Any = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        return StructAdapter
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        from sealwire.pickling.adapters.pydantic_models import ModelAdapter  # imports pydantic

        return ModelAdapter
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, (numpy.ndarray, numpy.generic, numpy.dtype)):
        from sealwire.pickling.adapters.arrays import adapter_for_numpy  # imports numpy

        return lambda cls, shallow: adapter_for_numpy(cls)  # noqa: ARG005 - an array has no containers to look into
    return None


def _check_hooks(cls: type) -> None:
    """Refuse a class with pickling hooks of its own: only a registered adapter may replace the fields."""
    for name in _HOOKS:
        for base in cls.__mro__:
            if name in vars(base):
                if not _is_known(base, vars(base)[name]):
                    raise ConfigurationError(
                        f"{qualified_name(cls)} has a {name} of its own, so that its fields do not say what is sent; "
                        f"register an adapter: allow.register({cls.__name__}, dump=..., load=...)"
                    )
                break


def _is_known(base: type, hook: Any) -> bool:
    """Return True if a hook is CPython's, or belongs to the library that makes this kind of class."""
    return base.__module__.partition(".")[0] in _OWNERS or getattr(hook, "__module__", None) in _MAKERS


def _described(thing: Any) -> str:
    thing = getattr(typing.get_origin(thing) or thing, "__value__", thing)  # `type X = …` of Python 3.12
    if typing.get_origin(thing) is not None:
        return (
            f"{thing}; allow the class {qualified_name(typing.get_origin(thing))}, arguments are read where it is used"
        )
    if isinstance(thing, list | tuple | set | frozenset | dict):
        return f"a {type(thing).__name__} of them: write Allowlist(*types)"
    if isinstance(thing, types.ModuleType):
        return f"a module ({thing.__name__})"
    if isinstance(thing, types.FunctionType | types.BuiltinFunctionType | types.MethodType | functools.partial):
        return f"a function ({getattr(thing, '__qualname__', 'partial')}): a message that names one could call it"
    return f"a value of type {qualified_name(type(thing))}"
