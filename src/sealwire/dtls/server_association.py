"""A server's association with one client, and its bounds for a client that has not proved its identity."""

from __future__ import annotations

import ipaddress
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from time import monotonic
from types import SimpleNamespace
from typing import Any, Final

from OpenSSL import SSL

from sealwire.dtls.association import Association
from sealwire.dtls.contexts import certificate_problem, reason
from sealwire.dtls.flight import LARGEST, Flight
from sealwire.dtls.records import announced, client_random
from sealwire.errors import HandshakeFailed
from sealwire.rates import Rates
from sealwire.security import Security
from sealwire.server_events import ServerEvents, Source
from sealwire.session import explain, terms
from sealwire.session.buffers import Holding
from sealwire.session.server import ServerSession
from sealwire.session.validity import Validity
from sealwire.trust.certificates import Certificates
from sealwire.trust.known_peers import known_peers
from sealwire.trust.reloading import LOOK_PATIENCE
from sealwire.wire.datagram import ServerDatagrams
from sealwire.wire.events import Doubted, Event

_MAX_MESSAGES: Final = 128 << 10
"""Bytes of all handshake messages of a client: OpenSSL's limit for its certificates, 100 KiB, and some for the rest."""
_MESSAGES: Final = 32
"""Numbers of handshake messages that OpenSSL can be waiting for."""


class ServerAssociation(Association):
    """A server's association with one client.

    Args:
        security: The server's Security.
        certificates: The server's certificates.
        connection: The connection of DTLS, which has read the ClientHello with the cookie.
        address: The client's address.
        hello: The datagram with that ClientHello.
        busy: Returns the code to REJECT an authorised client with, or None, for its ``account``.
        establish: Called when the client has authenticated itself; returns False if there is no room for it.
        rates: Bounds the requests of each account; None without a bound.
        holding: Counts the bytes that the association holds.
        events: Receives the events to report.

    Attributes:
        holding, events: As given.
        account: The client as far as its associations and requests are counted: its identity, or its address.
    """

    protocol: ServerDatagrams
    session: ServerSession
    _largest = LARGEST

    def __init__(
        self,
        security: Security,
        certificates: Certificates,
        connection: SSL.Connection,
        *,
        address: Any,
        hello: bytes,
        busy: Callable[[Hashable], int | None],
        establish: Callable[[ServerAssociation], bool],
        rates: Rates | None = None,
        holding: Holding,
        events: ServerEvents,
    ) -> None:
        super().__init__(security, certificates, connection)
        self._busy = busy
        self._establish = establish
        self._rates = rates
        self._flight = Flight()
        self._flight.receive(hello)
        self.holding = holding
        self.events = events
        self.state = SimpleNamespace()
        """The handlers' own state of this association."""
        self._held = 0
        self._doubt_ends = 0.0
        """The time until which HELLO with an unknown key may wait for new keys; zero after the answer."""
        self._messages: dict[int, int] = {}
        """The lengths of the client's handshake messages, by number."""
        self.address = address
        self.account: Hashable = source(address)
        self.random = client_random(hello)
        self.last_arrival = self.started_at
        """The time of the last datagram of the handshake."""

    def begin(self) -> None:
        """Continue after the ClientHello with the cookie. Raises HandshakeFailed."""
        try:
            self._handshake()
        except BaseException:
            self.dtls_ended = True
            raise

    def datagram_received(self, datagram: bytes) -> list[Event]:
        """Process a datagram and return its events.

        Raises HandshakeFailed or RemoteProtocolError if the datagram ends the association.
        """
        if not self.secured:
            self.last_arrival = monotonic()
            self._flight.receive(datagram)
            if not self._has_room_for(datagram):
                return []
        return super().datagram_received(datagram)

    def _has_room_for(self, datagram: bytes) -> bool:
        """Return False if the handshake messages that a datagram announces are too long together.

        OpenSSL keeps parts of ten messages to come, of 100 KiB each, for any client that answers a cookie.
        """
        messages = self._messages | {number: size for number, size in announced(datagram) if number < _MESSAGES}
        if sum(messages.values()) > _MAX_MESSAGES:
            return False
        self._messages = messages
        self.holding.update(sum(messages.values()))
        return True

    def hold(self, change: int) -> None:
        """Count bytes of requests that a handler has got, or has finished with if the number is negative."""
        self._held += change
        self.holding.update(self._held)

    def datagrams_to_send(self) -> list[bytes]:
        """Return the datagrams to send now."""
        made = super().datagrams_to_send()
        return made if self.secured else self._flight.take(made)

    @property
    def rejected(self) -> int | None:
        """The code of REJECT, if that was the answer to HELLO."""
        return None if not self.secured else self.protocol.rejected

    def _unseal(self, frame: bytes) -> Event | None:
        event = super()._unseal(frame)
        if isinstance(event, Doubted):
            self._doubt_ends = self.last_heard + LOOK_PATIENCE
            self._security.look(self.last_heard)
        elif self._doubt_ends:
            self._security.refresh()
        else:
            return event
        if self._security.keys.looking and self.last_heard < self._doubt_ends:
            return None  # the file is just being written, and the client will send HELLO again
        self._doubt_ends = 0.0
        return self.session.answer_hello()

    # The association is its session's slot

    on_request = None

    @property
    def since(self) -> float:
        """The time at which the client's first valid cookie came."""
        return self.started_at

    @property
    def known(self) -> Source:
        """The facts about the client, for a report."""
        return self.session.source() if self.secured else Source(self.address, self.peer)

    @property
    def allow_request(self) -> Callable[[float], bool] | None:
        """The function that tells if another request may be handled now; None without a bound."""
        rates, account = self._rates, self.account
        return None if rates is None else lambda now: rates.allow(account, now)

    def mark_welcomed(self) -> None:
        """Do nothing: the server sees that the association is open."""

    def mark_authenticated(self) -> bool:
        """Establish the association; return False if max_connections are established already."""
        return self._establish(self)

    def _explain_failure(self, error: SSL.Error) -> HandshakeFailed:
        problem = certificate_problem(self._dtls, self._certificates)
        if problem is not None:
            return explain.client_certificate(problem)
        return explain.server_refused(reason(error), "DTLS")

    def _start_session(self, leaf: bytes | None, above: tuple[bytes, ...]) -> None:
        self._flight, self._messages = Flight(), {}
        self.holding.update(0)
        if leaf is not None:
            self.peer = known_peers.identify(leaf)
            self.account = self.peer.account
        now = monotonic()
        validity = Validity(
            self._security, self._certificates, peer=self.peer, leaf=leaf, above=above, client=self.peer, now=now
        )
        self.protocol = ServerDatagrams(
            terms.server_parameters(
                self._security,
                self._certificates,
                client=self.peer,
                leaf=leaf,
                above=above,
                busy=partial(self._busy, self.account),
                keys=lambda: validity.keys,
                features=terms.server_features(self._security, at_once=1, in_parts=False),
            )
        )
        # Without a cycle of references, so that all of this is freed at once when the association ends.
        slot = weakref.proxy(self)
        self.session = ServerSession(self.protocol, validity, self._security.limits, slot, now)


def source(address: Any) -> bytes:
    """Return the part of an address that one party has: an IPv4 address, or the first 64 bits of an IPv6 address."""
    host = ipaddress.ip_address(address[0].partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address):
        return host.packed[:8] if host.ipv4_mapped is None else host.ipv4_mapped.packed
    return host.packed
