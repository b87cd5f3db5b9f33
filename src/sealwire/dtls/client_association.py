"""A client's association with a server: it repeats what may have been lost, for both ends."""

from __future__ import annotations

import math
from contextlib import suppress
from time import monotonic
from typing import Final

from OpenSSL import SSL

from sealwire.dtls.association import Association
from sealwire.dtls.contexts import certificate_problem, client_connection, reason
from sealwire.dtls.records import client_random
from sealwire.errors import HandshakeFailed, RemoteProtocolError
from sealwire.fork_gate import apart_from_forks
from sealwire.security import Security
from sealwire.session import explain, terms
from sealwire.session.client import ClientSession
from sealwire.session.validity import Validity
from sealwire.trust.certificates import Certificates
from sealwire.trust.known_peers import known_peers
from sealwire.wire.datagram import ClientDatagrams, Retransmission
from sealwire.wire.events import Event
from sealwire.wire.protocol import State

_REQUESTS_FOR_MORE: Final = 100
"""The number of times that a client sends its ClientHello again for the rest of an answer."""
PATIENCE: Final = 4.0
"""Seconds without progress after which a first attempt at the handshake is given up; twice as many for the next."""
_HELLO_PATIENCE: Final = 8.0
"""The same for HELLO, at least: until it was sent five times again, and some time for the answer."""


class Stalled(HandshakeFailed):
    """A handshake stalled. The server may have ended it, which it cannot tell: begin again, at another port."""


class ClientAssociation(Association):
    """A client's association with a server.

    Args:
        security: The client's Security.
        certificates: The client's certificates.
        host: The server's host name in canonical form, to verify.
        address: The server's address, for messages.
        patience: Seconds without progress of the handshake after which :meth:`handle_timeout` raises Stalled.
    """

    protocol: ClientDatagrams
    session: ClientSession

    def __init__(
        self,
        security: Security,
        certificates: Certificates,
        *,
        host: str,
        address: str,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(security, certificates, client_connection(certificates))
        self._host = host
        self._address = address
        self._patience = patience
        self._stalls_at = self.started_at + patience
        self._last: list[bytes] = []
        """The last datagrams with handshake messages, until an answer to them is complete."""
        self._retransmission = Retransmission(self.started_at)
        self._repeat = False
        self._timed_out = False
        self._requests_for_more = _REQUESTS_FOR_MORE
        if not host.replace(".", "").isdigit() and ":" not in host:
            self._dtls.set_tlsext_host_name(host.encode())
        with suppress(SSL.WantReadError):
            apart_from_forks(self._dtls.do_handshake)

    def datagram_received(self, datagram: bytes) -> list[Event]:
        """Process a datagram and return its events.

        Raises HandshakeFailed, PeerNotAllowed or RemoteProtocolError if the datagram ends the association.
        """
        events = super().datagram_received(datagram)
        if not self.secured and self._requests_for_more and self._last and client_random(self._last[0]) is not None:
            # A part of the answer: before it sends the rest, a server may have to wait for more bytes from this end.
            self._requests_for_more -= 1
            self._repeat = True
        return events

    def datagrams_to_send(self) -> list[bytes]:
        """Return the datagrams to send now."""
        made = super().datagrams_to_send()
        if self.secured:
            return made
        if made:
            self._last = made
            if not self._timed_out:
                now = monotonic()
                self._retransmission = Retransmission(now)
                self._stalls_at = now + self._patience
        elif self._repeat:
            made = self._last
        self._repeat = self._timed_out = False
        return made

    @property
    def timeout(self) -> float:
        """The time of ``time.monotonic()`` at which handle_timeout is due; infinite for never."""
        if self.dtls_ended:
            return math.inf
        if self.open:
            return math.inf
        if self.secured:
            return min(self.protocol.timeout, self._stalls_at)
        remaining = self._dtls.DTLSv1_get_timeout()
        due = min(self._retransmission.due, self._stalls_at)
        if remaining is None:
            return due
        # Zero means due now, which is before any other time, even if the clock has moved since.
        return min(monotonic() + remaining, due) if remaining > 0 else -math.inf

    def handle_timeout(self) -> None:
        """Queue again any handshake message that is due. Raises Stalled."""
        if self.dtls_ended or self.open:
            return
        now = monotonic()
        if now >= self._stalls_at:
            raise Stalled(f"{self._address} did not answer")
        if self.secured:
            self.protocol.handle_timeout(now)
            return
        self.has_records = self._timed_out = True
        self._repeat = self._retransmission.is_due(now)
        with suppress(SSL.Error):  # after a dozen of timeouts
            self._dtls.DTLSv1_handle_timeout()

    def _unseal(self, frame: bytes) -> Event | None:
        shaking_hands = self.protocol.state is State.HANDSHAKE
        try:
            return super()._unseal(frame)
        except RemoteProtocolError as error:
            if not shaking_hands:
                raise
            failed = explain.missing_welcome(error, self._address, None, anonymous=self._certificates.leaf is None)
            raise failed from failed.__cause__

    def _explain_failure(self, error: SSL.Error) -> HandshakeFailed:
        problem = certificate_problem(self._dtls, self._certificates)
        if problem is not None:
            return explain.server_certificate(self._address, problem)
        why = reason(error)
        if "alert" in why:
            return explain.client_refused(self._address, why, anonymous=self._certificates.leaf is None)
        # A signature over something else is one of another handshake at this port, of a client before this one.
        return HandshakeFailed(
            f"DTLS with {self._address} failed: {why}; is a Sealwire server there?", transient=why == "bad signature"
        )

    def _start_session(self, leaf: bytes | None, above: tuple[bytes, ...]) -> None:
        assert leaf is not None  # DTLS requires a server's certificate
        self.peer = known_peers.identify(leaf)
        # OpenSSL could verify the host name (RFC 9525), but pyOpenSSL has no function to ask for it.
        if not terms.replaces_host_name(self._security) and not self.peer.is_named(self._host):
            raise explain.server_certificate(self._address, f"hostname mismatch: it belongs to {self.peer}")
        now = monotonic()
        self._stalls_at = now + max(self._patience, _HELLO_PATIENCE)
        security, certificates = self._security, self._certificates
        validity = Validity(
            security, certificates, peer=self.peer, leaf=leaf, above=above, client=certificates.identity, now=now
        )
        parameters = terms.client_parameters(
            security, certificates, host=self._host, peer=self.peer, leaf=leaf, above=above
        )
        self.protocol = ClientDatagrams(now, **parameters)
        self.session = ClientSession(self.protocol, validity, self.peer, self._address, security.faults)
