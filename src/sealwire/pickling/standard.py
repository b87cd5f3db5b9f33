"""The standard value types: what a message may say of each."""

from __future__ import annotations

import ipaddress
import pathlib
from collections.abc import Collection, Iterator
from typing import Any, Final

from sealwire.pickling.constructors import (
    Load,
    defaultdict_loader,
    ip_loader,
    load_bytearray,
    load_bytes,
    load_complex,
    load_counter,
    load_date,
    load_datetime,
    load_decimal,
    load_deque,
    load_encode,
    load_fraction,
    load_ordered_dict,
    load_time,
    load_timedelta,
    load_timezone,
    load_uuid,
    load_zone,
    only_named,
    path_loader,
    set_loader,
    zones,
)
from sealwire.pickling.grants import (
    CALL,
    CALL_EMPTY,
    FACTORY,
    GETATTR,
    NEW,
    PAIRED,
    PHRASE_ENCODE,
    TAKES_FACTORY,
    TAKES_ITEMS,
    TAKES_PAIRS,
    UNHASHABLE,
    Grant,
)

FACTORIES: Final[tuple[type, ...]] = (
    bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set, str, tuple,
)  # fmt: skip
"""What a defaultdict may have as its factory, besides None."""


def standard_grants(max_probes: int, off: Collection[type] = ()) -> Iterator[Grant]:
    """The grants of the standard value types but those in ``off``; ``max_probes`` as in Limits."""
    names = {f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}" for cls in off}
    if "zoneinfo.ZoneInfo" not in names:
        zones()  # read now, rather than for a message
    return (grant for grant in _all_grants(max_probes) if grant.spelling not in names)


def _all_grants(max_probes: int) -> Iterator[Grant]:
    loaders: dict[type, tuple[int, Load]] = {
        set: (CALL | UNHASHABLE, set_loader(set, max_probes)),
        frozenset: (CALL, set_loader(frozenset, max_probes)),
        bytes: (CALL | CALL_EMPTY, load_bytes),
        bytearray: (CALL | CALL_EMPTY | UNHASHABLE, load_bytearray),
        complex: (CALL, load_complex),
    }
    factories: dict[Any, type] = {}
    for cls in FACTORIES:
        powers, load = loaders.get(cls, (0, only_named(cls.__name__)))
        factories[load] = cls
        yield Grant(
            spelling=cls.__name__,
            names=_builtin(cls.__name__),
            powers=powers | FACTORY,
            load=load,
            memory=_SET_MEMORY if cls in (set, frozenset) else 64,
            stretch=0 if cls is bytes else 4,
        )
    yield Grant(spelling="getattr", names=_builtin("getattr"), powers=GETATTR, load=only_named("getattr"))
    yield Grant(spelling="_codecs.encode", names=(("_codecs", "encode"),), powers=PHRASE_ENCODE, load=load_encode)
    yield _plain("zoneinfo", "ZoneInfo", only_named("zoneinfo.ZoneInfo"), powers=0)
    yield Grant(
        spelling="zoneinfo.ZoneInfo",
        names=(),
        members=((("zoneinfo", "ZoneInfo"), "_unpickle"),),
        powers=CALL,
        load=load_zone,
        memory=4096,
    )

    for name, load in {
        "datetime": load_datetime,
        "date": load_date,
        "time": load_time,
        "timedelta": load_timedelta,
        "timezone": load_timezone,
    }.items():
        yield _plain("datetime", name, load)
    # Time, too: for a greatest common divisor, and for counting digits.
    yield _plain("decimal", "Decimal", load_decimal, memory=128, stretch=64)
    yield _plain("fractions", "Fraction", load_fraction, powers=CALL | PAIRED, memory=128, stretch=64)
    yield _plain("uuid", "UUID", load_uuid, powers=NEW, memory=256)

    for path in (pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())):
        yield Grant(
            spelling=f"pathlib.{path.__name__}",
            # CPython 3.13 writes the private name.
            names=(("pathlib", path.__name__), ("pathlib._local", path.__name__)),
            powers=CALL | CALL_EMPTY,
            load=path_loader(path),
            memory=1024,
            stretch=64,
        )
    for family in ("IPv4", "IPv6"):
        for what in ("Address", "Network", "Interface"):
            cls = getattr(ipaddress, family + what)
            yield _plain("ipaddress", cls.__name__, ip_loader(cls), memory=1024)

    yield _container("OrderedDict", load_ordered_dict, CALL_EMPTY | TAKES_PAIRS, memory=512)
    yield _container("deque", load_deque, CALL | CALL_EMPTY | TAKES_ITEMS, memory=768)
    yield _container("Counter", load_counter, CALL, memory=512)
    yield _container("defaultdict", defaultdict_loader(factories), CALL_EMPTY | TAKES_FACTORY | TAKES_PAIRS, memory=320)


_SET_MEMORY: Final = 320


def _builtin(name: str) -> tuple[tuple[str, str], ...]:
    # Protocol 2 names builtins as Python 2 did.
    old = {"int": "long", "str": "unicode"}.get(name, name)
    return (("builtins", name), ("__builtin__", old))


def _plain(module: str, name: str, load: Load, *, powers: int = CALL, memory: int = 128, stretch: int = 4) -> Grant:
    names = ((module, name),)
    return Grant(spelling=f"{module}.{name}", names=names, powers=powers, load=load, memory=memory, stretch=stretch)


def _container(name: str, load: Load, powers: int, *, memory: int) -> Grant:
    return _plain("collections", name, load, powers=powers | UNHASHABLE, memory=memory)
