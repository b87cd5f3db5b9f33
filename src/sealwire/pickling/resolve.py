"""From what the unpickler built with stand-ins to the real values.

Where a message has instances, or keys that are objects, CPython's unpickler is given inert stand-ins for them: they
hold their parts, hash and compare by identity, and run nothing. Afterwards each is replaced by the value that its parts
make, and the dicts and sets that have such keys are filled anew, now that the hashes are known and can be checked.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sealwire.errors import InvalidValue, MalformedPickle
from sealwire.pickling.keys import check_built_keys

LEAVES: Final = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))


class Instance(list[Any]):
    """Stands for an instance that NEWOBJ makes and BUILD gives state to: a list of its states, at the speed of C."""

    __slots__ = ()
    __setstate__ = list.append
    __hash__ = object.__hash__  # type: ignore[assignment]  # by identity, as a stand-in for a key must
    __eq__ = object.__eq__
    __ne__ = object.__ne__


def stand_in(load: Callable[..., Any]) -> type[Instance]:
    """A class of stand-ins for instances that ``load`` makes out of their state."""
    return type("StandIn", (Instance,), {"__slots__": (), "load": staticmethod(load)})


class Resolver:
    """Resolves one message. What is shared is resolved once and stays shared."""

    def __init__(self, max_probes: int) -> None:
        self._max_probes = max_probes
        self._done: dict[int, Any] = {}

    def resolve(self, value: Any) -> Any:
        """The real value; lists, dicts and the like are changed in place."""
        kind = type(value)
        if kind in LEAVES:
            return value
        method = _METHODS.get(kind)
        if method is None:
            if not isinstance(value, Instance):
                return value
            method = Resolver._instance
        identity = id(value)
        # Only what is part of the message has its id here, and all of that lives until the end.
        if identity not in self._done:
            self._done[identity] = method(self, value)
        return self._done[identity]

    def _list(self, value: Any) -> Any:
        for index, item in enumerate(value):
            if type(item) not in LEAVES:
                value[index] = self.resolve(item)
        return value

    def _tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple([self.resolve(item) for item in value])

    def _dict(self, value: Any) -> Any:
        if all(type(key) in LEAVES for key in value):
            for key, item in value.items():
                if type(item) not in LEAVES:
                    value[key] = self.resolve(item)
            return value
        keys = self._resolved_keys(value, is_set=False)
        items = [self.resolve(item) for item in value.values()]
        value.clear()
        for key, item in zip(keys, items, strict=True):
            value[key] = item
        self._check_distinct(value, keys)
        return value

    def _set(self, value: Any) -> Any:
        if all(type(key) in LEAVES for key in value):
            return value
        keys = self._resolved_keys(value, is_set=True)
        made = type(value)(keys)
        self._check_distinct(made, keys)
        return made

    def _call(self, value: partial[Any]) -> Any:
        return value.func(*[self.resolve(part) for part in value.args])

    def _instance(self, value: Any) -> Any:
        if len(value) != 1:
            raise InvalidValue("an instance without state")
        return value.load(self.resolve(value[0]))

    def _resolved_keys(self, old: Any, *, is_set: bool) -> list[Any]:
        keys = [self.resolve(key) for key in old]
        check_built_keys(keys, is_set=is_set, max_probes=self._max_probes)
        return keys

    def _check_distinct(self, made: Any, keys: list[Any]) -> None:
        if len(made) != len(keys):
            raise MalformedPickle("a key occurs twice in a dict or set")


_METHODS: Final[dict[type, Callable[[Resolver, Any], Any]]] = {
    list: Resolver._list,
    deque: Resolver._list,
    tuple: Resolver._tuple,
    dict: Resolver._dict,
    OrderedDict: Resolver._dict,
    defaultdict: Resolver._dict,
    Counter: Resolver._dict,
    set: Resolver._set,
    frozenset: Resolver._set,
    partial: Resolver._call,
}
