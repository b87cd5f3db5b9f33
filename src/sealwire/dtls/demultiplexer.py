"""A server's associations on one socket: datagrams in, requests and datagrams out; without I/O and without threads.

An address has no state here until it returns a valid cookie. Then it has an association, for which
:mod:`sealwire.dtls.association_table` has the bounds.

Two associations of one address. An attacker that has read a cookie can forge datagrams with its address, so a new
handshake does not replace an established association before it is authenticated itself (``_establish``). Until then the
address has both, and ``_recipients`` finds those that a datagram may belong to: an encrypted one goes to both, and each
discards data that is not sealed with its keys; a ClientHello goes to the association with the same random.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

from sealwire.dtls.association_table import AssociationTable
from sealwire.dtls.cookies import CookieExchange
from sealwire.dtls.records import client_random, is_encrypted
from sealwire.dtls.server_association import ServerAssociation
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


class Demultiplexer:
    """The associations of one server. Used by one thread at a time.

    Args:
        security: The server's Security.
        send: Sends a datagram to an address.
        dispatch: Passes a request and its deadline to a handler. The handler calls send_reply or send_fault, then
            release.

    Attributes:
        in_progress: Number of requests that handlers are working on.
        events: Receives the events to report.
        associations: The table of all associations.
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
        self.associations = AssociationTable(security.limits)
        self._rates = rates_for(self._limits)
        self._buffers = Buffers(self._limits.max_buffered)
        self._working: Counter[Hashable] = Counter()
        """The number of requests of each account that handlers are working on."""
        self._next_sweep = 0.0
        self._draining = False
        self.in_progress = 0

    @property
    def _limits(self) -> Limits:
        return self._security.limits

    @property
    def until_due(self) -> float:
        """The seconds until :meth:`handle_timeouts` is due."""
        due = min(self._next_sweep, self.associations.next_expiry)
        return max(0.0, min(due - monotonic(), self._limits.reload_interval))

    @property
    def peers(self) -> int:
        """The number of associations."""
        return len(self.associations)

    def statistics(self) -> Statistics:
        """Return the counts of associations, and what was counted of them."""
        table = self.associations
        peers = Counter(str(each.peer or "anonymous") for each in table.established.values())
        return Statistics(len(table.established), len(table.unauthenticated), self.events.numbers(), peers)

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
                self.associations.forget(association)

    def handle_timeouts(self) -> None:
        """End associations that have expired, are idle or took too long for the handshake."""
        now = monotonic()
        if now >= self.associations.next_expiry:
            self._expire(now)
        if now < self._next_sweep:
            return
        self._next_sweep = now + min(self._limits.reload_interval, self._limits.idle_timeout / 2)
        self.events.look()
        for association in self.associations.all():
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
        for association in self.associations.all():
            if association.open:
                association.session.close(CloseCode.GOING_AWAY)
                self._end_if_due(association)
            else:
                self._end(association, CloseCode.GOING_AWAY)

    def close(self) -> None:
        """End all associations."""
        for association in self.associations.all():
            self._end(association, CloseCode.GOING_AWAY)
        self.events.look(at_end=True)

    def _recipients(self, datagram: bytes, address: Any) -> list[ServerAssociation]:
        """Return the associations that a datagram may belong to; see the head of the module."""
        associations = self.associations.at(address)
        if is_encrypted(datagram):
            return associations
        random = client_random(datagram)
        if random is None:
            return [each for each in associations if each is self.associations.unauthenticated.get(address)]
        repeated = [each for each in associations if each.random == random]
        if not repeated:
            self._answer_client_hello(datagram, address)
        return repeated

    def _answer_client_hello(self, datagram: bytes, address: Any) -> None:
        """Answer a ClientHello with a cookie or, if it has a valid one, with a new association."""
        if self._draining:
            return
        found = self._cookies.listen(datagram, address)
        if isinstance(found, list):
            for answer in found:
                self._send(answer, address)
            return
        if self.associations.has_begun(client_random(datagram)):
            return  # a second association with it would get the answers to the first, which has ended
        if (abandoned := self.associations.unauthenticated.get(address)) is not None:
            # The cookie proves that the client is at this address, so it has started over (RFC 6347, section 4.2.8).
            self.associations.forget(abandoned)
        if not self.associations.make_room(address):
            return  # the client will ask again
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
        self.associations.add(association)
        try:
            association.begin()
        except SealwireError as error:
            self._handle_error(association, error)
        else:
            self._flush(association)

    def _expire(self, now: float) -> None:
        """End all associations that took too long for the handshake."""
        for association in self.associations.expired(now):
            if association.rejected is None:
                late = DeadlineExceeded("it did not complete the handshake in time")
                self.events.refused(association.known, late, level=logging.INFO)
            self.associations.forget(association)

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
        self.associations.forget(association)

    def _establish(self, association: ServerAssociation) -> bool:
        """Establish an authenticated association in place of an older one of its address; False if there is no room."""
        table, address = self.associations, association.address
        if table.unauthenticated.get(address) is not association:
            return True
        if (older := table.established.get(address)) is not None:
            table.forget(older)
        if self._busy(association.account) is not None:
            return False
        if (silent := table.gives_way(association.account)) is not None:
            self.events.hit("max_connections", silent.known, f"ended: {explain.gave_way()}", level=logging.INFO)
            self._end(silent, CloseCode.IDLE)
        table.establish(association)
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
        if session.termination is not None and association in self.associations.all():
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
            self.associations.forget(association)

    def _flush(self, association: ServerAssociation) -> None:
        for datagram in association.datagrams_to_send():
            self._send(datagram, association.address)

    def _end(self, association: ServerAssociation, code: int) -> None:
        for datagram in association.close(code):
            self._send(datagram, association.address)
        self.associations.forget(association)

    def _busy(self, account: Hashable) -> int | None:
        """Return the code to REJECT a client with; None if there is room, or a silent association to give way."""
        return reject_code(draining=self._draining, full=not self.associations.has_room(account))
