"""Which types a message may have."""

from __future__ import annotations

import datetime
import decimal
import fractions
import ipaddress
import os
import pathlib
import tomllib
import typing
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, Self

from sealwire import tables
from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.pickling.adapters import Adapter, CustomAdapter, adapter_for, check_importable, spelling
from sealwire.pickling.annotations import Types
from sealwire.pickling.constructors import only_named
from sealwire.pickling.grants import Grant
from sealwire.pickling.importing import named
from sealwire.pickling.standard import standard_grants

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
"""The standard value types beside plain data, in groups that can be switched off."""

VALUES: Final = frozenset(cls for group in GROUPS.values() for cls in group)
STANDARD: Final = PLAIN | VALUES
_ABSTRACT: Final = frozenset((pathlib.PurePath, pathlib.Path))  # what one has is a subclass
_GROUP_OF: Final = {cls: name for name, group in GROUPS.items() for cls in group}

_OPTIONS: Final = ("types", "shallow", "without", "adapters")
_ADAPTER: Final = {"type", "dump", "load"}

Validate = Literal["deep", "shallow"]


class Allowlist:
    """The types that a message may have: plain data always, the standard value types, and those that are named.

    ``types``: dataclasses, enums, named tuples, attrs classes, msgspec structs, pydantic models, exceptions, NumPy's
    ``ndarray`` and scalars. Other types need :meth:`register`. ``without``: groups of standard value types that are not
    accepted: "datetime", "numbers", "uuid", "paths", "ipaddress", "collections".

    A list can be added to until a codec uses it; from then on it is immutable. ``a | b`` is a new list with the types
    of both, and without the groups that both are without.

    Raises ConfigurationError, with the reason, for what cannot be allowed.
    """

    __slots__ = ("_adapters", "_covered", "_in_use", "_without")

    def __init__(self, *types: Any, without: Iterable[str] = ()) -> None:
        self._adapters: dict[type, Adapter] = {}
        self._covered: dict[type, Adapter] = {}
        """The exact types of values, and the adapter of each."""
        self._without: Final = frozenset([without] if isinstance(without, str) else without)
        self._in_use = False
        unknown = self._without - GROUPS.keys()
        if unknown:
            raise ConfigurationError(
                f"there is no group {sorted(unknown)[0]!r} of standard types; there are {', '.join(GROUPS)}"
            )
        self.allow(*types)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Allowlist:
        """From the table ``[allowlist]`` of a configuration file; the other tables of the file are not looked at.

        The modules of its types are imported. Raises ConfigurationError: the file, the key and the form expected.
        """
        name = os.fspath(path)
        try:
            with open(path, "rb") as file:
                table = tomllib.load(file).get("allowlist", {})
            return cls.from_table(table)
        except OSError as error:
            raise ConfigurationError(f"{name}: cannot be read ({error.strerror})") from None
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{name}: not valid TOML: {error}") from None

    @classmethod
    def from_table(cls, table: object) -> Allowlist:
        """From a table ``[allowlist]`` that has been read already. Raises ConfigurationError."""
        if type(table) is not dict:
            raise ConfigurationError("allowlist: expected a table")
        tables.only(table, _OPTIONS, "allowlist.")
        option = "without"
        try:
            made = cls(without=_strings(table, option))
            for option in ("types", "shallow"):
                for name in _strings(table, option):
                    made.allow(named(name), validate="shallow" if option == "shallow" else "deep")
            option = "adapters"
            for each in _adapter_tables(table):
                made.register(named(each["type"]), dump=named(each["dump"]), load=named(each["load"]))
        except ConfigurationError as error:
            raise ConfigurationError(f"allowlist.{option}: {error}") from None
        return made

    def allow(self, *types: Any, validate: Validate = "deep") -> Self:
        """Add types; ``validate``: "shallow" does not look into the containers in their fields.

        Returns the list itself. Raises ConfigurationError.
        """
        if validate not in ("deep", "shallow"):
            raise ConfigurationError(f"validate must be 'deep' or 'shallow', not {validate!r}")
        for cls in types:
            # A TypedDict's values are dicts; it counts where a field is annotated with it.
            if cls in STANDARD | _ABSTRACT or typing.is_typeddict(cls):
                continue
            self._add(adapter_for(cls, shallow=validate == "shallow"))
        return self

    def register(self, cls: type, *, dump: Callable[[Any], tuple[Any, ...]], load: Callable[..., Any]) -> Self:
        """Add any other type: ``dump(value)`` gives a tuple of accepted values, ``load(*parts)`` makes the value again.

        ``load`` gets what a peer chose, and must check it; what it raises becomes InvalidValue.
        Returns the list itself. Raises ConfigurationError.
        """
        if not isinstance(cls, type) or issubclass(cls, type):
            raise ConfigurationError("an adapter is registered for a class")
        if cls in STANDARD:
            raise ConfigurationError(f"{spelling(cls)} is a standard value type and has an adapter already")
        for name, function in (("dump", dump), ("load", load)):
            if not callable(function):
                raise ConfigurationError(f"{name} must be a function, not a value of type {spelling(type(function))}")
        check_importable(cls)
        self._add(CustomAdapter(cls, dump, load))
        return self

    def _add(self, adapter: Adapter) -> None:
        if self._in_use:
            raise ConfigurationError(
                "this allowlist is in use by a codec and cannot be changed; make another one: old | Allowlist(...)"
            )
        for other in self._adapters.values():
            if other.spelling == adapter.spelling and other.cls is not adapter.cls:
                raise ConfigurationError(f"there are two types of the name {adapter.spelling}")
        self._adapters[adapter.cls] = adapter
        self._covered.update(dict.fromkeys(adapter.covers, adapter))

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Of the types that were named, in that order."""
        return tuple(self._adapters.values())

    def adapter(self, cls: type) -> Adapter | None:
        """Of values of exactly this type, where one was named that covers them."""
        return self._covered.get(cls)

    @property
    def without(self) -> frozenset[str]:
        """The groups of standard value types that are not accepted."""
        return self._without

    def grants(self, limits: Limits) -> Iterator[Grant]:
        """What the names in a message may do. The list is in use from then on. Raises ConfigurationError."""
        self._in_use = True
        off = frozenset(cls for name in self._without for cls in GROUPS[name])
        yield from standard_grants(limits.max_probes, off)
        types = Types(STANDARD - off, self._covered, self._fields, self._narrow)
        named: set[tuple[str, str]] = set()
        outer: set[tuple[str, str]] = set()
        for adapter in self._adapters.values():
            for grant in adapter.grants(types):
                if grant.names and named.issuperset(grant.names):
                    continue  # a function that several adapters share
                named.update(grant.names)
                outer.update(name for name, _ in grant.members)
                yield grant
        for name in _with_outer(outer) - named:
            members = ((name[0], name[1].rpartition(".")[0]), name[1].rpartition(".")[2])
            yield Grant(
                spelling=".".join(name), names=(name,), members=(members,) if "." in name[1] else (), powers=0,
                load=only_named(".".join(name)),
            )  # fmt: skip

    def _fields(self, cls: type) -> dict[str, Any]:
        return dict(self._covered[cls].fields)

    def _narrow(self, cls: type, arguments: tuple[Any, ...]) -> Callable[[Any], bool] | None:
        return self._covered[cls].narrow(arguments)

    def __contains__(self, cls: type) -> bool:
        """Whether values of exactly this type can be encoded."""
        if cls in self._covered or cls in PLAIN or cls is memoryview:
            return True
        return cls in VALUES and _GROUP_OF[cls] not in self._without

    def __or__(self, other: Allowlist) -> Allowlist:
        if not isinstance(other, Allowlist):
            return NotImplemented
        union = Allowlist(without=self._without & other._without)
        for adapter in (*self._adapters.values(), *other._adapters.values()):
            union._add(adapter)
        return union

    def __repr__(self) -> str:
        names = [adapter.spelling for adapter in self._adapters.values()]
        if self._without:
            names.append(f"without={sorted(self._without)}")
        return f"Allowlist({', '.join(names)})"


def _strings(table: dict[str, Any], option: str) -> list[str]:
    values = table.get(option, [])
    if type(values) is not list or not all(type(value) is str for value in values):
        raise ConfigurationError("expected a list of strings")
    return values


def _adapter_tables(table: dict[str, Any]) -> list[dict[str, Any]]:
    found = table.get("adapters", [])
    if type(found) is not list or not all(type(each) is dict and each.keys() == _ADAPTER for each in found):
        raise ConfigurationError('expected tables of type, dump and load, each "module:name"')
    return found


def _with_outer(names: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The names, and those of the classes that they are in."""
    found = set(names)
    for module, name in names:
        while "." in name:
            name = name.rpartition(".")[0]
            found.add((module, name))
    return found


def not_allowed(value: object) -> str:
    """What to say of a value that cannot be encoded."""
    name = f"the class {spelling(value)}" if issubclass(type(value), type) else spelling(type(value))
    return f"{name} is not on the allowlist"
