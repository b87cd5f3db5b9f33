"""Every bound that Sealwire keeps, with unit, default and reason.

Each is a security limit: it is checked before the cost that it bounds is incurred. The defaults are safe for a
service on an open port without any configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Self

from sealwire import tables
from sealwire.errors import ConfigurationError

KIB = 1024
MIB = 1024 * KIB

FRAME_OVERHEAD = 52
"""Bytes of a frame's ``length`` that are not payload: 20 of header and 32 of tag (docs/protocol.md, section 2)."""

MIN_MAX_FRAME = 1184
"""The least ``max_frame`` that may be announced: one frame in a DTLS datagram (docs/protocol.md, section 6)."""


def _count(default: int, unit: str, why: str, *, least: int = 1, most: int = 2**31 - 1) -> int:
    metadata = {"unit": unit, "why": why, "least": least, "most": most, "kind": int}
    value: int = field(default=default, metadata=metadata)
    return value


def _seconds(default: float, why: str) -> float:
    # poll(2) takes milliseconds in a C int; a day is longer than any phase of a connection needs.
    metadata = {"unit": "seconds", "why": why, "least": 0.001, "most": 86_400.0, "kind": float}
    value: float = field(default=default, metadata=metadata)
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The bounds of a server, a client and a codec; all arguments by keyword.

    Raises ConfigurationError for a value of the wrong type or out of range.
    """

    max_frame: int = _count(
        16 * MIB, "bytes", "memory for one message; a payload is at most 52 bytes less",
        least=MIN_MAX_FRAME, most=2**32 - 1,
    )  # fmt: skip
    max_connections: int = _count(
        512,
        "connections",
        "threads or processes of authenticated peers; with max_handshakes below 1,024 descriptors",
        most=1_000_000,
    )
    max_handshakes: int = _count(
        256, "connections", "connections that have proved nothing; over it the oldest makes room", most=1_000_000
    )
    max_in_flight: int = _count(
        64,
        "requests",
        "requests of one connection in the hands of handlers, where a server has several at a time",
        most=1024,
    )
    max_in_flight_total: int = _count(
        1024, "requests", "the same of all connections of an asyncio server", most=1_000_000
    )
    handshake_timeout: float = _seconds(10.0, "TLS and HELLO to WELCOME together, however slowly bytes drip")
    idle_timeout: float = _seconds(300.0, "an authenticated connection without a request")
    frame_timeout: float = _seconds(60.0, "one frame from its first byte to its last, in or out")
    max_connection_age: float = _seconds(
        3600.0, "a connection, up to a tenth less; then its peer has to prove again who it is"
    )
    reload_interval: float = _seconds(
        1.0, "between two looks at the files of certificates and keys, and at whether a connection's still hold"
    )
    drain_timeout: float = _seconds(10.0, "requests in hand when the server shuts down")
    max_depth: int = _count(100, "levels", "nesting; deep values overflow the C stack", most=500)
    max_nodes: int = _count(1_000_000, "opcodes", "time for one message")
    max_expanded_nodes: int = _count(
        4_000_000, "nodes", "size with every shared part counted each time it is referred to"
    )
    max_memory: int = _count(128 * MIB, "bytes", "estimate of what a decoded message takes", most=2**40)
    max_integer_bits: int = _count(
        16_384, "bits", "arithmetic and decimal conversion of huge integers", least=32, most=2**20
    )
    max_string: int = _count(16 * MIB, "bytes", "one str or bytes, encoded")
    max_probes: int = _count(
        32,
        "probes for each key",
        "crafted keys that collide in a dict; sets are allowed eight times as many",
        least=8,
        most=1024,
    )

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            kind: type = spec.metadata["kind"]
            least, most, unit = spec.metadata["least"], spec.metadata["most"], spec.metadata["unit"]
            number = type(value) is int or (kind is float and type(value) is float and math.isfinite(value))
            if not number or not least <= value <= most:
                form = "a whole number" if kind is int else "a number"
                raise ConfigurationError(
                    f"Limits.{spec.name} must be {form} of {unit} from {least} to {most}, not {_shown(value)}"
                )

    @classmethod
    def from_table(cls, table: object) -> Self:
        """From a table ``[limits]`` of a configuration file. Raises ConfigurationError."""
        if type(table) is not dict:
            raise ConfigurationError(f"limits: expected a table, not a TOML value of type {type(table).__name__}")
        known = [spec.name for spec in fields(cls)]
        tables.only(table, known, "limits.")
        return cls(**table)

    @property
    def max_threads(self) -> int:
        """Threads that a threading server can have at once: one for each connection."""
        return self.max_connections + self.max_handshakes


def _shown(value: object) -> str:
    # A number of thousands of digits has no repr (sys.set_int_max_str_digits).
    if isinstance(value, int) and value.bit_length() > 64:
        return "one of more than 64 bits"
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"
