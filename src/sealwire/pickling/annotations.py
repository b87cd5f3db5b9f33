"""Compiles annotations into checks of values, when a type is registered.

A field accepts the values that a type checker would accept for it: those of the annotated type or of a subclass, an
``int`` for ``float`` (PEP 484), and the same for every item of an annotated container, however deep. The types that a
message can contain are known beforehand, so that "or of a subclass" is a set of exact types, and most checks are one
lookup in that set.

A validation library would examine a value's class, its bases and protocols each time, at ten times the cost, and
resolve forward references when a message arrives. Here nothing is resolved or imported after registration.
"""

from __future__ import annotations

import collections.abc
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, Union, get_args, get_origin

from sealwire.errors import ConfigurationError
from sealwire.pickling.compound_checks import (
    instance_of,
    items_of,
    literal,
    mapping_of,
    tuple_of,
    typed_dict_of,
    union_of,
)
from sealwire.pickling.constraints import constraint
from sealwire.pickling.hints import Variables, hints, mentions, substitute
from sealwire.pickling.type_checks import Check, Mismatch, exactly

ArgumentCheck = Callable[[type, tuple[Any, ...]], Callable[[Any], bool] | None]


class Types:
    """The types that a message can contain, against which annotations are read.

    Args:
        standard: The standard value types.
        configured: The types that are on the allowlist by name.
        fields: Returns the annotations of a generic class, by name.
        argument_check: Returns a further check for the arguments of a generic class (Adapter.argument_check).
    """

    def __init__(
        self,
        standard: Iterable[type],
        configured: Iterable[type],
        fields: Callable[[type], Mapping[str, Any]],
        argument_check: ArgumentCheck,
    ) -> None:
        self.configured: Final = frozenset(configured)
        self.all: Final = self.configured.union(standard)
        self._fields: Final = fields
        self.argument_check: Final = argument_check

    def check(self, annotation: Any, owner: str, cls: type | None = None, module: str = "builtins") -> Check:
        """Return the check of one annotation of ``cls``, or of a function in ``module``.

        Raises ConfigurationError, which begins with ``owner``.
        """
        try:
            return _Reader(self, owner, {}, cls, module if cls is None else cls.__module__, {}).check(annotation)
        except RecursionError:
            raise ConfigurationError(
                f"{owner}: its annotation contains itself with ever different arguments; register an adapter"
            ) from None

    def subclasses(self, cls: type) -> frozenset[type]:
        """Return the types of a message that are this class or a subclass of it."""
        return frozenset(candidate for candidate in self.all if issubclass(candidate, cls))

    def is_configured(self, cls: type) -> bool:
        """Return True if a class is on the allowlist by name."""
        return cls in self.configured

    def fields(self, cls: type) -> Mapping[str, Any]:
        """Return the annotations of a class, by the names of its fields."""
        return self._fields(cls)


_PROMOTIONS: Final[dict[type, tuple[type, ...]]] = {float: (int, bool), complex: (float, int, bool)}  # PEP 484
_ITEMS: Final = (list, tuple, set, frozenset, collections.deque)
_MAPPINGS: Final = (dict,)
_TRANSPARENT: Final = (typing.Final, typing.Required, typing.NotRequired)
_UNION: Final = (Union, types.UnionType)


class _Reader:
    """Compiles one annotation, and those inside it."""

    def __init__(
        self,
        known: Types,
        owner: str,
        variables: Variables,
        cls: type | None,
        module: str,
        done: dict[Any, list[Check]],
    ) -> None:
        self._types = known
        self._owner = owner
        self._variables = variables
        self._cls = cls
        self._module = module
        self._done = done
        """The checks of annotations that may contain themselves; of those that are being made, an empty list."""

    def _inside(self, variables: Variables, module: str) -> _Reader:
        """Return a reader of the declaration of another class or alias."""
        return _Reader(self._types, self._owner, variables, self._cls, module, self._done)

    def check(self, annotation: Any) -> Check:
        expected = annotation_text(annotation)
        if annotation is Any or annotation is object:
            return exactly(expected, self._types.all)
        if annotation is None:
            annotation = type(None)
        if annotation is typing.LiteralString:
            raise self._error("LiteralString cannot be checked: write str")
        if annotation is typing.Self and self._cls is not None:
            annotation = self._cls
        if isinstance(annotation, str | typing.ForwardRef):
            return self._reference(annotation, expected)
        if isinstance(annotation, TypeVar):
            return self._variable(annotation)
        if isinstance(annotation, typing.NewType):
            return self.check(annotation.__supertype__)
        origin = get_origin(annotation)
        if origin is not None:
            return self._special(annotation, origin, get_args(annotation), expected)
        if typing.is_typeddict(annotation):
            return self._recursive(annotation, expected, lambda: self._typed_dict(annotation, expected))
        if hasattr(annotation, "__value__"):  # `type X = …` of Python 3.12
            inside = self._inside({}, annotation.__module__)
            return self._recursive(annotation, expected, lambda: inside.check(annotation.__value__))
        if isinstance(annotation, type):
            return self._class(annotation, expected)
        raise self._error(f"{expected} cannot be checked")

    def _reference(self, annotation: str | typing.ForwardRef, expected: str) -> Check:
        """Read a name inside of an alias, like ``"Json"`` in ``Json = list["Json"] | int``."""
        text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
        module = self._module

        def read() -> Check:
            holder = types.SimpleNamespace(__annotations__={"x": text}, __module__=module)
            return self.check(hints(holder, self._owner, vars(sys.modules[module]))["x"])

        return self._recursive((module, text), expected, read)

    def _error(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self._owner}: {why}; annotate it with types of values, or register an adapter")

    def _variable(self, variable: TypeVar) -> Check:
        if variable in self._variables:
            # Variables that are left in an argument were not bound where it was given.
            return self._inside({}, self._module).check(self._variables[variable])
        if variable.__constraints__:
            return self._union(variable.__constraints__, variable.__name__)
        return self.check(Any if variable.__bound__ is None else variable.__bound__)

    def _class(self, cls: type, expected: str) -> Check:
        if cls in _UNCHECKABLE or getattr(cls, "_is_protocol", False):
            raise self._error(f"{expected} says nothing about a value's content")
        try:
            exact_types = self._types.subclasses(cls).union(_PROMOTIONS.get(cls, ()))
        except ConfigurationError:
            raise
        except Exception:  # from a class that answers issubclass itself
            raise self._error(f"{expected} cannot be checked") from None
        if not exact_types:
            raise ConfigurationError(f"{self._owner}: {annotation_text(cls)} is not on the allowlist; allow it as well")
        return exactly(expected, exact_types)

    def _recursive(self, annotation: Any, expected: str, read: Callable[[], Check]) -> Check:
        """Read an annotation that may contain itself; inside it, its check is the one that is being made."""
        try:
            done = self._done.get(annotation)
        except TypeError:  # it has arguments that are not hashable
            return read()
        if done is None:
            done = self._done[annotation] = []
            done.append(read())
        if done:
            return done[0]
        return Check(
            expected, frozenset(), lambda value: done[0](value), self._types.all, lambda value: done[0].fits(value)
        )

    def _special(self, annotation: Any, origin: Any, arguments: tuple[Any, ...], expected: str) -> Check:
        if origin is Annotated:
            return self._annotated(self.check(arguments[0]), annotation.__metadata__, expected)
        if origin in _TRANSPARENT:
            return self.check(arguments[0])
        if origin in _UNION:
            return self._union(arguments, expected)
        if origin is Literal:
            for each in arguments:  # the members of an enum among them must be on the list
                self._class(type(each), expected)
            return literal(arguments, expected)
        if origin is ClassVar or origin is type or origin is collections.abc.Callable:
            raise self._error(f"{expected} is not a value that can be sent")
        if hasattr(origin, "__value__"):  # a generic `type X[T] = …` of Python 3.12
            inside = self._inside(self._bind(origin.__type_params__, arguments), origin.__module__)
            return self._recursive(self._bound(annotation), expected, lambda: inside.check(origin.__value__))
        if typing.is_typeddict(origin):
            inside = self._inside(self._bind(origin.__parameters__, arguments), origin.__module__)
            return self._recursive(self._bound(annotation), expected, lambda: inside._typed_dict(origin, expected))
        if not isinstance(origin, type):
            raise self._error(f"{expected} cannot be checked")
        if not hasattr(annotation, "__args__"):  # typing.List, which says no more than list
            return self._class(origin, expected)
        if issubclass(origin, tuple) and origin is tuple:
            return self._tuple(arguments, expected)
        if self._types.is_configured(origin):
            whole = self._bound(annotation)
            return self._recursive(whole, expected, lambda: self._generic(origin, arguments, expected))
        candidates = self._class(origin, expected).exact_types
        if issubclass(origin, collections.abc.Mapping):
            return self._mapping(candidates, arguments, expected)
        if issubclass(origin, collections.abc.Iterable) and len(arguments) == 1:
            return self._items(candidates, arguments[0], expected)
        raise self._error(f"{expected} cannot be checked")

    def _annotated(self, check: Check, metadata: tuple[Any, ...], expected: str) -> Check:
        meets = constraint(metadata)
        if meets is None:
            return check

        def check_value(value: Any) -> None:
            check(value)
            if not meets(value):
                raise Mismatch(expected, type(value))

        return Check(expected, frozenset(), check_value, check.container_types, check.fits)

    def _union(self, arguments: tuple[Any, ...], expected: str) -> Check:
        return union_of([self.check(argument) for argument in arguments], expected)

    def _items(self, candidates: frozenset[type], argument: Any, expected: str) -> Check:
        item = self.check(argument)
        if item.exact_types == self._types.all:
            return exactly(expected, candidates)
        return items_of(candidates, item, expected)

    def _tuple(self, arguments: tuple[Any, ...], expected: str) -> Check:
        candidates = self._types.subclasses(tuple)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return self._items(candidates, arguments[0], expected)
        if any(get_origin(argument) is typing.Unpack for argument in arguments):
            raise self._error(f"{expected} cannot be checked")
        return tuple_of(candidates, [self.check(argument) for argument in arguments], expected)

    def _mapping(self, candidates: frozenset[type], arguments: tuple[Any, ...], expected: str) -> Check:
        key = self.check(arguments[0])
        item = self.check(arguments[1] if len(arguments) > 1 else int)  # Counter has one argument
        everything = self._types.all
        if key.exact_types == everything == item.exact_types:
            return exactly(expected, candidates)
        return mapping_of(candidates, key, item, expected)

    def _generic(self, origin: type, arguments: tuple[Any, ...], expected: str) -> Check:
        """Check an instance of a generic class, which was checked before, for the arguments that are given here."""
        candidates = self._types.subclasses(origin)
        variables = self._bind(getattr(origin, "__parameters__", ()), arguments)
        reader = self._inside(variables, origin.__module__)
        checks = {
            name: reader.check(annotation)
            for name, annotation in self._types.fields(origin).items()
            if mentions(annotation, frozenset(variables))
        }
        try:
            argument_check = self._types.argument_check(origin, tuple(map(self._bound, arguments)))
        except TypeError:
            raise self._error(f"{expected} cannot be checked") from None
        return instance_of(candidates, checks, argument_check, expected)

    def _bound(self, annotation: Any) -> Any:
        return substitute(annotation, self._variables)

    def _bind(self, parameters: Iterable[Any], arguments: Iterable[Any]) -> Variables:
        return dict(zip(parameters, map(self._bound, arguments), strict=False))

    def _typed_dict(self, cls: Any, expected: str) -> Check:
        found = hints(cls, self._owner)
        for name, hint in found.items():
            for variable in (hint, *getattr(hint, "__parameters__", ())):
                if isinstance(variable, TypeVar) and variable not in getattr(cls, "__parameters__", ()):
                    # Before Python 3.12, only a direct base is known with its arguments.
                    raise ConfigurationError(
                        f"{self._owner}: {annotation_text(cls)} inherits {name} with the type variable "
                        f"{variable.__name__}; annotate {name} in {annotation_text(cls)} as well"
                    )
        # __required_keys__ is wrong for annotations that were strings when the class was made.
        required = {name for name in cls.__required_keys__ if get_origin(found[name]) is not typing.NotRequired}
        required |= {name for name, hint in found.items() if get_origin(hint) is typing.Required}
        return typed_dict_of({name: self.check(hint) for name, hint in found.items()}, required, expected)


_UNCHECKABLE: Final = frozenset((type, types.ModuleType, types.FunctionType, types.CodeType, collections.abc.Callable))


def annotation_text(annotation: Any) -> str:
    """Return an annotation as its author would write it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        plain = annotation.__module__ in ("builtins", "typing")
        return annotation.__qualname__ if plain else f"{annotation.__module__}.{annotation.__qualname__}"
    return str(annotation).replace("typing.", "").replace("NoneType", "None")
