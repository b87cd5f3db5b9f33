"""From what the unpickler built with stand-ins to the real values.

Where a message has instances, or keys that are objects, CPython's unpickler is given inert stand-ins for them: they
hold their parts, hash and compare by identity, and run nothing. Afterwards each is replaced by the value that its parts
make, and the dicts and sets that have such keys are filled anew, now that the hashes are known and can be checked.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final

from sealwire.errors import InvalidValue, MalformedPickle
from sealwire.pickling.grants import LEAVES, UNSETTLED
from sealwire.pickling.keys import by_hash, check_built_keys
from sealwire.pickling.stand_ins import Instance

Methods = Mapping[type, Callable[["Resolver", Any], Any]]


class Resolver:
    """Resolves one message. What is shared is resolved once and stays shared.

    ``methods``: what :func:`methods` gave. ``names``: of declared fields, which may stand in the path to what is wrong;
    other keys are a peer's bytes.
    """

    def __init__(self, max_probes: int, methods: Methods, names: Collection[str] = ()) -> None:
        self._max_probes = max_probes
        self._methods = methods
        self._names = names
        self._done: dict[int, Any] = {}

    def resolve(self, value: Any) -> Any:
        """The real value; lists, dicts and the like are changed in place."""
        method = self._methods.get(type(value))
        if method is None:
            return value
        identity = id(value)
        # Only what is part of the message has its id here, and all of that lives until the end.
        done = self._done
        if identity in done:
            return done[identity]
        made = done[identity] = method(self, value)
        return made

    def _list(self, value: Any) -> Any:
        index = 0
        try:
            for index, item in enumerate(value):
                if type(item) not in LEAVES:
                    value[index] = self.resolve(item)
        except InvalidValue as error:
            error.inside(f"[{index}]")
            raise
        return value

    def _deque(self, value: deque[Any]) -> Any:
        # To assign by index takes time in proportion to the length.
        items = self._list(list(value))
        value.clear()
        value.extend(items)
        return value

    def _tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        made: list[Any] = []
        try:
            for item in value:
                made.append(item if type(item) in LEAVES else self.resolve(item))  # noqa: PERF401 - its length is told
        except InvalidValue as error:
            error.inside(f"[{len(made)}]")
            raise
        return tuple(made)

    def _dict(self, value: Any) -> Any:
        if all(type(key) in LEAVES for key in value):
            self._values(value)
            return value
        keys = self._resolved_keys(value, is_set=False)
        self._values(value)
        items = list(value.values())
        value.clear()
        by_hash(_fill, value, keys, items)
        self._check_distinct(value, keys)
        return value

    def _values(self, value: Any) -> None:
        key: Any = None
        try:
            for key, item in value.items():
                if type(item) not in LEAVES:
                    value[key] = self.resolve(item)
        except InvalidValue as error:
            named = type(key) is str and key in self._names
            error.inside(f".{key}" if named else f".<value {list(value).index(key)}>")
            raise

    def _set(self, value: Any) -> Any:
        if all(type(key) in LEAVES for key in value):
            return value
        keys = self._resolved_keys(value, is_set=True)
        made = by_hash(type(value), keys)
        self._check_distinct(made, keys)
        return made

    def _call(self, value: partial[Any]) -> Any:
        return value.func(*[self.resolve(part) for part in value.args])

    def _instance(self, value: Any) -> Any:
        if len(value) == 1:
            # As a rule the state is a dict, or the arguments are a tuple, of values that are themselves already.
            (part,) = value
            if type(part) is dict:
                made = value.quick(part)
                if made is not UNSETTLED:
                    return made
                inner: Any = part.values()
            elif type(part) is tuple:
                inner = part
            else:
                return value.load(self.resolve(part))
            if LEAVES.issuperset(map(type, inner)):
                return value.load(part)
        return value.load(*[self.resolve(part) for part in value])

    def _resolved_keys(self, old: Any, *, is_set: bool) -> list[Any]:
        keys = [self.resolve(key) for key in old]
        by_hash(check_built_keys, keys, is_set=is_set, max_probes=self._max_probes)
        return keys

    def _check_distinct(self, made: Any, keys: list[Any]) -> None:
        if len(made) != len(keys):
            raise MalformedPickle("a key occurs twice in a dict or set")


def _fill(value: Any, keys: list[Any], items: list[Any]) -> None:
    for key, item in zip(keys, items, strict=True):
        value[key] = item


_METHODS: Final[Methods] = {
    list: Resolver._list,
    deque: Resolver._deque,
    tuple: Resolver._tuple,
    dict: Resolver._dict,
    OrderedDict: Resolver._dict,
    defaultdict: Resolver._dict,
    Counter: Resolver._dict,
    set: Resolver._set,
    frozenset: Resolver._set,
    partial: Resolver._call,
}


def methods(stand_ins: Iterable[object]) -> Methods:
    """How each type is resolved of which there can be something to resolve, these classes of stand-ins among them."""
    classes = [cls for cls in stand_ins if isinstance(cls, type) and issubclass(cls, Instance)]
    return {**_METHODS, **dict.fromkeys(classes, Resolver._instance)}
