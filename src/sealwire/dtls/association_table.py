"""A UDP server's associations by address, their bounds, and the rules for which of them gives way to another.

An association is *unauthenticated* until its client proves its identity, and *established* afterwards. The states have
separate bounds, Limits.max_handshakes and Limits.max_connections, as for TCP (see :mod:`sealwire.admission`). A new one
over max_handshakes takes the place of the oldest of the source (an IPv4 address, or an IPv6 network) that has most of
them.

Clients that are gone. No event tells the end of a client that could not say so: its process was killed, or an exception
interrupted it and it began again (``UDPClient`` does, without a word). So an identity whose share of max_connections is
taken, or that finds all of them taken, gets the place of its own association that has been silent for longest and has
no request in progress (``_silent``). Others' associations never give way.

An address can have one of each state, see :mod:`sealwire.dtls.demultiplexer`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable
from time import monotonic
from typing import Any, Final

from sealwire.dtls.client_association import PATIENCE
from sealwire.dtls.server_association import ServerAssociation, source
from sealwire.limits import Limits

_GRACE: Final = PATIENCE
"""Seconds for which an unauthenticated association cannot be ended: after as many a client that waits begins again. A
full table of handshakes takes longer than on TCP, since datagrams are repeated."""
_SILENCE: Final = 0.3
"""Seconds without a datagram after which it can be ended earlier, before its client's certificate was accepted. A
client repeats what may have been lost after a quarter of a second."""
_BEGUN: Final = 4
"""ClientHellos that are remembered, as a multiple of max_handshakes."""


class AssociationTable:
    """The associations of one server.

    Args:
        limits: The server's limits.

    Attributes:
        established: The established associations by address. For reading.
        unauthenticated: The others by address. For reading.
        next_expiry: The time from which :meth:`expired` may return associations.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.established: dict[Any, ServerAssociation] = {}
        self.unauthenticated: dict[Any, ServerAssociation] = {}
        self.next_expiry = math.inf
        self._sources: defaultdict[bytes, dict[Any, None]] = defaultdict(dict)
        """The addresses of unauthenticated associations by source, oldest first."""
        self._begun: dict[bytes | None, None] = {}
        """The randoms of the last ClientHellos that began an association, oldest first."""
        self._accounts: Counter[Hashable] = Counter()
        """The number of established associations of each account."""

    def __len__(self) -> int:
        return len(self.established) + len(self.unauthenticated)

    def all(self) -> list[ServerAssociation]:
        """Return all associations."""
        return [*self.established.values(), *self.unauthenticated.values()]

    def at(self, address: Any) -> list[ServerAssociation]:
        """Return the associations of an address."""
        established, unauthenticated = self.established.get(address), self.unauthenticated.get(address)
        if unauthenticated is None:
            return [] if established is None else [established]
        return [unauthenticated] if established is None else [established, unauthenticated]

    def has_begun(self, random: bytes | None) -> bool:
        """Return True if a ClientHello with that random began an association, also if that has ended meanwhile."""
        return random in self._begun

    def make_room(self, address: Any) -> bool:
        """Make room for an unauthenticated association, if there are too many; return False if it has to wait.

        The source that would have most of them gives way: one that is late or, to another source, the youngest.
        """
        newcomer = greediest = source(address)
        if len(self._sources.get(newcomer, ())) < self._limits.max_handshakes_per_source:
            if len(self.unauthenticated) < self._limits.max_handshakes:
                return True
            greediest = max(self._sources, key=lambda each: len(self._sources[each]) + (each == newcomer))
        theirs = [self.unauthenticated[each] for each in self._sources[greediest]]
        late = next(filter(self._is_late, theirs), None)
        if late is None and greediest == newcomer:
            return False
        self.forget(late or theirs[-1])
        return True

    def _is_late(self, association: ServerAssociation) -> bool:
        """Return True if an unauthenticated association can be ended: it is silent, or old.

        One with WELCOME may have sent a request, and one whose certificate was accepted is a client's, which has spent
        as much on it as this end.
        """
        now = monotonic()
        grace = max(_GRACE, self._limits.handshake_timeout) if association.secured else _GRACE
        silent = not association.secured and now - association.last_arrival >= _SILENCE
        return silent or now - association.started_at >= grace

    def add(self, association: ServerAssociation) -> None:
        """Add an unauthenticated association. Its address must have none."""
        if len(self._begun) >= _BEGUN * self._limits.max_handshakes:
            del self._begun[next(iter(self._begun))]
        self._begun[association.random] = None
        address = association.address
        self.unauthenticated[address] = association
        self._sources[source(address)][address] = None
        self.next_expiry = min(self.next_expiry, association.started_at + self._limits.handshake_timeout)

    def expired(self, now: float) -> list[ServerAssociation]:
        """Return the associations that took too long for the handshake."""
        self.next_expiry = math.inf
        found = []
        for association in self.unauthenticated.values():
            if association.open:
                continue
            expiry = association.started_at + self._limits.handshake_timeout
            if now < expiry:
                self.next_expiry = min(self.next_expiry, expiry)
            else:
                found.append(association)
        return found

    def has_room(self, account: Hashable) -> bool:
        """Return True if an account may have another established association, possibly in place of one that it has."""
        return not self._is_full(account) or self._silent(account) is not None

    def gives_way(self, account: Hashable) -> ServerAssociation | None:
        """Return the established association that another of its account takes the place of; None if there is room."""
        return self._silent(account) if self._is_full(account) else None

    def _is_full(self, account: Hashable) -> bool:
        limits = self._limits
        return (
            len(self.established) >= limits.max_connections
            or self._accounts[account] >= limits.max_connections_per_identity
        )

    def _silent(self, account: Hashable) -> ServerAssociation | None:
        """Return the account's association that has been silent for longest, of those without a request in progress."""
        theirs = (each for each in self.established.values() if each.account == account and not each.session.working)
        return min(theirs, key=lambda each: each.last_heard, default=None)

    def establish(self, association: ServerAssociation) -> None:
        """Make an unauthenticated association an established one. Its address must have none."""
        self._remove(association)
        self.established[association.address] = association
        self._accounts[association.account] += 1

    def forget(self, association: ServerAssociation) -> None:
        """Remove an association that has ended, and release what it holds."""
        association.holding.release()
        if association.secured:
            association.session.drop_unanswered()
        self._remove(association)

    def _remove(self, association: ServerAssociation) -> None:
        address = association.address
        if self.established.get(address) is association:
            del self.established[address]
            self._accounts[association.account] -= 1
            if not self._accounts[association.account]:
                del self._accounts[association.account]
        elif self.unauthenticated.get(address) is association:
            del self.unauthenticated[address]
            theirs = source(address)
            del self._sources[theirs][address]
            if not self._sources[theirs]:
                del self._sources[theirs]
