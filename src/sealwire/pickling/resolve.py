"""From what the unpickler built with stand-ins to the real values.

Where a message has instances, or keys that are objects, CPython's unpickler is given inert stand-ins for them: they
hold their parts, hash and compare by identity, and run nothing. Afterwards each is replaced by the value that its parts
make, and the dicts and sets that have such keys are filled anew, now that the hashes are known and can be checked.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, Final, Self

from sealwire.errors import InvalidValue, MalformedPickle
from sealwire.pickling.keys import check_built_keys

LEAVES: Final = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))


Methods = Mapping[type, Callable[["Resolver", Any], Any]]


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


def stand_in(load: Callable[..., Any]) -> type[Instance]:
    """A class of stand-ins for instances that ``load`` makes out of their state, if they were given one."""
    return type("StandIn", (Instance,), {"__slots__": (), "load": staticmethod(load)})


def stand_in_with(load: Callable[..., Any]) -> type[Instance]:
    """The same for what ``load`` makes out of the tuple of arguments, and the state."""
    return type("StandInWith", (_InstanceWith,), {"__slots__": (), "load": staticmethod(load)})


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
        self._fractions: dict[int, tuple[int, int]] = {}

    def resolve(self, value: Any) -> Any:
        """The real value; lists, dicts and the like are changed in place."""
        method = self._methods.get(type(value))
        if method is None:
            return value
        identity = id(value)
        # Only what is part of the message has its id here, and all of that lives until the end.
        if identity in self._done:
            return self._done[identity]
        made = self._done[identity] = method(self, value)
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
        for key, item in zip(keys, items, strict=True):
            value[key] = item
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
        made = type(value)(keys)
        self._check_distinct(made, keys)
        return made

    def _call(self, value: partial[Any]) -> Any:
        return value.func(*[self.resolve(part) for part in value.args])

    def _instance(self, value: Any) -> Any:
        if len(value) == 1:
            # As a rule the state is a dict, or the arguments are a tuple, of values that are themselves already.
            (part,) = value
            inner = part.values() if type(part) is dict else part if type(part) is tuple else None
            if inner is not None and LEAVES.issuperset(map(type, inner)):
                return value.load(part)
        return value.load(*[self.resolve(part) for part in value])

    def _resolved_keys(self, old: Any, *, is_set: bool) -> list[Any]:
        keys = [self.resolve(key) for key in old]
        self._check_fractions(keys)
        check_built_keys(keys, is_set=is_set, max_probes=self._max_probes)
        return keys

    def _check_fractions(self, keys: list[Any]) -> None:
        """As check_built_keys does for those of one dict: from 3.12 on they meet in one table of the process."""
        for key in keys:
            if type(key) is Fraction:
                pair = key.numerator, key.denominator
                if self._fractions.setdefault(hash(pair), pair) != pair:
                    raise MalformedPickle("two fractions that are keys collide")

    def _check_distinct(self, made: Any, keys: list[Any]) -> None:
        if len(made) != len(keys):
            raise MalformedPickle("a key occurs twice in a dict or set")


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
