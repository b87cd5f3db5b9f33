"""One peer: DTLS and, inside it, the wire protocol. Datagrams go in, events and datagrams come out, without any I/O.

Whoever owns an association uses it from one thread at a time, and calls in turn::

    association.datagram_received(datagram)     what happened; raises what ended it
    association.datagrams_to_send()             send them all, after every call
    association.timeout                         when handle_timeout is due, if nothing else happens before
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from OpenSSL import SSL

from sealwire.dtls.contexts import (
    certificate_problem,
    client_connection,
    leaf_of,
    reason,
    shortcoming,
)
from sealwire.dtls.records import MOST, datagrams
from sealwire.errors import HandshakeFailed
from sealwire.security import Security
from sealwire.standing import Lapse, Standing
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.datagram import ClientDatagrams, ServerDatagrams
from sealwire.wire.events import Established, Event
from sealwire.wire.frames import CloseCode
from sealwire.wire.protocol import State

_READ: Final = 65_536


class Association(ABC):
    """What both sides share. ``peer``: who is at the other end, once DTLS is complete; None for an anonymous client.

    ``since``: when it began. ``heard``: when the peer last sent something that DTLS took.
    """

    def __init__(self, security: Security, credentials: CredentialSet, connection: SSL.Connection) -> None:
        self._security = security
        self._credentials = credentials
        self._dtls = connection
        self._protocol: ClientDatagrams | ServerDatagrams | None = None
        self._standing: Standing | None = None
        self._over = False
        self.peer: PeerIdentity | None = None
        self.key_id = ""
        self.since = self.heard = monotonic()

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""
        return self._over or (self._protocol is not None and self._protocol.state is State.ENDED)

    @property
    def gone(self) -> bool:
        """Whether DTLS is over, and nothing can be received either."""
        return self._over

    @property
    def open(self) -> bool:
        """Whether both handshakes are complete, and the association has not ended."""
        return not self._over and self._protocol is not None and self._protocol.state is State.OPEN

    def datagram_received(self, datagram: bytes) -> list[Event]:
        """What it brought. Raises HandshakeFailed, PeerNotAllowed, RemoteProtocolError; the association has ended."""
        if self._over or not datagram:
            return []
        try:
            self._dtls.bio_write(datagram)
            return self._read() if self._protocol is not None or self._handshake() else []
        except BaseException:
            # Who was answered REJECT may ask again: the answer may be lost.
            self._over = self.rejected is None
            raise

    @property
    def rejected(self) -> int | None:
        """The code of REJECT, where that was a server's answer to HELLO."""
        return None

    def datagrams_to_send(self) -> list[bytes]:
        """What to send now, each in a datagram of its own."""
        if self._protocol is not None:
            for frame in self._protocol.frames_to_send():
                with suppress(SSL.Error):  # the peer has ended DTLS
                    self._dtls.send(b"".join(frame))
        return list(datagrams(self._records()))

    @property
    def timeout(self) -> float:
        """When handle_timeout is due, a moment of ``time.monotonic()``; infinite for never."""
        if self._over:
            return math.inf
        left = self._dtls.DTLSv1_get_timeout()
        resend = self._protocol.timeout if isinstance(self._protocol, ClientDatagrams) else math.inf
        if left is None:
            return resend
        # What is due now is due before any moment that is yet to come.
        return min(monotonic() + left, resend) if left > 0 else -math.inf

    def handle_timeout(self) -> None:
        """Send again what is due. Raises HandshakeFailed where DTLS gives up."""
        if self._over:
            return
        try:
            self._dtls.DTLSv1_handle_timeout()
        except SSL.Error:
            self._over = True
            raise HandshakeFailed("the peer did not answer DTLS") from None
        if isinstance(self._protocol, ClientDatagrams):
            self._protocol.handle_timeout(monotonic())

    def close(self, code: int = CloseCode.DONE) -> list[bytes]:
        """End it, with CLOSE where the wire protocol is established; returns what to send last."""
        if self._protocol is not None:
            self._protocol.close(code)
        last = self.datagrams_to_send()
        with suppress(SSL.Error):  # in the middle of the handshake
            self._dtls.shutdown()
        self._over = True
        return [*last, *datagrams(self._records())]

    def look(self) -> Lapse | None:
        """Why it must end, if it must; looked at where it is time to."""
        standing = self._standing
        if standing is None or not self.key_id or monotonic() < standing.next_look:
            return None
        return standing.look()

    @abstractmethod
    def _failure(self, error: SSL.Error) -> HandshakeFailed:
        """Why DTLS came to nothing."""

    @abstractmethod
    def _secured(self, leaf: bytes | None) -> None:
        """DTLS is complete: make the protocol. leaf: the peer's certificate (DER)."""

    def _handshake(self) -> bool:
        """Whether DTLS is complete."""
        try:
            self._dtls.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise self._failure(error) from None
        lacking = shortcoming(self._dtls)
        if lacking is not None:
            raise HandshakeFailed(f"the peer did not agree to {lacking}")
        self._secured(leaf_of(self._dtls))
        self.heard = monotonic()
        return True

    def _read(self) -> list[Event]:
        assert self._protocol is not None  # noqa: S101 - DTLS is complete
        events: list[Event] = []
        while True:
            try:
                frame = self._dtls.recv(MOST)
            except SSL.WantReadError:
                return events
            except SSL.Error:
                # The peer's end, by close_notify or with an alert: without CLOSE it is no error here.
                self._over = True
                return events
            self.heard = monotonic()
            event = self._protocol.datagram_received(frame)
            if isinstance(event, Established) and self._standing is not None:
                self.key_id = event.key_id
                self._standing.agree(event.key_id)
            if event is not None:
                events.append(event)

    def _records(self) -> bytes:
        records = b""
        with suppress(SSL.WantReadError):
            while True:
                records += self._dtls.bio_read(_READ)
        return records


class ServerAssociation(Association):
    """A server's association with the client at ``address``, whose ClientHello had that ``random``.

    busy: the code to REJECT an authorised client with, or None. ``active``: when the last request came, or was
    answered. ``lapse``: why it is to end. ``in_hand``: requests with handlers.
    """

    _protocol: ServerDatagrams | None

    def __init__(
        self,
        security: Security,
        credentials: CredentialSet,
        connection: SSL.Connection,
        *,
        address: Any,
        random: bytes,
        busy: Callable[[], int | None],
    ) -> None:
        super().__init__(security, credentials, connection)
        self._busy = busy
        self.address = address
        self.random = random
        self.active = self.since
        self.lapse: Lapse | None = None
        self.in_hand = 0

    def begin(self) -> None:
        """Go on with the ClientHello that brought the cookie. Raises HandshakeFailed."""
        try:
            self._handshake()
        except BaseException:
            self._over = True
            raise

    @property
    def protocol(self) -> ServerDatagrams:
        """The wire protocol, once DTLS is complete."""
        assert self._protocol is not None  # noqa: S101 - as said
        return self._protocol

    @property
    def authenticated(self) -> bool:
        """Whether the client has proved, on this association, that it holds the key."""
        return self._protocol is not None and self._protocol.authenticated

    @property
    def rejected(self) -> int | None:
        """The code of REJECT, where that was the answer to HELLO."""
        return None if self._protocol is None else self._protocol.rejected

    def _failure(self, error: SSL.Error) -> HandshakeFailed:
        problem = certificate_problem(self._dtls, self._credentials)
        if problem is not None:
            return HandshakeFailed(f"the client's certificate is not acceptable: {problem}")
        return HandshakeFailed(f"DTLS failed: {reason(error)}")

    def _secured(self, leaf: bytes | None) -> None:
        self.peer = None if leaf is None else PeerIdentity.from_der(leaf)
        terms = self._security.server_terms(self._credentials, client=self.peer, leaf=leaf, busy=self._busy)
        self._standing = Standing(self._security, self._credentials, self.peer, leaf, client=self.peer)
        self._protocol = ServerDatagrams(terms)


class ClientAssociation(Association):
    """A client's association with a server. host: as it is verified (canonical). where: the server, for people."""

    _protocol: ClientDatagrams | None

    def __init__(self, security: Security, credentials: CredentialSet, *, host: str, where: str) -> None:
        super().__init__(security, credentials, client_connection(security, credentials))
        self._host = host
        self._where = where
        if not host.replace(".", "").isdigit() and ":" not in host:
            self._dtls.set_tlsext_host_name(host.encode())
        with suppress(SSL.WantReadError):
            self._dtls.do_handshake()

    @property
    def protocol(self) -> ClientDatagrams:
        """The wire protocol, once DTLS is complete."""
        assert self._protocol is not None  # noqa: S101 - as said
        return self._protocol

    def usable(self) -> str | None:
        """Why another association should be made for the next request; None where this one will do."""
        standing = self._standing
        if not self.open or standing is None:
            return "the server has ended it"
        if monotonic() < standing.next_look:
            return None
        lapse = standing.look()
        return standing.stale() if lapse is None else lapse.reason

    def _failure(self, error: SSL.Error) -> HandshakeFailed:
        problem = certificate_problem(self._dtls, self._credentials)
        if problem is not None:
            return _not_acceptable(self._where, problem)
        why = reason(error)
        if "alert" not in why:
            return HandshakeFailed(f"DTLS with {self._where} failed: {why}; is a Sealwire server there?")
        if self._credentials.leaf is None:
            return HandshakeFailed(
                f"{self._where} ended DTLS ({why}); it may want a certificate, and this client has none"
            )
        return HandshakeFailed(
            f"{self._where} refused this client's certificate, or what it offers ({why}); the certificate must come "
            "from a CA in the server's ca file, be valid now and be meant for clients"
        )

    def _secured(self, leaf: bytes | None) -> None:
        assert leaf is not None  # noqa: S101 - a server always shows one
        self.peer = PeerIdentity.from_der(leaf)
        # OpenSSL could check it (RFC 9525), but pyOpenSSL has no way to say so.
        if not self._security.replaces_host_name and not self.peer.is_named(self._host):
            raise _not_acceptable(self._where, f"hostname mismatch: it is of {self.peer}")
        offer = self._security.client_offer(self._credentials, host=self._host, server=leaf)
        self._standing = Standing(self._security, self._credentials, self.peer, leaf, client=self._credentials.identity)
        self._protocol = ClientDatagrams(monotonic(), **offer)


def _not_acceptable(where: str, problem: str) -> HandshakeFailed:
    return HandshakeFailed(
        f"the certificate of {where} is not acceptable: {problem}; it must come from a CA in this client's ca file, be "
        "valid now, and have the host name among its subject alternative names"
    )
