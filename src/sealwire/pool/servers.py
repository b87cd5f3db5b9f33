"""One server as a pool sees it: its requests in progress, its back-off, and its connections."""

from __future__ import annotations

from collections import deque
from random import SystemRandom
from typing import Any, Final, Generic, NamedTuple, TypeVar
from weakref import WeakSet

from sealwire.backoff import Backoff
from sealwire.errors import HandshakeRejected, SealwireError
from sealwire.pool.addresses import Address
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.frames import RejectCode

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 30.0
_STEADY: Final = 10.0
"""Seconds in service after which a server's next failure counts as the first one."""
_PATIENCE: Final = 3
"""Requests in a row without a reply in time, after which a server is left out."""
_random = SystemRandom()


class ServerStatus(NamedTuple):
    """The state of one server of a pool.

    Attributes:
        address: Its address as configured, with the IP address if that has a name.
        in_service: True if requests are sent to it. Otherwise it is tried again when its back-off is over.
        requests: The number of requests in progress.
        connections: The number of open connections, as far as this end knows.
        peer: The verified identity that it had at the last connection; None before.
        failure: The last error for which it was left out; None if there was none.
    """

    address: str
    in_service: bool
    requests: int
    connections: int
    peer: PeerIdentity | None
    failure: SealwireError | None


_K = TypeVar("_K")


class Server(Generic[_K]):
    """A server: a socket address of a host, or a Unix socket.

    Args:
        address: The address as configured.
        found: The result of getaddrinfo for it; None for a Unix socket.
        room: Number of requests in progress, at most.

    Attributes:
        address, found: As given.
        claims: The requests in progress, each a Claim. One that was interrupted is not kept: its call is gone.
        idle: Connections without a request; in the order of their last use.
        shared: Connections that carry any number of requests.
        out_until: The time at which the server may be tried again; None while it is in service.
        failure: The last error for which it was left out.
        failed_at: The time of that.
        is_full: True if it was left out because it accepts no more connections. Those that there are remain in use.
        turn: Grows with each choice of a server, so that equals are chosen in turn.
        peer: The verified identity at the last connection.
        gone: True if DNS no longer has it.
    """

    def __init__(self, address: Address, found: Any, room: int) -> None:
        self.address = address
        self.found = found
        self._room = room
        self.claims: WeakSet[Any] = WeakSet()
        self.idle: deque[_K] = deque()
        self.shared: list[_K] = []
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter=lambda: _random.uniform(0.5, 1.0))
        self._back_at = 0.0
        self._late = 0
        self.out_until: float | None = None
        self.failure: SealwireError | None = None
        self.failed_at = 0.0
        self.is_full = False
        self.turn = 0
        self.peer: PeerIdentity | None = None
        self.gone = False

    def __str__(self) -> str:
        if self.found is None or self.found[4][0] == self.address.host:
            return str(self.address)
        return f"{self.address} ({self.found[4][0]})"

    @property
    def load(self) -> int:
        """The number of requests in progress."""
        return len(self.claims)

    @property
    def serves(self) -> bool:
        """True if requests are sent to it: it is in service, or has connections although it accepts no more."""
        return self.out_until is None or (self.is_full and bool(self.idle or self.shared or self.claims))

    @property
    def has_room(self) -> bool:
        """True if it can take a request now."""
        if self.out_until is not None and not (self.idle or self.shared):
            return False
        return self.load < self._room

    @property
    def is_probed(self) -> bool:
        """True while a connection tries if it is back."""
        return any(claim.is_probe for claim in self.claims)

    def put_out(self, error: SealwireError, now: float) -> list[_K]:
        """Leave the server out until its back-off is over; return its other connections, for the caller to close.

        They may be as dead as the one that failed, which only the next request on them would show. Requests in flight
        on them may finish.
        """
        if self.out_until is None and now - self._back_at >= _STEADY:
            self._backoff.reset()
        if self.out_until is None or self.is_probed:  # and not once more for each request that one outage has met
            self.out_until = now + self._backoff.next()
        self.failed_at, self.failure = now, error
        self._late = 0
        self.is_full = isinstance(error, HandshakeRejected) and error.code == RejectCode.OVERLOADED
        if self.is_full:
            return []
        return self.take_connections()

    def take_connections(self) -> list[_K]:
        """Return all connections that are idle or shared, which no other request uses any more."""
        taken, self.shared = self.shared, []
        while True:
            try:
                taken.append(self.idle.popleft())  # a call takes the others without the lock
            except IndexError:
                return taken

    def bring_back(self, now: float) -> None:
        """Put the server in service: a connection was made."""
        if self.out_until is not None:
            self.out_until, self._back_at, self.is_full = None, now, False

    def answered(self) -> None:
        """Note a reply."""
        self._late = 0

    def was_late(self) -> bool:
        """Note a request without a reply in time; return True if the server is to be left out for that."""
        self._late += 1
        return self._late >= _PATIENCE

    def status(self) -> ServerStatus:
        """Return the server's state."""
        lines: list[Any] = list(self.shared)
        alone = len(self.idle) + sum(claim.channel is not None for claim in list(self.claims))
        connections = sum(line.is_open for line in lines) if lines else alone
        return ServerStatus(str(self), self.serves, self.load, connections, self.peer, self.failure)
