"""The results of ``sealwire bench``: latencies and their percentiles, errors by kind."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sealwire.errors import ConnectionClosed, HandshakeRejected, RemoteError, SealwireError

PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass
class Failure:
    """Failures of one kind, with the message of the first."""

    count: int
    first: str


class Results:
    """The measurements so far: 12 bytes for each request that was answered.

    Attributes:
        connecting: Seconds that each connection took to make.
        latencies: Seconds of each request that was answered.
        ended: Seconds from the beginning to the end of each of them.
        failures: Failed requests and connections, by kind.
        seconds: The time that the requests took together.
        missed: Requests that were due and not sent, since all connections were busy to the end.
        processor: The part of a processor that this process used meanwhile; None if that says nothing.
        is_interrupted: True if the user ended it.
        refusal: The fault of the first request, if the server will give it to all; None without.
    """

    def __init__(self) -> None:
        self.connecting = array("d")
        self.latencies = array("d")
        self.ended = array("f")
        self.failures: dict[str, Failure] = {}
        self.seconds = 0.0
        self.missed = 0
        self.processor: float | None = None
        self.is_interrupted = False
        self.refusal: SealwireError | None = None

    def fail(self, error: SealwireError) -> None:
        """Count a failure."""
        failure = self.failures.setdefault(_kind(error), Failure(0, str(error)))
        failure.count += 1

    @property
    def failed(self) -> int:
        """Number of failures."""
        return sum(failure.count for failure in self.failures.values())

    @property
    def throughput(self) -> float:
        """Requests answered per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the results for scripts; times in milliseconds unless the name says seconds."""
        return {
            "connections": len(self.connecting),
            "connecting_ms": milliseconds(self.connecting),
            "seconds": self.seconds,
            "answered": len(self.latencies),
            "requests_per_second": self.throughput,
            "latency_ms": milliseconds(self.latencies),
            "errors": [
                {"kind": kind, "count": failure.count, "first": failure.first}
                for kind, failure in self.failures.items()
            ],
            "missed": self.missed,
            "processor": self.processor,
            "interrupted": self.is_interrupted,
        }


def _kind(error: SealwireError) -> str:
    """Return the class of an error, with the code of the protocol if it has one."""
    name = type(error).__name__
    if isinstance(error, RemoteError | HandshakeRejected | ConnectionClosed) and error.code is not None:
        return f"{name} {int(error.code)}"
    return name


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the smallest of the sorted values that at least ``part`` of them do not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def milliseconds(seconds: Sequence[float]) -> dict[str, float] | None:
    """Return the percentiles in milliseconds; None if there are no values."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return {name: percentile(ordered, part) * 1000 for name, part in PERCENTILES.items()}
