"""Tells which classes run no code of their own when CPython takes their values apart, and when they are made again.

Values of such a class need not be decoded to find out whether they can be: if the fields have acceptable values, the
generated constructor takes them and keeps them. The native core surveys them (:mod:`sealwire.native.survey`). A class
of which this is not certain has no shape, and its values are decoded before they are sent.

A class is looked at when a codec is made, like its annotations; what is put into it later is not seen.
"""

from __future__ import annotations

import collections
import copyreg
import enum
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sealwire.pickling.type_checks import Check

# The forms in which CPython writes the parts of a value.
ATTRIBUTES: Final = 0
"""The dict of the instance."""
NAMED: Final = 1
"""A dict of its fields, made for the occasion; or the fields as arguments, which takes no more."""
SLOTS: Final = 2
"""A tuple of None and such a dict."""
LISTED: Final = 3
"""A list of its fields."""
ITEMS: Final = 4
"""The items of the tuple that it is."""
MEMBER: Final = 5
"""A tuple of the value of an enum's member."""

_ABSTRACT: Final = 1 << 20  # Py_TPFLAGS_IS_ABSTRACT
_GENERATED: Final = "__create_fn__.<locals>.__init__"  # by dataclasses


@dataclass(frozen=True, slots=True)
class Shape:
    """The form in which values of one class are written, and the checks of their parts."""

    cls: type
    form: int
    checks: Mapping[str, Check]
    """The check of each field."""
    is_called: bool = False
    """The parts are arguments of a call, which are charged for each call."""
    members: Mapping[int, Any] | None = None
    """With MEMBER, the values of the members, by the ids of these."""


def dataclass_form(cls: Any, names: Iterable[str]) -> int | None:
    """Return the form of a dataclass, or None."""
    init = cls.__init__
    if getattr(getattr(init, "__code__", None), "co_qualname", "") != _GENERATED or hasattr(cls, "__post_init__"):
        return None
    if not _takes(init, names) or not (cls.__setattr__ is object.__setattr__ or cls.__dataclass_params__.frozen):
        return None
    if not _is_ordinary(cls, names):
        return None
    if cls.__getstate__ is sys.modules["dataclasses"]._dataclass_getstate:
        return LISTED
    return _form_of_object(cls, names)


def attrs_form(cls: Any, names: Iterable[str]) -> int | None:
    """Return the form of an attrs class, or None."""
    code = getattr(cls.__init__, "__code__", None)
    if code is None or not code.co_filename.startswith("<attrs generated"):
        return None
    if any(each.validator or each.converter or not each.init for each in cls.__attrs_attrs__):
        return None
    if any(hasattr(cls, name) for name in ("__attrs_pre_init__", "__attrs_post_init__")):
        return None
    if cls.__setattr__ is not object.__setattr__ and cls.__setattr__.__module__ != "attr._make":
        return None
    if not _is_ordinary(cls, names):
        return None
    if cls.__getstate__ is not object.__getstate__:
        return NAMED if cls.__getstate__.__module__ == "attr._make" and not cls.__dictoffset__ else None
    return _form_of_object(cls, names)


def struct_form(cls: Any, names: Iterable[str]) -> int | None:
    """Return the form of a msgspec struct, or None."""
    base = sys.modules["msgspec"].Struct
    known = all(getattr(cls, name) is getattr(base, name) for name in ("__init__", "__reduce__", "__setattr__"))
    plain = type(cls) is type(base) and known and cls.__getstate__ is object.__getstate__
    return NAMED if plain and not hasattr(cls, "__post_init__") and _is_unchanged(cls, names) else None


def named_tuple_form(cls: Any, names: Iterable[str]) -> int | None:
    """Return the form of a named tuple, or None."""
    maker = getattr(cls.__new__, "__globals__", {}).get("__name__", "")
    if not maker.startswith("namedtuple_") or cls.__new__.__code__.co_name != "<lambda>" or cls.__dictoffset__:
        return None
    if cls.__getnewargs__.__module__ != collections.__name__ or cls.__init__ is not tuple.__init__:
        return None
    fields = [inspect.getattr_static(cls, name) for name in names]
    getter = type(inspect.getattr_static(collections.namedtuple("_Pair", "a"), "a"))
    unchanged = cls.__getattribute__ is tuple.__getattribute__ and _is_made_as_usual(cls)
    return ITEMS if unchanged and all(type(each) is getter for each in fields) else None


def enum_members(cls: type[enum.Enum], load: Callable[[Any], Any]) -> dict[int, Any] | None:
    """Return the values of an enum's members by their ids if each is written as its plain value, otherwise None."""
    members = list(cls.__members__.values())
    for member in members:
        value = member.value
        if type(value) not in (int, str, bytes, bool, type(None)) or load(value) is not member:
            return None
        reduced: Any = member.__reduce_ex__(5)
        if reduced != (cls, (value,)) or reduced[1][0] is not value or len(str(value)) > 1000:
            return None
    return {id(member): member.value for member in members}


def _takes(init: types.FunctionType, names: Iterable[str]) -> bool:
    """Return True if a constructor takes exactly these fields."""
    code = init.__code__
    return {*code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]} == {*names}


def _is_ordinary(cls: Any, names: Iterable[str]) -> bool:
    """Return True if ``object`` makes the instances of a class and takes them apart."""
    return _is_unchanged(cls, names) and cls.__reduce__ is object.__reduce__ and cls.__new__ is object.__new__


def _is_unchanged(cls: Any, names: Iterable[str]) -> bool:
    """Return True if attributes of instances are what they seem."""
    if cls.__getattribute__ is not object.__getattribute__ or hasattr(cls, "__getattr__"):
        return False
    if any(hasattr(cls, name) for name in ("__getnewargs__", "__getnewargs_ex__")) or not _is_made_as_usual(cls):
        return False
    return all(_is_stored(inspect.getattr_static(cls, name, None)) for name in names)


def _is_made_as_usual(cls: Any) -> bool:
    """Return True if a call of a class makes an instance, and ``object`` reduces it."""
    calls = type(cls).__call__ is type.__call__ or type(cls).__module__ == "msgspec._core"
    return calls and cls.__reduce_ex__ is object.__reduce_ex__ and not cls.__flags__ & _ABSTRACT


def _is_stored(attribute: Any) -> bool:
    """Return True if the attribute of a class under the name of a field is a slot, or leaves instances theirs."""
    kind = type(attribute)
    if kind is types.MemberDescriptorType:
        return True
    return not any(hasattr(kind, name) for name in ("__get__", "__set__", "__delete__"))


def _form_of_object(cls: Any, names: Iterable[str]) -> int | None:
    """Return the form in which ``object.__getstate__`` gives the fields of an instance, or None."""
    plain = cls.__getstate__ is object.__getstate__
    slots: list[str] = copyreg._slotnames(cls)  # type: ignore[attr-defined]  # not in typeshed
    if not slots and all(type(vars(base).get("__dict__")) in _DICT_GETTERS for base in cls.__mro__):
        return ATTRIBUTES if plain and cls.__dictoffset__ else None
    return SLOTS if plain and not cls.__dictoffset__ and slots and {*slots} == {*names} else None


_DICT_GETTERS: Final = (type(None), types.GetSetDescriptorType)
