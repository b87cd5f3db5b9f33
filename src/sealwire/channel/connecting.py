"""A client's way from an address to a sealed connection: TCP or Unix, TLS, HELLO and WELCOME.

What does not wait for anything is asyncio's and DTLS's as well.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from time import monotonic

from sealwire.channel.client import ClientChannel
from sealwire.channel.plain import PlainSocket, process_at, this_process
from sealwire.channel.pump import left, reason
from sealwire.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    SealwireError,
    TransportError,
    TruncatedFrame,
)
from sealwire.security import Security
from sealwire.standing import Standing
from sealwire.tls.contexts import ALPN, verification_problem
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.identity import PeerIdentity, canonical_host
from sealwire.wire.client import ClientProtocol
from sealwire.wire.events import Established, Event, Rejected
from sealwire.wire.frames import RejectCode

REJECTIONS = {
    RejectCode.VERSION: "it speaks another version of the protocol; upgrade the older side",
    RejectCode.CODEC: "it uses another codec; configure the same on both sides",
    RejectCode.NOT_AUTHORISED: "not authorised; see whether both sides hold the same key under the same id, this "
    "client's identity is among the server's peers, and host name and service are the server's (its log says which)",
    RejectCode.OVERLOADED: "it is overloaded; try again later",
    RejectCode.SHUTTING_DOWN: "it is shutting down; try again later",
}


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
