"""What an annotation says of a value, made into a check when a type is registered.

A field accepts what a type checker would accept of it: a value of the annotated type or of a subclass of it, an ``int``
where ``float`` is written (PEP 484), and the same for every item of an annotated container, however deep. The types
that a message can hold are known beforehand, so that "or of a subclass" is a set of exact types, and what is checked
most often is one look into that set.

A validation library would look at a value's class, its bases and protocols each time, and cost ten times as much;
forward references would be resolved when a message comes. Here nothing is resolved, imported or looked up then.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, Union, get_args, get_origin

from sealwire.errors import ConfigurationError
from sealwire.pickling.checks import Check, Mismatch, each_of, inside, only, refuse

Variables = Mapping[Any, Any]
Narrow = Callable[[type, tuple[Any, ...]], Callable[[Any], bool] | None]


class Types:
    """The types that a message can hold, against which annotations are read.

    ``configured``: those that need a place on the allowlist. ``fields``: the annotations of a generic class, by name.
    ``narrow``: what else its arguments say of a value (Adapter.narrow).
    """

    def __init__(
        self,
        standard: Iterable[type],
        configured: Iterable[type],
        fields: Callable[[type], Mapping[str, Any]],
        narrow: Narrow,
    ) -> None:
        self.configured: Final = frozenset(configured)
        self.all: Final = self.configured.union(standard)
        self._fields: Final = fields
        self.narrow: Final = narrow

    def check(self, annotation: Any, where: str, variables: Variables | None = None) -> Check:
        """The check of one annotation. Raises ConfigurationError, which begins with ``where``."""
        return _Reader(self, where, variables or {}).check(annotation)

    def subclasses(self, cls: type) -> frozenset[type]:
        """The types of a message that are this class or a subclass of it."""
        return frozenset(candidate for candidate in self.all if issubclass(candidate, cls))

    def fields(self, cls: type) -> Mapping[str, Any]:
        """The annotations of a class, by the names of its fields."""
        return self._fields(cls)


_PROMOTIONS: Final[dict[type, tuple[type, ...]]] = {float: (int, bool), complex: (float, int, bool)}  # PEP 484
_ITEMS: Final = (list, tuple, set, frozenset, collections.deque)
_MAPPINGS: Final = (dict,)
_TRANSPARENT: Final = (typing.Final, typing.Required, typing.NotRequired, Annotated)
_UNION: Final = (Union, types.UnionType)


class _Reader:
    """Reads one annotation, and those inside it."""

    def __init__(self, known: Types, where: str, variables: Variables) -> None:
        self._types = known
        self._where = where
        self._variables = variables
        self._open: dict[int, list[Check]] = {}

    def check(self, annotation: Any) -> Check:
        expected = _reads(annotation)
        if annotation is Any or annotation is object:
            return only(expected, self._types.all)
        if annotation is None:
            annotation = type(None)
        if isinstance(annotation, TypeVar):
            return self._variable(annotation)
        if isinstance(annotation, typing.NewType):
            return self.check(annotation.__supertype__)
        origin = get_origin(annotation)
        if origin is not None:
            return self._special(origin, get_args(annotation), expected)
        if typing.is_typeddict(annotation):
            return self._recursive(annotation, expected, lambda: self._typed_dict(annotation, expected))
        if hasattr(annotation, "__value__"):  # `type X = …` of Python 3.12
            return self._recursive(annotation, expected, lambda: self.check(annotation.__value__))
        if isinstance(annotation, type):
            return self._class(annotation, expected)
        raise self._error(f"{expected} cannot be checked")

    def _error(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self._where}: {why}; annotate it with types of values, or register an adapter")

    def _variable(self, variable: TypeVar) -> Check:
        if variable in self._variables:
            return self.check(self._variables[variable])
        if variable.__constraints__:
            return self._union(variable.__constraints__, variable.__name__)
        return self.check(Any if variable.__bound__ is None else variable.__bound__)

    def _class(self, cls: type, expected: str) -> Check:
        if cls in _UNCHECKABLE or getattr(cls, "_is_protocol", False):
            raise self._error(f"{expected} says nothing about a value's content")
        try:
            whole = self._types.subclasses(cls).union(_PROMOTIONS.get(cls, ()))
        except TypeError:
            raise self._error(f"{expected} cannot be checked") from None
        if not whole:
            raise ConfigurationError(f"{self._where}: {expected} is not on the allowlist; allow it as well")
        return only(expected, whole)

    def _recursive(self, annotation: Any, expected: str, read: Callable[[], Check]) -> Check:
        """What may mention itself: inside, its check is the one that is being made."""
        name = id(annotation)
        if name not in self._open:
            done = self._open[name] = []
            done.append(read())
            return done[0]
        done = self._open[name]
        return Check(expected, frozenset(), lambda value: done[0](value), self._types.all)

    def _special(self, origin: Any, arguments: tuple[Any, ...], expected: str) -> Check:
        if origin in _TRANSPARENT:
            return self.check(arguments[0])
        if origin in _UNION:
            return self._union(arguments, expected)
        if origin is Literal:
            return self._literal(arguments, expected)
        if origin is ClassVar or origin is type or origin is collections.abc.Callable:
            raise self._error(f"{expected} is no value that can be sent")
        if hasattr(origin, "__value__"):  # a generic `type X[T] = …` of Python 3.12
            variables = dict(zip(origin.__type_params__, arguments, strict=True))
            return _Reader(self._types, self._where, variables).check(origin.__value__)
        if not isinstance(origin, type):
            raise self._error(f"{expected} cannot be checked")
        if issubclass(origin, tuple) and origin is tuple:
            return self._tuple(arguments, expected)
        if origin in self._types.configured:
            return self._generic(origin, arguments, expected)
        candidates = self._class(origin, expected).whole
        if issubclass(origin, collections.abc.Mapping):
            return self._mapping(candidates, arguments, expected)
        if issubclass(origin, collections.abc.Iterable) and len(arguments) == 1:
            return self._items(candidates, arguments[0], expected)
        raise self._error(f"{expected} cannot be checked")

    def _union(self, arguments: tuple[Any, ...], expected: str) -> Check:
        checks = [self.check(argument) for argument in arguments]
        whole = frozenset[type]().union(*(check.whole for check in checks))
        outer = frozenset[type]().union(*(check.outer for check in checks))
        looks = [check.look for check in checks if not isinstance(check.look, refuse)]

        def look(value: Any) -> None:
            for one in looks:
                try:
                    return one(value)
                except Mismatch:
                    continue
            raise Mismatch(expected)

        return Check(expected, whole, look if looks else refuse(expected), outer)

    def _literal(self, arguments: tuple[Any, ...], expected: str) -> Check:
        values = frozenset((type(argument), argument) for argument in arguments)
        kinds = frozenset(map(type, arguments))

        def look(value: Any) -> None:
            if type(value) not in kinds or (type(value), value) not in values:
                raise Mismatch(expected)

        return Check(expected, frozenset(), look, kinds)

    def _items(self, candidates: frozenset[type], argument: Any, expected: str) -> Check:
        item = self.check(argument)
        if item.whole == self._types.all:
            return only(expected, candidates)

        def look(value: Any) -> None:
            if type(value) not in candidates:
                raise Mismatch(expected)
            each_of(value, item, "")

        return Check(expected, frozenset(), look, candidates)

    def _tuple(self, arguments: tuple[Any, ...], expected: str) -> Check:
        candidates = self._types.subclasses(tuple)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return self._items(candidates, arguments[0], expected)
        if any(get_origin(argument) is typing.Unpack for argument in arguments):
            raise self._error(f"{expected} cannot be checked")
        items = [self.check(argument) for argument in arguments]

        def look(value: Any) -> None:
            if type(value) not in candidates or len(value) != len(items):
                raise Mismatch(expected)
            for index, (part, check) in enumerate(zip(value, items, strict=True)):
                inside(check, part, f"[{index}]")

        return Check(expected, frozenset(), look, candidates)

    def _mapping(self, candidates: frozenset[type], arguments: tuple[Any, ...], expected: str) -> Check:
        key = self.check(arguments[0])
        item = self.check(arguments[1] if len(arguments) > 1 else int)  # Counter has one argument
        everything = self._types.all
        if key.whole == everything == item.whole:
            return only(expected, candidates)

        def look(value: Any) -> None:
            if type(value) not in candidates:
                raise Mismatch(expected)
            each_of(value, key, "key ")
            each_of(value.values(), item, "value ")

        return Check(expected, frozenset(), look, candidates)

    def _generic(self, origin: type, arguments: tuple[Any, ...], expected: str) -> Check:
        """An instance of a generic class has been checked already, but for what its variables stand for here."""
        candidates = self._types.subclasses(origin)
        variables = dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))
        reader = _Reader(self._types, self._where, variables)
        checks = {
            name: reader.check(annotation)
            for name, annotation in self._types.fields(origin).items()
            if _mentions(annotation, frozenset(variables))
        }
        try:
            narrow = self._types.narrow(origin, tuple(map(self._bound, arguments)))
        except TypeError:
            raise self._error(f"{expected} cannot be checked") from None

        def look(value: Any) -> None:
            if type(value) not in candidates or (narrow is not None and not narrow(value)):
                raise Mismatch(expected)
            for name, check in checks.items():
                inside(check, getattr(value, name), f".{name}")

        return Check(expected, frozenset(), look, candidates)

    def _bound(self, annotation: Any) -> Any:
        """With what type variables stand for here."""
        if isinstance(annotation, TypeVar):
            return self._variables.get(annotation, annotation)
        parameters = getattr(annotation, "__parameters__", ()) if get_args(annotation) else ()
        return annotation[tuple(map(self._bound, parameters))] if parameters else annotation

    def _typed_dict(self, cls: Any, expected: str) -> Check:
        found = hints(cls, self._where)
        # Annotations that were strings when the class was made say only now that a key is not required.
        required = {name for name in cls.__required_keys__ if get_origin(found[name]) is not typing.NotRequired}
        required |= {name for name, hint in found.items() if get_origin(hint) is typing.Required}
        checks = {name: self.check(hint) for name, hint in found.items()}

        def look(value: Any) -> None:
            if type(value) is not dict or not required <= value.keys() <= checks.keys():
                raise Mismatch(expected)
            for name, part in value.items():
                inside(checks[name], part, f".{name}")

        return Check(expected, frozenset(), look, frozenset((dict,)))


_UNCHECKABLE: Final = frozenset((type, types.ModuleType, types.FunctionType, types.CodeType, collections.abc.Callable))


def hints(cls: Any, where: str) -> dict[str, Any]:
    """The annotations of a class and its bases, forward references resolved. Raises ConfigurationError."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{where}: the annotation {error.name!r} cannot be resolved in its module; define or import it there, "
            "outside of `if TYPE_CHECKING:`"
        ) from None
    except Exception as error:
        raise ConfigurationError(f"{where}: an annotation cannot be resolved: {error}") from None


def _mentions(annotation: Any, variables: frozenset[Any]) -> bool:
    return annotation in variables or any(_mentions(part, variables) for part in get_args(annotation))


def _reads(annotation: Any) -> str:
    """An annotation as its owner would write it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        plain = annotation.__module__ in ("builtins", "typing")
        return annotation.__qualname__ if plain else f"{annotation.__module__}.{annotation.__qualname__}"
    return str(annotation).replace("typing.", "").replace("NoneType", "None")
