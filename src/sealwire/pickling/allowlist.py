"""The allowlist: the types that a message may contain."""

from __future__ import annotations

import datetime
import decimal
import fractions
import ipaddress
import os
import pathlib
import pickle
import typing
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, Self

from sealwire import toml_options
from sealwire.errors import ConfigurationError
from sealwire.pickling.adapters import (
    Adapter,
    CustomAdapter,
    adapter_for,
    check_hashable,
    check_importable,
    qualified_name,
)
from sealwire.pickling.annotations import Types
from sealwire.pickling.collecting import Collector
from sealwire.pickling.constructors import only_named
from sealwire.pickling.globals import GlobalRule, how_to_allow, shown
from sealwire.pickling.importing import import_object
from sealwire.pickling.signatures import signatures_of
from sealwire.pickling.standard import standard_rules

PLAIN: Final = frozenset(
    (type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
)
GROUPS: Final[dict[str, tuple[type, ...]]] = {
    "datetime": (
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo
    ),
    "numbers": (decimal.Decimal, fractions.Fraction),
    "uuid": (uuid.UUID,),
    "paths": (pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())),
    "ipaddress": (
        ipaddress.IPv4Address, ipaddress.IPv4Network, ipaddress.IPv4Interface,
        ipaddress.IPv6Address, ipaddress.IPv6Network, ipaddress.IPv6Interface,
    ),
    "collections": (OrderedDict, defaultdict, deque, Counter),
}  # fmt: skip
"""The standard value types besides plain data, in groups that can be switched off."""

VALUES: Final = frozenset(cls for group in GROUPS.values() for cls in group)
STANDARD: Final = PLAIN | VALUES
_BUFFERS: Final = frozenset((memoryview, pickle.PickleBuffer))  # encoded as bytes
_ABSTRACT: Final = frozenset((pathlib.PurePath, pathlib.Path))  # values are of a subclass
_GROUP_OF: Final = {cls: name for name, group in GROUPS.items() for cls in group}

_OPTIONS: Final = ("types", "shallow", "without", "adapters", "handlers", "missing")
_LISTS: Final = ("types", "shallow", "without", "handlers")
_ADAPTER: Final = {"type", "dump", "load"}

Validate = Literal["deep", "shallow"]
Missing = Literal["refuse", "default"]


class Allowlist:
    """The types that a message may contain: plain data, the standard value types, and types that are listed.

    Types can be added until a codec uses the list; from then on it is immutable. ``a | b`` is a new list with the types
    of both, which lacks only the groups that both lack.

    Args:
        types: Dataclasses, enums, named tuples, attrs classes, msgspec structs, pydantic models, exceptions, NumPy's
            ``ndarray`` and scalars. Other types need :meth:`register`.
        without: Groups of standard value types that are not accepted: "datetime", "numbers", "uuid", "paths",
            "ipaddress", "collections".

    Raises:
        ConfigurationError: A type cannot be allowed; the error says why.
    """

    __slots__ = ("_adapters", "_covered", "_in_use", "_origins", "_without")

    def __init__(self, *types: Any, without: Iterable[str] = ()) -> None:
        self._adapters: dict[type, Adapter] = {}
        self._covered: dict[type, Adapter] = {}
        """The adapter for each exact type of values."""
        self._origins: dict[type, str] = {}
        """The place of the annotation that a type was found in."""
        if not isinstance(without, Iterable):
            raise ConfigurationError(f"without must be a list of {', '.join(GROUPS)}, not {type(without).__name__}")
        names = [without] if isinstance(without, str) else list(without)
        for name in names:
            if type(name) is not str or name not in GROUPS:
                raise ConfigurationError(f"there is no group {name!r} of standard types; there are {', '.join(GROUPS)}")
        self._without: Final = frozenset(names)
        self._in_use = False
        self.allow(*types)

    @classmethod
    def from_handler(cls, *handlers: Any) -> Allowlist:
        """Make a list of the types that the signatures of handlers declare.

        ``Allowlist.from_handler(Orders)`` is ``Allowlist().allow_handlers(Orders)``.

        Args:
            handlers: As for :meth:`allow_handlers`.

        Raises:
            ConfigurationError: As for :meth:`allow_handlers`.
        """
        return cls().allow_handlers(*handlers)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Allowlist:
        """Read the table ``[allowlist]`` of a configuration file, and import the modules of its types.

        Args:
            path: The file. Its other tables are ignored.

        Raises:
            ConfigurationError: The file cannot be read or is not valid; the error names the file, the key and the
                form that was expected.
        """
        table = toml_options.read_toml(path).get("allowlist", {})
        try:
            return cls.from_table(table)
        except ConfigurationError as error:
            raise ConfigurationError(f"{os.fspath(path)}: {error}") from None

    @classmethod
    def from_table(cls, table: object) -> Allowlist:
        """Make a list from a table ``[allowlist]`` that has been read. Raises ConfigurationError."""
        if type(table) is not dict:
            raise ConfigurationError("allowlist: expected a table")
        toml_options.reject_unknown(table, _OPTIONS, "allowlist.")
        try:
            lists = {option: toml_options.strings(table, option) or [] for option in _LISTS}
        except ConfigurationError as error:
            raise ConfigurationError(f"allowlist.{error}") from None
        option = "missing"
        try:
            missing = _missing_table(table)
            option = "without"
            made = cls(without=lists[option])
            for option in ("types", "shallow"):
                for name in lists[option]:
                    validate: Validate = "shallow" if option == "shallow" else "deep"
                    made.allow(import_object(name), validate=validate, missing=missing.pop(name, "refuse"))
            option = "missing"
            _reject_unlisted(missing)
            option = "adapters"
            for each in _adapter_tables(table):
                made.register(
                    import_object(each["type"]), dump=import_object(each["dump"]), load=import_object(each["load"])
                )
            option = "handlers"
            made.allow_handlers(*map(import_object, lists["handlers"]))
        except ConfigurationError as error:
            raise ConfigurationError(f"allowlist.{option}: {error}") from None
        return made

    def allow(self, *types: Any, validate: Validate = "deep", missing: Missing = "refuse") -> Self:
        """Add types.

        Args:
            types: The types, as for the constructor.
            validate: "deep" checks the items of containers in their fields as well, "shallow" does not.
            missing: "default" gives a field its default if a message lacks it, for example while a type with one more
                field is being rolled out; "refuse" refuses the message. A field without a default may never be missing.

        Returns:
            The list itself.

        Raises:
            ConfigurationError: A type cannot be allowed, or the list is in use.
        """
        if validate not in ("deep", "shallow"):
            raise ConfigurationError(f"validate must be 'deep' or 'shallow', not {validate!r}")
        if missing not in ("refuse", "default"):
            raise ConfigurationError(f"missing must be 'refuse' or 'default', not {missing!r}")
        for cls in types:
            # The values of a TypedDict are dicts. It matters only in the annotation of a field.
            if any(cls is each for each in STANDARD | _ABSTRACT) or typing.is_typeddict(cls):
                continue
            adapter = adapter_for(cls, shallow=validate == "shallow")
            if missing == "default":
                adapter.fill()
            self._add(adapter)
        return self

    def allow_handlers(self, *handlers: Any) -> Self:
        """Add the types that the signatures of handlers declare, and those in their fields.

        Register a type that needs an adapter first, and add subclasses that are not declared themselves with
        :meth:`allow`.

        Args:
            handlers: Functions, or classes derived from RequestHandler or Service. A parameter or field without an
                annotation, or with ``Any``, adds nothing.

        Returns:
            The list itself.

        Raises:
            ConfigurationError: An annotation cannot be resolved or is not a type of values, a type cannot be allowed,
                or the list is in use. The error names the handler or the field.
        """
        collector = Collector(self._standard() | _BUFFERS, VALUES - self._standard(), self._covered)
        for handler in handlers:
            for signature in signatures_of(handler):
                for place, annotation in signature.places:
                    collector.collect(annotation, place, signature.module)
        for adapter, place in collector.found.items():
            self._add(adapter)
            self._origins[adapter.cls] = place
        return self

    def register(self, cls: type, *, dump: Callable[[Any], tuple[Any, ...]], load: Callable[..., Any]) -> Self:
        """Add a type of any other kind.

        Args:
            cls: The type.
            dump: Takes a value and returns a tuple of accepted values.
            load: Takes these values and makes the original one again. A peer chose them, so ``load`` must check them;
                its exceptions become InvalidValue.

        Returns:
            The list itself.

        Raises:
            ConfigurationError: The type cannot be registered, or the list is in use.
        """
        if not isinstance(cls, type) or issubclass(cls, type):
            raise ConfigurationError("an adapter is registered for a class")
        if any(cls is each for each in STANDARD):
            raise ConfigurationError(f"{qualified_name(cls)} is a standard value type and has an adapter already")
        for name, function in (("dump", dump), ("load", load)):
            if not callable(function):
                raise ConfigurationError(
                    f"{name} must be a function, not a value of type {qualified_name(type(function))}"
                )
        check_hashable(cls)
        check_importable(cls)
        self._add(CustomAdapter(cls, dump, load))
        return self

    def _add(self, adapter: Adapter) -> None:
        if self._in_use:
            raise ConfigurationError(
                "this allowlist is in use by a codec and cannot be changed; make a new one: old | Allowlist(...)"
            )
        for other in self._adapters.values():
            if other.qualified_name == adapter.qualified_name and other.cls is not adapter.cls:
                raise ConfigurationError(f"two types have the name {adapter.qualified_name}")
        self._adapters[adapter.cls] = adapter
        self._covered.update(dict.fromkeys(adapter.value_types, adapter))

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """The adapters of the listed types, in order."""
        return tuple(self._adapters.values())

    def adapter(self, cls: type) -> Adapter | None:
        """Return the adapter for values of exactly this type, or None if no listed type covers them."""
        return self._covered.get(cls)

    def origin(self, cls: type) -> str | None:
        """Return the place of the annotation for which a type was added; None if it was added by its name."""
        return self._origins.get(cls)

    def types(self, *, encoded: bool = False) -> Types:
        """Return the types that a message can contain, to compile the checks of annotations.

        Args:
            encoded: Include the types that are encoded as bytes.
        """
        standard = self._standard() | (_BUFFERS if encoded else frozenset[type]())
        return Types(standard, self._covered, self._fields, self._narrow)

    def _standard(self) -> frozenset[type]:
        return STANDARD.difference(*(GROUPS[name] for name in self._without))

    @property
    def without(self) -> frozenset[str]:
        """The groups of standard value types that are not accepted."""
        return self._without

    def global_rules(self) -> Iterator[GlobalRule]:
        """Yield the table of globals. The list is in use from then on. Raises ConfigurationError."""
        self._in_use = True
        off = STANDARD - self._standard()
        zoned = any(issubclass(cls, datetime.tzinfo) for cls in self._covered)
        yield from standard_rules(off, zoned=zoned)
        types = self.types()
        names: set[tuple[str, str]] = set()
        outer: set[tuple[str, str]] = set()
        for adapter in self._adapters.values():
            for rule in adapter.global_rules(types):
                if rule.names and names.issuperset(rule.names):
                    continue  # a function that several adapters share
                names.update(rule.names)
                outer.update(name for name, _ in rule.members)
                yield rule
        for name in _with_outer(outer) - names:
            members = ((name[0], name[1].rpartition(".")[0]), name[1].rpartition(".")[2])
            yield GlobalRule(
                qualified_name=".".join(name), names=(name,), permissions=0,
                members=(members,) if "." in name[1] else (),
                load=only_named(".".join(name)),
            )  # fmt: skip

    def _fields(self, cls: type) -> dict[str, Any]:
        return dict(self._covered[cls].fields)

    def _narrow(self, cls: type, arguments: tuple[Any, ...]) -> Callable[[Any], bool] | None:
        return self._covered[cls].argument_check(arguments)

    def __contains__(self, cls: type) -> bool:
        """Return True if values of exactly this type can be encoded."""
        if cls in self._covered or cls in PLAIN or cls is memoryview:
            return True
        return cls in VALUES and _GROUP_OF[cls] not in self._without

    def __or__(self, other: Allowlist) -> Allowlist:
        if not isinstance(other, Allowlist):
            return NotImplemented
        union = Allowlist(without=self._without & other._without)
        for adapter in (*self._adapters.values(), *other._adapters.values()):
            union._add(adapter)
        union._origins.update(other._origins | self._origins)
        return union

    def __repr__(self) -> str:
        names = [adapter.qualified_name for adapter in self._adapters.values()]
        if self._without:
            names.append(f"without={sorted(self._without)}")
        return f"Allowlist({', '.join(names)})"


def _missing_table(table: dict[str, Any]) -> dict[str, Missing]:
    found = table.get("missing", {})
    if type(found) is not dict or not all(value in ("refuse", "default") for value in found.values()):
        raise ConfigurationError('expected a table like {"shop:Order" = "default"}, with "default" or "refuse"')
    return dict(found)


def _reject_unlisted(names: Iterable[str]) -> None:
    for name in names:
        raise ConfigurationError(f"{name} is not in types or shallow")


def _adapter_tables(table: dict[str, Any]) -> list[dict[str, Any]]:
    found = table.get("adapters", [])
    if type(found) is not list or not all(type(each) is dict and each.keys() == _ADAPTER for each in found):
        raise ConfigurationError('expected tables of type, dump and load, each "module:name"')
    return found


def _with_outer(names: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the names, and those of the classes around them."""
    found = set(names)
    for module, name in names:
        while "." in name:
            name = name.rpartition(".")[0]
            found.add((module, name))
    return found


def not_on_the_list(value: object) -> str:
    """Return a text that says which type is not on the allowlist."""
    if issubclass(type(value), type):
        return f"the class {shown(qualified_name(value))} is not on the allowlist"
    return f"{shown(qualified_name(type(value)))} is not on the allowlist"


def not_allowed(value: object) -> str:
    """Return the error text for a value of a type that is not on the allowlist, with the remedy."""
    text = not_on_the_list(value)
    cls: Any = value if issubclass(type(value), type) else type(value)
    group = _GROUP_OF.get(cls)
    if group is not None:
        return f'{text}: its group of standard types is switched off by without = ["{group}"]'
    if cls.__module__ == "builtins" and not issubclass(cls, BaseException):
        if value is cls or not hasattr(cls, "__iter__"):
            return f"{text}; send plain data, such as its name, in its place"
        return f"{text}; send a list or dict of what is in it"
    try:
        adapter_for(cls)
    except ConfigurationError as error:
        return f"{text}: {error}"
    return f"{text}; add it on both sides: {how_to_allow(shown(f'{cls.__module__}:{cls.__qualname__}'))}"
