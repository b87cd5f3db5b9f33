"""The server's end: accept, requests in, replies out."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol as TypingProtocol

from sealwire.channel.plain import PlainSocket, process_at
from sealwire.channel.pump import LINGER, Carrier, Channel, discard_until_end, left, reason
from sealwire.channel.requests import Requests
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeFailed,
    InvalidState,
    PayloadTooLarge,
    SealwireError,
    TransportError,
)
from sealwire.limits import Limits
from sealwire.security import Security
from sealwire.standing import Lapse, Standing
from sealwire.tls.contexts import ALPN, verification_problem
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.events import Closed, Established, Event, Request
from sealwire.wire.frames import CloseCode, FaultCode, Payload, RejectCode
from sealwire.wire.protocol import State
from sealwire.wire.server import ServerProtocol

FAULT_TEXTS = {
    FaultCode.MALFORMED_PAYLOAD: "the payload is not an acceptable message",
    FaultCode.TYPE_NOT_ALLOWED: "the payload has a type that is not on the server's allowlist",
    FaultCode.TOO_LARGE: "the payload or the reply is over a limit",
    FaultCode.HANDLER_FAILED: "the handler failed",
    FaultCode.DEADLINE_EXCEEDED: "the deadline was over before the request was run",
    FaultCode.OVERLOADED: "the server is overloaded",
}

MAX_UNANSWERED = 1024
"""Requests of one connection that a handler can leave unanswered."""

_REJECTED: dict[int | None, str] = {
    RejectCode.OVERLOADED: "max_connections are established (REJECT 4)",
    RejectCode.SHUTTING_DOWN: "the server is shutting down (REJECT 5)",
}


class Lease(TypingProtocol):
    """A connection's place among those that the server admits. ``peer``: who it is, for the log."""

    peer: PeerIdentity | None

    def hold(self, sock: socket.socket | None) -> None:
        """This is the connection's socket from now on; None just before it is closed."""

    def promote(self) -> bool:
        """The peer has proved who it is. False where there is no room for it."""

    def count(self) -> None:
        """One more request goes to a handler."""


class ServerChannel(Channel, Requests):
    """The server's end of a sealed connection, as :func:`accept` makes it."""

    _protocol: ServerProtocol

    def __init__(
        self,
        sock: Carrier,
        protocol: ServerProtocol,
        limits: Limits,
        peer: PeerIdentity | None,
        *,
        lease: Lease,
        leaving: int,
        standing: Standing,
    ) -> None:
        super().__init__(sock, protocol, limits, peer)
        self._standing = standing
        self._lease = lease
        self._promoted = False
        # What is awaited before a frame is its first byte or the end of the server.
        self._wake = select.poll()
        self._wake.register(sock, select.POLLIN)
        self._wake.register(leaving, select.POLLIN)
        self._leaving = leaving
        self._received_at = 0.0
        self._frame_timeout = limits.frame_timeout
        self.key_id = ""
        self.lapse: Lapse | None = None
        """Why the connection was ended, where what it was made by does not hold any more."""
        self.deadline = None

    def receive(self, deadline: float, *, ready: bool = False) -> None:
        super().receive(deadline, ready=ready)
        self._received_at = monotonic()

    def handshake(self, deadline: float) -> None:
        """Read HELLO and answer. Raises HandshakeFailed, RemoteProtocolError, DeadlineExceeded, ConnectionClosed."""
        try:
            event = self.next_event(deadline)
        finally:
            with suppress(SealwireError):
                self.flush(deadline)
        self.key_id = established(event, self._protocol, self._standing)

    def next_request(self) -> Request | None:
        """The next request, which counts as handed to a handler from now on; None at the connection's clean end,
        whoever wanted it. Raises RemoteProtocolError, ConnectionClosed.
        """
        if self._protocol.unanswered >= MAX_UNANSWERED:
            raise InvalidState(f"{MAX_UNANSWERED} requests are unanswered; answer them before the next one")
        # Only a request keeps a connection from being idle; a ping asks whether it still stands.
        now = monotonic()
        idle = now + self._limits.idle_timeout
        if now >= self._standing.next_look and self._lapsed():
            return None
        while True:
            event = self._next_event(idle)
            if event is None or isinstance(event, Closed):
                return None
            if not self._promoted and self._protocol.authenticated:
                self._promoted = self._lease.promote()
                if not self._promoted:
                    self._protocol.close(CloseCode.GOING_AWAY)
                    return None
            if isinstance(event, Request):
                self.deadline = None if event.wait is None else self._received_at + event.wait
                if self.deadline is None or monotonic() < self.deadline:
                    self._protocol.hand_over(event.sequence)
                    self._lease.count()
                    return event
                self.send_fault(event.sequence, FaultCode.DEADLINE_EXCEEDED)
            else:
                self.flush(self._frame_deadline())

    def send_reply(self, request: int, payload: Payload) -> None:
        """Answer a request; FAULT 18 where the payload is over the client's cap. Raises ConnectionClosed,
        DeadlineExceeded, InvalidState, PayloadTooLarge."""
        if monotonic() >= self._standing.next_look and self._lapsed(at_once=True):
            raise ConnectionClosed("the connection was ended before the reply, which was dropped")
        try:
            self._protocol.send_reply(request, payload)
        except PayloadTooLarge:
            self.send_fault(request, FaultCode.TOO_LARGE)
            raise
        self.flush(self._frame_deadline())

    def send_fault(self, request: int, code: int, text: str | None = None) -> None:
        """Answer a request with FAULT; ``text``: by default the fixed one for the code. Raises like send_reply."""
        self._protocol.send_fault(request, code, FAULT_TEXTS[FaultCode(code)] if text is None else text)
        self.flush(self._frame_deadline())

    @property
    def oldest_unanswered(self) -> int | None:
        """The request that has waited longest for its answer."""
        return self._protocol.oldest_unanswered

    def _next_event(self, idle: float) -> Event | None:
        """As next_event, but the wait for a frame ends with the idle limit or the server, that inside one with the
        frame's."""
        frame: float | None = None
        looked = False
        while True:
            event = self._protocol.next_event()
            if event is not None and not looked and self._server_leaves(self._wake.poll(0)):
                self._protocol.close(CloseCode.GOING_AWAY)
                return None
            if event is not None or self._protocol.state is State.ENDED:
                return event
            if not self._protocol.inside_frame:
                frame = None
                if not self._buffered:
                    ready = self._wake.poll(max(0.0, min(idle, self._standing.next_look) - monotonic()) * 1000)
                    looked = True
                    if not ready:
                        if not self._lapsed() and monotonic() >= idle:
                            self._protocol.close(CloseCode.IDLE)
                        continue
                    if self._server_leaves(ready):
                        self._protocol.close(CloseCode.GOING_AWAY)
                        continue
            frame = frame or self._frame_deadline()
            try:
                self.receive(min(frame, self._standing.next_look), ready=True)
            except DeadlineExceeded:
                if not self._lapsed() and monotonic() >= frame:
                    self._protocol.close(CloseCode.IDLE)

    def _lapsed(self, *, at_once: bool = False) -> bool:
        """Look, where it is time to, whether what the connection was made by still holds; end it where not.

        at_once: only for what drops the replies in hand as well.
        """
        if monotonic() < self._standing.next_look and self.lapse is None:
            return False
        self.lapse = self.lapse or self._standing.look()
        if self.lapse is None or (at_once and not self.lapse.at_once):
            return False
        self._protocol.close(self.lapse.code)
        return True

    def _server_leaves(self, ready: list[tuple[int, int]]) -> bool:
        # poll reports in the order of registration.
        return bool(ready) and ready[-1][0] == self._leaving

    def _release(self) -> None:
        self._lease.hold(None)
        super()._release()

    def _frame_deadline(self) -> float:
        return monotonic() + self._frame_timeout


def accept(
    sock: socket.socket, security: Security, *, lease: Lease, leaving: int, busy: Callable[[], int | None]
) -> ServerChannel:
    """TLS and Sealwire's handshake on an accepted connection, all under Limits.handshake_timeout.

    lease: its place. leaving: a descriptor that becomes readable when the server is going away. busy: the code to
    REJECT an authorised client with, or None. The socket is closed where this raises: HandshakeFailed, PeerNotAllowed,
    RemoteProtocolError, ConnectionClosed, DeadlineExceeded.
    """
    deadline = monotonic() + security.limits.handshake_timeout
    try:
        credentials = security.present()
        tls: Carrier
        if sock.family == socket.AF_UNIX:
            tls = PlainSocket(fileno=sock.detach())
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            tls = security.server_context(credentials).wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
    except OSError as error:
        lease.hold(None)
        sock.close()
        raise HandshakeFailed(f"the connection ended before TLS: {reason(error)}") from None
    lease.hold(tls)
    try:
        if isinstance(tls, PlainSocket):
            protocol, standing = local(tls, security, credentials, lease=lease, busy=busy)
        else:
            _tls_handshake(tls, deadline, credentials)
            protocol, standing = secured(tls, security, credentials, lease=lease, busy=busy)
        channel = ServerChannel(
            tls, protocol, security.limits, lease.peer, lease=lease, leaving=leaving, standing=standing
        )
    except BaseException:
        lease.hold(None)
        tls.close()
        raise
    try:
        channel.handshake(deadline)
    except (DeadlineExceeded, ConnectionClosed):
        channel.close(linger=0)
        raise
    except BaseException:
        channel.close()
        raise
    return channel


def _tls_handshake(tls: ssl.SSLSocket, deadline: float, credentials: CredentialSet) -> None:
    try:
        tls.settimeout(left(deadline))
        tls.do_handshake()
    except TimeoutError:
        raise DeadlineExceeded("TLS was not complete in time") from None
    except OSError as error:
        if isinstance(error, ssl.SSLError):
            # Linger, so that the alert which explains it to the client is not destroyed by what it has sent meanwhile.
            discard_until_end(tls, monotonic() + LINGER)
        raise tls_failure(error, credentials) from None


def tls_failure(error: OSError, credentials: CredentialSet) -> HandshakeFailed:
    """Why TLS with a client came to nothing."""
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = verification_problem(error.verify_code, error.verify_message, credentials)
        return HandshakeFailed(f"the client's certificate is not acceptable: {problem}")
    if isinstance(error, ssl.SSLError):
        return HandshakeFailed(f"TLS failed: {reason(error)}")
    return HandshakeFailed(f"the connection ended during TLS: {reason(error)}")


def secured(
    tls: ssl.SSLSocket | ssl.SSLObject,
    security: Security,
    credentials: CredentialSet,
    *,
    lease: Lease,
    busy: Callable[[], int | None],
) -> tuple[ServerProtocol, Standing]:
    """What follows TLS with a client; who it is is in ``lease.peer`` from now on. Raises HandshakeFailed."""
    if tls.selected_alpn_protocol() != ALPN:
        raise HandshakeFailed(f"the client did not offer the protocol {ALPN}")
    leaf = tls.getpeercert(binary_form=True)
    lease.peer = client = None if leaf is None else PeerIdentity.from_der(leaf)
    protocol = security.server_protocol(credentials, client=client, leaf=leaf, busy=busy)
    return protocol, Standing(security, credentials, client, leaf, client=client)


def local(
    sock: socket.socket,
    security: Security,
    credentials: CredentialSet,
    *,
    lease: Lease,
    busy: Callable[[], int | None],
) -> tuple[ServerProtocol, Standing]:
    """The same on a Unix socket, where there is no TLS. Raises HandshakeFailed, TransportError."""
    try:
        lease.peer = client = process_at(sock)
    except TransportError:
        raise
    except OSError as error:
        raise HandshakeFailed(f"the connection ended at its beginning: {reason(error)}") from None
    protocol = security.server_protocol(None, client=client, leaf=None, busy=busy)
    return protocol, Standing(security, credentials, client, None, client=client)


def established(event: Event | None, protocol: ServerProtocol, standing: Standing) -> str:
    """The id of the key that was agreed on. Raises HandshakeFailed."""
    if not isinstance(event, Established):
        raise HandshakeFailed(_REJECTED.get(protocol.rejected, "the client has ended the handshake"))
    standing.agree(event.key_id)
    return event.key_id
