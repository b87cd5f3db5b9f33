"""The synchronous client on UDP."""

from __future__ import annotations

import math
import select
import socket
from contextlib import suppress
from random import SystemRandom
from time import monotonic
from typing import Any, Final

from sealwire.channel.connecting import REJECTIONS, where_text
from sealwire.channel.pump import reason
from sealwire.client import SharedClient
from sealwire.clients import AtHost, unknown, was_unprocessed
from sealwire.dtls.association import ClientAssociation
from sealwire.dtls.records import MOST
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    LocalProtocolError,
    PeerNotAllowed,
    RemoteError,
    SealwireError,
    TransportError,
)
from sealwire.security import Security
from sealwire.tls.identity import PeerIdentity, canonical_host
from sealwire.wire.events import Closed, Established, Event, Faulted, Rejected, Reply
from sealwire.wire.frames import FaultCode, Payload, RejectCode, VerifiedPayload

RESEND: Final = 0.25
"""Seconds until an idempotent request is sent again; doubled each time, up to MOST_PAUSE."""
MOST_PAUSE: Final = 2.0
_random = SystemRandom()


class Lost(ConnectionClosed):
    """The association has ended, or seems to have. first: sequence of the request under way, as it was sent first;
    infinite for one that was not."""

    first: float = 0


class _Link:
    """A connected socket and the association on it."""

    def __init__(self, sock: socket.socket, association: ClientAssociation, where: str) -> None:
        self._sock = sock
        self.association = association
        self._where = where
        self._replies: dict[int, VerifiedPayload | RemoteError] = {}
        self._waiting = select.poll()
        self._waiting.register(sock, select.POLLIN)
        self.closed: Closed | None = None
        self.first = 0
        """Sequence of the request under way, as it was sent first."""

    def handshake(self, deadline: float) -> None:
        """Raises HandshakeFailed, HandshakeRejected, PeerNotAllowed, DeadlineExceeded, TransportError."""
        while not self.association.open:
            if not self._turn(deadline):
                raise DeadlineExceeded(f"{self._where} did not complete the handshake in time")
            if self.association.ended and self.closed is None:
                raise HandshakeFailed(f"{self._where} ended the handshake")

    def exchange(self, payload: Payload, deadline: float, *, idempotent: bool) -> VerifiedPayload:
        """Send a request and wait for its reply. Raises RemoteError, PayloadTooLarge, DeadlineExceeded, Lost."""
        self._replies.clear()
        sent = [self._ask(payload, deadline)]
        self.first = sent[0]
        pause = RESEND
        again = monotonic() + pause if idempotent else math.inf
        overloaded: RemoteError | None = None
        while True:
            for number in sent:
                reply = self._replies.pop(number, None)
                if isinstance(reply, RemoteError):
                    if not (idempotent and reply.code == FaultCode.OVERLOADED):
                        raise reply
                    overloaded = reply
                elif reply is not None:
                    return reply
            if self.closed is not None or self.association.ended:
                how = {} if self.closed is None else self.closed._asdict()
                raise Lost("the server has ended the association", **how)
            if not self._turn(min(deadline, again)):
                if monotonic() >= deadline:
                    raise overloaded or DeadlineExceeded(f"nothing came from {self._where} in time")
                sent.append(self._ask(payload, deadline))
                pause = min(MOST_PAUSE, pause * 2)
                again = monotonic() + pause

    @property
    def peer(self) -> PeerIdentity | None:
        """Who the server is."""
        return self.association.peer

    def close(self) -> None:
        """Say so, and close the socket."""
        for datagram in self.association.close():
            self._send(datagram)
        self._sock.close()

    def abandon(self) -> None:
        """Close our copy of the socket without a word: two processes that went on with one association would use the
        same nonces."""
        self._sock.close()

    def usable(self) -> bool:
        """Whether it can take a request, as far as is known here."""
        try:
            while not self.association.ended and self._waiting.poll(0):
                self._receive()
        except SealwireError:
            return False
        return self.closed is None and self.association.usable() is None

    def _ask(self, payload: Payload, deadline: float) -> int:
        number = self.association.protocol.send_request(payload, wait=max(0.001, deadline - monotonic()))
        self._flush()
        return number

    def _turn(self, deadline: float) -> bool:
        """Wait for a datagram, send again what is due; False when the deadline has come."""
        self._flush()
        now = monotonic()
        if now >= deadline:
            return False
        due = min(deadline, self.association.timeout)
        if self._waiting.poll(max(0.0, due - now) * 1000):
            self._receive()
        elif monotonic() >= self.association.timeout:
            self.association.handle_timeout()
        return True

    def _receive(self) -> None:
        try:
            datagram = self._sock.recv(MOST)
        except BlockingIOError:
            return
        except OSError as error:
            if self.association.open:
                raise Lost(f"{self._where} is not there any more: {reason(error)}") from None
            raise TransportError(
                f"cannot reach {self._where}: {reason(error)}; see whether the server runs and listens there"
            ) from None
        for event in self.association.datagram_received(datagram):
            self._happened(event)
        self._flush()

    def _happened(self, event: Event) -> None:
        if isinstance(event, Rejected):
            text = REJECTIONS[RejectCode(event.code)]
            raise HandshakeRejected(f"{self._where} refused: {text}", code=event.code)
        if isinstance(event, Closed):
            self.closed = event
        elif isinstance(event, Reply):
            self._replies[event.request] = event.payload
        elif isinstance(event, Faulted):
            self._replies[event.request] = RemoteError(event.code, event.text)
        else:
            assert isinstance(event, Established)  # noqa: S101 - what is left, since nobody pings

    def _flush(self) -> None:
        for datagram in self.association.datagrams_to_send():
            self._send(datagram)

    def _send(self, datagram: bytes) -> None:
        with suppress(OSError):  # as if it were lost on the way; what ICMP says comes out of recv
            self._sock.send(datagram)


class SynchronousUDPClient(AtHost, SharedClient[_Link]):
    """A client for one server, on UDP. A message takes at most 1,132 bytes as it is encoded, and can be lost.

    host, port, timeout, wait, security: as for SynchronousTCPClient. One request is under way at a time. Its reply may
    be lost as well as the request, so that DeadlineExceeded says nothing about whether the server acted on it; with
    ``idempotent=True`` a request is sent again, after 0.25 s and then after twice as long each time, 2 s at most, until
    there is a reply. Threads may share it. A context manager. Raises ConfigurationError.
    """

    def _connect(self, timeout: float) -> _Link:
        return _linked(self.host, self.port, self.security, monotonic() + timeout)

    def _close(self, channel: _Link) -> None:
        channel.close()

    _part = _close

    def _abandon(self, channel: _Link) -> None:
        channel.abandon()

    def _request(self, payload: Payload, seconds: float, idempotent: bool) -> VerifiedPayload:
        link = self._usable(self.timeout)
        deadline = monotonic() + seconds
        try:
            return self._exchange(link, payload, deadline, idempotent)
        except Lost as lost:
            if not (idempotent or was_unprocessed(lost, link.first, renewed=False)):
                raise unknown(lost) from None
        link = self._usable(max(0.001, min(deadline - monotonic(), self.timeout)))
        try:
            return self._exchange(link, payload, deadline, idempotent)
        except Lost as lost:
            raise unknown(lost) from None

    def _exchange(self, link: _Link, payload: Payload, deadline: float, idempotent: bool) -> VerifiedPayload:
        try:
            return link.exchange(payload, deadline, idempotent=idempotent)
        except (RemoteError, LocalProtocolError):
            raise
        except SealwireError:
            # Also where no reply came: perhaps the server does not know us any more, and cannot say so.
            self._channel = None
            link.close()
            raise


def _linked(host: str, port: int, security: Security, deadline: float) -> _Link:
    """An association with the first address of the host that makes one."""
    where = where_text(host, port)
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, OverflowError):
        raise TransportError(f"{where}: the host's address cannot be found") from None
    for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        now = monotonic()
        try:
            # An address that never answers leaves the others their share.
            share = (deadline - now) / (len(addresses) - number + 1)
            return _made(socket.socket(family, kind, protocol), address, host, where, security, now + share)
        except (HandshakeFailed, HandshakeRejected, PeerNotAllowed):
            raise
        except (TransportError, DeadlineExceeded):
            if number == len(addresses):
                raise
    raise AssertionError  # pragma: no cover - getaddrinfo gives one address at least


def _made(sock: socket.socket, address: Any, host: str, where: str, security: Security, deadline: float) -> _Link:
    try:
        try:
            sock.connect(address)
        except OSError as error:
            raise TransportError(f"cannot reach {where}: {reason(error)}") from None
        sock.setblocking(False)
        link = _Link(
            sock, ClientAssociation(security, security.present(), host=canonical_host(host), where=where), where
        )
        link.handshake(deadline)
    except BaseException:
        sock.close()
        raise
    return link
