"""Which types a message may have."""

from __future__ import annotations

import datetime
import decimal
import fractions
import ipaddress
import pathlib
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Final

from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.pickling.grants import Grant
from sealwire.pickling.standard import standard_grants

PLAIN: Final = frozenset(
    (type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
)
VALUES: Final = frozenset(
    (
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo,
        decimal.Decimal, fractions.Fraction, uuid.UUID,
        pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path()),
        ipaddress.IPv4Address, ipaddress.IPv4Network, ipaddress.IPv4Interface,
        ipaddress.IPv6Address, ipaddress.IPv6Network, ipaddress.IPv6Interface,
        OrderedDict, defaultdict, deque, Counter,
    )
)  # fmt: skip
STANDARD: Final = PLAIN | VALUES
_ABSTRACT: Final = frozenset((pathlib.PurePath, pathlib.Path))  # what one has is a subclass


class Allowlist:
    """The types that a message may have: the standard value types, always.

    ``types``: in this version none but those, which need not be named. Immutable.
    Raises ConfigurationError for any other type.
    """

    __slots__ = ("_types",)

    def __init__(self, *types: type) -> None:
        for cls in types:
            if not isinstance(cls, type):
                raise ConfigurationError(f"an allowlist takes types, not a value of type {_spelling(type(cls))}")
            if cls not in STANDARD | _ABSTRACT:
                raise ConfigurationError(
                    f"{_spelling(cls)} cannot be allowed: only the standard value types are supported in this version"
                )
        self._types: Final = STANDARD

    def grants(self, limits: Limits) -> Iterator[Grant]:
        """What the names in a message may do."""
        return standard_grants(limits.max_probes)

    def __contains__(self, cls: type) -> bool:
        """Whether values of exactly this type can be encoded."""
        return cls in self._types

    def __repr__(self) -> str:
        return "Allowlist()"


def not_allowed(value: object) -> str:
    """What to say of a value that cannot be encoded."""
    name = f"the class {_spelling(value)}" if isinstance(value, type) else _spelling(type(value))
    return f"{name} is not on the allowlist"


def _spelling(cls: type) -> str:
    """A type as its owner would write it."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
