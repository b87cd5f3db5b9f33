"""The table of globals: what each name of the standard types may be used for, and what is said of other names."""

from __future__ import annotations

import builtins
import datetime
import decimal
import pathlib
import re
import uuid
import zoneinfo
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict, defaultdict, deque

import pytest

from sealwire.errors import InvalidValue, TypeNotAllowed
from sealwire.pickling.constructors import zones
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
    GlobalTable,
    how_to_allow,
    not_listed,
    shown,
)
from sealwire.pickling.standard import standard_rules

BOTH = CALL | CALL_EMPTY
HOST_PATH = f"pathlib.{type(pathlib.Path()).__name__}"
STANDARD = [
    *((name, FACTORY, 64, 4) for name in ("bool", "dict", "float", "int", "list", "str", "tuple")),
    ("bytearray", BOTH | UNHASHABLE | FACTORY, 64, 4),
    ("bytes", BOTH | FACTORY, 64, 0),
    ("complex", CALL | FACTORY, 64, 4),
    ("frozenset", CALL | FACTORY | DEFERRED | TAKES_KEYS, 320, 4),
    ("set", CALL | UNHASHABLE | FACTORY | DEFERRED | TAKES_KEYS, 320, 4),
    ("getattr", CALL_GETATTR, 0, 4),
    ("_codecs.encode", CALL_ENCODE, 128, 4),
    ("zoneinfo.ZoneInfo", 0, 128, 4),
    ("zoneinfo.ZoneInfo", CALL, 4096, 4),
    *((f"datetime.{name}", CALL, 128, 4) for name in ("datetime", "date", "time", "timezone")),
    ("datetime.timedelta", CALL | FACTORY, 128, 4),
    ("decimal.Decimal", CALL | FACTORY, 128, 64),
    ("fractions.Fraction", CALL | FACTORY | HASHED_BY_PAIR, 128, 64),
    ("uuid.UUID", NEW, 256, 4),
    *((name, BOTH | FACTORY, 1024, 64) for name in ("pathlib.PurePosixPath", "pathlib.PureWindowsPath", HOST_PATH)),
    *((f"ipaddress.IPv{v}{kind}", CALL, 1024, 4) for v in (4, 6) for kind in ("Address", "Network", "Interface")),
    ("collections.OrderedDict", CALL_EMPTY | TAKES_PAIRS | UNHASHABLE | FACTORY, 512, 4),
    ("collections.deque", BOTH | TAKES_ITEMS | UNHASHABLE | FACTORY, 768, 4),
    ("collections.Counter", CALL | UNHASHABLE | FACTORY, 512, 4),
    ("collections.defaultdict", CALL_EMPTY | TAKES_PAIRS | TAKES_FACTORY | UNHASHABLE | FACTORY, 320, 4),
]
"""Name, permissions, bytes charged for each object, and for each byte of its arguments."""


def test_what_a_message_may_do_with_the_standard_types_and_what_it_is_charged() -> None:
    rules = list(standard_rules())
    found = [(rule.qualified_name, rule.permissions, rule.memory, rule.memory_per_byte) for rule in rules]
    assert sorted(found) == sorted(STANDARD)
    for rule in rules:
        module, _, name = rule.qualified_name.rpartition(".")
        names = {(module or "builtins", name)}
        if module == "pathlib":
            names.add(("pathlib._local", name))  # CPython 3.13
        is_member = rule.memory == 4096
        assert set(rule.names) == (set() if is_member else names)
        assert rule.members == (((("zoneinfo", "ZoneInfo"), "_unpickle"),) if is_member else ())
        assert (rule.rebuilt, rule.record, rule.states, rule.shape) == ((), None, 0, None)


def test_what_may_only_be_named_says_so_and_a_member_is_called() -> None:
    for rule in standard_rules():
        if rule.permissions in (0, FACTORY, CALL_GETATTR):
            with pytest.raises(InvalidValue, match=f"^{re.escape(rule.qualified_name)}: may be named but not called"):
                rule.load("UTC", True)
        if rule.members:
            assert rule.load("UTC", True) == zoneinfo.ZoneInfo("UTC")


@pytest.mark.parametrize(
    ("cls", "gone"),
    [
        (uuid.UUID, {"uuid.UUID"}),
        (decimal.Decimal, {"decimal.Decimal"}),
        (pathlib.PurePosixPath, {"pathlib.PurePosixPath"}),
        (zoneinfo.ZoneInfo, {"zoneinfo.ZoneInfo"}),
        (OrderedDict, {"collections.OrderedDict"}),
    ],
)
def test_a_type_that_is_switched_off_has_no_rule(cls: type, gone: set[str]) -> None:
    every, left = ({rule.qualified_name for rule in standard_rules(off)} for off in ((), (cls,)))
    assert every - left == gone
    assert left <= every


def test_a_type_of_a_private_module_is_switched_off_by_its_public_name() -> None:
    """As CPython 3.13 has paths."""
    cls = type("PurePosixPath", (), {"__module__": "pathlib._local"})
    assert "pathlib.PurePosixPath" not in {rule.qualified_name for rule in standard_rules((cls,))}


def test_the_time_zones_of_the_host_are_listed_before_any_message_comes() -> None:
    for off in ((), (zoneinfo.ZoneInfo,)):
        zones.cache_clear()
        list(standard_rules(off))
        assert zones.cache_info().currsize == (0 if off else 1)
    zones()


def test_a_type_that_is_switched_off_is_no_factory() -> None:
    def factory(name: str, off: tuple[type, ...]) -> object:
        rules = list(standard_rules(off))
        table = {rule.qualified_name: rule for rule in rules}
        decimals = {rule.qualified_name: rule for rule in standard_rules()} | table
        return table["collections.defaultdict"].load(decimals[name].load).default_factory

    assert factory("decimal.Decimal", ()) is decimal.Decimal
    with pytest.raises(Exception, match="not acceptable"):
        factory("decimal.Decimal", (decimal.Decimal,))
    for name, cls in {
        "bool": bool, "list": list, "set": set, "frozenset": frozenset, "bytearray": bytearray,
        "collections.deque": deque, "collections.Counter": Counter, "collections.defaultdict": defaultdict,
        "datetime.timedelta": datetime.timedelta,
        "pathlib.PureWindowsPath": pathlib.PureWindowsPath, HOST_PATH: type(pathlib.Path()),
    }.items():  # fmt: skip
        assert factory(name, ()) is cls
    for name in ("uuid.UUID", "datetime.date", "getattr", "ipaddress.IPv4Address"):
        with pytest.raises(Exception, match="not acceptable"):
            factory(name, ())


def test_times_are_made_at_the_end_if_there_are_other_time_zones() -> None:
    before, after = ({rule.qualified_name: rule.permissions for rule in standard_rules(zoned=z)} for z in (False, True))
    assert {name for name in before if before[name] != after[name]} == {"datetime.datetime", "datetime.time"}
    assert after["datetime.datetime"] == after["datetime.time"] == CALL | DEFERRED


def rule(of: str, *names: tuple[str, str], **options: object) -> GlobalRule:
    return GlobalRule(qualified_name=of, names=names, permissions=CALL, load=print, **options)


def test_a_table_numbers_its_rules() -> None:
    outer, function = ("m", "Outer"), ("m", "rebuild")
    rules = [
        rule("a", ("m", "a"), ("n", "a"), memory=7, memory_per_byte=8),
        rule("outer", outer),
        rule("rebuild", function),
        rule("inner", members=((outer, "x"), (outer, "y"))),
        rule("rebuilt", rebuilt=((function, outer),)),
    ]
    table = GlobalTable(iter(rules))
    assert table.rules == tuple(rules)
    assert table.permissions == [CALL] * 5
    assert table.memory == [7, 0, 0, 0, 0]
    assert table.memory_per_byte == [8, 4, 4, 4, 4]
    assert table.numbers == {("m", "a"): 0, ("n", "a"): 0, outer: 1, function: 2}
    assert table.members == {(1, "x"): 3, (1, "y"): 3}
    assert table.rebuilt == {(2, 1): 4}
    assert table.old_numbers == {}


def test_old_names_are_those_that_cpython_translates() -> None:
    types = [value for value in vars(builtins).values() if isinstance(value, type)]
    names = [("builtins", name) for name in dict.fromkeys(cls.__name__ for cls in types)]
    names += [("collections", "UserDict"), ("functools", "reduce"), ("m", "n")]
    table = GlobalTable([rule(name, (module, name)) for module, name in names])
    for old, today in NAME_MAPPING.items():
        if today in table.numbers:
            assert table.old_numbers[old] == table.numbers[today]
    for old_module, module in IMPORT_MAPPING.items():
        for name in (name for each, name in names if each == module):
            if (old_module, name) not in NAME_MAPPING:
                assert table.old_numbers[old_module, name] == table.numbers[module, name]
    assert table.old_numbers["__builtin__", "int"] == table.numbers["builtins", "int"]
    assert table.old_numbers["__builtin__", "long"] == table.numbers["builtins", "int"]
    assert table.old_numbers["__builtin__", "unicode"] == table.numbers["builtins", "str"]
    assert table.old_numbers["exceptions", "KeyError"] == table.numbers["builtins", "KeyError"]
    for alias in ("IOError", "EnvironmentError", "OSError"):
        assert table.old_numbers["exceptions", alias] == table.numbers["builtins", "OSError"]
    assert table.old_numbers["UserDict", "UserDict"] == table.numbers["collections", "UserDict"]
    assert ("m", "n") not in table.old_numbers
    assert not any(old in table.numbers for old in table.old_numbers)


def advice(module: str, name: str, protocol: int = 5) -> str:
    error = not_listed(module, name, " here", protocol=protocol)
    assert isinstance(error, TypeNotAllowed)
    head, _, rest = str(error).partition("allowlist here: ")
    assert head == "the message names a type that is not on the "
    assert rest.startswith(error.name)
    return rest.removeprefix(error.name)


REMEDIES = {
    ("shop", "Order"): how_to_allow("shop:Order"),
    ("shop.orders", "Order.Line"): how_to_allow("shop.orders:Order.Line"),
    ("_x1", "_"): how_to_allow("_x1:_"),
    ("builtins", "ValueError"): how_to_allow("builtins:ValueError"),
    ("numpy", "dtype"): how_to_allow("numpy:dtype"),
    ("numpy._core.multiarray", "other"): how_to_allow("numpy._core.multiarray:other"),
    ("shop", "scalar"): how_to_allow("shop:scalar"),
    **{(f"numpy{core}.multiarray", "_reconstruct"): how_to_allow("numpy:ndarray") for core in ("._core", ".core")},
    **{(f"numpy{core}.numeric", "_frombuffer"): how_to_allow("numpy:ndarray") for core in ("._core", ".core")},
    **{(f"numpy{core}.multiarray", "scalar"): how_to_allow("numpy:float64") for core in ("._core", ".core")},
}


@pytest.mark.parametrize("listed", REMEDIES, ids=":".join)
def test_what_is_advised(listed: tuple[str, str]) -> None:
    assert REMEDIES[listed] in advice(*listed)


@pytest.mark.parametrize(
    "listed",
    [
        ("os", "system"), ("os.path", "join"), ("builtins", "eval"), ("builtins", "int"), ("builtins", "SystemExit"),
        ("builtins", "no"), ("os", "ValueError"), ("shop", ""), ("", "Order"), ("1shop", "Order"),
        ("shop", "a b"), ("shop", "a-b"),
        ("shop.", "Order"), ("shop", ".Order"), ("shop", "é"), ("s" * 60, "o" * 60), ("exceptions", "IOError"),
    ],
)  # fmt: skip
def test_what_is_not_advised(listed: tuple[str, str]) -> None:
    assert ("types = [" in advice(*listed)) is (listed == ("exceptions", "IOError"))


@pytest.mark.parametrize(
    ("old", "today"),
    [
        (("exceptions", "IOError"), "builtins:OSError"),
        (("exceptions", "StandardError"), "builtins:Exception"),
        (("exceptions", "KeyError"), "builtins:KeyError"),
        (("UserDict", "UserDict"), None),
        (("shop", "Order"), "shop:Order"),
        (("shop", "IOError"), "shop:IOError"),
        (("__builtin__", "int"), None),
    ],
)
def test_what_is_advised_of_names_of_python_2(old: tuple[str, str], today: str | None) -> None:
    said = advice(*old, protocol=2)
    assert ("types = [" in said) is (today is not None)
    assert today is None or how_to_allow(today) in said
    for protocol in (3, 4, 5):
        assert today is None or (how_to_allow(":".join(old)) in advice(*old, protocol=protocol))


def test_a_name_is_shown_with_a_hundred_characters_at_most() -> None:
    assert shown("a" * 100) == "a" * 100
    assert shown("a" * 101) == "a" * 100 + "…"
    assert shown("\n" * 30).count("n") == 30
    assert len(shown("\n" * 90)) == 100
    assert len(shown("\n" * 101)) == 101
    error = not_listed("m" * 98, "n", "")
    assert error.name == "m" * 98 + ":n"
