"""Inert objects that CPython's unpickler is given in the place of instances: they keep their parts, and run nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from sealwire.pickling.grants import unsettled


class Instance(list[Any]):
    """Stands for an object that takes state: a list of its tuple of arguments, if it has any, and of its state."""

    __slots__ = ()
    __setstate__ = list.append  # at the speed of C
    __hash__ = object.__hash__  # type: ignore[assignment]  # by identity, as a stand-in for a key must
    __eq__ = object.__eq__
    __ne__ = object.__ne__


class _InstanceWith(Instance):
    __slots__ = ()

    def __new__(cls, *arguments: Any) -> Self:
        made = super().__new__(cls)
        made.append(arguments)
        return made

    def __init__(self, *_: Any) -> None:  # not list's, which takes items
        pass


def stand_in(load: Callable[..., Any], quick: Callable[..., Any] = unsettled) -> type[Instance]:
    """A class of stand-ins for instances that ``load`` makes out of their state, if they were given one."""
    return type("StandIn", (Instance,), {"__slots__": (), "load": staticmethod(load), "quick": staticmethod(quick)})


def stand_in_with(load: Callable[..., Any]) -> type[Instance]:
    """The same for what ``load`` makes out of the tuple of arguments, and the state."""
    space = {"__slots__": (), "load": staticmethod(load), "quick": staticmethod(unsettled)}
    return type("StandInWith", (_InstanceWith,), space)
