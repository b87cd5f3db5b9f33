"""Makes a server's connection from an accepted socket: TLS or a Unix socket, then Sealwire's handshake."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Any

from sealwire.contention import activity
from sealwire.errors import ConnectionClosed, DeadlineExceeded, HandshakeFailed, TransportError
from sealwire.proxy_header_reader import take_header, too_slow
from sealwire.security import Security
from sealwire.session import explain, terms
from sealwire.session.begin import begin_server_session, begin_unix_server_session
from sealwire.session.requests import LINGER
from sealwire.session.server import ServerSession
from sealwire.slot import Slot
from sealwire.sync.pump import Carrier, discard_until_end
from sealwire.sync.read_ahead import ReadAhead
from sealwire.sync.server_connection import ServerChannel
from sealwire.sync.tls_socket import TLSSocket
from sealwire.sync.unix_socket import PlainSocket, peer_process
from sealwire.tcp_options import set_options
from sealwire.trust.certificates import Certificates
from sealwire.trust.known_peers import known_peers
from sealwire.wire.features import NO_FEATURES, Features
from sealwire.wire.server import ServerProtocol


def receive_header(sock: socket.socket, slot: Slot, client_address: Any, deadline: float) -> Any:
    """Return the client's address, after the header of a proxy if there is to be one.

    Raises HandshakeFailed, RemoteProtocolError, DeadlineExceeded; the caller closes the socket.
    """
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    while (found := take_header(sock, slot, client_address)) is None:
        if not waiting.poll(max(0.0, deadline - monotonic()) * 1000):
            raise too_slow(slot)
    return found


def accept(
    sock: socket.socket,
    security: Security,
    *,
    slot: Slot,
    drain_fd: int,
    busy: Callable[[], int | None],
    read_ahead: ReadAhead | None = None,
    in_parts: bool | None = None,
) -> ServerChannel:
    """Make a sealed connection from an accepted socket, within Limits.handshake_timeout from ``slot.since``.

    Args:
        sock: The socket. It is closed if this raises.
        security: The server's Security.
        slot: The connection's slot; gets the client's identity.
        drain_fd: A descriptor that becomes readable when the server drains.
        busy: Returns the code to REJECT an authorised client with, or None.
        read_ahead: The server's reading thread; None for a server that does not read ahead.
        in_parts: True if its handlers take and give messages in parts; None for a server without any features.

    Raises:
        HandshakeFailed: TLS failed, or the client was rejected.
        TransportError: The connection failed: PeerNotAllowed, ConnectionClosed.
        RemoteProtocolError: The client broke the protocol.
        DeadlineExceeded: The handshake was not complete in time.
    """
    now = monotonic()
    deadline = slot.since + security.limits.handshake_timeout
    activity.newcomer(now)
    try:
        security.refresh()
        security = security.pinned()
        certificates = security.credentials.current
        carrier = _wrap(sock, security, certificates)
    except OSError as error:
        slot.track_socket(None)
        sock.close()
        if isinstance(error, ConnectionError):
            raise explain.silent() from None
        raise explain.ended_at_start(error, "before TLS") from None
    slot.track_socket(carrier)
    try:
        features = NO_FEATURES
        if in_parts is not None:
            features = terms.server_features(security, at_once=1, in_parts=in_parts)
        protocol, session = _begin_session(carrier, security, certificates, slot, busy, deadline, features)
        channel = ServerChannel(
            carrier, protocol, session, security, slot=slot, drain_fd=drain_fd, read_ahead=read_ahead
        )
    except BaseException:
        slot.track_socket(None)
        carrier.close()
        raise
    try:
        channel.handshake(deadline)
    except (DeadlineExceeded, ConnectionClosed) as error:
        channel.close(linger=0)
        if isinstance(carrier, PlainSocket) and isinstance(error, ConnectionClosed):
            raise explain.silent() from None  # HELLO comes first, and no byte of it has come
        raise
    except BaseException:
        channel.close()
        raise
    return channel


def _wrap(sock: socket.socket, security: Security, certificates: Certificates) -> Carrier:
    if sock.family == socket.AF_UNIX:
        return PlainSocket(fileno=sock.detach())
    set_options(sock, security.limits)
    return TLSSocket(sock, terms.server_tls(security, certificates), server_side=True)


def _begin_session(
    carrier: Carrier,
    security: Security,
    certificates: Certificates,
    slot: Slot,
    busy: Callable[[], int | None],
    deadline: float,
    features: Features,
) -> tuple[ServerProtocol, ServerSession]:
    """Identify the client, with the TLS handshake if there is TLS, and set ``slot.peer``."""
    if isinstance(carrier, PlainSocket):
        try:
            process = peer_process(carrier)
        except TransportError:
            raise  # says that the system cannot tell
        except OSError as error:
            raise explain.ended_at_start(error) from None
        slot.peer = process
        return begin_unix_server_session(
            security, certificates, process, slot=slot, busy=busy, now=monotonic(), features=features
        )
    _handshake_tls(carrier, deadline, certificates)
    leaf = carrier.getpeercert()
    slot.peer = None if leaf is None else known_peers.identify(leaf)
    alpn = carrier.selected_alpn_protocol()
    try:
        return begin_server_session(
            security, certificates, alpn, leaf, slot.peer,
            above=carrier.certificates_above(), slot=slot, busy=busy, now=monotonic(), features=features,
        )  # fmt: skip
    except HandshakeFailed:
        discard_until_end(carrier, monotonic() + LINGER)
        raise


def _handshake_tls(tls: TLSSocket, deadline: float, certificates: Certificates) -> None:
    """Complete the TLS handshake. Raises HandshakeFailed, DeadlineExceeded."""
    try:
        tls.handshake(deadline)
    except TimeoutError:
        raise explain.tls_too_slow() from None
    except OSError as error:
        if tls.is_silent:
            raise explain.silent() from None
        if isinstance(error, ssl.SSLError):
            # Discard the client's input first: closing with unread input would destroy the alert for the client.
            discard_until_end(tls, monotonic() + LINGER)
        raise explain.server_tls(error, certificates) from None
