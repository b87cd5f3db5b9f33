"""The rules for the standard value types."""

from __future__ import annotations

import datetime
import decimal
import fractions
import ipaddress
import pathlib
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping
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
    zones,
)
from sealwire.pickling.globals import (
    CALL,
    CALL_EMPTY,
    CALL_ENCODE,
    CALL_GETATTR,
    DEFERRED,
    FACTORY,
    HASHED_BY_PAIR,
    NEW,
    TAKES_FACTORY,
    TAKES_ITEMS,
    TAKES_KEYS,
    TAKES_PAIRS,
    UNHASHABLE,
    GlobalRule,
)

BUILTINS: Final[tuple[type, ...]] = (
    bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set, str, tuple,
)  # fmt: skip
"""Types of plain data that a message may name."""
FACTORIES: Final = frozenset(
    (
        *BUILTINS, datetime.timedelta, decimal.Decimal, fractions.Fraction, pathlib.PurePosixPath,
        pathlib.PureWindowsPath, type(pathlib.Path()), OrderedDict, defaultdict, deque, Counter,
    )
)  # fmt: skip
"""The factories that a defaultdict may have, besides None. A peer names them: calling them must have no effect."""


def standard_rules(off: Collection[type] = (), *, zoned: bool = False) -> Iterator[GlobalRule]:
    """Return the rules for the standard value types.

    Args:
        off: Types that are not accepted.
        zoned: There are other types of time zones, which are made after the message was built.
    """
    factories: dict[Any, type] = {}
    names = {f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}" for cls in off}
    if "zoneinfo.ZoneInfo" not in names:
        zones()  # cached now, so that no message has to wait for it
    for rule in _all_rules(factories, zoned=zoned):
        if rule.qualified_name not in names:
            if rule.permissions & FACTORY:
                module, name = rule.names[0]
                factories[rule.load] = getattr(sys.modules[module], name)
            yield rule


def _all_rules(factories: Mapping[Any, type], *, zoned: bool) -> Iterator[GlobalRule]:
    loaders: dict[type, tuple[int, Load]] = {
        # The resolver makes them, which charges for their keys.
        set: (CALL | UNHASHABLE | TAKES_KEYS | DEFERRED, set),
        frozenset: (CALL | TAKES_KEYS | DEFERRED, frozenset),
        bytes: (CALL | CALL_EMPTY, load_bytes),
        bytearray: (CALL | CALL_EMPTY | UNHASHABLE, load_bytearray),
        complex: (CALL, load_complex),
    }
    for cls in BUILTINS:
        permissions, load = loaders.get(cls, (0, only_named(cls.__name__)))
        yield GlobalRule(
            qualified_name=cls.__name__,
            names=(("builtins", cls.__name__),),
            permissions=permissions | FACTORY,
            load=load,
            memory=_SET_MEMORY if cls in (set, frozenset) else 64,
            memory_per_byte=0 if cls is bytes else 4,
        )
    yield GlobalRule(
        qualified_name="getattr", names=(("builtins", "getattr"),), permissions=CALL_GETATTR, load=only_named("getattr")
    )
    yield _rule("_codecs", "encode", load_encode, CALL_ENCODE)
    zone = ("zoneinfo", "ZoneInfo")
    yield _rule(*zone, only_named("zoneinfo.ZoneInfo"), 0)
    yield _rule(*zone, load_zone, names=(), members=((zone, "_unpickle"),), memory=4096)

    for name, load in {
        "datetime": load_datetime, "date": load_date, "time": load_time, "timedelta": load_timedelta,
        "timezone": load_timezone,
    }.items():  # fmt: skip
        more = DEFERRED if zoned and name in ("datetime", "time") else FACTORY if name == "timedelta" else 0
        yield _rule("datetime", name, load, CALL | more)
    # More for each byte, because it takes time as well: counting digits, and a greatest common divisor.
    yield _rule("decimal", "Decimal", load_decimal, CALL | FACTORY, memory_per_byte=64)
    yield _rule("fractions", "Fraction", load_fraction, CALL | FACTORY | HASHED_BY_PAIR, memory_per_byte=64)
    yield _rule("uuid", "UUID", load_uuid, NEW, memory=256)

    for cls in (pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())):
        # CPython 3.13 writes the private name.
        names = (("pathlib", cls.__name__), ("pathlib._local", cls.__name__))
        load = path_loader(cls)
        yield _rule(*names[0], load, CALL | CALL_EMPTY | FACTORY, names=names, memory=1024, memory_per_byte=64)
    for version in ("IPv4", "IPv6"):
        for kind in ("Address", "Network", "Interface"):
            yield _rule("ipaddress", version + kind, ip_loader(getattr(ipaddress, version + kind)), memory=1024)

    for name, load, permissions, memory in (
        ("OrderedDict", load_ordered_dict, CALL_EMPTY | TAKES_PAIRS, 512),
        ("deque", load_deque, CALL | CALL_EMPTY | TAKES_ITEMS, 768),
        ("Counter", load_counter, CALL, 512),
        ("defaultdict", defaultdict_loader(factories), CALL_EMPTY | TAKES_FACTORY | TAKES_PAIRS, 320),
    ):
        yield _rule("collections", name, load, permissions | UNHASHABLE | FACTORY, memory=memory)


_SET_MEMORY: Final = 320


def _rule(module: str, name: str, load: Load, permissions: int = CALL, **options: Any) -> GlobalRule:
    options = {"names": ((module, name),), "memory": 128, **options}
    return GlobalRule(qualified_name=f"{module}.{name}", load=load, permissions=permissions, **options)
