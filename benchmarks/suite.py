"""The workloads, in interleaved rounds: in each round every peer has its turn, and is compared with ``bare-tls``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers import Peer
from benchmarks.processes import Failed, Pair, resident

YARDSTICK = "bare-tls"
GRACE = 30.0
"""Seconds that a command may take beyond its time."""


@dataclass(frozen=True)
class Workload:
    """A workload to measure; ``do`` is a command of ``loads``."""

    title: str
    unit: str = "requests/s"
    do: str = "closed"
    values: str = "small"
    connections: int = 1
    is_pinned: bool = False


WORKLOADS = {
    "A": Workload("small dict, 1 connection"),
    "A1": Workload("the same, both ends on one processor", is_pinned=True),
    "B": Workload("small dict, 8 connections", connections=8),
    "C": Workload("1,000 dicts of three fields", values="dicts"),
    "D": Workload("1 MiB of bytes", values="MiB"),
    "E": Workload("1,000 dataclass instances", values="instances"),
    "F": Workload("connect, one request, close", "times/s", do="once"),
    "G": Workload("memory of the server for an idle connection", "KiB", do="hold"),
    "H": Workload("1,000 small requests pipelined, 1 connection", do="pipeline"),
    "I": Workload("32 connections: 80 % small, 15 % of 20 dicts, 5 % of 64 KiB", values="mixed", connections=32),
}


@dataclass
class Measured:
    """The result of one workload.

    Attributes:
        values: By peer, one for each round.
        ratios: The same, each divided by that of ``bare-tls`` in the same round.
        reasons: Why a peer has none.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def add_round(self, found: dict[str, float]) -> None:
        yardstick = found.get(YARDSTICK)
        for name, value in found.items():
            self.values.setdefault(name, []).append(value)
            if yardstick:
                self.ratios.setdefault(name, []).append(value / yardstick)

    def as_json(self) -> dict[str, Any]:
        return {
            "medians": {name: median(values) for name, values in self.values.items()},
            "ratios": {name: median(values) for name, values in self.ratios.items()},
            "rounds": self.values,
            "reasons": self.reasons,
        }


class Suite:
    """All workloads of some peers.

    Args:
        directory: The certificates.
        peers: The peers that are there.
        seconds: Seconds of each turn.
        rounds: Number of rounds.
        say: Shows the progress.
    """

    def __init__(
        self, directory: Path, peers: list[Peer], *, seconds: float, rounds: int, say: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._peers = peers
        self._seconds = seconds
        self._rounds = rounds
        self._say = say

    def run(self, letters: list[str], *, idle: int) -> dict[str, Any]:
        """Return the results of workloads; ``idle`` is the number of idle connections of G."""
        found: dict[str, Any] = {}
        with ExitStack() as stack:
            pairs = {peer.name: stack.enter_context(self._pair(peer)) for peer in self._peers}
            for letter in letters:
                workload = WORKLOADS[letter]
                measured = self._memory(idle) if workload.do == "hold" else self._rounds_of(letter, workload, pairs)
                found[letter] = {"title": workload.title, "unit": workload.unit} | measured.as_json()
        return found

    def _pair(self, peer: Peer) -> Pair:
        return Pair(self._directory, (peer.module, peer.server), (peer.module, peer.client), peer.environment)

    def _rounds_of(self, letter: str, workload: Workload, pairs: dict[str, Pair]) -> Measured:
        measured = Measured({}, {}, {peer.name: peer.lacks[letter] for peer in self._peers if letter in peer.lacks})
        for round_ in range(self._rounds):
            found: dict[str, float] = {}
            for peer in self._in_order(round_):
                if peer.name in measured.reasons:
                    continue
                self._say(f"{letter}, round {round_ + 1} of {self._rounds}: {peer.name}")
                try:
                    found[peer.name] = self._turn(workload, pairs[peer.name], first=round_ == 0)
                except Failed as failed:
                    measured.reasons[peer.name] = str(failed)
            measured.add_round(found)
        return measured

    def _in_order(self, round_: int) -> Iterator[Peer]:
        """Every other round in the opposite order, so that what changes in time is fair to all."""
        return iter(self._peers if round_ % 2 == 0 else self._peers[::-1])

    def _turn(self, workload: Workload, pair: Pair, *, first: bool) -> float:
        if first:
            pair.tell(GRACE, do="prepare", values=workload.values, connections=workload.connections)
        command = {"do": workload.do, "values": workload.values, "seconds": self._seconds}
        if workload.do == "closed":
            command["connections"] = workload.connections
        processors = os.sched_getaffinity(0)
        if not workload.is_pinned:
            return float(pair.tell(self._seconds + GRACE, **command))
        pair.pin({min(processors)})
        try:
            return float(pair.tell(self._seconds + GRACE, **command))
        finally:
            pair.pin(processors)

    def _memory(self, idle: int) -> Measured:
        """Measure how much a server grows by idle connections, after the first ten; each server is a new one."""
        measured, found = Measured(), {}
        for peer in self._peers:
            self._say(f"G: {peer.name}")
            with self._pair(peer) as pair:
                try:
                    pair.tell(GRACE, do="prepare", values="small", connections=10)
                    before = resident(pair.server.pids)
                    pair.tell(GRACE + idle / 10, do="prepare", values="small", connections=10 + idle)
                    found[peer.name] = max(0, resident(pair.server.pids) - before) / idle / 1024
                except Failed as failed:
                    measured.reasons[peer.name] = str(failed)
        measured.add_round(found)
        return measured
