"""A server's associations on one socket, by the addresses of their peers; without I/O and without threads.

An address has no state here until it returns a valid cookie. Then it has an association, which is *unauthenticated*
until its client proves its identity, and *established* afterwards. The states have separate bounds,
Limits.max_handshakes and Limits.max_connections, as for TCP (see :mod:`sealwire.admission`). A new one over
max_handshakes takes the place of the oldest of the source (an IPv4 address, or an IPv6 network) that has most of them.

Clients that are gone. No event tells the end of a client that could not say so: its process was killed, or an exception
interrupted it and it began again (``UDPClient`` does, without a word). So an identity whose share of max_connections is
taken, or that finds all of them taken, gets the place of its own association that has been silent for longest and has
no request in progress (``_silent``). It is told CLOSE 1, as if it had been idle. Others' associations never give way.

Two associations of one address. An attacker that has read a cookie can forge datagrams with its address, so a new
handshake does not replace an established association before it is authenticated itself (``_establish``). Until then the
address has both, and ``_recipients`` finds those that a datagram may belong to: an encrypted one goes to both, and each
discards data that is not sealed with its keys; a ClientHello goes to the association with the same random.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final

from sealwire.dtls.client_association import PATIENCE
from sealwire.dtls.cookies import CookieExchange
from sealwire.dtls.records import client_random, is_encrypted
from sealwire.dtls.server_association import ServerAssociation, source
from sealwire.errors import ConnectionClosed, DeadlineExceeded, RemoteProtocolError, SealwireError
from sealwire.failures import report_broken, report_termination
from sealwire.limits import Limits
from sealwire.rates import rates_for
from sealwire.report import Statistics
from sealwire.security import Security
from sealwire.server_events import ServerEvents
from sealwire.session import explain
from sealwire.session.begin import reject_code
from sealwire.session.buffers import Buffers
from sealwire.wire.events import Event, Request
from sealwire.wire.frames import CloseCode, Payload
from sealwire.wire.metadata import Metadata
from sealwire.wire.protocol import State

_GRACE: Final = PATIENCE
"""Seconds for which an unauthenticated association cannot be ended: after as many a client that waits begins again. A
full table of handshakes takes longer than on TCP, since datagrams are repeated."""
_SILENCE: Final = 0.3
"""Seconds without a datagram after which it can be ended earlier, before its client's certificate was accepted. A
client repeats what may have been lost after a quarter of a second."""
_BEGUN: Final = 4
"""ClientHellos that are remembered, as a multiple of max_handshakes."""


class Demultiplexer:
    """The associations of one server. Used by one thread at a time.

    Args:
        security: The server's Security.
        send: Sends a datagram to an address.
        dispatch: Passes a request and its deadline to a handler. The handler calls send_reply or send_fault, then
            release.

    Attributes:
        in_progress: Number of requests that handlers are working on.
        events: Takes what is to be reported.
    """

    def __init__(
        self,
        security: Security,
        *,
        send: Callable[[bytes, Any], None],
        dispatch: Callable[[ServerAssociation, Request, float | None], None],
    ) -> None:
        self._security = security
        self.events = ServerEvents()
        self._send = send
        self._dispatch = dispatch
        self._cookies = CookieExchange(security)
        self._established: dict[Any, ServerAssociation] = {}
        self._unauthenticated: dict[Any, ServerAssociation] = {}
        self._sources: defaultdict[bytes, dict[Any, None]] = defaultdict(dict)
        """The addresses of unauthenticated associations by source, oldest first."""
        self._begun: dict[bytes | None, None] = {}
        """The randoms of the last ClientHellos that began an association, oldest first."""
        self._accounts: Counter[Hashable] = Counter()
        """The number of established associations of each account."""
        self._rates = rates_for(self._limits)
        self._buffers = Buffers(self._limits.max_buffered)
        self._working: Counter[Hashable] = Counter()
        """The number of requests of each account that handlers are working on."""
        self._next_sweep = 0.0
        self._next_expiry = math.inf
        self._draining = False
        self.in_progress = 0

    @property
    def _limits(self) -> Limits:
        return self._security.limits

    @property
    def until_due(self) -> float:
        """The seconds until :meth:`handle_timeouts` is due."""
        due = min(self._next_sweep, self._next_expiry)
        return max(0.0, min(due - monotonic(), self._limits.reload_interval))

    @property
    def peers(self) -> int:
        """The number of associations."""
        return len(self._established) + len(self._unauthenticated)

    def statistics(self) -> Statistics:
        """Return the counts of associations, and what was counted of them."""
        peers = Counter(str(each.peer or "anonymous") for each in self._established.values())
        return Statistics(len(self._established), len(self._unauthenticated), self.events.numbers(), peers)

    def datagram_received(self, datagram: bytes, address: Any, arrived: float) -> None:
        """Process a datagram. Never raises for its content.

        Args:
            datagram: Its bytes.
            address: Its sender.
            arrived: Its arrival time, from which a request's wait counts.
        """
        for association in self._recipients(datagram, address):
            try:
                for event in association.datagram_received(datagram):
                    self._receive(association, event, arrived)
            except SealwireError as error:
                self._handle_error(association, error)
                continue
            if association.has_records or (association.secured and association.protocol.queued):
                self._flush(association)
            # After REJECT the client may repeat its HELLO, if the answer was lost.
            if association.dtls_ended or (
                association.secured and association.protocol.state is State.ENDED and association.rejected is None
            ):
                self._forget(association)

    def handle_timeouts(self) -> None:
        """End associations that have expired, are idle or took too long for the handshake."""
        now = monotonic()
        if now >= self._next_expiry:
            self._expire(now)
        if now < self._next_sweep:
            return
        self._next_sweep = now + min(self._limits.reload_interval, self._limits.idle_timeout / 2)
        self.events.look()
        for association in self._all():
            if association.open:
                self._check(association, now)

    def send_reply(
        self, association: ServerAssociation, request: int, payload: Payload, metadata: Metadata | None = None
    ) -> None:
        """Answer a request; with FAULT 18 if the payload does not fit into a datagram.

        Does nothing if the association has ended. Raises PayloadTooLarge.
        """
        try:
            association.session.reply(request, payload, monotonic(), metadata)
        except ConnectionClosed:
            self._end_if_due(association)
        finally:
            self._flush(association)

    def send_fault(self, association: ServerAssociation, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT. Does nothing if the association has ended."""
        with suppress(ConnectionClosed):
            association.session.fault(request, code, text)
            self._flush(association)

    def release(self, association: ServerAssociation, request: Request) -> None:
        """Record that a handler has finished with a request."""
        self.in_progress -= 1
        self._working[association.account] -= 1
        if not self._working[association.account]:
            del self._working[association.account]
        association.hold(-len(request.payload))
        association.session.finish_handling(monotonic())
        self._end_if_due(association)

    def resume(self) -> None:
        """Accept new associations, also after :meth:`drain`."""
        self._draining = False

    def drain(self) -> None:
        """Take no more requests, and end each association when its requests are answered."""
        self._draining = True
        for association in self._all():
            if association.open:
                association.session.close(CloseCode.GOING_AWAY)
                self._end_if_due(association)
            else:
                self._end(association, CloseCode.GOING_AWAY)

    def close(self) -> None:
        """End all associations."""
        for association in self._all():
            self._end(association, CloseCode.GOING_AWAY)
        self.events.look(at_end=True)

    def _recipients(self, datagram: bytes, address: Any) -> list[ServerAssociation]:
        """Return the associations that a datagram may belong to; see the head of the module."""
        associations = self._at_address(address)
        if is_encrypted(datagram):
            return associations
        random = client_random(datagram)
        if random is None:
            return [each for each in associations if each is self._unauthenticated.get(address)]
        repeated = [each for each in associations if each.random == random]
        if not repeated:
            self._answer_client_hello(datagram, address)
        return repeated

    def _at_address(self, address: Any) -> list[ServerAssociation]:
        established, unauthenticated = self._established.get(address), self._unauthenticated.get(address)
        if unauthenticated is None:
            return [] if established is None else [established]
        return [unauthenticated] if established is None else [established, unauthenticated]

    def _all(self) -> list[ServerAssociation]:
        return [*self._established.values(), *self._unauthenticated.values()]

    def _answer_client_hello(self, datagram: bytes, address: Any) -> None:
        """Answer a ClientHello with a cookie or, if it has a valid one, with a new association."""
        if self._draining:
            return
        found = self._cookies.listen(datagram, address)
        if isinstance(found, list):
            for answer in found:
                self._send(answer, address)
            return
        random = client_random(datagram)
        if random in self._begun:
            return  # a second association with it would get the answers to the first, which has ended
        if address in self._unauthenticated:
            # The cookie proves that the client is at this address, so it has started over (RFC 6347, section 4.2.8).
            self._forget(self._unauthenticated[address])
        if not self._make_room(source(address)):
            return  # the client will ask again
        if len(self._begun) >= _BEGUN * self._limits.max_handshakes:
            del self._begun[next(iter(self._begun))]
        self._begun[random] = None
        association = ServerAssociation(
            self._security,
            *found,
            address=address,
            hello=datagram,
            busy=self._busy,
            establish=self._establish,
            rates=self._rates,
            holding=self._buffers.open(),
            events=self.events,
        )
        association.holding.end = partial(self._shed, association)
        self._unauthenticated[address] = association
        self._sources[source(address)][address] = None
        self._next_expiry = min(self._next_expiry, association.started_at + self._limits.handshake_timeout)
        try:
            association.begin()
        except SealwireError as error:
            self._handle_error(association, error)
        else:
            self._flush(association)

    def _make_room(self, newcomer: bytes) -> bool:
        """End an unauthenticated association if there are too many; return False if the newcomer has to wait.

        The source that would have most of them gives way: one that is late or, to another source, the youngest.
        """
        greediest = newcomer
        if len(self._sources.get(newcomer, ())) < self._limits.max_handshakes_per_source:
            if len(self._unauthenticated) < self._limits.max_handshakes:
                return True
            greediest = max(self._sources, key=lambda each: len(self._sources[each]) + (each == newcomer))
        theirs = [self._unauthenticated[address] for address in self._sources[greediest]]
        late = next(filter(self._is_late, theirs), None)
        if late is None and greediest == newcomer:
            return False
        self._forget(late or theirs[-1])
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

    def _expire(self, now: float) -> None:
        """End all associations that took too long for the handshake."""
        self._next_expiry = math.inf
        for association in list(self._unauthenticated.values()):
            if association.open:
                continue
            expiry = association.started_at + self._limits.handshake_timeout
            if now < expiry:
                self._next_expiry = min(self._next_expiry, expiry)
                continue
            if association.rejected is None:
                late = DeadlineExceeded("it did not complete the handshake in time")
                self.events.refused(association.known, late, level=logging.INFO)
            self._forget(association)

    def _receive(self, association: ServerAssociation, event: Event, arrived: float) -> None:
        """Process an event; dispatch a request if its limits permit."""
        session = association.session
        now = monotonic()
        request = session.receive(event, now)
        if request is None:
            self._end_if_due(association)
        elif self._has_too_many(association):
            with suppress(ConnectionClosed):
                session.refuse(request.sequence, "max_in_flight")
                self._flush(association)
        else:
            deadline = None if request.wait is None else arrived + request.wait
            if session.start_handling(request, deadline, now):
                self.in_progress += 1
                self._working[association.account] += 1
                association.hold(len(request.payload))
                self._dispatch(association, request, deadline)

    def _has_too_many(self, association: ServerAssociation) -> bool:
        """Return True if no other request of an association may be handled now."""
        limits = self._limits
        return (
            association.session.working >= limits.max_in_flight
            or self.in_progress >= limits.max_in_flight_total
            or self._working[association.account] >= limits.max_in_flight_per_identity
            or association.holding.waits
        )

    def _shed(self, association: ServerAssociation) -> None:
        """End an association because it holds most of the bytes that the server may buffer."""
        self.events.hit("max_buffered", association.known, f"ended: {explain.shed()}")
        self._forget(association)

    def _establish(self, association: ServerAssociation) -> bool:
        """Establish an authenticated association in place of an older one of its address; False if there is no room."""
        address = association.address
        if self._unauthenticated.get(address) is not association:
            return True
        if address in self._established:
            self._forget(self._established[address])
        account = association.account
        if self._busy(account) is not None:
            return False
        if self._is_full(account) and (silent := self._silent(account)) is not None:
            self.events.hit("max_connections", silent.known, f"ended: {explain.gave_way()}", level=logging.INFO)
            self._end(silent, CloseCode.IDLE)
        self._forget(association)
        self._established[address] = association
        self._accounts[association.account] += 1
        return True

    def _check(self, association: ServerAssociation, now: float) -> None:
        association.session.on_timeout(now)
        self._end_if_due(association)

    def _end_if_due(self, association: ServerAssociation) -> None:
        """End an association that is closing, if it has no request in progress or must end immediately."""
        session = association.session
        immediate = session.termination is not None and session.termination.immediate
        if session.closing is None or (session.working and not immediate):
            return
        if session.termination is not None and association in self._all():
            report_termination(session)
        self._end(association, session.closing)

    def _handle_error(self, association: ServerAssociation, error: SealwireError) -> None:
        if isinstance(error, RemoteProtocolError) and association.secured and association.session.key_id:
            report_broken(association.session, error)
        else:
            self.events.refused(association.known, error)
        self._flush(association)
        # After REJECT the client may repeat its HELLO, if the answer was lost.
        if association.rejected is None:
            self._forget(association)

    def _flush(self, association: ServerAssociation) -> None:
        for datagram in association.datagrams_to_send():
            self._send(datagram, association.address)

    def _end(self, association: ServerAssociation, code: int) -> None:
        for datagram in association.close(code):
            self._send(datagram, association.address)
        self._forget(association)

    def _forget(self, association: ServerAssociation) -> None:
        address = association.address
        association.holding.release()
        if association.secured:
            association.session.drop_unanswered()
        if self._established.get(address) is association:
            del self._established[address]
            self._accounts[association.account] -= 1
            if not self._accounts[association.account]:
                del self._accounts[association.account]
        elif self._unauthenticated.get(address) is association:
            del self._unauthenticated[address]
            theirs = source(address)
            del self._sources[theirs][address]
            if not self._sources[theirs]:
                del self._sources[theirs]

    def _busy(self, account: Hashable) -> int | None:
        """Return the code to REJECT a client with; None if there is room, or a silent association to give way."""
        full = self._is_full(account) and self._silent(account) is None
        return reject_code(draining=self._draining, full=full)

    def _is_full(self, account: Hashable) -> bool:
        limits = self._limits
        return (
            len(self._established) >= limits.max_connections
            or self._accounts[account] >= limits.max_connections_per_identity
        )

    def _silent(self, account: Hashable) -> ServerAssociation | None:
        """Return the account's association that has been silent for longest, of those without a request in progress."""
        theirs = (each for each in self._established.values() if each.account == account and not each.session.working)
        return min(theirs, key=lambda each: each.last_heard, default=None)
