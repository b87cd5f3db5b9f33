"""Limits concurrent connections; evicts the oldest unauthenticated one when full.

Every accepted connection takes a slot. The slot is *unauthenticated* until the first frame sealed with the client's
traffic key arrives (HELLO alone may be a replay), and *established* from then on. The two states have separate bounds,
``Limits.max_handshakes`` and ``Limits.max_connections``, so a flood of strangers never displaces an established client.

Eviction. When all ``max_handshakes`` are taken, all unauthenticated connections older than GRACE are evicted, so silent
ones cannot lock out the rest. A handshake takes milliseconds, and without the grace a stream of new connections would
push out the handshakes in progress. A client's first bytes come with its connection, so that SILENCE is enough for one
that has sent none. A client that was welcomed has proved its identity, and perhaps sent a request,
whose fate it could not know: it has Limits.handshake_timeout. If none is old enough, the address that has most of them
gives way: a newcomer of that address is refused, one of another address takes the place of its youngest. So each
address has its share. While all are of one address, accepting waits for the next of them to end, or to be old enough.

Forks. In ForkingTCPServer a child authenticates the client, but the bounds hold for the whole server. The states are
therefore one byte per slot in an anonymous ``mmap``, which parent and children share; Slot objects are private copies.
Only the parent acquires and releases slots, and a child writes nothing but the entries of its own slot, so the
processes need no common lock. A second table has eight bytes for each slot, the hash of an established client's
account, to count the connections of an identity. ``mark_authenticated`` writes its entries *before* it counts: two
children that race for the last slot may both withdraw, whereas counting first would admit both. A child cannot wake a
thread of the parent, which is why ``wait_for_room`` has a timeout and its caller tries again.

Locking. ``Admission.lock`` protects the slots from the other threads of a process. A fork copies a lock in its current
state, and a copy that another thread held would stay locked in the child for ever; so ForkingTCPServer holds the lock
itself while it forks. It is taken by ``with lock``, and not by ``with changed``, which has a step in Python: a signal
handler's exception there would leave it taken.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from sealwire import contention
from sealwire.computing import Memory, computations
from sealwire.limits import Limits
from sealwire.listeners import source_of_address
from sealwire.rates import rates_for
from sealwire.report import Statistics
from sealwire.server_events import ServerEvents
from sealwire.session import explain
from sealwire.session.buffers import Buffers
from sealwire.session.common_use import CommonUse
from sealwire.shared_bounds import SharedBounds
from sealwire.slot import Slot
from sealwire.slot_table import ACCOUNT, ESTABLISHED, NO_ACCOUNT, PENDING, UNAUTHENTICATED, WELCOMED, SlotTable
from sealwire.wire.proxy_header import ProxyHeader

GRACE = 1.0
"""Seconds for which an unauthenticated connection cannot be evicted."""
SILENCE = 0.3
"""The same for a TCP connection on which nothing has come."""


class Admission:
    """The slots of one server, with their states in memory shared by forked children.

    Args:
        limits: The server's limits.
        forks: Whether each connection has a process of its own.

    Attributes:
        events: Receives the events to report.
    """

    def __init__(self, limits: Limits, *, forks: bool = False) -> None:
        self._limits = limits
        self._forks = forks
        self.events = self._new_events()
        self._slots: dict[Slot, None] = {}
        self._table = SlotTable(limits.max_threads + 1)
        self._process = os.getpid()
        self.buffers = Buffers(limits.max_buffered)
        """The bytes that the connections hold."""
        self._use = CommonUse() if forks else None
        self.rates = rates_for(limits)
        """The requests of each identity; None without a bound."""
        self.lock = threading.RLock()
        """Protects the slots."""
        self.changed = threading.Condition(self.lock)
        """Notified when a slot changes."""
        self.on_change: Callable[[], None] | None = None
        """Called when a slot changes, if not None. For an event loop, which cannot wait for ``changed``."""

    def _new_events(self) -> ServerEvents:
        # The parent counts in the first row, and the child of a slot in that behind its index.
        return ServerEvents(self._limits.max_threads + 2 if self._forks else 1)

    def leave_to_parent(self) -> None:
        """Free all slots in a forked child, and close its copies of their sockets."""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        for slot in self._slots:
            slot.close_copy()
        self._slots = {}
        self._table = self._table.emptied()
        self.events = self._new_events()
        self._process = os.getpid()
        self.buffers = Buffers(self._limits.max_buffered)

    def begin_child(self, slot: Slot) -> None:
        """Share the bounds of the server, in the child process that serves the slot's connection."""
        if self._use is not None:
            contention.share(self._use)
        computations.share(Memory(self._table.decoding, slot.index, self._limits.max_memory))
        self.events.begin_child(slot.index + 1)

    def share(self, shared: SharedBounds, index: int) -> None:
        """Share the bounds of the server with its other processes; ``index`` is this one's number among them."""
        self.buffers.share(shared.held, index, shared.processes)
        computations.share(Memory(shared.decoding, index, self._limits.max_memory))
        self.rates = shared.rates
        contention.share(shared.use)
        self.events.share(shared.events, index)

    def acquire(
        self,
        sock: socket.socket,
        on_request: Callable[[], None] | None = None,
        address: Any = None,
        header: ProxyHeader | None = None,
    ) -> Slot:
        """Return a slot for an accepted connection. Call :meth:`wait_for_room` before accepting it.

        If the slot is ``evicted``, its address has too many of them already, and the connection must be closed.
        """
        with self.lock:
            index = self._table.take()
            slot = Slot(self, index, sock, on_request, address, header)
            self._slots[slot] = None
            if self._forks:
                self.events.expect_child(index + 1)
            slot.evicted = not self._make_room(slot)
        return slot

    def come_from(self, slot: Slot, address: object) -> bool:
        """Set the address of a slot's client; see :meth:`Slot.come_from`."""
        with self.lock:
            slot.address = address
            slot.source = source_of_address(address)
            slot.key = ("address", slot.source)
            return self._make_room(slot)

    def _make_room(self, newcomer: Slot) -> bool:
        """End the unauthenticated connection that gives way to a new one; return False if it is that itself."""
        excess = self._excess(newcomer)
        if excess is not None and excess is not newcomer:
            excess.evict()
        return excess is not newcomer

    def mark_welcomed(self, slot: Slot) -> None:
        """Give a slot's connection more time until it is established."""
        with self.lock:
            if self._table.states[slot.index] == UNAUTHENTICATED:
                self._table.states[slot.index] = WELCOMED

    def grace(self, slot: Slot) -> float:
        """Return the seconds for which a slot's connection cannot be evicted."""
        welcomed = self._table.states[slot.index] == WELCOMED
        if welcomed:
            return max(GRACE, self._limits.handshake_timeout)
        return SILENCE if slot.is_silent else GRACE

    def mark_authenticated(self, slot: Slot) -> bool:
        """Establish a slot's connection; return False if there are too many already, of all or of its identity."""
        with self.lock:
            # Mark first, count second: children that do this at the same moment cannot all succeed.
            account = _account_of(slot)
            if os.getpid() != self._process:  # the parent does not know which client its child serves
                self._table.set_name(slot.index, str(slot.peer or "anonymous"))
            self._table.set_account(slot.index, account)
            self._table.states[slot.index] = ESTABLISHED
            admitted = (
                self._table.count(ESTABLISHED) <= self._limits.max_connections
                and self._table.count_account(account) <= self._limits.max_connections_per_identity
            )
            if not admitted:
                self._table.states[slot.index] = UNAUTHENTICATED
                self._table.set_account(slot.index, NO_ACCOUNT)
            self._notify()
            return admitted

    def release(self, slot: Slot) -> None:
        """Free a slot; without effect if it is free already."""
        with self.lock:
            if slot in self._slots:
                del self._slots[slot]
                self._table.clear(slot.index)
                if self._forks and slot.pid is not None:
                    self.events.end_child(slot.index + 1)
                self._notify()
        slot.holding.release()

    def release_unserved(self, is_served: Callable[[Slot], bool]) -> None:
        """Close accepted connections that nothing serves, and free their slots."""
        for slot in self.slots():
            if not is_served(slot):
                slot.close_copy()
                self.release(slot)

    def overloaded(self, slot: Slot | None = None) -> bool:
        """Return True if max_connections are established, or as many of the slot's identity as it may have."""
        if self._table.count(ESTABLISHED) >= self._limits.max_connections:
            return True
        most = self._limits.max_connections_per_identity
        return slot is not None and self._table.count_account(_account_of(slot)) >= most

    def statistics(self) -> Statistics:
        """Return the counts of the server's connections and their requests, also of those in child processes."""
        with self.lock:
            established = [slot for slot in self._slots if self._table.states[slot.index] == ESTABLISHED]
            handshaking = len(self._slots) - len(established)
            peers = Counter(map(self._name, established))
            return Statistics(len(established), handshaking, self.events.numbers(), peers)

    def _name(self, slot: Slot) -> str:
        if slot.pid is None:
            return str(slot.peer or "anonymous")
        return self._table.name(slot.index)

    def wait_for_room(self, timeout: float) -> bool:
        """Return True if another connection may be accepted.

        If not, evict the unauthenticated ones that are late and wait up to ``timeout`` seconds.
        """
        with self.lock:
            if not self._has_room():
                for slot in self._pending():
                    if slot.is_late():
                        slot.evict()
                self.changed.wait(min(timeout, self.until_late()))
            return self._has_room()

    def until_late(self) -> float:
        """Return the seconds until an unauthenticated connection can be evicted, GRACE at most."""
        with self.lock:
            return min((slot.until_late() for slot in self._pending()), default=GRACE)

    def publish_held(self, index: int, held: int) -> bool:
        """Write the bytes that a connection holds into shared memory.

        Return True in the child process that holds most, if the sum of all children's is above the limit.
        """
        self._table.held[index] = held
        if os.getpid() == self._process or not held:
            return False
        return self._table.held.total > self._limits.max_buffered and held == self._table.held.largest

    def shed_children(self) -> None:
        """End the child processes that hold most, as long as all together hold more than max_buffered."""
        used = self._table.held.total
        if used > self._limits.max_buffered:
            with self.lock:
                children = [slot for slot in self._slots if slot.pid is not None]
                # Those that were ended before hold theirs until they have been reaped.
                used -= sum(self._table.held[slot.index] for slot in children if slot.evicted)
                alive = [slot for slot in children if not slot.evicted]
                for slot in sorted(alive, key=lambda slot: self._table.held[slot.index], reverse=True):
                    if used <= self._limits.max_buffered:
                        break
                    used -= self._table.held[slot.index]
                    self.events.hit("max_buffered", slot.known, f"process {slot.pid}: ended: {explain.shed()}")
                    slot.evict()

    def look(self) -> None:
        """Do what is due from time to time."""
        self.buffers.look()
        self.events.look()

    def wait_until_authenticated(self, timeout: float) -> None:
        """Wait until no connection is unauthenticated, at most ``timeout`` seconds."""
        with self.lock:
            self.changed.wait_for(lambda: not self._table.count(*PENDING), timeout)

    def unauthenticated(self) -> list[Slot]:
        """Return the slots of all unauthenticated connections, oldest first."""
        with self.lock:
            return [slot for slot in self._slots if self._table.states[slot.index] in PENDING]

    def slots(self) -> list[Slot]:
        """Return all slots in use, oldest first."""
        with self.lock:
            return list(self._slots)

    def evict(self, slots: Iterable[Slot]) -> None:
        """End the connections of those slots that are still in use."""
        with self.lock:
            for slot in slots:
                if slot in self._slots:
                    slot.evict()

    def _has_room(self) -> bool:
        """Return True if a connection may be accepted: there is a slot, or it will show which address gives way."""
        if self._table.count(*PENDING) < self._limits.max_handshakes:
            return True
        return len(self._slots) <= self._limits.max_threads and len({slot.source for slot in self._pending()}) > 1

    def _excess(self, newcomer: Slot) -> Slot | None:
        """Return the unauthenticated connection that must end because of a new one; None if there is room for it."""
        pending = self._pending()
        mine = [slot for slot in pending if slot.source == newcomer.source]
        if newcomer.source is not None and len(mine) > self._limits.max_handshakes_per_source:
            return next(filter(Slot.is_late, mine), newcomer)
        if len(pending) <= self._limits.max_handshakes:
            return None
        numbers = Counter(slot.source for slot in pending)
        largest = max(numbers, key=lambda source: (numbers[source], source == newcomer.source))
        theirs = [slot for slot in pending if slot.source == largest]
        return next(filter(Slot.is_late, theirs), theirs[-1])

    def _pending(self) -> list[Slot]:
        """Return the slots of unauthenticated connections that are not evicted yet, oldest first."""
        return [slot for slot in self._slots if self._table.states[slot.index] in PENDING and not slot.evicted]

    def _notify(self) -> None:
        self.changed.notify_all()
        if self.on_change is not None:
            self.on_change()


def _account_of(slot: Slot) -> bytes:
    """Return the hash under which the connections of a slot's identity are counted."""
    peer = slot.peer
    account = slot.key if peer is None else peer.account if peer.uid is None else ("uid", peer.uid)
    return (hash(account) & 0xFFFF_FFFF_FFFF_FFFF | 1).to_bytes(ACCOUNT, "big")
