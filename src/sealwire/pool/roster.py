"""The servers of a pool: the choice of one for each request, and the queue of requests that wait for a free one.

A request *claims* a place at a server, and gives it back when it has ended. The claims of a server are its requests in
progress. Whatever gives a place back hands it to the first in the queue that can use it, so that a busy caller cannot
take it before one that waits. Nothing here waits or does I/O: callers hold the pool's lock, if threads share it, and
only for the time of one choice.

A server that is left out is tried again by one claim at a time, its *probe*. As long as others serve, the pool makes
that connection beside the requests (:meth:`Roster.begin_probe`); if none does, the next request does it, at the server
whose back-off is over first. The other requests wait for what it finds, and share its failure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sealwire.errors import SealwireError, TransportError
from sealwire.pool.addresses import Address, Lookup, distinct, numeric
from sealwire.pool.servers import Server

if TYPE_CHECKING:
    from sealwire.pool.trip import Trip

_K = TypeVar("_K")


class Claim(Generic[_K]):
    """A request's place at a server.

    Args:
        trip: The call; None for work of the pool itself.

    Attributes:
        trip: As given.
        server: The server; None before one was chosen.
        channel: The connection that it uses alone; None if there is none.
        is_probe: True if it tries a server that was left out.
        wake: Called when a server was found, or is no longer to be waited for; None unless the claim is in the queue.
    """

    def __init__(self, trip: Trip | None) -> None:
        self.trip = trip
        self.server: Server[_K] | None = None
        self.channel: _K | None = None
        self.is_probe = False
        self.wake: Callable[[], None] | None = None


class Roster(Generic[_K]):
    """The servers of one pool, in one process and one event loop.

    Args:
        addresses: The addresses as configured.
        room: Number of requests in progress of one server, at most.
        interval: Seconds between two look-ups of a host's name.

    Attributes:
        servers: All servers that are known.
        lookups: The look-ups of those hosts that DNS must tell.
        dropped: Connections that are not used any more, for the pool to close.
        closed: True if the pool was closed.
        settling: True while the first look-ups are under way. Requests wait for all of them, for a moment, or the host
            whose name was found first would get all requests that are there by then.
    """

    def __init__(self, addresses: Sequence[Address], room: int, interval: float) -> None:
        self._room = room
        self._addresses = list(addresses)
        self.servers: list[Server[_K]] = []
        self.lookups: list[Lookup] = []
        self.dropped: deque[_K] = deque()
        self.closed = False
        self.settling = True
        self._queue: deque[Claim[_K]] = deque()
        self._turns = 0
        for address in addresses:
            found = [None] if address.path is not None else numeric(address)
            if found is None:
                self.lookups.append(Lookup(address, interval))
            else:
                self.servers += [Server(address, each, room) for each in found]

    # Choosing

    def claim(self, claim: Claim[_K]) -> bool:
        """Choose a server for a claim. Return False if it must wait (:meth:`enqueue`) for one.

        With True and without a server, none is left for the call to try.
        """
        if self._is_unsettled() and self.settling:
            return False
        trip = claim.trip
        known = [server for server in self.servers if trip is None or not trip.has_tried(server)]
        serving = [server for server in known if server.serves]
        free = [server for server in serving if server.has_room]
        if free:
            self.take(claim, min(free, key=lambda server: (server.load, server.turn)))
            return True
        if serving:
            return False
        out = [server for server in known if not server.is_probed and server.load < self._room]
        if out:
            claim.is_probe = True
            self.take(claim, min(out, key=lambda server: server.out_until or 0.0))
            return True
        return not known and not self._is_unsettled()

    def enqueue(self, claim: Claim[_K], wake: Callable[[], None]) -> None:
        """Let a claim wait: ``wake`` is called when it has a server, or there is none to wait for any more."""
        claim.wake = wake
        self._queue.append(claim)

    def release(self, claim: Claim[_K]) -> None:
        """Give a claim's place back, and leave the queue. Does nothing the second time."""
        server, claim.server = claim.server, None
        claim.is_probe = False
        if claim.wake is not None:
            claim.wake = None
            if claim in self._queue:
                self._queue.remove(claim)
        if server is not None:
            server.claims.discard(claim)
            self.serve_queue()

    def move(self, claim: Claim[_K], other: Claim[_K]) -> None:
        """Give the place of one claim to another."""
        other.server, claim.server = claim.server, None
        if other.server is not None:
            other.server.claims.add(other)
            other.server.claims.discard(claim)

    def serve_queue(self) -> None:
        """Give places to those that wait, in order, and wake those with nothing to wait for."""
        for claim in list(self._queue):
            if self.closed or self.claim(claim):
                self._queue.remove(claim)
                wake, claim.wake = claim.wake, None
                if wake is not None:
                    wake()

    def settle(self) -> None:
        """Wait no longer for the first look-ups, and serve the queue."""
        self.settling = False
        self.serve_queue()

    def left(self, trip: Trip) -> list[Server[_K]]:
        """Return the servers that a call has not tried yet."""
        return [server for server in self.servers if not trip.has_tried(server)]

    def take(self, claim: Claim[_K], server: Server[_K]) -> None:
        """Give a claim a place at a server."""
        self._turns += 1
        server.turn = self._turns
        claim.server = server
        server.claims.add(claim)

    # Failures and recovery

    def failed(self, server: Server[_K], error: SealwireError, now: float) -> None:
        """Leave a server out, and drop its idle connections."""
        self.dropped += server.put_out(error, now)
        for lookup in self.lookups:
            if lookup.address == server.address:
                lookup.hurry()
        self.serve_queue()

    def connected(self, claim: Claim[_K], now: float) -> None:
        """Put a claim's server in service, since a connection was made."""
        claim.is_probe = False
        if claim.server is not None and claim.server.out_until is not None:
            claim.server.bring_back(now)
            self.serve_queue()

    def begin_probe(self, claim: Claim[_K], now: float) -> bool:
        """Give a claim a server at the end of its back-off, if others serve; the caller tries it.

        Return False if there is none.
        """
        for server in self.servers:
            due = server.out_until is not None and server.out_until <= now
            if due and not server.is_probed and any(other.serves for other in self.servers if other is not server):
                claim.is_probe = True
                self.take(claim, server)
                return True
        return False

    # Names

    def begin_lookups(self, now: float) -> Iterator[Lookup]:
        """Yield the look-ups that are due; the caller ends each with :meth:`update`."""
        for lookup in self.lookups:
            if lookup.begin_if_due(now):
                yield lookup

    def update(self, lookup: Lookup, found: Sequence[Any] | TransportError, now: float) -> None:
        """Take over the result of a look-up, and drop the idle connections of servers that DNS no longer has.

        After a failed look-up the servers remain that were known before.
        """
        if isinstance(found, TransportError):
            lookup.end(now, found)
        else:
            present = distinct(found)
            for server in [each for each in self.servers if each.address == lookup.address]:
                if present.pop(server.found[4], None) is None:
                    server.gone = True
                    self.servers.remove(server)
                    self.dropped += server.take_connections()
            self.servers += [Server(lookup.address, each, self._room) for each in present.values()]
            # Names are looked up at the same time, and found in any order.
            self.servers.sort(key=lambda server: self._addresses.index(server.address))
            lookup.end(now)
        self.settling = self.settling and self._is_unsettled()
        self.serve_queue()

    def _is_unsettled(self) -> bool:
        """Return True while a host without a known address is being looked up."""
        return any(lookup.running and not self._has(lookup.address) for lookup in self.lookups)

    def _has(self, address: Address) -> bool:
        return any(server.address == address for server in self.servers)
