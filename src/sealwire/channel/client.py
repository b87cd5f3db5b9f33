"""The client's end: connect, requests out, replies in."""

from __future__ import annotations

import logging
import socket
import ssl
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

from sealwire.channel.plain import PlainSocket, process_at, this_process
from sealwire.channel.pump import Carrier, Channel, left, reason
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    InvalidState,
    RemoteError,
    SealwireError,
    TransportError,
    TruncatedFrame,
)
from sealwire.limits import Limits
from sealwire.security import Security
from sealwire.standing import Standing
from sealwire.tls.contexts import ALPN, verification_problem
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.identity import PeerIdentity, canonical_host
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Closed, Established, Event, Faulted, Ponged, Rejected, Reply
from sealwire.wire.frames import CloseCode, Payload, RejectCode, VerifiedPayload
from sealwire.wire.protocol import State

logger = logging.getLogger("sealwire.client")

_AHEAD = 1 << 18
"""Bytes that may be queued before it is looked whether they go."""

REJECTIONS = {
    RejectCode.VERSION: "it speaks another version of the protocol; upgrade the older side",
    RejectCode.CODEC: "it uses another codec; configure the same on both sides",
    RejectCode.NOT_AUTHORISED: "not authorised; see whether both sides hold the same key under the same id, this "
    "client's identity is among the server's peers, and host name and service are the server's (its log says which)",
    RejectCode.OVERLOADED: "it is overloaded; try again later",
    RejectCode.SHUTTING_DOWN: "it is shutting down; try again later",
}


class ClientChannel(Channel):
    """The client's end of a sealed connection, as :func:`connect` makes it."""

    _protocol: ClientProtocol

    def __init__(
        self,
        sock: Carrier,
        protocol: ClientProtocol,
        limits: Limits,
        peer: PeerIdentity,
        *,
        standing: Standing,
    ) -> None:
        super().__init__(sock, protocol, limits, peer)
        self._standing = standing
        self.sent = False
        """Whether the last request's last byte was handed to TLS."""
        self.sequence = 0
        """The last request's number."""

    def request(self, payload: Payload, deadline: float) -> VerifiedPayload:
        """Send a request and return its reply. Raises DeadlineExceeded, PayloadTooLarge, InvalidState, RemoteError,
        RemoteProtocolError, ConnectionClosed; where the connection breaks while sending, what the peer said last is
        read before it is reported, since that may explain it.
        """
        self._send_request(payload, deadline)
        if self.sent:
            self.receive(deadline)
        return self.receive_reply(deadline)

    def receive_reply(self, deadline: float) -> VerifiedPayload:
        """The next reply. Raises RemoteError, DeadlineExceeded, RemoteProtocolError, ConnectionClosed."""
        event = self._protocol.next_event()
        if type(event) is Reply:  # as a rule
            return event.payload
        event = self._checked(event, deadline)
        while not isinstance(event, Reply):
            if isinstance(event, Faulted):
                raise RemoteError(event.code, event.text)
            event = self._checked(None, deadline)
        return event.payload

    def ping(self, deadline: float) -> float:
        """Seconds until the server's answer. Raises DeadlineExceeded, RemoteProtocolError, ConnectionClosed."""
        start = monotonic()
        self._protocol.send_ping()
        self.flush(deadline)
        while not isinstance(self._checked(None, deadline), Ponged):
            pass
        return monotonic() - start

    def pipeline(
        self, payloads: Iterator[Payload], *, window: int, wait: float, unanswered: dict[int, Payload]
    ) -> Iterator[VerifiedPayload | RemoteError]:
        """Send requests without waiting for replies, at most ``window`` of them; yield replies and faults in order.

        wait: seconds for each request. unanswered: filled with the requests under way, by number and in order.
        Raises like :meth:`request`.
        """
        unsent: deque[memoryview] = deque()
        ends: dict[int, float] = {}
        found: dict[int, VerifiedPayload | RemoteError] = {}
        more = True
        while True:
            while more and len(unanswered) < window and sum(map(len, unsent)) < _AHEAD:
                payload = next(payloads, None)
                if payload is None:
                    more = False
                    break
                self.sequence = self._protocol.send_request(payload, wait=wait)
                unanswered[self.sequence] = payload
                ends[self.sequence] = monotonic() + wait
                unsent.extend(memoryview(piece).cast("B") for piece in self._protocol.data_to_send())
            if not unanswered:
                return
            event = self._protocol.next_event()
            if event is None:
                if self._protocol.state is State.ENDED:
                    raise ConnectionClosed("the connection was closed by this side")
                self.converse(unsent, ends[next(iter(unanswered))])
            elif isinstance(event, Reply):
                found[event.request] = event.payload
            elif isinstance(event, Faulted):
                found[event.request] = RemoteError(event.code, event.text)
            else:
                self._checked(event, 0.0)
            # A server may answer in another order than it was asked.
            while unanswered and (first := next(iter(unanswered))) in found:
                del unanswered[first]
                yield found.pop(first)

    def usable(self) -> bool:
        """Whether the connection can take a request, and what it was made by still holds.

        Looks for a CLOSE or an end that is there to read; never waits.
        """
        if monotonic() >= self._standing.next_look:
            lapse = self._standing.look()
            reason = self._standing.stale() if lapse is None else lapse.reason
            if reason is not None:
                logger.info("a connection to %s is not used any more: %s", self.peer, reason)
                self._protocol.close(CloseCode.DONE)
                return False
        if not self._filled and not self._input.poll(0):
            return not self.ended  # as a rule
        try:
            while not self.ended and (self._buffered or self._input.poll(0)):
                self.receive(0.0, ready=True)
                if self._protocol.next_event() is not None:
                    return False
        except DeadlineExceeded:
            pass  # part of a TLS record is there, which says nothing yet
        except SealwireError:
            return False
        return not self.ended

    @property
    def renewed(self) -> bool:
        """Whether a new connection would be made with another certificate or key."""
        return self._standing.renewed()

    @property
    def idle(self) -> bool:
        """Whether the connection stands and nothing is unanswered."""
        return not self.ended and not self._protocol.unanswered

    def abandon(self) -> None:
        """Close our copy of the socket without a word: the connection belongs to the process that forked this one."""
        self._closed = True
        self._release()

    def send_msg(self, payload: Payload) -> None:
        """Send a request; sealwire.send_msg(channel, payload) is the usual way to call it."""
        self._send_request(payload, monotonic() + self._limits.frame_timeout)
        if not self.sent:
            raise ConnectionClosed("the connection broke while sending; the request was not received")

    def recv_msg(self) -> bytes | None:
        """The next reply, waiting as long as Limits.idle_timeout; None after the server's CLOSE."""
        if not self._protocol.unanswered:
            raise InvalidState("no request is unanswered, so no reply will come; send_msg first")
        try:
            return bytes(self.receive_reply(monotonic() + self._limits.idle_timeout))
        except ConnectionClosed as closed:
            if closed.code is None:
                raise
            return None

    def _send_request(self, payload: Payload, deadline: float) -> None:
        self.sent = False
        self.sequence = self._protocol.send_request(payload, wait=max(0.0, deadline - monotonic()))
        try:
            self.flush(deadline)
            self.sent = True
        except ConnectionClosed:  # the reply that does not come reports it, with what explains it
            pass

    def _checked(self, event: Event | None, deadline: float) -> Event:
        """The event, or where there is none the next one; raises ConnectionClosed for an end."""
        if event is None:
            event = self.next_event(deadline)
        if event is None:
            raise ConnectionClosed("the connection was closed by this side")
        if isinstance(event, Closed):
            raise unanswered(event)
        return event


def connect(host: str, port: int, security: Security, *, timeout: float = 10.0) -> ClientChannel:
    """A sealed connection to a server. ``timeout``: seconds for TCP, TLS and Sealwire's handshake together.

    Raises ConfigurationError, TransportError (HandshakeFailed, HandshakeRejected, PeerNotAllowed), DeadlineExceeded.
    """
    deadline = monotonic() + timeout
    name = canonical_host(host)
    where = where_text(host, port)
    credentials = security.present()
    sock = _tcp(host, port, name, security.client_context(credentials), deadline)
    try:
        return _handshake(sock, name, where, security, credentials, deadline)
    except BaseException:
        sock.close()
        raise


def connect_unix(path: str, security: Security, *, timeout: float = 10.0) -> ClientChannel:
    """The same to a server that listens on a Unix socket."""
    deadline = monotonic() + timeout
    credentials = security.present()
    sock = PlainSocket(socket.AF_UNIX)
    try:
        try:
            sock.settimeout(left(deadline))
            sock.connect(path)
        except TimeoutError:
            raise DeadlineExceeded(f"{path} did not answer in time") from None
        except OSError as error:
            raise TransportError(
                f"cannot connect to {path}: {reason(error)}; see whether the server runs and listens there, and "
                "whether the socket's mode lets this user in"
            ) from None
        peer, protocol, standing = local(sock, security, credentials)
        channel = ClientChannel(sock, protocol, security.limits, peer, standing=standing)
        return _agreed(channel, standing, path, credentials, deadline)
    except BaseException:
        sock.close()
        raise


def _wrapped(sock: socket.socket, context: ssl.SSLContext, name: str | None) -> ssl.SSLSocket:
    # Wrapped before it is connected: wrap_socket drops a socket that its peer has reset, without closing it.
    return context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False, suppress_ragged_eofs=False)


def _tcp(host: str, port: int, name: str, context: ssl.SSLContext, deadline: float) -> ssl.SSLSocket:
    where = where_text(host, port)
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError):
        raise TransportError(f"{where}: the host's address cannot be found") from None
    failed = "no address"
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = _wrapped(socket.socket(family, kind, protocol), context, name)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # An address that never answers leaves the others their share.
            sock.settimeout(left(deadline) / (len(addresses) - number))
            sock.connect(address)
        except TimeoutError:
            sock.close()
            failed = "no answer in time"
        except OSError as error:
            sock.close()
            failed = reason(error)
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    if monotonic() >= deadline:
        raise DeadlineExceeded(f"{where} did not answer in time")
    raise TransportError(f"cannot connect to {where}: {failed}; see whether the server runs and listens there")


def _handshake(
    sock: ssl.SSLSocket, name: str, where: str, security: Security, credentials: CredentialSet, deadline: float
) -> ClientChannel:
    try:
        sock.settimeout(left(deadline))
        sock.do_handshake()
    except TimeoutError:
        raise DeadlineExceeded(f"{where} did not complete TLS in time") from None
    except OSError as error:
        raise tls_failure(error, where, credentials) from None
    peer, protocol, standing = secured(sock, name, where, security, credentials)
    channel = ClientChannel(sock, protocol, security.limits, peer, standing=standing)
    return _agreed(channel, standing, where, credentials, deadline)


def _agreed(
    channel: ClientChannel, standing: Standing, where: str, credentials: CredentialSet, deadline: float
) -> ClientChannel:
    """HELLO and WELCOME."""
    with suppress(ConnectionClosed):  # what explains it may be there to read
        channel.flush(deadline)
    try:
        event = channel.next_event(deadline)
    except (SealwireError, TimeoutError) as error:
        failed = no_welcome(error, where, channel.failure, anonymous=credentials.leaf is None)
        raise failed from failed.__cause__
    standing.agree(established(event, where))
    return channel


def tls_failure(error: OSError, where: str, credentials: CredentialSet) -> HandshakeFailed:
    """Why TLS with a server came to nothing."""
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = verification_problem(error.verify_code, error.verify_message, credentials)
        return HandshakeFailed(
            f"the certificate of {where} is not acceptable: {problem}; it must come from a CA in this "
            "client's ca file, be valid now, and have the host name among its subject alternative names"
        )
    return HandshakeFailed(f"TLS with {where} failed: {reason(error)}; is a Sealwire server there?")


def secured(
    tls: ssl.SSLSocket | ssl.SSLObject,
    name: str,
    where: str,
    security: Security,
    credentials: CredentialSet,
) -> tuple[PeerIdentity, ClientProtocol, Standing]:
    """What follows TLS with a server. Raises HandshakeFailed, PeerNotAllowed, ConfigurationError."""
    leaf = tls.getpeercert(binary_form=True)
    if tls.selected_alpn_protocol() != ALPN or leaf is None:
        raise HandshakeFailed(f"{where} did not agree to the protocol {ALPN}; something else listens there")
    peer = PeerIdentity.from_der(leaf)
    protocol = security.client_protocol(credentials, host=name, server=leaf)
    return peer, protocol, Standing(security, credentials, peer, leaf, client=credentials.identity)


def local(
    sock: socket.socket, security: Security, credentials: CredentialSet
) -> tuple[PeerIdentity, ClientProtocol, Standing]:
    """The same on a Unix socket, where there is no TLS. Raises TransportError, PeerNotAllowed, ConfigurationError."""
    peer, own = process_at(sock), this_process()
    protocol = security.local_client_protocol(own, peer)
    return peer, protocol, Standing(security, credentials, peer, None, client=own)


def no_welcome(error: Exception, where: str, failure: OSError | None, *, anonymous: bool) -> SealwireError:
    """Why WELCOME did not come, or was none."""
    if isinstance(error, DeadlineExceeded):
        return DeadlineExceeded(f"{where} did not complete the handshake in time")
    if isinstance(error, ConnectionClosed):
        return HandshakeFailed(unwelcome(where, failure, anonymous=anonymous))
    if isinstance(error, TruncatedFrame):
        return HandshakeFailed(f"{where} ended the connection inside its answer to the handshake")
    failed = HandshakeFailed(
        f"{where} did not prove that it holds this client's key: {error}; "
        "compare the keyrings, and see whether a proxy ends TLS between the two"
    )
    failed.__cause__ = error
    return failed


def established(event: Event | None, where: str) -> str:
    """The id of the key that was agreed on. Raises HandshakeRejected, HandshakeFailed."""
    if isinstance(event, Rejected):
        raise HandshakeRejected(f"{where} refused: {REJECTIONS[RejectCode(event.code)]}", code=event.code)
    if not isinstance(event, Established):
        raise HandshakeFailed(f"{where} ended the handshake")
    return event.key_id


def unanswered(event: Closed) -> ConnectionClosed:
    """The server's CLOSE, to whoever waits for a reply."""
    return ConnectionClosed(
        f"the server closed the connection (code {event.code}) with the request unanswered", **event._asdict()
    )


def where_text(host: str, port: int) -> str:
    """host:port, for people."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unwelcome(where: str, failure: OSError | None, *, anonymous: bool) -> str:
    """Why a server may have ended the connection during the handshake."""
    # In TLS 1.3 a client whose certificate was refused learns it on its first read.
    if isinstance(failure, ssl.SSLError) and "ALERT" in (failure.reason or ""):
        if anonymous:
            return f"{where} wants a certificate, and this client has none; configure cert and key"
        return (
            f"{where} refused this client's certificate ({reason(failure)}); it must come from a CA in the "
            "server's ca file, be valid now and be meant for clients"
        )
    return (
        f"{where} ended the connection during the handshake; its log says why "
        "(often: this client's certificate or the time that the handshake took)"
    )
