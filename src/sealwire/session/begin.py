"""Begins either end of a connection after TLS: makes its protocol and its session from a Security."""

from __future__ import annotations

from collections.abc import Callable

from sealwire.errors import HandshakeFailed, because
from sealwire.security import Security
from sealwire.session import explain, terms
from sealwire.session.client import ClientSession
from sealwire.session.server import ServerSession, Slot
from sealwire.session.validity import Validity
from sealwire.trust.certificates import Certificates
from sealwire.trust.contexts import ALPN
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.known_peers import known_peers
from sealwire.wire.client import ClientProtocol
from sealwire.wire.features import NO_FEATURES, Features
from sealwire.wire.frames import RejectCode
from sealwire.wire.server import ServerProtocol


def begin_client_session(
    security: Security,
    certificates: Certificates,
    alpn: str | None,
    leaf: bytes | None,
    *,
    above: tuple[bytes, ...] = (),
    host: str,
    address: str,
    now: float,
) -> tuple[ClientProtocol, ClientSession]:
    """Return protocol and session of a connection to a server, after the TLS handshake.

    Args:
        security: The client's Security.
        certificates: The client's certificates that TLS used.
        alpn: The protocol that TLS negotiated (RFC 7301).
        leaf: The server's verified certificate, DER.
        above: The certificates between it and the root, DER.
        host: The server's host name in canonical form.
        address: The server's address, for messages.
        now: The time of the monotonic clock.

    Raises:
        HandshakeFailed: The server speaks another protocol, or the certificate of a CA above its own is revoked.
        PeerNotAllowed: The server is not on the list of peers.
        ConfigurationError: No key is valid now.
    """
    if alpn != ALPN or leaf is None:
        raise explain.other_protocol(address)
    peer = known_peers.identify(leaf)
    own = certificates.identity
    validity = Validity(security, certificates, peer=peer, leaf=leaf, above=above, client=own, now=now)
    protocol = ClientProtocol(
        **terms.client_parameters(security, certificates, host=host, peer=peer, leaf=leaf, above=above)
    )
    return protocol, ClientSession(protocol, validity, peer, address, security.faults)


def begin_unix_client_session(
    security: Security, certificates: Certificates, peer: PeerIdentity, own: PeerIdentity, *, address: str, now: float
) -> tuple[ClientProtocol, ClientSession]:
    """Return protocol and session of a connection on a Unix socket. Raises PeerNotAllowed, ConfigurationError."""
    validity = Validity(security, certificates, peer=peer, leaf=None, client=own, now=now)
    protocol = ClientProtocol(**terms.unix_client_parameters(security, own, peer, address))
    return protocol, ClientSession(protocol, validity, peer, address, security.faults)


def begin_server_session(
    security: Security,
    certificates: Certificates,
    alpn: str | None,
    leaf: bytes | None,
    client: PeerIdentity | None,
    *,
    above: tuple[bytes, ...] = (),
    slot: Slot,
    busy: Callable[[], int | None],
    now: float,
    features: Features = NO_FEATURES,
) -> tuple[ServerProtocol, ServerSession]:
    """Return protocol and session of a connection from a client, after the TLS handshake.

    Args:
        security: The server's Security.
        certificates: The server's certificates that TLS used.
        alpn: The protocol that TLS negotiated (RFC 7301).
        leaf: The client's verified certificate, DER; None without one.
        client: The identity in it.
        above: The certificates between it and the root, DER.
        slot: The connection's slot.
        busy: Returns the code to REJECT an authorised client with, or None.
        now: The current time.
        features: The features that the server has.

    Raises:
        HandshakeFailed: The client speaks another protocol.
    """
    if alpn != ALPN:
        raise because(HandshakeFailed(f"the client did not offer the protocol {ALPN}"), "protocol")
    validity = Validity(security, certificates, peer=client, leaf=leaf, above=above, client=client, now=now)
    protocol = ServerProtocol(
        terms.server_parameters(
            security,
            certificates,
            client=client,
            leaf=leaf,
            above=above,
            busy=busy,
            keys=lambda: validity.keys,
            features=features,
        )
    )
    return protocol, ServerSession(protocol, validity, security.limits, slot, now)


def begin_unix_server_session(
    security: Security,
    certificates: Certificates,
    client: PeerIdentity,
    *,
    slot: Slot,
    busy: Callable[[], int | None],
    now: float,
    features: Features = NO_FEATURES,
) -> tuple[ServerProtocol, ServerSession]:
    """Return protocol and session of a connection on a Unix socket, from the process that the kernel reported."""
    validity = Validity(security, certificates, peer=client, leaf=None, client=client, now=now)
    protocol = ServerProtocol(
        terms.server_parameters(
            security, None, client=client, leaf=None, busy=busy, keys=lambda: validity.keys, features=features
        )
    )
    return protocol, ServerSession(protocol, validity, security.limits, slot, now)


def reject_code(*, draining: bool, full: bool) -> int | None:
    """Return the code to REJECT an authorised client with, or None if there is room for it."""
    if draining:
        return RejectCode.SHUTTING_DOWN
    return RejectCode.OVERLOADED if full else None
