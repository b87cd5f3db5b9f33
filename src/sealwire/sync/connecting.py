"""Makes a client's connection: TCP or Unix socket, TLS, then HELLO and WELCOME."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from struct import Struct
from time import monotonic
from typing import Any, Final

from sealwire.client_base import check_seconds
from sealwire.client_counts import counted
from sealwire.errors import ConnectionClosed, SealwireError
from sealwire.limits import Limits
from sealwire.listeners import address_text, check_port, path_text, socket_path
from sealwire.retry import shares
from sealwire.security import Security
from sealwire.session import explain, terms
from sealwire.session.begin import begin_client_session, begin_unix_client_session
from sealwire.session.client import ClientSession
from sealwire.sync.client_connection import ClientChannel
from sealwire.sync.pump import Carrier, remaining
from sealwire.sync.tls_socket import TLSSocket
from sealwire.sync.unix_socket import PlainSocket, own_process, peer_process
from sealwire.tcp_options import set_options
from sealwire.trust.certificates import Certificates
from sealwire.trust.identity import canonical_host
from sealwire.wire.client import ClientProtocol

_TIMEVAL: Final = Struct("@ll")


def connect(host: str, port: int, security: Security, *, timeout: float = 10.0) -> ClientChannel:
    """Connect to a server, for send_msg and recv_msg::

        with sealwire.sync.connect("server.example", 7443, security) as channel:
            send_msg(channel, encode(data))
            if (message := recv_msg(channel)) is not None:  # None: the server has closed the connection
                reply = decode(message)

    Args:
        host: Name or IP address of the server. It is verified against the server's certificate, unless
            ``security.peers`` names a URI or fingerprint instead.
        port: TCP port of the server.
        security: The client's security configuration.
        timeout: Seconds for TCP, TLS and Sealwire's handshake together. Default: 10.

    Returns:
        The connection, a context manager that closes it.

    Raises:
        ConfigurationError: An argument cannot be used, or no certificate or key is valid now.
        TransportError: The connection failed. Its subclasses say more: HandshakeFailed, HandshakeRejected,
            PeerNotAllowed.
        DeadlineExceeded: The connection was not complete in time.
    """
    deadline = monotonic() + check_seconds("timeout", timeout)
    check_port(port)
    canonical_host(host)
    terms.check_client(security)
    security.refresh()
    return connect_to(resolve(host, port), host, port, security, deadline)


def resolve(host: str, port: int, flags: int = 0) -> list[Any]:
    """Return the results of getaddrinfo for a TCP server. Raises TransportError."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError, OverflowError):
        raise explain.unresolved(address_text((host, port))) from None


@counted()
def connect_to(found: Sequence[Any], host: str, port: int, security: Security, deadline: float) -> ClientChannel:
    """Connect to the first address of a host that answers.

    Args:
        found: The addresses, as getaddrinfo returns them.
        host: Name of the host, for the certificate.
        port: Its port, for messages.
        security: The client's Security, which the caller has refreshed.
        deadline: The time of ``time.monotonic()`` until which the connection must be complete.

    Raises like :func:`connect`.
    """
    name = canonical_host(host)
    address = address_text((host, port))
    security = security.pinned()
    certificates = security.credentials.current
    tls = terms.client_tls(security, certificates)
    sock = _connect_tcp(found, address, name, tls, security.limits, deadline)
    try:
        _handshake(sock, address, certificates, deadline)
        protocol, session = begin_client_session(
            security, certificates, sock.selected_alpn_protocol(), sock.getpeercert(),
            above=sock.certificates_above(), host=name, address=address, now=monotonic(),
        )  # fmt: skip
        return _establish(sock, protocol, session, security, address, certificates, deadline)
    except BaseException:
        sock.close()
        raise


@counted()
def connect_unix(path: str, security: Security, *, timeout: float = 10.0) -> ClientChannel:
    """Connect to a server on a Unix socket, for send_msg and recv_msg.

    Args:
        path: Path of the socket.
        security: The client's security configuration, with ``peers`` and a ``service``.
        timeout: Seconds for connecting and Sealwire's handshake together. Default: 10.

    Returns:
        The connection, a context manager that closes it.

    Raises:
        ConfigurationError: No key is valid now.
        TransportError: The connection failed. Its subclasses say more: HandshakeFailed, HandshakeRejected,
            PeerNotAllowed.
        DeadlineExceeded: The connection was not complete in time.
    """
    deadline = monotonic() + check_seconds("timeout", timeout)
    path = socket_path(path)
    terms.check_client(security, unix=True)
    security.refresh()
    security = security.pinned()
    certificates = security.credentials.current
    address = path_text(path)
    sock = PlainSocket(socket.AF_UNIX)
    try:
        try:
            _wait_in_queue(sock, path, deadline)
        except TimeoutError:
            raise explain.no_answer(address) from None
        except OSError as error:
            raise explain.unreachable_path(address, path, error) from None
        protocol, session = begin_unix_client_session(
            security, certificates, peer_process(sock), own_process(), address=address, now=monotonic()
        )
        return _establish(sock, protocol, session, security, address, certificates, deadline)
    except BaseException:
        sock.close()
        raise


def _wait_in_queue(sock: socket.socket, path: str, deadline: float) -> None:
    """Connect a Unix socket, also if the server's queue is full until then. Raises TimeoutError, OSError."""
    connected = False
    while not connected:
        # A socket that does not block, or has a timeout of Python's, would not wait for room in the queue (connect(2)).
        seconds, fraction = divmod(remaining(deadline), 1)
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(seconds), int(fraction * 1e6) or 1))
        with suppress(BlockingIOError):  # the time is over
            sock.connect(path)
            # After a signal Python takes a connection for made that was not.
            with suppress(OSError):
                sock.getpeername()
                connected = True


def _connect_tcp(
    found: Sequence[Any], address: str, name: str, context: ssl.SSLContext, limits: Limits, deadline: float
) -> TLSSocket:
    """Connect to the first address of the host that answers; the TLS handshake is still to come."""
    failed, last = "no address", None
    for (family, kind, protocol, _, endpoint), seconds in shares(found, deadline):
        sock = socket.socket(family, kind, protocol)
        try:
            set_options(sock, limits)
            sock.settimeout(min(seconds, remaining(deadline)))
            sock.connect(endpoint)
            return TLSSocket(sock, context, host=name)
        except TimeoutError:
            sock.close()
            failed = "no answer in time"
        except OSError as error:
            sock.close()
            failed, last = explain.reason(error), error
        except BaseException:
            sock.close()
            raise
    raise explain.no_answer(address) if monotonic() >= deadline else explain.not_accepted(address, failed, last)


def _handshake(sock: TLSSocket, address: str, certificates: Certificates, deadline: float) -> None:
    try:
        sock.handshake(deadline)
    except TimeoutError:
        raise explain.incomplete(address, "TLS") from None
    except OSError as error:
        raise explain.client_tls(error, address, certificates) from None


def _establish(
    sock: Carrier,
    protocol: ClientProtocol,
    session: ClientSession,
    security: Security,
    address: str,
    certificates: Certificates,
    deadline: float,
) -> ClientChannel:
    """Exchange HELLO and WELCOME."""
    channel = ClientChannel(sock, protocol, session, security)
    with suppress(ConnectionClosed):  # the server's explanation may have arrived
        channel.flush(deadline)
    try:
        event = channel.next_event(deadline)
    except SealwireError as error:
        failed = explain.missing_welcome(error, address, channel.failure, anonymous=certificates.leaf is None)
        raise failed from failed.__cause__
    session.establish(event)
    sock.opened()
    return channel
