"""The synchronous client on UDP."""

from __future__ import annotations

import math
import select
import socket
import threading
from contextlib import suppress
from random import SystemRandom
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

from sealwire.channel.client import REJECTIONS, where_text
from sealwire.channel.pump import reason
from sealwire.client import BACK_OFF, SharedClient, seconds_of, unknown, was_unprocessed
from sealwire.dtls.association import ClientAssociation
from sealwire.dtls.records import MOST
from sealwire.errors import (
    ConfigurationError,
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
from sealwire.wire.frames import Payload, RejectCode, VerifiedPayload

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
        while True:
            for number in sent:
                reply = self._replies.pop(number, None)
                if isinstance(reply, RemoteError):
                    raise reply
                if reply is not None:
                    return reply
            if self.closed is not None or self.association.ended:
                how = {} if self.closed is None else self.closed._asdict()
                raise Lost("the server has ended the association", **how)
            if not self._turn(min(deadline, again)):
                if monotonic() >= deadline:
                    raise DeadlineExceeded(f"nothing came from {self._where} in time")
                sent.append(self._ask(payload, deadline))
                pause = min(MOST_PAUSE, pause * 2)
                again = monotonic() + pause

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


class SynchronousUDPClient(SharedClient):
    """A client for one server, on UDP. A message takes at most 1,132 bytes as it is encoded, and can be lost.

    host, port, timeout, wait, security: as for SynchronousTCPClient. One request is under way at a time. Its reply may
    be lost as well as the request, so that DeadlineExceeded says nothing about whether the server acted on it; with
    ``idempotent=True`` a request is sent again until there is a reply. Threads may share it. A context manager. Raises
    ConfigurationError.
    """

    def __init__(self, host: str, port: int, timeout: float = 10.0, wait: float = 10.0, *, security: Security) -> None:
        super().__init__(timeout, wait, security)
        if type(port) is not int or not 0 < port < 65536:
            raise ConfigurationError("port must be a whole number from 1 to 65535")
        canonical_host(host)
        self.host = host
        self.port = port
        self._link: _Link | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = where_text(self.host, self.port)
        return f"<{type(self).__name__} {where}, {'open' if self._link else 'not connected'}>"

    @property
    def peer(self) -> PeerIdentity | None:
        """Who the server is; None while there is no association."""
        link = self._link
        return None if link is None else link.association.peer

    def connect(self) -> None:
        """Make the association now, if none is usable. Raises TransportError, DeadlineExceeded, ConfigurationError."""
        self._acquire(self.timeout)
        try:
            self._usable()
        finally:
            self._lock.release()

    def send_request(self, data: Any, *, wait: float | None = None, idempotent: bool = False) -> Any:
        """Send ``data`` and return the reply; arguments and errors as of SynchronousTCPClient.send_request.

        idempotent: send it again, after 0.25 s and then after twice as long each time, 2 s at most, until there is a
        reply.
        """
        seconds = self.wait if wait is None else seconds_of("wait", wait)
        payload = self.security.codec.encode_pieces(data)
        self._acquire(seconds)
        try:
            reply = self._request(payload, seconds, idempotent)
        finally:
            self._lock.release()
        return self.security.decode(reply)

    def close(self) -> None:
        """End the association, if there is one. The next request makes a new one."""
        self._see_fork()
        with self._lock:
            self._let_go()

    def _abandon(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.abandon()

    def _request(self, payload: Payload, seconds: float, idempotent: bool) -> VerifiedPayload:
        link = self._usable()
        deadline = monotonic() + seconds
        for attempt in range(2):
            try:
                return link.exchange(payload, deadline, idempotent=idempotent)
            except Lost as lost:
                self._let_go()
                if attempt or not (idempotent or was_unprocessed(lost, link.first, renewed=False)):
                    raise unknown(lost) from None
            except DeadlineExceeded:
                # Perhaps the server does not know us any more, and cannot say so.
                self._let_go()
                raise
            except (RemoteError, LocalProtocolError):
                raise
            except SealwireError:
                self._let_go()
                raise
            link = self._usable()
        raise AssertionError  # pragma: no cover - the second attempt returns or raises

    def _usable(self) -> _Link:
        if self._link is not None:
            if self._link.usable():
                return self._link
            self._let_go()
        self._link = self._open(monotonic() + self.timeout)
        return self._link

    def _open(self, deadline: float) -> _Link:
        pause = BACK_OFF
        while True:
            try:
                return _linked(self.host, self.port, self.security, deadline)
            except HandshakeRejected as rejected:
                left = deadline - monotonic()
                if rejected.code not in (RejectCode.OVERLOADED, RejectCode.SHUTTING_DOWN) or left < 2 * BACK_OFF:
                    raise
                threading.Event().wait(min(pause, left / 2) * _random.uniform(0.5, 1.0))
                pause = min(1.0, pause * 2)

    def _let_go(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


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
