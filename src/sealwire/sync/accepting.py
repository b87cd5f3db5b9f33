"""Makes a server's connection from an accepted socket: TLS or a Unix socket, then Sealwire's handshake."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from time import monotonic

from sealwire.admission import Slot
from sealwire.computing import activity
from sealwire.errors import ConnectionClosed, DeadlineExceeded, HandshakeFailed, TransportError
from sealwire.security import Security
from sealwire.session import explain, terms
from sealwire.session.requests import LINGER
from sealwire.session.server import ServerSession, begin_server_session, begin_unix_server_session
from sealwire.sync.pump import Carrier, discard_until_end
from sealwire.sync.read_ahead import ReadAhead
from sealwire.sync.server_connection import ServerChannel
from sealwire.sync.tls_socket import TLSSocket
from sealwire.sync.unix_socket import PlainSocket, peer_process
from sealwire.trust.certificates import Certificates
from sealwire.trust.known_peers import known_peers
from sealwire.wire.server import ServerProtocol


def accept(
    sock: socket.socket,
    security: Security,
    *,
    slot: Slot,
    drain_fd: int,
    busy: Callable[[], int | None],
    read_ahead: ReadAhead | None = None,
) -> ServerChannel:
    """Make a sealed connection from an accepted socket, within Limits.handshake_timeout.

    Args:
        sock: The socket. It is closed if this raises.
        security: The server's Security.
        slot: The connection's slot; gets the client's identity.
        drain_fd: A descriptor that becomes readable when the server drains.
        busy: Returns the code to REJECT an authorised client with, or None.
        read_ahead: The server's reading thread; None for a server that does not read ahead.

    Raises:
        HandshakeFailed: TLS failed, or the client was rejected.
        TransportError: The connection failed: PeerNotAllowed, ConnectionClosed.
        RemoteProtocolError: The client broke the protocol.
        DeadlineExceeded: The handshake was not complete in time.
    """
    now = monotonic()
    deadline = now + security.limits.handshake_timeout
    activity.newcomer(now)
    try:
        security.refresh()
        certificates = security.credentials.current
        carrier = _wrap(sock, security, certificates)
    except OSError as error:
        slot.track_socket(None)
        sock.close()
        raise explain.ended_at_start(error, "before TLS") from None
    slot.track_socket(carrier)
    try:
        protocol, session = _begin_session(carrier, security, certificates, slot, busy, deadline)
        channel = ServerChannel(
            carrier, protocol, session, security, slot=slot, drain_fd=drain_fd, read_ahead=read_ahead
        )
    except BaseException:
        slot.track_socket(None)
        carrier.close()
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


def _wrap(sock: socket.socket, security: Security, certificates: Certificates) -> Carrier:
    if sock.family == socket.AF_UNIX:
        return PlainSocket(fileno=sock.detach())
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return TLSSocket(sock, terms.server_tls(security, certificates), server_side=True)


def _begin_session(
    carrier: Carrier,
    security: Security,
    certificates: Certificates,
    slot: Slot,
    busy: Callable[[], int | None],
    deadline: float,
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
        return begin_unix_server_session(security, certificates, process, slot=slot, busy=busy, now=monotonic())
    _handshake_tls(carrier, deadline, certificates)
    leaf = carrier.getpeercert()
    slot.peer = None if leaf is None else known_peers.identify(leaf)
    alpn = carrier.selected_alpn_protocol()
    try:
        return begin_server_session(
            security, certificates, alpn, leaf, slot.peer,
            above=carrier.certificates_above(), slot=slot, busy=busy, now=monotonic(),
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
        if isinstance(error, ssl.SSLError):
            # Discard the client's input first: closing with unread input would destroy the alert for the client.
            discard_until_end(tls, monotonic() + LINGER)
        raise explain.server_tls(error, certificates) from None
