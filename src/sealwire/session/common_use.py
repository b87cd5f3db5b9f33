"""What the peers of a server use of the processors, in all of its processes together; without I/O or a clock.

The processes of a pre-fork or forking server share the machine's processors, but each knows only its own peers: a peer
that floods one process is alone there, and would never pause for those of the others. So in memory that they share,
the processes note which peer was active last, how much of the processors they use, and what each of the latest peers
has used. A process treats its peers as it does beside others (:mod:`sealwire.session.shares`) while another process
has active ones and the processors are in demand. While most of those are idle, nobody is in the way of anybody.

There is no common lock, and a process that is killed leaves nothing behind that does not end by itself. Two that write
at the same moment lose an amount, or let two turns of a peer begin together. Peers are known by the hashes of their
keys, which are the same in forked processes.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Hashable
from struct import Struct
from typing import Final

from sealwire.session.round_robin import CONTENDED
from sealwire.session.shares import FORGOTTEN, LONGEST, PAUSE, WINDOW

_DEMAND: Final = 0.25
"""The part of the processors from which on they are in demand."""
_HEAD: Final = Struct("=Qdqdd")
"""The hash of the peer that was active last; the time until which several count as active; the number of the present
window, the processors in use in it, and in the one before."""
_ENTRY: Final = Struct("=Qqdddd")
"""The hash of a peer; the process that it was at last; its seconds of use, and the time at which they were that many;
the seconds of its last turn; the time at which its next one may begin."""
_ROWS: Final = 8
_IN_ROW: Final = 8
"""Entries of a row. A peer has its place in one row, by its hash, in place of the one that was silent longest."""
_ROW: Final = _IN_ROW * _ENTRY.size
_LONGEST_QUEUE: Final = 0.25
"""Seconds for which a peer waits for its own turns in other processes, at most."""
_MASK: Final = 2**64 - 1


class CommonUse:
    """The use of the processors by the peers of a server. Made before its processes are forked.

    Threads of a process call it without a lock.

    Args:
        processors: Number of processors. Default: those that this process may use.
    """

    def __init__(self, processors: int | None = None) -> None:
        if processors is None:
            processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._processors = processors
        self._head = mmap.mmap(-1, _HEAD.size)
        self._table = mmap.mmap(-1, _ROWS * _ROW)
        self.begin(0, 0.0, 0.0)

    def begin(self, process: int, now: float, used: float) -> None:
        """Begin in another process, which has used the processors for ``used`` seconds."""
        self._process = process
        self._window = int(now / WINDOW)
        self._since, self._used = now, used
        self._in_demand = False
        self._total, self._peers, self._next_total = 0.0, 0, 0.0

    def note(self, key: Hashable, now: float, used: float) -> bool:
        """Note that a peer is active; return True if others are, in whatever process, and processors are in demand.

        Args:
            key: The peer.
            now: The present time.
            used: Seconds for which this process has used the processors since its start.
        """
        name = _name(key)
        last, until, window, in_use, before = _HEAD.unpack_from(self._head)
        present = int(now / WINDOW)
        if name != last or present > self._window:
            if name != last:
                last, until = name, now + CONTENDED if last else 0.0
            if present > self._window and now > self._since:
                if present != window:
                    window, in_use, before = present, 0.0, in_use if present == window + 1 else 0.0
                in_use += (used - self._used) / (now - self._since)
                self._window, self._since, self._used = present, now, used
            _HEAD.pack_into(self._head, 0, last, until, window, in_use, before)
        # Without the pauses of those that pause now, so much more would be in use.
        factor = 1 + PAUSE if self._in_demand else 1
        self._in_demand = now < until and factor * max(in_use, before) >= _DEMAND * self._processors
        return self._in_demand

    def use(self, key: Hashable, seconds: float, now: float) -> None:
        """Note that a peer has used the processor for a turn; its next one may have to wait."""
        name = _name(key)
        place, used, _, begin = self._find(name, now)
        used += seconds
        _ENTRY.pack_into(self._table, place, name, self._process, used, now, seconds, begin)
        if now >= self._next_total or used * self._peers > self._total:
            self._add_up(now)
        if self._peers > 1 and used * self._peers > self._total:
            begin = max(begin, min(now + LONGEST, now + PAUSE * seconds))
            _ENTRY.pack_into(self._table, place, name, self._process, used, now, seconds, begin)

    def pause(self, key: Hashable, now: float) -> float:
        """Return the seconds for which a peer has to pause; negative ones if it does not."""
        return self._find(_name(key), now)[3] - now

    def queue(self, key: Hashable, now: float) -> None:
        """Note that a process waits until the peer may begin a turn: what other processes do for it comes later."""
        name = _name(key)
        place, used, turn, begin = self._find(name, now)
        begin = min(begin + (1 + PAUSE) * turn / self._processors, now + _LONGEST_QUEUE)
        _ENTRY.pack_into(self._table, place, name, self._process, used, now, turn, begin)

    def forgive(self, key: Hashable, now: float) -> None:
        """Note that a peer had nothing to do for a moment in this process; so nothing at all, if it was here last."""
        name = _name(key)
        place, used, turn, _ = self._find(name, now)
        if _ENTRY.unpack_from(self._table, place)[:2] == (name, self._process):
            _ENTRY.pack_into(self._table, place, name, self._process, used, now, turn, 0.0)

    def _add_up(self, now: float) -> None:
        """Add up what all peers have used lately. Costs more than the rest, and so is not done for each turn."""
        self._next_total = now + WINDOW / 2
        amounts = [each * _aged(now - since) for _, _, each, since, _, _ in _ENTRY.iter_unpack(self._table)]
        self._total = sum(amounts)
        self._peers = sum(each > FORGOTTEN for each in amounts)

    def _find(self, name: int, now: float) -> tuple[int, float, float, float]:
        """Return the place of a peer, its seconds of use, those of its last turn, and the time of its next."""
        start = name % _ROWS * _ROW
        place, oldest = start, now
        for at in range(start, start + _ROW, _ENTRY.size):
            known, _, used, since, turn, begin = _ENTRY.unpack_from(self._table, at)
            if known == name:
                return at, used * _aged(now - since), turn, begin
            if since < oldest:
                place, oldest = at, since
        return place, 0.0, 0.0, 0.0


def _name(key: Hashable) -> int:
    return hash(key) & _MASK or 1  # 0 is that of a free entry


def _aged(seconds: float) -> float:
    """Return the part that counts of what was used so long ago."""
    return math.exp2(-min(max(seconds, 0.0) / WINDOW, 60.0))
