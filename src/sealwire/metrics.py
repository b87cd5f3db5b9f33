"""Counters of servers and clients, and their names. A server's numbers are in memory that its processes share.

Each process has a row of numbers, which no other one writes. So counting takes neither a lock nor a call: it is
``row[COLUMN] += 1``, which no other thread of the process comes between, since CPython switches threads only at calls
and at jumps. A row stays when its process has ended, and the next one that has it counts on: so a sum never goes back.

:data:`FAMILIES` lists them. A report has it by these names, Prometheus as ``sealwire_server_`` and the name.
"""

from __future__ import annotations

import mmap
import os
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

OUTCOMES: Final = (
    "answered", "malformed", "type_not_allowed", "too_large", "failed", "deadline_exceeded", "overloaded", "cancelled",
    "in_parts", "refused", "dropped",
)  # fmt: skip
"""The ends of a request: a reply, FAULT 16 to 23, a fault of the handler's own, or the end of its connection."""
HANDSHAKES: Final = (
    "complete", "certificate", "server_certificate", "peer_not_listed", "unknown_key", "bad_tag", "not_authorised",
    "version", "codec", "protocol", "tls", "timeout", "ended", "silent", "overloaded", "draining", "evicted", "other",
)  # fmt: skip
MESSAGES: Final = (
    "type_not_allowed", "undeclared", "not_authorised", "malformed", "invalid_value", "limit", "other",
)  # fmt: skip
LIMITS: Final = (
    "max_handshakes", "max_connections", "max_in_flight", "max_requests_per_second", "max_streams", "max_buffered",
    "message", "reply", "descriptors",
)  # fmt: skip
CLIENT_OUTCOMES: Final = (*OUTCOMES[:-1], "timeout", "lost", "not_connected", "reply_refused", "not_sent", "other")
"""The ends of a request for a client: with a reply, with a fault as above, or without an answer."""
CONNECTS: Final = (
    "complete", "certificate", "peer_not_listed", "not_authorised", "version", "codec", "protocol", "overloaded",
    "draining", "tls", "timeout", "ended", "unreachable", "other",
)  # fmt: skip
ENDS: Final = ("revoked", "expired", "aged", "broken", "lost", "failed")
DIRECTIONS: Final = ("received", "sent")
RESTARTS: Final = ("failed", "replaced")
REQUEST_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
HANDSHAKE_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_NUMBER: Final = 8


class Family(NamedTuple):
    """Numbers of one kind.

    Attributes:
        name: Its name.
        text: What it counts.
        kind: ``counter``, ``gauge``, or ``histogram`` of seconds.
        label: What its values differ in; empty if there is one number.
        values: The values of the label. The last one takes what is not among them.
        bounds: Of a histogram, the upper bounds of its buckets; one more is without a bound.
        first: The first of its columns.
    """

    name: str
    text: str
    kind: Literal["counter", "gauge", "histogram"] = "counter"
    label: str = ""
    values: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    first: int = 0

    @property
    def size(self) -> int:
        """The number of columns: those of a histogram are its buckets, and the sum."""
        return len(self.bounds) + 2 if self.bounds else len(self.values) or 1

    def column(self, value: str) -> int:
        """Return the column of a value of the label; without a label, the only one."""
        if not self.values:
            return self.first
        return self.first + self.values.index(value if value in self.values else self.values[-1])

    def shown(self, numbers: Sequence[float]) -> Any:
        """Return its part of a row as in a report: buckets hold what is below their bounds, as with Prometheus."""
        found = numbers[self.first : self.first + self.size]
        if not self.bounds:
            return dict(zip(self.values, map(int, found), strict=True)) if self.label else int(found[0])
        below, buckets = 0, {}
        for bound, number in zip((*map(str, self.bounds), "+Inf"), found, strict=False):
            below += int(number)
            buckets[bound] = below
        return {"buckets": buckets, "sum": found[-1]}


def _laid_out(*families: Family) -> dict[str, Family]:
    """Return families by their names, with columns one behind the other."""
    found: dict[str, Family] = {}
    first = 0
    for each in families:
        found[each.name] = each._replace(first=first)
        first += each.size
    return found


FAMILIES: Final = _laid_out(
    Family("requests_started", "Requests handed to handlers."),
    Family("requests", "Requests that have ended, by outcome.", label="outcome", values=OUTCOMES),
    Family("requests_in_flight", "Requests that handlers are at work on.", "gauge"),
    Family(
        "request_duration_seconds", "Seconds from handing a request to its handler to the answer.", "histogram",
        bounds=REQUEST_SECONDS,
    ),
    Family("payload_bytes", "Bytes of messages, encoded, by direction.", label="direction", values=DIRECTIONS),
    Family("handshakes", "Handshakes that have ended, by result.", label="result", values=HANDSHAKES),
    Family(
        "handshake_duration_seconds", "Seconds from accepting a connection to the end of its handshake.", "histogram",
        bounds=HANDSHAKE_SECONDS,
    ),
    Family("connections_ended", "Connections that did not end as they should, by reason.", label="reason", values=ENDS),
    Family("messages_refused", "Messages that reached no handler, by reason.", label="reason", values=MESSAGES),
    Family("limit_hits", "How often a limit was reached, by limit.", label="limit", values=LIMITS),
    Family("worker_restarts", "Workers started in place of others, by reason.", label="reason", values=RESTARTS),
    Family("log_lines_left_out", "Lines that are not in the log because there were too many like them."),
)  # fmt: skip
"""Those of servers."""
CLIENT_FAMILIES: Final = _laid_out(
    Family("requests", "Requests that have ended, by outcome.", label="outcome", values=CLIENT_OUTCOMES),
    Family("requests_in_flight", "Requests that are waited for.", "gauge"),
    Family(
        "request_duration_seconds", "Seconds from the call to the reply or the error.", "histogram",
        bounds=REQUEST_SECONDS,
    ),
    Family("payload_bytes", "Bytes of messages, encoded, by direction.", label="direction", values=DIRECTIONS),
    Family("handshakes", "Connections that were made or failed, by result.", label="result", values=CONNECTS),
    Family(
        "handshake_duration_seconds", "Seconds for a connection, with its handshake, if it was made.", "histogram",
        bounds=HANDSHAKE_SECONDS,
    ),
)  # fmt: skip
"""Those of clients."""
COLUMNS: Final = sum(each.size for each in FAMILIES.values())
CLIENT: Final = array("d", bytes(_NUMBER * sum(each.size for each in CLIENT_FAMILIES.values())))
"""The numbers of all clients in this process."""
os.register_at_fork(after_in_child=lambda: CLIENT.__setitem__(slice(None), array("d", bytes(_NUMBER * len(CLIENT)))))

STARTED: Final = FAMILIES["requests_started"].first
ANSWERED: Final = FAMILIES["requests"].first
IN_FLIGHT: Final = FAMILIES["requests_in_flight"].first
REQUEST_BUCKETS: Final = FAMILIES["request_duration_seconds"].first
REQUEST_SUM: Final = REQUEST_BUCKETS + len(REQUEST_SECONDS) + 1
RECEIVED: Final = FAMILIES["payload_bytes"].first
SENT: Final = RECEIVED + 1
CLIENT_SENT: Final = CLIENT_FAMILIES["payload_bytes"].column("sent")
CLIENT_RECEIVED: Final = CLIENT_FAMILIES["payload_bytes"].column("received")
DROPPED: Final = FAMILIES["requests"].column("dropped")
_OWN_FAULTS: Final = 64


def outcome_of(fault: int) -> int:
    """Return the column for a request that was answered with a fault of this code."""
    return ANSWERED + (OUTCOMES.index("refused") if fault >= _OWN_FAULTS else fault - 15)


class Counters:
    """Rows of numbers in memory that this process shares with those that it forks from now on.

    Args:
        rows: Number of processes.
    """

    def __init__(self, rows: int) -> None:
        self._numbers = memoryview(mmap.mmap(-1, _NUMBER * COLUMNS * rows)).cast("d")
        self.used = 1
        """Number of rows that are in use, or were."""

    def row(self, index: int) -> memoryview[float]:
        """Return the numbers of one process."""
        return self._numbers[index * COLUMNS : (index + 1) * COLUMNS]

    def forget_in_flight(self, index: int) -> None:
        """Note that the process of a row has ended: the requests that it was at work on have no answer."""
        row = self.row(index)
        if lost := row[IN_FLIGHT]:
            row[IN_FLIGHT] -= lost
            row[DROPPED] += lost

    def totals(self) -> list[float]:
        """Return the sums of all processes."""
        used = self._numbers[: self.used * COLUMNS]
        return [sum(used[column::COLUMNS]) for column in range(COLUMNS)]


def shown(numbers: Sequence[float]) -> dict[str, Any]:
    """Return all numbers of a server as in a report."""
    return {name: family.shown(numbers) for name, family in FAMILIES.items()}


def observe_in(numbers: Any, family: Family, seconds: float) -> None:
    """Count a duration in a histogram."""
    numbers[family.first + bisect_left(family.bounds, seconds)] += 1
    numbers[family.first + family.size - 1] += seconds
