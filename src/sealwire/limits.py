"""Every bound that Sealwire enforces, with unit, default and reason.

Each is a security limit: it is checked before the cost that it bounds is incurred. The defaults are safe for a
service on an open port without any configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Final, Self

from sealwire import toml_options
from sealwire.errors import ConfigurationError
from sealwire.memory import available_memory

KIB = 1024
MIB = 1024 * KIB

FRAME_OVERHEAD = 52
"""Bytes of a frame's ``length`` that are not payload: 20 of header and 32 of tag (docs/protocol.md, section 2)."""

MIN_MAX_FRAME = 1184
"""Smallest ``max_frame`` that may be announced: one frame in a DTLS datagram (docs/protocol.md, section 6)."""


UNBOUNDED = 2**31 - 1
"""A count that bounds nothing."""


def _count(
    default: int, unit: str, why: str, *, minimum: int = 1, maximum: int = UNBOUNDED, shown: str | None = None
) -> int:
    metadata = {"unit": unit, "why": why, "minimum": minimum, "maximum": maximum, "kind": int, "shown": shown}
    value: int = field(default=default, metadata=metadata)
    return value


def _seconds(default: float, why: str) -> float:
    # poll(2) takes milliseconds in a C int; a day is longer than any phase of a connection needs.
    metadata = {"unit": "seconds", "why": why, "minimum": 0.001, "maximum": 86_400.0, "kind": float}
    value: float = field(default=default, metadata=metadata)
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The bounds of a server, a client and a codec.

    Each field is a keyword argument. docs/reference/configuration.md lists units, ranges, defaults and reasons.

    Raises:
        ConfigurationError: A value has the wrong type or is out of range.
    """

    max_frame: int = _count(
        16 * MIB, "bytes", "memory for one message; a payload is at most 52 bytes less",
        minimum=MIN_MAX_FRAME, maximum=2**32 - 1,
    )  # fmt: skip
    max_connections: int = _count(
        512,
        "connections",
        "threads or processes of authenticated peers; with max_handshakes below 1,024 descriptors",
        maximum=1_000_000,
    )
    max_handshakes: int = _count(
        256, "connections", "connections that have not authenticated; above it the oldest is evicted", maximum=1_000_000
    )
    max_handshakes_per_source: int = _count(
        1_000_000,
        "connections",
        "those of one address (IPv6: of a /64); when max_handshakes are taken, each has its share anyway",
        maximum=1_000_000,
    )
    max_identity_share: int = _count(
        87,
        "percent",
        "connections of one identity among max_connections, on a Unix socket of one user; on asyncio and UDP also its "
        "requests among max_in_flight_total",
        maximum=100,
    )
    max_in_flight: int = _count(
        64,
        "requests",
        "requests of one connection that are handled at once, on servers that handle several",
        maximum=1024,
    )
    max_in_flight_total: int = _count(
        1024, "requests", "the same for all connections of an asyncio server together", maximum=1_000_000
    )
    max_requests_per_second: int = _count(
        UNBOUNDED, "requests", "requests of one identity in a second; the others get FAULT 21. The default is no bound"
    )
    max_buffered: int = _count(
        max(64 * MIB, available_memory() // 8),
        "bytes",
        "unfinished frames, unanswered requests and unsent replies of all connections of a server together; above it "
        "the connection that holds most is ended",
        minimum=MIB,
        maximum=2**40,
        shown="an eighth of the memory, at least 64 MiB",
    )
    max_streams: int = _count(
        16,
        "requests",
        "requests and replies in parts of one connection at a time; further ones get FAULT 21",
        maximum=1024,
    )
    max_parts: int = _count(10_000_000, "parts", "parts of one request or reply", maximum=2**40)
    part_window: int = _count(
        MIB, "bytes", "parts of one request or reply that are sent before the receiver has processed any",
        minimum=KIB, maximum=2**31,
    )  # fmt: skip
    part_timeout: float = _seconds(
        60.0, "between two parts of a request, and until a client makes room for the next part of a reply"
    )
    handshake_timeout: float = _seconds(10.0, "TLS and HELLO to WELCOME together, however slowly bytes drip")
    idle_timeout: float = _seconds(300.0, "an authenticated connection without a request")
    frame_timeout: float = _seconds(60.0, "one frame from its first byte to its last, in or out")
    max_connection_age: float = _seconds(
        3600.0, "a connection, less up to a tenth; then its peer must connect and authenticate again"
    )
    reload_interval: float = _seconds(
        1.0, "between checks of the files of certificates and keys, and of each connection's certificates and key"
    )
    max_crl: int = _count(
        32 * MIB, "bytes", "a file of revocation lists, which takes some twenty times as much memory",
        minimum=KIB, maximum=2**30,
    )  # fmt: skip
    drain_timeout: float = _seconds(10.0, "running requests when the server shuts down")
    keepalive_idle: int = _count(
        60, "seconds", "silence on TCP before the kernel asks if the peer is there (TCP_KEEPIDLE)", maximum=32_767
    )
    keepalive_interval: int = _count(
        15, "seconds", "between two such probes without an answer (TCP_KEEPINTVL)", maximum=32_767
    )
    keepalive_count: int = _count(
        4, "probes", "unanswered probes before the connection is over (TCP_KEEPCNT)", maximum=127
    )
    tcp_user_timeout: float = _seconds(
        120.0, "bytes that the peer has not acknowledged, or makes no room for, on TCP (TCP_USER_TIMEOUT, RFC 5482)"
    )
    max_depth: int = _count(100, "levels", "nesting; deep values overflow the C stack", maximum=500)
    max_nodes: int = _count(4_000_000, "opcodes", "time for one message; a number takes one, another value a few")
    max_expanded_nodes: int = _count(
        4_000_000,
        "nodes",
        "size with each shared part counted once per reference; cost of hashing and comparing keys; steps of checks",
    )
    max_memory: int = _count(128 * MIB, "bytes", "estimated memory of a decoded message", maximum=2**40)
    max_integer_bits: int = _count(
        14_284,
        "bits",
        "arithmetic with huge integers; those of the default can be printed (4,300 digits)",
        minimum=32,
        maximum=2**20,
    )
    max_string: int = _count(16 * MIB, "bytes", "one str or bytes, encoded")
    max_probes: int = _count(
        32,
        "probes for each key",
        "crafted keys that collide in a dict; sets are allowed eight times as many",
        minimum=8,
        maximum=1024,
    )

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            kind: type = spec.metadata["kind"]
            minimum, maximum, unit = spec.metadata["minimum"], spec.metadata["maximum"], spec.metadata["unit"]
            number = type(value) is int or (kind is float and type(value) is float and math.isfinite(value))
            if not number or not minimum <= value <= maximum:
                form = "a whole number" if kind is int else "a number"
                raise ConfigurationError(
                    f"Limits.{spec.name} must be {form} of {unit} from {minimum} to {maximum}, not {_shown(value)}"
                )

    @classmethod
    def from_table(cls, table: object) -> Self:
        """Read the table ``[limits]`` of a configuration file. Raises ConfigurationError."""
        if type(table) is not dict:
            raise ConfigurationError(f"limits: expected a table, not {toml_options.type_name(table)}")
        known = [spec.name for spec in fields(cls)]
        toml_options.reject_unknown(table, known, "limits.")
        for name, value in table.items():
            if type(value) not in (int, float):
                raise ConfigurationError(f"limits.{name}: expected a number, not {toml_options.type_name(value)}")
        try:
            return cls(**table)
        except ConfigurationError as error:
            raise ConfigurationError(f"limits.{str(error).removeprefix('Limits.')}") from None

    @property
    def max_connections_per_identity(self) -> int:
        """Most connections of one identity: max_identity_share of max_connections, rounded up."""
        return -(-self.max_connections * self.max_identity_share // 100)

    @property
    def max_in_flight_per_identity(self) -> int:
        """Most requests of one identity that are handled at once: its share of max_in_flight_total, rounded up."""
        return -(-self.max_in_flight_total * self.max_identity_share // 100)

    @property
    def max_threads(self) -> int:
        """Most threads of a threading server at once: one for each connection."""
        return self.max_connections + self.max_handshakes


SERVER_WIDE: Final = (
    "max_connections",
    "max_handshakes",
    "max_handshakes_per_source",
    "max_identity_share",
    "max_in_flight_total",
    "max_requests_per_second",
    "max_buffered",
)
"""The limits of a server as a whole: its tables have their size, and other processes may share them. A running server
keeps those that it was started with."""


def _shown(value: object) -> str:
    # A number of thousands of digits has no repr (sys.set_int_max_str_digits).
    if isinstance(value, int) and value.bit_length() > 64:
        return "one of more than 64 bits"
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"
