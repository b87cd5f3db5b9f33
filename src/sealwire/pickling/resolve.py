"""The last pass: replaces placeholders by the values that they stand for.

If a message has instances, or keys that are objects, CPython's unpickler builds placeholders for them, which keep their
parts, hash and compare by identity, and run no code. Then this pass walks over the result. Each placeholder is replaced
by the value that its rule's ``load`` makes of its parts; lists and dicts are changed in place, tuples and sets are made
again. Dicts and sets with placeholders among their keys are filled again, now that the hashes are known and can be
checked. An object that is shared is resolved once and stays shared; there are no cycles, because vetting refuses them.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final

from sealwire.errors import InvalidValue
from sealwire.limits import Limits
from sealwire.pickling.built_keys import BuiltKeyCosts, call_hashing_keys, check_built_keys, check_distinct
from sealwire.pickling.globals import LEAVES
from sealwire.pickling.placeholders import Placeholder

Methods = Mapping[type, Callable[["Resolver", Any], Any]]


class Resolver:
    """Resolves one message.

    Args:
        limits: The limits of its keys.
        methods: The methods for each type, from :func:`methods`.
        names: The names of declared fields, which may stand in the path of an error; other keys are a peer's bytes.
        has_object_keys: There are keys that vetting could not check.
    """

    def __init__(
        self, limits: Limits, methods: Methods, names: Collection[str] = (), *, has_object_keys: bool = True
    ) -> None:
        self._has_object_keys = has_object_keys
        self._max_probes = limits.max_probes
        self._methods = methods
        self._names = names
        self._done: dict[int, Any] = {}
        self.key_costs = BuiltKeyCosts(limits.max_expanded_nodes, self._done, {})

    def resolve(self, value: Any) -> Any:
        """Return the real value; lists, dicts and their like are changed in place.

        Raises:
            InvalidValue: A value is refused; the error has its path.
            MalformedPickle: A key occurs twice.
            LimitExceeded: Keys collide too often.
        """
        method = self._methods.get(type(value))
        if method is None:
            return value
        # All parts of the message live until the end, so that no id is used twice.
        identity = id(value)
        done = self._done
        if identity in done:
            return done[identity]
        made = done[identity] = method(self, value)
        if self._has_object_keys:
            self.key_costs.remember(made, value)
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
        # Not in place: assigning to an index of a deque takes time in proportion to the index.
        items = self._list(list(value))
        value.clear()
        value.extend(items)
        return value

    def _tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        made: list[Any] = []
        try:
            for item in value:
                made.append(item if type(item) in LEAVES else self.resolve(item))  # noqa: PERF401 - errors tell its length
        except InvalidValue as error:
            error.inside(f"[{len(made)}]")
            raise
        return tuple(made)

    def _dict(self, value: Any) -> Any:
        if not self._has_object_keys or all(type(key) in LEAVES for key in value):
            self._values(value)
            return value
        keys = [self.resolve(key) for key in value]
        call_hashing_keys(check_built_keys, keys, self.key_costs, is_set=False, max_probes=self._max_probes)
        self._values(value)
        items = list(value.values())
        value.clear()
        call_hashing_keys(_fill, value, keys, items)
        check_distinct(value, keys)
        return value

    def _values(self, value: Any) -> None:
        key: Any = None
        try:
            for key, item in value.items():
                if type(item) not in LEAVES:
                    value[key] = self.resolve(item)
        except InvalidValue as error:
            is_name = type(key) is str and key in self._names
            error.inside(f".{key}" if is_name else f".<value {list(value).index(key)}>")
            raise

    def _set(self, value: Any) -> Any:
        if not self._has_object_keys or all(type(key) in LEAVES for key in value):
            return value
        return self._set_of(type(value), [self.resolve(key) for key in value])

    def _set_of(self, kind: Callable[[list[Any]], Any], keys: list[Any]) -> Any:
        call_hashing_keys(check_built_keys, keys, self.key_costs, is_set=True, max_probes=self._max_probes)
        made = call_hashing_keys(kind, keys)
        check_distinct(made, keys)
        return made

    def _call(self, value: partial[Any]) -> Any:
        parts = [self.resolve(part) for part in value.args]
        if value.func is set or value.func is frozenset:
            if len(parts) != 1 or type(parts[0]) is not list:
                raise InvalidValue(f"{value.func.__name__}: its items are not a list")
            return self._set_of(value.func, parts[0])
        return value.func(*parts)

    def _instance(self, value: Any) -> Any:
        return value.load(*[self.resolve(part) for part in value])


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


def methods(classes: Iterable[object]) -> Methods:
    """Return the method for each type that may need resolving: containers, calls, and these classes of placeholders."""
    placeholders = [cls for cls in classes if isinstance(cls, type) and issubclass(cls, Placeholder)]
    return {**_METHODS, **dict.fromkeys(placeholders, Resolver._instance)}
