"""How values that JSON lacks are written in it: as text, in the same form as replies have."""

from __future__ import annotations

import datetime
import decimal
import fractions
import ipaddress
import math
import pathlib
import re
import uuid
import zoneinfo
from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final

_DURATION: Final = re.compile(r"(?:(-?\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d{1,6})?)", re.ASCII)
_NOT_FINITE: Final = ("nan", "inf", "-inf")
_READ: Final[dict[type, str]] = {
    pathlib.PurePosixPath: "a path", pathlib.PureWindowsPath: "a path", type(pathlib.Path()): "a path",
    pathlib.Path: "a path", pathlib.PurePath: "a path",
    ipaddress.IPv4Address: 'an IPv4 address, like "192.0.2.1"', ipaddress.IPv6Address: 'an IPv6 address, like "::1"',
    ipaddress.IPv4Network: 'an IPv4 network, like "192.0.2.0/24"', ipaddress.IPv6Network: "an IPv6 network",
    ipaddress.IPv4Interface: "an IPv4 interface", ipaddress.IPv6Interface: "an IPv6 interface",
    uuid.UUID: "a UUID", zoneinfo.ZoneInfo: 'a time zone, like "Europe/Berlin"', complex: 'a number, like "1+2j"',
    fractions.Fraction: 'a fraction, like "1/3"',
}  # fmt: skip


class Number(float):
    """A number with a fraction or exponent in JSON, with its text, from which a Decimal is made exactly."""

    text: str

    def __new__(cls, text: str) -> Number:
        """Return the number of a text. Raises ValueError if no float is so large."""
        self = super().__new__(cls, text)
        if math.isinf(self):
            raise ValueError(f"{text[:20]} is too large for a float")
        self.text = text
        return self


def kind_of(value: Any) -> str:
    """Return JSON's name for the type of a value: never the value itself, which may be secret."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    names = {str: "a string", list: "an array", dict: "an object", int: "a whole number"}
    return names.get(type(value), "a number")


def _exactly(cls: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not cls:
            raise TypeError
        return value

    return read


def _of_text(make: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise TypeError
        return make(value)

    return read


def _decimal(value: Any) -> decimal.Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Number):
        raise TypeError
    return decimal.Decimal(value.text if isinstance(value, Number) else value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not (isinstance(value, int | float) or value in _NOT_FINITE):
        raise TypeError
    return float(value)


def _timedelta(value: Any) -> datetime.timedelta:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.timedelta(seconds=float(value))
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError
    days, hours, minutes = (int(match[part] or 0) for part in (1, 2, 3))
    return datetime.timedelta(days=days, hours=hours, minutes=minutes, seconds=float(match[4]))


def _bytes(value: str) -> bytes:
    return b64decode(value, validate=True)


READERS: Final[dict[Any, tuple[str, Callable[[Any], Any]]]] = {
    bool: ("true or false", _exactly(bool)),
    int: ("a whole number", _exactly(int)),
    str: ("a string", _exactly(str)),
    float: ("a number", _float),
    bytes: ("base64", _of_text(_bytes)),
    bytearray: ("base64", _of_text(lambda value: bytearray(_bytes(value)))),
    decimal.Decimal: ('a decimal number, like "12.50"', _decimal),
    datetime.datetime: (
        'a date and time, like "2026-11-24T08:30:00+00:00"', _of_text(datetime.datetime.fromisoformat)
    ),
    datetime.date: ('a date, like "2026-11-24"', _of_text(datetime.date.fromisoformat)),
    datetime.time: ('a time, like "08:30:00"', _of_text(datetime.time.fromisoformat)),
    datetime.timedelta: ('seconds, or a duration like "1 day, 0:00:02"', _timedelta),
} | {cls: (wanted, _of_text(cls)) for cls, wanted in _READ.items()}  # fmt: skip
"""For each type, what its values look like in JSON, and what makes one; that raises ValueError and the like."""
