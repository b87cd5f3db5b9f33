"""What each checked constructor takes at the very edge, and refuses one step beyond."""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import ipaddress
import pathlib
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pytest

from sealwire.errors import InvalidValue
from sealwire.pickling import constructors
from sealwire.pickling.constructors import MAX_DECIMAL_DIGITS, MAX_DEQUE, MAX_IP, MAX_PATH, MAX_PATH_PARTS

UTC, PARIS = datetime.UTC, zoneinfo.ZoneInfo("Europe/Paris")
Delta, Decimal, Fraction, Zone = datetime.timedelta, decimal.Decimal, fractions.Fraction, datetime.timezone
HOUR = Delta(hours=1)
STATE = bytes((8, 9, 11, 12, 13, 14, 15, 3, 4, 5))
LATER = bytes((8, 9, 11 | 128, *STATE[3:]))
MOMENT = datetime.datetime(8 * 256 + 9, 11, 12, 13, 14, 15, (3 * 256 + 4) * 256 + 5)
TIME, TIME_LATER = bytes((13, 14, 15, 3, 4, 5)), bytes((13 | 128, 14, 15, 3, 4, 5))
OCLOCK = datetime.time(13, 14, 15, (3 * 256 + 4) * 256 + 5)
NAN = Decimal("NaN")
POSIX, WINDOWS = pathlib.PurePosixPath, pathlib.PureWindowsPath
V4, V6 = ipaddress.IPv4Address, ipaddress.IPv6Address


def made_by(maker: Any, *arguments: Any) -> Any:
    return lambda *parts: maker(*arguments)(*parts)


posix, windows = (made_by(constructors.path_loader, cls) for cls in (POSIX, WINDOWS))
v4, v6, net4, net6, face4, face6 = (
    made_by(constructors.ip_loader, getattr(ipaddress, f"IPv{version}{kind}"))
    for kind in ("Address", "Network", "Interface")
    for version in (4, 6)
)
LONGEST_SCOPE = "::1%" + "x" * (MAX_IP - 4)
make_list, make_int = object(), object()
make_defaultdict = made_by(constructors.defaultdict_loader, {make_list: list, make_int: int})

ACCEPTED: list[tuple[Any, tuple[Any, ...], Any]] = [
    (constructors.load_bytes, (), b""),
    (constructors.load_bytes, (b"ab",), b"ab"),
    (constructors.load_encode, ("aé\xff", "latin1"), b"a\xe9\xff"),
    (constructors.load_bytearray, (), bytearray()),
    (constructors.load_bytearray, (b"ab",), bytearray(b"ab")),
    (constructors.load_complex, (1.0, 2.0), 1 + 2j),
    (constructors.load_datetime, (STATE,), MOMENT),
    (constructors.load_datetime, (STATE, None), MOMENT),
    (constructors.load_datetime, (STATE, UTC), MOMENT.replace(tzinfo=UTC)),
    (constructors.load_datetime, (STATE, PARIS), MOMENT.replace(tzinfo=PARIS)),
    (constructors.load_datetime, (LATER,), MOMENT.replace(fold=1)),
    (constructors.load_datetime, (LATER, PARIS), MOMENT.replace(fold=1, tzinfo=PARIS)),
    (constructors.load_date, (STATE[:4],), MOMENT.date()),
    (constructors.load_time, (TIME,), OCLOCK),
    (constructors.load_time, (TIME, None), OCLOCK),
    (constructors.load_time, (TIME, UTC), OCLOCK.replace(tzinfo=UTC)),
    (constructors.load_time, (TIME_LATER,), OCLOCK.replace(fold=1)),
    (constructors.load_time, (TIME_LATER, PARIS), OCLOCK.replace(fold=1, tzinfo=PARIS)),
    (constructors.load_timedelta, (1, 2, 3), Delta(1, 2, 3)),
    (constructors.load_timedelta, (0, 0, 0), Delta()),
    (constructors.load_timedelta, (999_999_999, 86_399, 999_999), Delta.max),
    (constructors.load_timedelta, (-999_999_999, 0, 0), Delta.min),
    (constructors.load_timezone, (HOUR,), Zone(HOUR)),
    (constructors.load_timezone, (HOUR, "here"), Zone(HOUR, "here")),
    (constructors.load_zone, ("Europe/Paris", True), PARIS),
    (constructors.load_zone, ("Europe/Paris", 1), PARIS),
    (constructors.load_zone, ("UTC", False), zoneinfo.ZoneInfo("UTC")),
    *(
        (constructors.load_decimal, (text,), Decimal(text))
        for text in (
            "0", "-0", "1.50", "1E+5", "1e+5", "-1.5E-10", "Infinity", "-Infinity", "1" * MAX_DECIMAL_DIGITS,
            "-1." + "2" * (MAX_DECIMAL_DIGITS - 1) + "E+6144", "1E+6144", "1E-6144", "1.0E+6144", "1.1E-6143",
            "-0." + "0" * 5 + "1" * MAX_DECIMAL_DIGITS,
        )
    ),
    (constructors.load_fraction, (1, 3), Fraction(1, 3)),
    (constructors.load_fraction, (-2, 1), Fraction(-2)),
    (constructors.load_fraction, (0, 1), Fraction(0)),
    (constructors.load_uuid, ({"int": 0},), uuid.UUID(int=0)),
    (constructors.load_uuid, ({"int": 2**128 - 1},), uuid.UUID(int=2**128 - 1)),
    *(
        (constructors.load_uuid, ({"int": 5, "is_safe": safe.value},), uuid.UUID(int=5, is_safe=safe))
        for safe in uuid.SafeUUID
    ),
    (posix, (), POSIX()),
    (posix, ("/", "a", "b"), POSIX("/a/b")),
    (posix, ("a",) * MAX_PATH_PARTS, POSIX(*["a"] * MAX_PATH_PARTS)),
    (posix, ("a/" * (MAX_PATH_PARTS - 1),), POSIX("a/" * (MAX_PATH_PARTS - 1))),
    (posix, ("a/" * 500, "b/" * (MAX_PATH_PARTS - 502)), POSIX("a/" * 500 + "b/" * (MAX_PATH_PARTS - 502))),
    (windows, ("a\\" * (MAX_PATH_PARTS - 1),), WINDOWS("a/" * (MAX_PATH_PARTS - 1))),
    (posix, ("a" * 2, "b" * (MAX_PATH - 2)), POSIX("aa", "b" * (MAX_PATH - 2))),
    (windows, ("C:\\", "a"), WINDOWS("C:/a")),
    (v4, (0x0A000001,), V4("10.0.0.1")),
    (v4, ("10.0.0.1",), V4("10.0.0.1")),
    (v4, (2**32 - 1,), V4("255.255.255.255")),
    (v6, (1,), V6("::1")),
    (v6, (LONGEST_SCOPE,), V6(LONGEST_SCOPE)),
    (net4, ("10.0.0.0/8",), ipaddress.IPv4Network("10.0.0.0/8")),
    (net4, ("0.0.0.0/0",), ipaddress.IPv4Network("0.0.0.0/0")),
    (net6, ("::/128",), ipaddress.IPv6Network("::/128")),
    (face4, ("10.1.2.3/32",), ipaddress.IPv4Interface("10.1.2.3/32")),
    (face6, ("fe80::1%eth0/64",), ipaddress.IPv6Interface("fe80::1%eth0/64")),
    (constructors.load_ordered_dict, (), OrderedDict()),
    (constructors.load_deque, (), deque()),
    (constructors.load_deque, ((),), deque()),
    (constructors.load_deque, ((), None), deque()),
    (constructors.load_deque, ((), 0), deque(maxlen=0)),
    (constructors.load_deque, ((), MAX_DEQUE), deque(maxlen=MAX_DEQUE)),
    (constructors.load_counter, ({},), Counter()),
    (constructors.load_counter, ({"a": 2, "b": -1, "c": "x"},), Counter({"a": 2, "b": -1, "c": "x"})),
    (constructors.load_counter, ({"a": (Decimal(1), [Decimal(2)])},), Counter({"a": (Decimal(1), [Decimal(2)])})),
    (make_defaultdict, (), defaultdict()),
    (make_defaultdict, (None,), defaultdict()),
    (make_defaultdict, (make_list,), defaultdict(list)),
    (make_defaultdict, (functools.partial(print, make_int),), defaultdict(int)),
]  # fmt: skip


def facts(value: Any) -> tuple[Any, ...]:
    """What equality does not tell."""
    names = ("fold", "tzinfo", "is_safe", "maxlen", "default_factory", "scope_id", "parts", "key")
    facts = tuple(getattr(value, name, None) for name in names)
    return type(value), repr(value), *facts


@pytest.mark.parametrize(("load", "parts", "value"), ACCEPTED)
def test_accepted(load: Any, parts: tuple[Any, ...], value: Any) -> None:
    made = load(*parts)
    assert made == value
    assert facts(made) == facts(value)


REFUSED: list[tuple[Any, tuple[Any, ...]]] = [
    (constructors.load_bytes, (bytearray(b"a"),)),
    (constructors.load_bytes, (3,)),
    (constructors.load_encode, ("€", "latin1")),
    (constructors.load_bytearray, (3,)),
    (constructors.load_bytearray, (bytearray(b"a"),)),
    (constructors.load_complex, (1, 2.0)),
    (constructors.load_complex, (1.0, 2)),
    (constructors.load_complex, (1, 2)),
    (constructors.load_complex, (1.0,)),
    *((constructors.load_datetime, parts) for parts in [(STATE[:9],), (STATE + b"\0",), ("x" * 10,), ([0] * 10,)]),
    *((constructors.load_datetime, (STATE, tz)) for tz in ("UTC", 0, "", HOUR)),
    (constructors.load_datetime, (bytes(10),)),
    (constructors.load_datetime, (STATE[:7] + bytes((15, 66, 64)),)),
    *((constructors.load_date, (state,)) for state in (STATE[:3], STATE[:5], "xxxx", [8, 9, 11, 12], bytes(4))),
    *((constructors.load_time, (state,)) for state in (TIME[:5], TIME + b"\0", "x" * 6, [0] * 6, b"\x18" + bytes(5))),
    *((constructors.load_time, (TIME, tz)) for tz in ("UTC", 0, "", HOUR)),
    *(
        (constructors.load_timedelta, parts)
        for parts in (
            (10**9, 0, 0), (-(10**9), 0, 0), (0, -1, 0), (0, 86_400, 0), (0, 0, -1), (0, 0, 10**6), (True, 0, 0),
            (0, True, 0), (0, 0, True), (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (0, 0), (1.0, 1.0, 1.0),
        )
    ),
    *(
        (constructors.load_timezone, parts)
        for parts in ((), (1,), (HOUR, 1), (HOUR, None), (HOUR, "a", "b"), (Delta(1),), (HOUR, ""[:0], ""))
    ),
    *(
        (constructors.load_zone, parts)
        for parts in (("Europe/No", True), (1, True), ("UTC", None), ("UTC", 1.0), ("UTC",), ("../UTC", 1), ([], 1))
    ),
    *(
        (constructors.load_decimal, (text,))
        for text in (
            5, 1.5, b"1", None, "five", "", " 1", "1_0", "1e5", "01", "+1", ".5", "1.", "sNaN", "sNaN1", "inf",
            "1E+6145", "1E-6145", "1.0E-6144", "1.1E-6144", "1.0E+6145", "11E+6144", "9" * 30 + "E+6140",
            "1" * (MAX_DECIMAL_DIGITS + 1), "0." + "1" * MAX_DECIMAL_DIGITS + "1", "\N{ARABIC-INDIC DIGIT ONE}",
        )
    ),
    *(
        (constructors.load_fraction, parts)
        for parts in (
            (1, 0), (1, -3), (2, 4), (0, 2), (True, 3), (2, True), (1.0, 3), (1, 3.0), ("1", 3), ("1", "3"), (1, None),
        )
    ),
    *(
        (constructors.load_uuid, states)
        for states in (
            (), ({},), ([("int", 1)],), ({"int": 2**128},), ({"int": -1},), ({"int": True},), ({"int": "1"},),
            ({"is_safe": 0},), ({"int": 1, "hex": "x"},), ({"int": 1, "is_safe": 7},), ({"int": 1, "is_safe": False},),
            ({"int": 1, "is_safe": 0.0},), (None,), ({"int": 1.0},),
        )
    ),
    *(
        (posix, parts)
        for parts in (
            (1,), ("a", 1), (1, "a"), (b"a",), ("a",) * (MAX_PATH_PARTS + 1), ("a/" * MAX_PATH_PARTS,),
            ("a\\" * MAX_PATH_PARTS,), ("a/" * 500 + "a\\" * (MAX_PATH_PARTS - 500),), ("a" * (MAX_PATH + 1),),
            ("a/" * 500, "b/" * (MAX_PATH_PARTS - 501)), ("a" * 2, "b" * (MAX_PATH - 1)),
        )
    ),
    (windows, ("a\\" * MAX_PATH_PARTS,)),
    (windows, ("a\0" * MAX_PATH,)),
    *((v4, (value,)) for value in (True, b"\1\2\3\4", 2**32, -1, "10.0.0.1/8", "x", None, 1.0)),
    *((v6, (value,)) for value in (True, 2**128, "x", LONGEST_SCOPE + "x", b"\1" * 16)),
    *((net4, (value,)) for value in (5, "10.0.0.1/8", "10.0.0.0/08", "10.0.0.0/255.0.0.0", "10.0.0.0/8\n", b"x", None)),
    *((net6, (value,)) for value in (5, "::/00", "::/0128", "::/129", "x")),
    *((face4, (value,)) for value in (5, "10.0.0.1/99", "10.0.0.1/+8", "10.0.0.1/ 8", "10.0.0.1/٨")),
    (face6, ("::1/0064",)),
    (constructors.load_ordered_dict, (1,)),
    *(
        (constructors.load_deque, parts)
        for parts in (
            ([],), ((1,),), ([1],), (None,), ("",), ((), -1), ((), MAX_DEQUE + 1), ((), True), ((), 1.0), ((), "1"),
            ((1,), 2), ((), 1, 2),
        )
    ),
    *(
        (constructors.load_counter, (counts,))
        for counts in (
            [], ["a"], "ab", None, OrderedDict(), {"a": NAN}, {"a": 1, "b": NAN}, {"a": (1, NAN)}, {"a": [(NAN,), 1]},
            {"a": [1, [2, (3, NAN)]]},
        )
    ),
    *((make_defaultdict, parts) for parts in ((list,), (1,), ([],), (functools.partial(print, 1),), (make_list, 1))),
    (made_by(constructors.only_named, "x"), ()),
    (made_by(constructors.only_named, "x"), (1, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("load", "parts"), REFUSED)
def test_refused(load: Any, parts: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidValue):
        load(*parts)


def test_a_refusal_names_the_type_and_none_of_the_parts() -> None:
    for load, qualified_name in (
        (constructors.load_datetime, "datetime.datetime"),
        (constructors.load_decimal, "decimal.Decimal"),
        (functools.partial(posix, 1), "pathlib.PurePosixPath"),
        (face6, "ipaddress.IPv6Interface"),
        (made_by(constructors.only_named, "x.y"), "x.y"),
    ):
        with pytest.raises(InvalidValue) as error:
            load("hunter2")
        assert str(error.value).startswith(f"{qualified_name}: ")
        assert "hunter2" not in str(error.value)


def test_every_time_zone_of_the_host_is_found_once() -> None:
    assert constructors.zones() == zoneinfo.available_timezones()
    assert constructors.zones() is constructors.zones()


@pytest.mark.parametrize("capitals", [0, 1])
def test_decimals_do_not_depend_on_the_context_of_the_program(capitals: int) -> None:
    with decimal.localcontext() as context:
        context.prec, context.capitals, context.Emax, context.Emin = 2, capitals, 5, -5
        context.clear_flags()
        for trap in context.traps:
            context.traps[trap] = True
        for text in ("1.2345", "1E+6000", "1e+6000", "0.00001", "1.5"):
            assert str(constructors.load_decimal(text)).upper() == text.upper()
        with pytest.raises(InvalidValue):
            constructors.load_decimal("five")
        assert not any(context.flags.values())
