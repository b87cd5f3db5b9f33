"""Placeholders: inert objects that CPython's unpickler builds instead of instances.

A placeholder keeps the arguments and the state of its instance and runs no code of its class. After building, the
resolver replaces it by the value that its class's ``load`` makes (:mod:`.resolve`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self


class Placeholder(list[Any]):
    """A list of the tuple of arguments, if there is one, and of the state, if there is one.

    A list, because ``list.append`` as ``__setstate__`` takes the state without running any Python code.
    """

    __slots__ = ()
    __setstate__ = list.append
    __hash__ = object.__hash__  # type: ignore[assignment]  # by identity, because a placeholder can be a key
    __eq__ = object.__eq__
    __ne__ = object.__ne__


class _PlaceholderWithArguments(Placeholder):
    __slots__ = ()

    def __new__(cls, *arguments: Any) -> Self:
        made = super().__new__(cls)
        made.append(arguments)
        return made

    def __init__(self, *_: Any) -> None:  # list's own would take items
        pass


def placeholder_class(load: Callable[..., Any], *, with_arguments: bool = False) -> type[Placeholder]:
    """Return a class of placeholders for instances that ``load`` makes out of their arguments, if any, and state."""
    space = {"__slots__": (), "load": staticmethod(load)}
    return type("Placeholder", (_PlaceholderWithArguments if with_arguments else Placeholder,), space)
