"""The checked constructors of the standard value types.

Each takes the parts that the type's own ``__reduce_ex__`` gives, and trusts none of them. CPython's constructors from
raw state do trust them: a datetime of the year 0 crashes the process when it is printed.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import ipaddress
import pathlib
import re
import sys
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

from sealwire.errors import InvalidValue

MAX_DECIMAL_DIGITS: Final = 4300
"""CPython's own limit for conversions between int and str, ``sys.int_info.default_max_str_digits``."""
MAX_DECIMAL_EXPONENT: Final = 6144
"""The limit of IEEE 754 decimal128; ``Decimal("1e999999999")`` prints a gigabyte."""
MAX_PATH: Final = 32_767
"""Characters of a path, as in Windows; Linux allows 4,096."""
MAX_PATH_PARTS: Final = 1024
MAX_IP: Final = 128
"""Characters; IPv6 with a scope and a prefix length needs some 60, and a scope has no limit of its own."""
MAX_DEQUE: Final = 2**31 - 1

Load = Callable[..., Any]


def _refuse(qualified_name: str, why: str) -> NoReturn:
    raise InvalidValue(f"{qualified_name}: {why}")


def _loads(qualified_name: str) -> Callable[[Load], Load]:
    """Make an InvalidValue that names the type of each error that its own constructor raises for bad parts."""

    def decorate(load: Load) -> Load:
        @functools.wraps(load)
        def checked(*parts: Any) -> Any:
            try:
                return load(*parts)
            except (TypeError, ValueError, ArithmeticError, LookupError, OSError):
                raise InvalidValue(f"{qualified_name}: its parts are not acceptable") from None

        return checked

    return decorate


# Builtin types


@_loads("bytes")
def load_bytes(content: Any = b"") -> bytes:
    if type(content) is not bytes:
        _refuse("bytes", "its content is not bytes")
    return content


@_loads("bytes")
def load_encode(text: str, _: str) -> bytes:
    return text.encode("latin-1")


@_loads("bytearray")
def load_bytearray(content: Any = b"") -> bytearray:
    if type(content) is not bytes:
        _refuse("bytearray", "its content is not bytes")
    return bytearray(content)


@_loads("complex")
def load_complex(real: Any, imag: Any) -> complex:
    if not type(real) is type(imag) is float:
        _refuse("complex", "its parts are not floats")
    return complex(real, imag)


# datetime and zoneinfo


def _check_tz(qualified_name: str, tz: Any) -> None:
    if tz is not None and not isinstance(tz, datetime.tzinfo):
        _refuse(qualified_name, "its tzinfo is not a time zone")


@_loads("datetime.datetime")
def load_datetime(state: Any, tz: Any = None) -> datetime.datetime:
    _check_tz("datetime.datetime", tz)
    if type(state) is not bytes or len(state) != 10:
        _refuse("datetime.datetime", "its state is not 10 bytes")
    # Two bytes of year, month with fold in its top bit, day, hour, minute, second, three bytes of microsecond.
    return datetime.datetime(
        state[0] << 8 | state[1], state[2] & 127, state[3], state[4], state[5], state[6],
        state[7] << 16 | state[8] << 8 | state[9], tz, fold=state[2] >> 7,
    )  # fmt: skip


@_loads("datetime.date")
def load_date(state: Any) -> datetime.date:
    if type(state) is not bytes or len(state) != 4:
        _refuse("datetime.date", "its state is not 4 bytes")
    return datetime.date(state[0] << 8 | state[1], state[2], state[3])


@_loads("datetime.time")
def load_time(state: Any, tz: Any = None) -> datetime.time:
    _check_tz("datetime.time", tz)
    if type(state) is not bytes or len(state) != 6:
        _refuse("datetime.time", "its state is not 6 bytes")
    return datetime.time(
        state[0] & 127, state[1], state[2], state[3] << 16 | state[4] << 8 | state[5], tz, fold=state[0] >> 7
    )


@_loads("datetime.timedelta")
def load_timedelta(days: Any, seconds: Any, microseconds: Any) -> datetime.timedelta:
    if not type(days) is type(seconds) is type(microseconds) is int:
        _refuse("datetime.timedelta", "its parts are not integers")
    if not (abs(days) <= 999_999_999 and 0 <= seconds < 86_400 and 0 <= microseconds < 1_000_000):
        _refuse("datetime.timedelta", "its parts are out of range")
    return datetime.timedelta(days, seconds, microseconds)


@_loads("datetime.timezone")
def load_timezone(offset: Any, *name: Any) -> datetime.timezone:
    if type(offset) is not datetime.timedelta or len(name) > 1 or not all(type(each) is str for each in name):
        _refuse("datetime.timezone", "its parts are not a timedelta and a str")
    return datetime.timezone(offset, *name)


_PREFIX: Final = re.compile(r"/(?:0|[1-9][0-9]{0,2})\Z", re.ASCII)


@functools.cache
def zones() -> frozenset[str]:
    """Return the time zones of this host. Walks the whole database and imports modules, so never for a message."""
    return frozenset(zoneinfo.available_timezones())


@_loads("zoneinfo.ZoneInfo")
def load_zone(key: Any, from_cache: Any) -> zoneinfo.ZoneInfo:
    if type(key) is not str or key not in zones() or type(from_cache) not in (bool, int):
        _refuse("zoneinfo.ZoneInfo", "there is no such time zone on this host")
    return zoneinfo.ZoneInfo(key)


# Numbers and identifiers


def _decimal_context() -> decimal.Context:
    """Return a context that does not depend on the program's, and does not change it."""
    return decimal.Context(traps=[decimal.InvalidOperation], capitals=1)


@_loads("decimal.Decimal")
def load_decimal(text: Any) -> decimal.Decimal:
    if type(text) is not str or len(text) > MAX_DECIMAL_DIGITS + 20 or not text.isascii():
        _refuse("decimal.Decimal", f"not the text of a number of at most {MAX_DECIMAL_DIGITS} digits")
    context = _decimal_context()
    value = decimal.Decimal(text, context)
    if value.is_snan():
        _refuse("decimal.Decimal", "a signalling NaN")
    parts = value.as_tuple()
    if len(parts.digits) > MAX_DECIMAL_DIGITS:
        _refuse("decimal.Decimal", f"more than {MAX_DECIMAL_DIGITS} digits")
    exponent = parts.exponent
    if isinstance(exponent, int) and (
        abs(exponent) > MAX_DECIMAL_EXPONENT or abs(value.adjusted()) > MAX_DECIMAL_EXPONENT
    ):
        _refuse("decimal.Decimal", f"an exponent over {MAX_DECIMAL_EXPONENT}")
    if context.to_sci_string(value) not in (text, text.replace("e", "E")):  # lower case if the sender's context says so
        _refuse("decimal.Decimal", "not in the form that Decimal prints")
    return value


@_loads("fractions.Fraction")
def load_fraction(numerator: Any, denominator: Any) -> fractions.Fraction:
    if not type(numerator) is type(denominator) is int or denominator <= 0:
        _refuse("fractions.Fraction", "its parts are not an integer and a positive integer")
    value = fractions.Fraction(numerator, denominator)
    if value.denominator != denominator:
        _refuse("fractions.Fraction", "not in lowest terms")
    return value


@_loads("uuid.UUID")
def load_uuid(*states: Any) -> uuid.UUID:
    state = states[0]
    if type(state) is not dict or not {"int"} <= state.keys() <= {"int", "is_safe"}:
        _refuse("uuid.UUID", "its state has other fields")
    number, safe = state["int"], state.get("is_safe", uuid.SafeUUID.unknown.value)
    if type(number) is not int or (safe is not None and type(safe) is not int):
        _refuse("uuid.UUID", "its state has other types")
    return uuid.UUID(int=number, is_safe=uuid.SafeUUID(safe))


def path_loader(cls: type[pathlib.PurePath]) -> Load:
    qualified_name = f"pathlib.{cls.__name__}"

    @_loads(qualified_name)
    def load(*parts: Any) -> pathlib.PurePath:
        if len(parts) > MAX_PATH_PARTS or not all(type(part) is str for part in parts):
            _refuse(qualified_name, f"its parts are not at most {MAX_PATH_PARTS} str")
        if len(parts) + sum(part.count("/") + part.count("\\") for part in parts) > MAX_PATH_PARTS:
            _refuse(qualified_name, f"it has more than {MAX_PATH_PARTS} parts")
        if sum(map(len, parts)) > MAX_PATH:
            _refuse(qualified_name, f"longer than {MAX_PATH} characters")
        made = cls(*parts)
        if _INTERNS_FOR_GOOD:  # pragma: no cover - only on CPython 3.12, where tests/attacks runs it
            _parse_path(made, parts)
        return made

    return load


_INTERNS_FOR_GOOD: Final = sys.version_info[:2] == (3, 12)
"""Interned str are never freed, and pathlib interns each part of a path when it parses it."""


def _parse_path(path: Any, parts: tuple[str, ...]) -> None:  # pragma: no cover - as above
    """Parse a path as pathlib of CPython 3.12 does when it is first looked at, but without interning its parts."""
    flavour = path._flavour
    text = flavour.join(*parts) if parts else ""
    if flavour.altsep:
        text = text.replace(flavour.altsep, flavour.sep)
    drive, root, rest = flavour.splitroot(text)
    path._drv, path._root, _ = type(path)._parse_path(drive + root)
    path._tail_cached = [part for part in rest.split(flavour.sep) if part and part != "."]


def ip_loader(cls: Any) -> Load:
    qualified_name = f"ipaddress.{cls.__name__}"
    # An address is given as an int or, if it can have a scope, as a str; a network or interface as a str.
    forms = (int, str) if cls in (ipaddress.IPv4Address, ipaddress.IPv6Address) else (str,)

    @_loads(qualified_name)
    def load(value: Any) -> Any:
        if type(value) not in forms or (type(value) is str and len(value) > MAX_IP):
            _refuse(qualified_name, "not an address, or too long")
        # The ipaddress module caches every spelling of a prefix length for ever, leading zeros included.
        if type(value) is str and "/" in value and not _PREFIX.search(value):
            _refuse(qualified_name, "a prefix length that is not a plain number")
        return cls(value)

    return load


# Containers of the standard library: made empty, and filled by the message


@_loads("collections.OrderedDict")
def load_ordered_dict() -> OrderedDict[Any, Any]:
    return OrderedDict()


@_loads("collections.deque")
def load_deque(items: Any = (), maxlen: Any = None) -> deque[Any]:
    if type(items) is not tuple or items:
        _refuse("collections.deque", "made with items in it")
    if maxlen is not None and (type(maxlen) is not int or not 0 <= maxlen <= MAX_DEQUE):
        _refuse("collections.deque", "its maxlen is not a length")
    return deque(maxlen=maxlen)


def _have_nan(values: Iterable[Any]) -> bool:
    """Return True if comparing these values meets a Decimal that raises when it is compared."""
    return any(
        value.is_nan() if type(value) is decimal.Decimal else type(value) in (list, tuple) and _have_nan(value)
        for value in values
    )


@_loads("collections.Counter")
def load_counter(counts: Any) -> Counter[Any]:
    if type(counts) is not dict:
        _refuse("collections.Counter", "its counts are not a dict")
    if _have_nan(counts.values()):
        _refuse("collections.Counter", "counts of NaN, which cannot be put into an order to be printed")
    made: Counter[Any] = Counter()
    dict.update(made, counts)  # Counter's own would add up counts
    return made


def defaultdict_loader(factories: Mapping[Any, type]) -> Load:
    """Return the loader of defaultdicts, given the factories that they may have by the loaders of their rules."""

    @_loads("collections.defaultdict")
    def load(factory: Any = None) -> defaultdict[Any, Any]:
        # The argument is the unpickler's object for the factory's name: its loader, or a partial of it.
        if type(factory) is functools.partial:
            (factory,) = factory.args
        return defaultdict(None if factory is None else factories[factory])

    return load


def only_named(name: str) -> Load:
    """Return the loader of a name that may be named but not called."""

    def load(*_: Any) -> NoReturn:
        _refuse(name, "may be named but not called")

    return load
