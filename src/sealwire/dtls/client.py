"""The synchronous client on UDP."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from inspect import currentframe
from time import monotonic
from typing import Any, Final, NoReturn, TypeVar

from sealwire.client_base import HostClient
from sealwire.client_counts import counted
from sealwire.dtls.client_association import PATIENCE, ClientAssociation, Stalled
from sealwire.dtls.exchange import Exchange, Exchanges
from sealwire.dtls.records import MAX_DATAGRAM
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
from sealwire.fork import leave_in_children
from sealwire.listeners import address_text
from sealwire.retry import Resend, shares
from sealwire.security import Security
from sealwire.session import explain, misuse
from sealwire.session.call_metadata import CallMetadata
from sealwire.session.call_time import CallTime
from sealwire.session.client import ConnectionLost
from sealwire.sync.shared_client import Call, SharedClient
from sealwire.trust.identity import PeerIdentity, canonical_host
from sealwire.wire.events import Ponged
from sealwire.wire.frames import Payload, VerifiedPayload

_DATAGRAMS_AT_ONCE: Final = 64
_T = TypeVar("_T")


class Unreachable(ConnectionClosed):
    """An error that ICMP reported about the server of an association."""


class UDPConnection:
    """A client's socket and the association on it.

    Args:
        sock: A connected socket.
        security: The client's Security.
        association: The association.
        address: The server's address, for messages.
    """

    def __init__(self, sock: socket.socket, security: Security, association: ClientAssociation, address: str) -> None:
        self._sock = sock
        self._security = security
        self._association = association
        self._exchanges = Exchanges(association, address)
        self._address = address
        self._waiting = select.poll()
        self._waiting.register(sock, select.POLLIN)
        self._interrupted = False
        self._ponged = False
        leave_in_children(self)

    def handshake(self, deadline: float) -> None:
        """Complete both handshakes.

        Raises HandshakeFailed, HandshakeRejected, PeerNotAllowed, DeadlineExceeded, TransportError.
        """
        self._flush()
        while not self._association.open:
            if not self._wait_or_resend(deadline):
                raise explain.incomplete(self._address)
            if self._association.ended and self._exchanges.closed is None:
                raise explain.ended_handshake(self._address)

    def request(
        self, payload: Payload, deadline: float, *, idempotent: bool, call_metadata: CallMetadata | None = None
    ) -> VerifiedPayload:
        """Send a request and return its reply.

        Raises RemoteError, PayloadTooLarge, DeadlineExceeded, ConnectionLost.
        """
        exchange = Exchange(
            self._exchanges, payload, deadline, monotonic(), idempotent=idempotent, call_metadata=call_metadata
        )
        self._flush()
        try:
            while exchange.result is None:
                if self._interrupted:
                    raise exchange.lost(explain.closed_here())
                closed = self._exchanges.loss()
                if closed is not None:
                    raise exchange.lost(closed)
                if not self._wait_or_resend(min(deadline, exchange.resend_at)):
                    now = monotonic()
                    if now >= deadline:
                        raise exchange.timed_out()
                    exchange.send(now)
                    self._flush()
        except Unreachable as error:
            raise exchange.lost(error) from None
        finally:
            exchange.close()
        return exchange.take()

    def ping(self, deadline: float) -> float:
        """Return the seconds until the answer to a PING, which is not sent again. Raises as :meth:`request` does."""
        start = monotonic()
        self._ponged = False
        self._association.protocol.send_ping()
        self._flush()
        try:
            while not self._ponged:
                closed = explain.closed_here() if self._interrupted else self._exchanges.loss()
                if closed is not None:
                    raise self._association.session.lost(closed, None)
                if not self._wait_or_resend(deadline):
                    raise explain.nothing_came(self._address)
        except Unreachable as error:
            raise self._association.session.lost(error, None) from None
        return monotonic() - start

    @property
    def peer(self) -> PeerIdentity | None:
        """The server's verified identity."""
        return self._association.peer

    @property
    def idle(self) -> bool:
        """True if the association is open and no request is in flight."""
        return self._association.open and not self._exchanges

    def close(self, *, linger: float = 0.0) -> None:  # noqa: ARG002 - there is nothing to wait for
        """Send CLOSE and close the socket."""
        for datagram in self._association.close():
            self._send(datagram)
        self._sock.close()

    def interrupt(self) -> None:
        """End the association under a call that uses it, in whatever thread: what it waits for does not come."""
        self._interrupted = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Close the socket without sending anything.

        In a forked child, because two processes that use one association would repeat nonces; or if a step on it may
        have been left half done.
        """
        self._sock.close()

    leave_to_parent = abandon

    def __del__(self) -> None:
        with suppress(AttributeError):  # interrupted in its constructor
            self._sock.close()

    def usable(self) -> bool:
        """Return True if the association can take a request. Reads datagrams that have arrived; never waits."""
        try:
            for _ in range(_DATAGRAMS_AT_ONCE):  # more may come as fast as they are read
                if self._association.ended or not self._waiting.poll(0):
                    break
                self._receive()
        except SealwireError:
            return False
        if self._exchanges.closed is not None or not self._association.open:
            return False
        now = monotonic()
        if now < self._association.session.validity.next_check:
            return True
        self._security.refresh()
        return self._association.session.usable(now)

    def _wait_or_resend(self, deadline: float) -> bool:
        """Wait for a datagram and read it, or send a handshake message again if due; return False at the deadline."""
        now = monotonic()
        if now >= deadline:
            return False
        if now >= self._association.timeout and self._waiting.poll(0):
            self._receive()  # perhaps what it waits for, if this process has much to do
        if now >= self._association.timeout:
            self._association.handle_timeout()
            self._flush()
        due = min(deadline, self._association.timeout)
        if self._waiting.poll(max(0.0, due - now) * 1000):
            self._receive()
        return True

    def _receive(self) -> None:
        """Read one datagram and process its events."""
        refused: OSError | None = None
        while True:
            try:
                datagram = self._sock.recv(MAX_DATAGRAM)
                break
            except BlockingIOError:
                if not refused:
                    return
                raise self._unreachable(refused) from None
            except OSError as error:
                if refused:
                    raise self._unreachable(refused) from None
                refused = error.with_traceback(None)  # comes before the datagrams that the server sent before it ended
        try:
            for event in self._association.datagram_received(datagram):
                self._ponged |= isinstance(event, Ponged)
                self._exchanges.receive(event)
        finally:
            if self._association.has_records:
                self._flush()

    def _unreachable(self, error: OSError) -> TransportError:
        """Return the error for one that ICMP reported."""
        if self._association.open:
            return Unreachable(f"{self._address} is gone: {explain.reason(error)}")
        return explain.unreachable(self._address, explain.reason(error), error)

    def _flush(self) -> None:
        for datagram in self._association.datagrams_to_send():
            self._send(datagram)

    def _send(self, datagram: bytes) -> None:
        with suppress(OSError):  # the datagram counts as lost; recv reports errors from ICMP
            self._sock.send(datagram)


class SynchronousUDPClient(HostClient, SharedClient[UDPConnection]):
    """A client for one server on UDP.

    A message has at most 1,132 bytes encoded. Requests and replies can be lost, so after DeadlineExceeded the server
    may or may not have acted on the request. With ``idempotent=True`` a request is sent again until its reply comes:
    after 0.25 seconds, then after twice as long each time, 2 seconds at most.

    The client connects on first use. Threads can share it; one request is in flight at a time. As a context manager it
    closes the association at the end.

    Args:
        host: Name or IP address of the server. It is verified against the server's certificate, unless
            ``security.peers`` names a URI or fingerprint instead.
        port: UDP port of the server.
        timeout: Seconds for connecting, with DTLS and Sealwire's handshake together. Default: 10.
        wait: Seconds for one request, with all repetitions. Default: 10.
        security: The client's security configuration.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`.
            Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def ping(self) -> float:
        """Measure a round trip to the server. Connects first if necessary. A PING is not sent again if it is lost.

        Returns:
            Seconds until the answer.

        Raises:
            DeadlineExceeded: There was no answer within ``wait`` seconds.
            TransportError: Connecting failed, or the association ended.
            RemoteProtocolError: The server broke the protocol.
            ConfigurationError: No certificate or key is valid now.
            InvalidState: Called in a signal handler that has interrupted another call of the client.
        """
        time = CallTime(timeout=self.timeout, wait=self.wait, now=monotonic())
        with self._take_turn(self.wait, currentframe()) as call:
            return self._with_resend(call, time, UDPConnection.ping, idempotent=True)

    def stream(self, *_: Any, **__: Any) -> NoReturn:
        """Raise FeatureNotSupported: UDP carries no messages in parts."""
        raise misuse.no_parts_on_udp()

    def send_parts(self, *_: Any, **__: Any) -> NoReturn:
        """Raise FeatureNotSupported: UDP carries no messages in parts."""
        raise misuse.no_parts_on_udp()

    def _connect(self, timeout: float) -> UDPConnection:
        return _connect(self.host, self.port, self.security, monotonic() + timeout)

    def _request(
        self,
        call: Call[UDPConnection],
        payload: Payload,
        time: CallTime,
        idempotent: bool,
        call_metadata: CallMetadata | None,
    ) -> VerifiedPayload:
        return self._with_resend(
            call,
            time,
            lambda connection, deadline: connection.request(
                payload, deadline, idempotent=idempotent, call_metadata=call_metadata
            ),
            idempotent=idempotent,
        )

    def _with_resend(
        self,
        call: Call[UDPConnection],
        time: CallTime,
        exchange: Callable[[UDPConnection, float], _T],
        *,
        idempotent: bool,
    ) -> _T:
        """Return the result of an exchange, repeated on a new association if the retry policy permits."""
        resend: Resend | None = None
        while True:
            connection = self._channel_within(call, time)
            try:
                return exchange(connection, time.deadline)
            except (RemoteError, LocalProtocolError):
                raise
            except SealwireError as error:
                # Also without a reply: perhaps the server no longer has this association, which it cannot tell us.
                call.discard(0.0)
                if not isinstance(error, ConnectionLost):
                    raise
                resend = resend or Resend(time.deadline, idempotent=idempotent)
                self._remaining(resend, error, call)
                time.sent = not error.unprocessed


@counted()
def _connect(host: str, port: int, security: Security, deadline: float) -> UDPConnection:
    """Return a connection to the first address of the host that answers."""
    address = address_text((host, port))
    security.refresh()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, OverflowError):
        raise explain.unresolved(address) from None
    for each, seconds in shares(found, deadline):
        try:
            return _try_address(each, host, address, security, monotonic() + seconds)
        except (HandshakeFailed, HandshakeRejected, PeerNotAllowed):
            raise
        except (TransportError, DeadlineExceeded):
            if each is found[-1]:
                raise
    raise explain.unresolved(address)


def _try_address(found: Any, host: str, address: str, security: Security, deadline: float) -> UDPConnection:
    """Connect to one address; begin again, with more patience, each time that the handshake stalls."""
    family, kind, protocol, _, endpoint = found
    patience = PATIENCE
    while True:
        sock = socket.socket(family, kind, protocol)
        try:
            return _shake_hands(sock, endpoint, host, address, security, deadline, patience)
        except Stalled:
            sock.close()
            patience *= 2
        except BaseException:
            sock.close()
            raise


def _shake_hands(
    sock: socket.socket,
    endpoint: Any,
    host: str,
    address: str,
    security: Security,
    deadline: float,
    patience: float,
) -> UDPConnection:
    try:
        sock.connect(endpoint)
    except OSError as error:
        raise explain.unreachable(address, explain.reason(error), error) from None
    sock.setblocking(False)
    security = security.pinned()
    association = ClientAssociation(
        security, security.credentials.current, host=canonical_host(host), address=address, patience=patience
    )
    connection = UDPConnection(sock, security, association, address)
    try:
        connection.handshake(deadline)
    except SealwireError:
        connection.close()  # which tells the server that it need not wait
        raise
    return connection
