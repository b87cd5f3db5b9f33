"""Reports what a server has in service, as JSON: for its admin endpoint, and from a pre-fork worker to its parent."""

from __future__ import annotations

import json
import mmap
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from struct import Struct
from typing import Any, Final, NamedTuple, Protocol
from zlib import crc32

from sealwire.metrics import STARTED, shown
from sealwire.security import Security, SecurityStatus
from sealwire.trust.reloading import Status

_HEAD: Final = Struct("=II")
_ROOM: Final = 1 << 17
"""Bytes for the report of one process; memory is used for what is written only."""
_PEERS: Final = 500
"""Peers that a report names, those with most connections."""
_READINGS: Final = 5


class Statistics(NamedTuple):
    """Counts of one server in this process.

    Attributes:
        established: Connections of clients that have authenticated themselves.
        handshaking: Connections of others.
        numbers: The counts since the start, by :mod:`sealwire.metrics`.
        peers: Connections by the client's identity.
    """

    established: int
    handshaking: int
    numbers: Sequence[float]
    peers: Counter[str]

    def as_json(self) -> dict[str, Any]:
        """Return the counts for a report."""
        return {
            "connections": {
                "established": self.established,
                "handshaking": self.handshaking,
                "by_peer": dict(self.peers.most_common(_PEERS)),
            },
            "requests": int(self.numbers[STARTED]),
            "counters": shown(self.numbers),
        }


class Reporting(Protocol):
    """A server."""

    security: Security

    @property
    def state(self) -> str:
        """``starting``, ``serving`` or ``draining``."""

    def statistics(self) -> Statistics:
        """Return the counts of this process."""


def process_report(server: Reporting) -> dict[str, Any]:
    """Return the report of a server in this process."""
    status = server.security.status()
    return {
        "pid": os.getpid(),
        "state": server.state,
        "service": server.security.service,
        **server.statistics().as_json(),
        "files": files_report(status),
        "problems": problems(status),
    }


def files_report(status: SecurityStatus) -> dict[str, Any]:
    """Return the configuration, certificates and keys in service."""
    credentials, keys, configuration = status
    now = datetime.now(UTC)
    own = credentials.identity
    found: dict[str, Any] = {
        "credentials": _common(credentials)
        | {
            "identity": None if own is None else str(own),
            "sha256": None if own is None else own.fingerprint,
            "not_after": None if own is None else own.not_after.isoformat(),
            "trust_anchors_end": _earliest(each.not_valid_after_utc for each in credentials.authorities),
            "revocation_lists_end": _earliest(each.next_update_utc for each in credentials.lists),
        },
        "keyring": _common(keys)
        | {
            "valid": [key.id for key in keys.keys if key.valid_at(now)],
            "end": _earliest(key.not_after for key in keys.keys),
        },
    }
    if configuration is not None:
        found["configuration"] = _common(configuration) | {"waits_for_restart": list(configuration.waiting)}
    return found


def problems(status: SecurityStatus) -> list[str]:
    """Return the problems that keep clients from being served: the status is critical if there are any."""
    credentials, keys, _ = status
    now = datetime.now(UTC)
    own = credentials.identity
    checks = [
        (own is not None and own.not_after < now, "the certificate has expired"),
        (credentials.revoked, "the certificate is on a revocation list"),
        (
            bool(credentials.authorities) and all(each.not_valid_after_utc < now for each in credentials.authorities),
            "every trust anchor has expired",
        ),
        (any(_over(each.next_update_utc, now) for each in credentials.lists), "a revocation list has expired"),
        (not any(key.valid_at(now) for key in keys.keys), "no key of the keyring is valid now"),
    ]
    return [text for found, text in checks if found]


def _over(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment < now


def _earliest(moments: Iterable[datetime | None]) -> str | None:
    found = min((each for each in moments if each is not None), default=None)
    return None if found is None else found.isoformat()


def _common(status: Status) -> dict[str, Any]:
    refusal = status.refusal
    return {
        "generation": status.generation,
        "digest": status.digest,
        "loaded_at": None if status.loaded_at is None else status.loaded_at.isoformat(),
        "files": status.files,
        "refusals": status.refusals,
        "refused": None if refusal is None else {"why": refusal.reason, "since": refusal.since.isoformat()},
    }


class Board:
    """Reports of processes, in memory that they share: one place for each, which no other one writes.

    A reader may come while a report is written. Its checksum tells, and the reader tries again.

    Args:
        count: Number of places.
    """

    def __init__(self, count: int) -> None:
        self._places = [mmap.mmap(-1, _ROOM) for _ in range(count)]

    def write(self, index: int, report: dict[str, Any]) -> None:
        """Write a report; without its peers if it is too long."""
        text = json.dumps(report).encode()
        if len(text) > _ROOM - _HEAD.size:
            report["connections"]["by_peer"] = {}
            text = json.dumps(report).encode()[: _ROOM - _HEAD.size]
        place = self._places[index]
        place[_HEAD.size : _HEAD.size + len(text)] = text
        place[: _HEAD.size] = _HEAD.pack(len(text), crc32(text))

    def read(self, index: int) -> dict[str, Any] | None:
        """Return the report of a process; None if it has written none yet."""
        place = self._places[index]
        for _ in range(_READINGS):
            length, checksum = _HEAD.unpack(place[: _HEAD.size])
            text = place[_HEAD.size : _HEAD.size + length]
            if length and crc32(text) == checksum:
                found: dict[str, Any] = json.loads(text)
                return found
        return None
