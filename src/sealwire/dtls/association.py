"""One peer on UDP: DTLS and, inside it, the wire protocol. Datagrams go in, events and datagrams come out, without I/O.

The owner uses an association from one thread at a time, and calls::

    association.datagram_received(datagram)   for each datagram; returns events
    association.datagrams_to_send()           after every other call; send all of them
    association.handle_timeout()              for a client, when the time ``association.timeout`` has come

First DTLS makes its handshake (``_handshake``). When it is complete, ``_start_session`` creates the protocol and the
session; ``secured`` is True from then on, and HELLO and WELCOME follow as DTLS application data. Only a client repeats
what may have been lost (see :mod:`sealwire.dtls.flight` for the reason). OpenSSL repeats handshake messages, but not
before a second has passed. So the same datagrams are sent again before that, with the pauses that HELLO has, too.

The end. After CLOSE, from either side, the protocol is in state ENDED: nothing more is sent, but the peer's last
datagrams may still arrive. ``dtls_ended`` is True when DTLS itself is over, by close_notify, an alert or an error. A
client answered with REJECT keeps its association, since the answer may be lost and the client then repeats HELLO.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from time import monotonic
from typing import ClassVar, Final

from OpenSSL import SSL

from sealwire.dtls.contexts import (
    certificates_above,
    leaf_of,
    missing_parameter,
    overhead,
)
from sealwire.dtls.records import MAX_DATAGRAM, MTU, datagrams, is_forged
from sealwire.errors import HandshakeFailed
from sealwire.fork_gate import apart_from_forks
from sealwire.security import Security
from sealwire.session.client import ClientSession
from sealwire.session.server import ServerSession
from sealwire.trust.certificates import Certificates
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.datagram import ClientDatagrams, ServerDatagrams
from sealwire.wire.events import Established, Event, Rejected
from sealwire.wire.frames import CloseCode
from sealwire.wire.protocol import State

_READ: Final = 65_536


class Association(ABC):
    """One end of an association.

    Args:
        security: This end's Security.
        certificates: This end's certificates.
        connection: The connection of DTLS.

    Attributes:
        protocol: The wire protocol, after the DTLS handshake.
        security: The Security that was pinned for the association.
        session: The rules of the association, after the DTLS handshake.
        peer: The other end's identity, after the DTLS handshake; None for a client without a certificate.
        started_at: The time at which the association began.
        last_heard: The time of the last datagram that DTLS accepted.
    """

    protocol: ClientDatagrams | ServerDatagrams
    session: ClientSession | ServerSession
    _largest: ClassVar[int] = MTU
    """Bytes of a datagram with handshake messages."""

    def __init__(self, security: Security, certificates: Certificates, connection: SSL.Connection) -> None:
        self.security = self._security = security = security.pinned()
        self._certificates = certificates
        self._dtls = connection
        self.secured = False
        """True if the DTLS handshake is complete, and ``protocol`` and ``session`` exist."""
        self.dtls_ended = False
        """True if DTLS has ended, so that nothing can be received either."""
        self.has_records = True
        """True if DTLS may have records to send that contain no frames: handshake messages or an alert."""
        self._shortest = 0
        """The bytes that the cipher adds to a record, after the DTLS handshake."""
        self.peer: PeerIdentity | None = None
        self.started_at = self.last_heard = monotonic()

    @property
    def ended(self) -> bool:
        """True if nothing more can be sent."""
        return self.dtls_ended or (self.secured and self.protocol.state is State.ENDED)

    @property
    def open(self) -> bool:
        """True if both handshakes are complete, and the association has not ended."""
        return not self.dtls_ended and self.secured and self.protocol.state is State.OPEN

    def datagram_received(self, datagram: bytes) -> list[Event]:
        """Process a datagram and return its events.

        Raises HandshakeFailed, PeerNotAllowed or RemoteProtocolError if the datagram ends the association.
        """
        if self.dtls_ended or not datagram or is_forged(datagram, self._shortest):
            return []
        try:
            self._dtls.bio_write(datagram)
            if not self.secured:
                self.has_records = True
                if not self._handshake():
                    return []
            return self._read()
        except BaseException:
            # After REJECT the client may repeat its HELLO.
            if self.rejected is None:
                self._end_dtls()
            raise

    @property
    def rejected(self) -> int | None:
        """The code of REJECT, if that was a server's answer to HELLO."""
        return None

    def datagrams_to_send(self) -> list[bytes]:
        """Return the datagrams to send now."""
        frames = self.protocol.frames_to_send() if self.secured and self.protocol.queued else ()
        for frame in frames:
            with suppress(SSL.Error):  # the peer has ended DTLS
                self._dtls.send(b"".join(frame))
        if not frames and not self.has_records:
            return []
        alone = len(frames) == 1 and not self.has_records
        self.has_records = False
        records = b""
        with suppress(SSL.WantReadError):
            while len(records) % _READ == 0:  # a certificate with thousands of names needs more than one call
                records += self._dtls.bio_read(_READ)
        return [records] if alone and records else list(datagrams(records, self._largest))

    def close(self, code: int = CloseCode.DONE) -> list[bytes]:
        """End the association, with CLOSE if the wire protocol is established; return the last datagrams to send."""
        if self.secured:
            self.protocol.close(code)
        last = self.datagrams_to_send()
        self._end_dtls()
        return [*last, *self.datagrams_to_send()]

    def _end_dtls(self) -> None:
        """Queue close_notify, if the handshake is complete."""
        with suppress(SSL.Error):  # it is not
            self._dtls.shutdown()
        self.dtls_ended = self.has_records = True

    @abstractmethod
    def _explain_failure(self, error: SSL.Error) -> HandshakeFailed:
        """Return the error for a failed DTLS handshake."""

    @abstractmethod
    def _start_session(self, leaf: bytes | None, above: tuple[bytes, ...]) -> None:
        """Create protocol and session after the DTLS handshake.

        Args:
            leaf: The peer's certificate, DER; None without one.
            above: The certificates between it and the root, DER.
        """

    def _handshake(self) -> bool:
        """Continue the DTLS handshake; return True if it is complete. Raises HandshakeFailed."""
        try:
            apart_from_forks(self._dtls.do_handshake)
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise self._explain_failure(error) from None
        lacking = missing_parameter(self._dtls)
        if lacking is not None:
            raise HandshakeFailed(f"the peer did not agree to {lacking}")
        self._start_session(leaf_of(self._dtls), certificates_above(self._dtls))
        self._shortest = overhead(self._dtls)
        self.secured = True
        self.last_heard = monotonic()
        return True

    def _unseal(self, frame: bytes) -> Event | None:
        """Pass a frame to the protocol."""
        return self.protocol.datagram_received(frame)

    def _read(self) -> list[Event]:
        """Decrypt all frames that have arrived and return their events."""
        events: list[Event] = []
        came = False
        while True:
            try:
                frame = self._dtls.recv(MAX_DATAGRAM)
            except SSL.WantReadError:
                if not came:
                    self.has_records = True  # perhaps the answer to a repeated handshake message
                return events
            except SSL.Error:
                # The peer ended DTLS by close_notify or an alert. On UDP this is not an error, since CLOSE may be lost.
                self.dtls_ended = self.has_records = True
                return events
            came = True
            self.last_heard = monotonic()
            event = self._unseal(frame)
            if isinstance(event, Established | Rejected):
                self.session.establish(event)
            elif event is not None:
                events.append(event)
