"""Values of allowed types, written as JSON: by their fields, and converted as the annotations say.

``{"$type": "shop:Order", "id": 1, "price": "12.50"}`` is an Order. Inside it no names of types are needed, except
between several classes of a union. ``{"$type": "decimal:Decimal", "$value": "12.50"}`` is a value that has no fields.
"""

from __future__ import annotations

import collections
import collections.abc
import enum
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from sealwire.cli.texts import READERS, Number, kind_of
from sealwire.errors import InvalidValue
from sealwire.pickling.adapters import Adapter, CustomAdapter
from sealwire.pickling.adapters.record import Record, built
from sealwire.pickling.allowlist import Allowlist
from sealwire.pickling.annotations import annotation_text
from sealwire.pickling.hints import hints, substitute

TYPE: Final = "$type"
VALUE: Final = "$value"
_ABC: Final = collections.abc
_SEQUENCES: Final[dict[Any, Callable[..., Any]]] = {
    list: list, tuple: tuple, set: set, frozenset: frozenset, collections.deque: collections.deque,
    _ABC.Sequence: list, _ABC.MutableSequence: list, _ABC.Iterable: list, _ABC.Collection: list,
    _ABC.Set: set, _ABC.MutableSet: set,
}  # fmt: skip
_MAPPINGS: Final[dict[Any, Callable[..., Any]]] = {
    dict: dict, collections.OrderedDict: collections.OrderedDict, collections.Counter: collections.Counter,
    _ABC.Mapping: dict, _ABC.MutableMapping: dict,
}  # fmt: skip
_WRAPPERS: Final = (Annotated, typing.Required, typing.NotRequired, typing.Final)
_MOST: Final = 8
"""Names that an error lists, at most."""


class Builder:
    """Makes values of JSON. Only types of the allowlist are made, by their own constructors.

    Args:
        allowlist: The configured types.
    """

    def __init__(self, allowlist: Allowlist) -> None:
        self._allowlist = allowlist
        self._types = allowlist.types()
        self._records: dict[type, Record | None] = {}
        standard = [cls for cls in (*READERS, *_SEQUENCES, *_MAPPINGS) if cls in allowlist]
        found = [*standard, *(adapter.cls for adapter in allowlist.adapters)]
        self._named: dict[str, type] = {
            f"{cls.__module__.partition('.')[0]}:{cls.__qualname__}": cls for cls in standard
        }
        self._named |= {f"{cls.__module__}:{cls.__qualname__}": cls for cls in found}

    def named(self, name: object) -> type:
        """Return the type with a name like ``shop:Order``. Raises InvalidValue."""
        cls = self._named.get(name) if isinstance(name, str) else None
        if cls is None:
            names = [f"{each.cls.__module__}:{each.cls.__qualname__}" for each in self._allowlist.adapters]
            listed = ", ".join(names[:_MOST]) + (", …" if names[_MOST:] else "")
            what = f"{name[:100]} is not a type" if isinstance(name, str) else f"{TYPE} is not the name of a type"
            raise InvalidValue(f"{what} of the configuration's allowlist, which has {listed or 'only standard types'}")
        return cls

    def build(self, value: Any, hint: Any = Any) -> Any:
        """Return the value that JSON has for an annotation. Raises InvalidValue, with the path to what is wrong."""
        while True:
            if get_origin(hint) in _WRAPPERS:
                hint = get_args(hint)[0]
            elif isinstance(hint, TypeVar):
                hint = hint.__bound__ or Any
            elif hasattr(hint, "__supertype__"):  # NewType
                hint = hint.__supertype__
            else:
                hint, before = getattr(hint, "__value__", hint), hint  # of `type X = …`
                if hint is before:
                    break
        if isinstance(value, dict) and TYPE in value:
            cls = self.named(value[TYPE])
            rest = {name: part for name, part in value.items() if name != TYPE}
            value = rest[VALUE] if rest.keys() == {VALUE} else rest
            hint = hint if get_origin(hint) is cls else cls
        origin = get_origin(hint)
        if hint in (Any, object) or isinstance(hint, str | typing.ForwardRef):
            return self._plain(value)
        if origin in (Union, types.UnionType):
            return self._union(value, get_args(hint))
        if origin is Literal:
            return self._literal(value, hint)
        return self._of_class(value, origin or hint, hint)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._items(value, dict, str, Any)
        if isinstance(value, list):
            return self._sequence(value, list, (Any,))
        return float(value) if isinstance(value, float) else value

    def _of_class(self, value: Any, cls: Any, hint: Any) -> Any:
        if cls in (None, type(None)):
            return value if value is None else _refuse(value, "null")
        if isinstance(cls, type) and (adapter := self._allowlist.adapter(cls)) is not None:
            return self._instance(value, adapter, hint)
        if cls in READERS:
            wanted, read = READERS[cls]
            try:
                return read(value)
            except (ValueError, TypeError, ArithmeticError, LookupError):
                raise _unfit(value, wanted) from None
        if cls in _SEQUENCES:
            return self._sequence(value, cls, get_args(hint))
        if cls in _MAPPINGS:
            arguments = (*get_args(hint), Any, Any)
            return self._items(value, cls, arguments[0], int if cls is collections.Counter else arguments[1])
        if typing.is_typeddict(cls):
            return self._fields(value, hints(cls, cls.__qualname__))
        known = self._types.subclasses(cls) if isinstance(cls, type) else ()
        if known:
            names = ", ".join(sorted(f"{each.__module__}:{each.__qualname__}" for each in known))
            raise InvalidValue(f'expected an object with "{TYPE}": one of {names}')
        raise InvalidValue(f"{annotation_text(hint)} cannot be written as JSON; send it from Python")

    def _instance(self, value: Any, adapter: Adapter, hint: Any) -> Any:
        cls, name = adapter.cls, adapter.qualified_name
        if issubclass(cls, enum.Enum):
            return _member(value, cls)
        if isinstance(adapter, CustomAdapter):
            parts = self._sequence(value, tuple, (Any, ...))
            return next(iter(adapter.global_rules(self._types))).load(*parts)
        variables = dict(zip(getattr(cls, "__parameters__", ()), get_args(hint), strict=False))
        declared = {field: substitute(each, variables) for field, each in adapter.fields.items()}
        if isinstance(value, list) and issubclass(cls, tuple):  # as a reply has it
            if len(value) > len(declared):
                raise InvalidValue(f"expected at most {len(declared)} items for {name}, got {len(value)}")
            value = dict(zip(declared, value, strict=False))
        if not isinstance(value, dict):
            raise _unfit(value, f"an object with the fields of {name}: {', '.join(declared) or 'none'}")
        fields = self._fields(value, declared, name)
        if adapter.kind == "pydantic model":
            return _validated(cls, fields, name)
        if cls not in self._records:
            self._records[cls] = next((rule.record for rule in adapter.global_rules(self._types)), None)
        record = self._records[cls]
        if record is None:
            raise InvalidValue(f"{name} cannot be written as JSON; send it from Python")
        defaults = adapter.unset() | adapter.defaults()
        lacking = [field for field in declared if field not in fields]
        if missing := [field for field in lacking if field not in defaults]:
            raise InvalidValue(f"{name} lacks {', '.join(missing)}")
        return record.make_from(fields | {field: built(name, defaults[field]) for field in lacking})

    def _fields(self, value: Any, declared: dict[str, Any], name: str = "it") -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _unfit(value, "an object")
        if unknown := [field for field in value if field not in declared]:
            raise InvalidValue(f"{name} has no field {unknown[0][:100]!a}; it has {', '.join(declared) or 'none'}")
        return {field: self._inside(f".{field}", part, declared[field]) for field, part in value.items()}

    def _sequence(self, value: Any, cls: Any, arguments: tuple[Any, ...]) -> Any:
        if not isinstance(value, list):
            raise _unfit(value, "an array")
        if cls is tuple and arguments and arguments[-1] is not Ellipsis:
            if len(value) != len(arguments):
                raise InvalidValue(f"expected an array of {len(arguments)}, got one of {len(value)}")
            expected: Any = arguments
        else:
            expected = [arguments[0] if arguments else Any] * len(value)
        items = (
            self._inside(f"[{index}]", item, hint)
            for index, (item, hint) in enumerate(zip(value, expected, strict=True))
        )
        return _made(_SEQUENCES[cls], list(items))

    def _items(self, value: Any, cls: Any, key: Any, item: Any) -> Any:
        if isinstance(value, dict):
            pairs = [[name, part] for name, part in value.items()]
        elif isinstance(value, list) and all(isinstance(each, list) and len(each) == 2 for each in value):
            pairs = value  # as a reply has a dict with other keys than strings
        else:
            raise _unfit(value, "an object, or an array of [key, value] arrays")
        made = [(self._inside(".<key>", name, key), self._inside(f".{name}", part, item)) for name, part in pairs]
        return _made(lambda items: _MAPPINGS[cls](dict(items)), made)

    def _union(self, value: Any, hinted: tuple[Any, ...]) -> Any:
        if value is None and type(None) in hinted:
            return None
        others = [each for each in hinted if each is not type(None)]
        # What JSON has itself comes before what is made of its strings and numbers.
        others.sort(key=lambda each: each is not type(value) and not (each is float and isinstance(value, Number)))
        classes = [each for each in others if self._is_configured(get_origin(each) or each)]
        if isinstance(value, dict) and len(classes) > 1:
            names = ", ".join(annotation_text(each) for each in classes)
            raise InvalidValue(f'expected an object with "{TYPE}", as it may be any of {names}')
        failures = []
        for hint in others:
            try:
                return self.build(value, hint)
            except InvalidValue as error:
                failures.append(error)
        if len(failures) == 1 or (isinstance(value, dict) and len(classes) == 1):
            raise failures[others.index(classes[0]) if len(failures) > 1 else 0]
        raise _unfit(value, " or ".join(annotation_text(each) for each in hinted))

    def _is_configured(self, cls: Any) -> bool:
        return isinstance(cls, type) and not issubclass(cls, enum.Enum) and self._allowlist.adapter(cls) is not None

    def _literal(self, value: Any, hint: Any) -> Any:
        for each in get_args(hint):
            if type(each) is type(value) and each == value:
                return value
            if isinstance(each, enum.Enum) and value in (each.name, str(each)):
                return each
        raise _unfit(value, annotation_text(hint))

    def _inside(self, segment: str, value: Any, hint: Any) -> Any:
        try:
            return self.build(value, hint)
        except InvalidValue as error:
            error.inside(segment)
            raise


def _unfit(value: Any, wanted: str) -> InvalidValue:
    return InvalidValue(f"expected {wanted}, got {kind_of(value)}")


def _refuse(value: Any, wanted: str) -> Any:
    raise _unfit(value, wanted)


def _made(make: Callable[[Any], Any], items: Any) -> Any:
    try:
        return make(items)
    except TypeError:
        raise InvalidValue("an array or object cannot be a key, or in a set") from None


def _member(value: Any, cls: Any) -> Any:
    """Return the member of an enumeration with a name, as Python prints it or alone, or with a value."""
    if isinstance(value, str):
        names = value.removeprefix(f"{cls.__name__}.").split("|")
        if all(name in cls.__members__ for name in names) and (len(names) == 1 or issubclass(cls, enum.Flag)):
            member = cls[names[0]]
            for name in names[1:]:
                member |= cls[name]
            return member
    for each in cls:
        if type(each.value) is type(value) and each.value == value:
            return each
    if issubclass(cls, enum.Flag) and type(value) is int:
        return built(cls.__qualname__, cls, value)
    names = list(cls.__members__)
    listed = ", ".join(names[:_MOST]) + (", …" if names[_MOST:] else "")
    raise _unfit(value, f"a member of {cls.__qualname__}: {listed}")


def _validated(cls: Any, fields: dict[str, Any], name: str) -> Any:
    try:
        return cls.model_validate(fields, strict=True, by_alias=False, by_name=True)
    except ValueError as error:
        details: Any = error
        first = details.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise InvalidValue(f"{name}{place}: {first['msg']}") from None
