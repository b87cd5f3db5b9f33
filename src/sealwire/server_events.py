"""Reports of one server about its clients: to the log and the audit log, and to its counters.

Whatever a client can cause again and again has a line at first, and then ever fewer: LINES of one kind and address at
once, and as many again in SECONDS. The next line says how many were left out, or one of its own, when it is over. The
counters count all of them. The table is bounded, and the server's processes share it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import chain
from time import monotonic
from typing import Any, Final, NamedTuple

from sealwire import metrics
from sealwire.errors import RemoteProtocolError, SealwireError
from sealwire.events import emit
from sealwire.listeners import address_text, source_of_address
from sealwire.metrics import FAMILIES, Counters
from sealwire.rates import Rates
from sealwire.trust.identity import PeerIdentity

LINES: Final = 20
"""Lines of one event, for one reason and from one address, at once."""
ALL_LINES: Final = 2000
"""Those of all addresses together."""
SECONDS: Final = 60.0
"""Seconds in which as many may come again, and after which what was left out is told."""
_LIMITED: Final = {
    "handshake.refused", "connection.broken", "connection.lost", "message.refused", "limit.hit", "request.refused",
    "reply.refused", "request.overdue",
}  # fmt: skip
_ROWS: Final = 64
_NOTE: Final = 96
_OTHERS: Final = "other addresses"
_ANY: Final = f"* {_OTHERS}"
"""The note of what is left out because of ALL_LINES."""


class Source(NamedTuple):
    """The facts about a client, for a line of the log.

    Attributes:
        address: Its address, as in socketserver.
        peer: Its identity.
        key_id: The id of the key that it has proved to have.
        connection: The id of the connection, which the client's log has, too.
        request: The id of the request.
    """

    address: Any
    peer: PeerIdentity | None = None
    key_id: str = ""
    connection: str = ""
    request: str = ""

    def __str__(self) -> str:
        known = [str(self.peer)] if self.peer is not None else ["anonymous"] if self.key_id else []
        known += [f"key {self.key_id}"] if self.key_id else []
        known += [f"connection {self.connection}"] if self.connection else []
        known += [f"request {self.request}"] if self.request else []
        return address_text(self.address) + (f" ({', '.join(known)})" if known else "")

    @property
    def origin(self) -> str:
        """The client as far as its lines are counted: its address, of IPv6 the /64, or its user on a Unix socket."""
        if self.peer is not None and self.peer.uid is not None:
            return f"uid:{self.peer.uid}"
        return source_of_address(self.address) or "local"

    @property
    def fields(self) -> dict[str, Any]:
        """The same for a record."""
        return {
            "address": address_text(self.address),
            "peer": None if self.peer is None else str(self.peer),
            "key_id": self.key_id,
            "connection": self.connection,
            "request_id": self.request,
        }


class SharedEvents:
    """The counts and limits that the processes of a server share. Made before the first of them is forked.

    Args:
        rows: Number of processes, each of which counts in a row of its own.
    """

    def __init__(self, rows: int) -> None:
        self.counters = Counters(rows)
        """The numbers of each process."""
        self.lines = Rates(LINES, SECONDS, rows=_ROWS, note=_NOTE)
        self.all_lines = Rates(ALL_LINES, SECONDS, rows=1, note=_NOTE)


class ServerEvents:
    """The events of one server in this process.

    Args:
        rows: Number of processes that it forks for connections, and one for itself. Default: 1.

    Attributes:
        counts: The numbers of this process, by :mod:`sealwire.metrics`.
    """

    def __init__(self, rows: int = 1) -> None:
        self._shared = SharedEvents(rows)
        self._index = 0
        self._next_look = 0.0
        self.counts: memoryview[float] = self._shared.counters.row(0)
        self._before: Sequence[float] | None = None

    def share(self, shared: SharedEvents, index: int) -> None:
        """Count with the other processes of a server; ``index`` is this one's number among them."""
        self._shared = shared
        self.counts = shared.counters.row(index)
        self._before = list(self.counts)

    def expect_child(self, index: int) -> None:
        """Note that a process will count in this row."""
        self._shared.counters.used = max(self._shared.counters.used, index + 1)

    def begin_child(self, index: int) -> None:
        """Count in a row of its own from now on, in a forked child. It does not say what others have left out."""
        self.counts = self._shared.counters.row(index)
        self._next_look = math.inf

    def end_child(self, index: int) -> None:
        """Note that the child process of a row has ended."""
        self._shared.counters.forget_in_flight(index)

    def numbers(self) -> list[float]:
        """Return the counts of this process and its children; of one of several, by itself alone."""
        if self._before is None:
            return self._shared.counters.totals()
        return [now - before for now, before in zip(self.counts, self._before, strict=True)]

    def count(self, family: str, value: str = "") -> None:
        """Count one more, of a value of the family's label."""
        self.counts[FAMILIES[family].column(value)] += 1

    def report(
        self,
        name: str,
        source: Source,
        text: str,
        *,
        level: int | None = None,
        error: BaseException | None = None,
        **fields: Any,
    ) -> None:
        """Log an event of a client, unless there were too many like it.

        Args:
            name: Its name.
            source: The client.
            text: The text of the line, behind the client.
            level: As for :func:`sealwire.events.emit`.
            error: As there.
            fields: Further details.
        """
        left_out = others = 0
        if name in _LIMITED and (level is None or level > logging.DEBUG):
            left_out, others = self._left_out(name, source, fields.get("reason") or fields.get("limit") or "")
            if others < 0:
                self.count("log_lines_left_out")
                return
        more = f" ({left_out} more like this from {source.origin} were left out)" if left_out else ""
        more += f" ({others} more events of {_OTHERS} were left out)" if others else ""
        emit(
            name, f"{source}: {text}{more}", level=level, error=error, **source.fields, **fields,
            left_out=left_out or None, left_out_of_others=others or None,
        )  # fmt: skip

    def _left_out(self, name: str, source: Source, reason: str) -> tuple[int, int]:
        """Return how many lines like this one were left out before it, and how many because of ALL_LINES.

        The second number is -1 if this one is to be left out, too.
        """
        now = monotonic()
        origin = source.origin
        left_out = self._shared.lines.take((name, reason, origin), now, f"{name} {origin}")
        if left_out < 0:
            return 0, -1
        # What this line would have told is counted with it if it is left out.
        return left_out, self._shared.all_lines.take(_OTHERS, now, _ANY, left_out + 1)

    def look(self, *, at_end: bool = False) -> None:
        """Say what was left out of what is over. Call this from time to time, and at the end of the server."""
        now = math.inf if at_end and self._next_look < math.inf else monotonic()
        if now < self._next_look:
            return
        self._next_look = monotonic() + SECONDS / 4
        for note, count in chain(self._shared.lines.settled(now), self._shared.all_lines.settled(now)):
            name, _, origin = note.partition(" ")
            emit(
                "events.left_out", f"{count} more events {name} of {origin} were left out",
                of=name, address=origin, left_out=count,
            )  # fmt: skip

    # Connections

    def opened(self, source: Source) -> None:
        """Report a client that has proved its key on this very connection."""
        emit("connection.opened", f"{source}: connected", **source.fields)

    def welcomed(self, seconds: float) -> None:
        """Count a handshake that is complete, and took so long."""
        self.count("handshakes", "complete")
        metrics.observe_in(self.counts, FAMILIES["handshake_duration_seconds"], seconds)

    def refused(
        self, source: Source, error: SealwireError, *, evicted: bool = False, counted: bool = False,
        level: int | None = None,
    ) -> None:  # fmt: skip
        """Report a client that was not served.

        Args:
            source: The client.
            error: Why.
            evicted: Whether the reason is rather that newer connections needed its place.
            counted: Whether another line counts it, so that this one is for debugging.
            level: The line's level otherwise. Default: WARNING.
        """
        reason = "evicted" if evicted else error.reason
        known = reason in metrics.HANDSHAKES or not isinstance(error, RemoteProtocolError)
        self.count("handshakes", reason if known else "protocol")
        if reason == "silent":
            emit("connection.silent", f"{source}: {error}", **source.fields)
            return
        if reason in ("evicted", "overloaded"):
            self.count("limit_hits", "max_handshakes" if evicted else "max_connections")
        why = "evicted to make room for newer connections" if evicted else str(error)
        level = logging.DEBUG if counted else level
        self.report("handshake.refused", source, f"refused: {why}", level=level, reason=reason, why=why)

    def hit(self, limit: str, source: Source, text: str, *, level: int | None = None) -> None:
        """Report that a limit was reached."""
        self.count("limit_hits", limit)
        self.report("limit.hit", source, text, level=level, limit=limit)

    def ended(self, reason: str, source: Source, text: str, why: str = "") -> None:
        """Report a connection that was ended, for one of the reasons in metrics.ENDS."""
        self.count("connections_ended", reason)
        self.report(f"connection.{reason}", source, text, reason=why or reason)
