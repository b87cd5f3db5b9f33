"""Derives the parameters of a new connection from a Security: TLS contexts and handshake parameters.

Nothing here reads a file. The certificates and keys in use are immutable snapshots, and a connection uses one of each
from its first step to its last. The pumps reload files beforehand (``Security.refresh``), in a thread that may wait for
a disk.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

from sealwire.errors import ConfigurationError, PeerNotAllowed
from sealwire.security import Security
from sealwire.session import explain
from sealwire.trust.certificates import Certificates
from sealwire.trust.contexts import client_context, server_context
from sealwire.trust.identity import PeerIdentity, canonical_host
from sealwire.trust.key_snapshot import KeySnapshot, may_use
from sealwire.wire.client import ClientParameters
from sealwire.wire.features import NO_FEATURES, Features
from sealwire.wire.keys import Binding, Key
from sealwire.wire.server import ServerParameters

_MAX_SERVER_NAME: Final = 255


def check_security(security: object, side: str) -> None:
    """Check that an argument is a Security. Raises ConfigurationError, naming ``side`` ("server" or "client")."""
    if not isinstance(security, Security):
        raise ConfigurationError(
            f"a {side} needs a Security, as in security=Security(…); see Security.from_files and Security.from_toml"
        )


def check_server(security: Security, *, unix: bool = False) -> None:
    """Check that a server can use this Security, on a Unix socket if ``unix``. Raises ConfigurationError."""
    check_security(security, "server")
    if unix:
        check_unix_socket(security)
        check_unproxied(security, "a Unix socket", "is connected by the proxy's own process, which would be the peer")
        return
    if security.peers is None:
        raise ConfigurationError(
            "a server must be told which clients may connect: "
            + (
                'peers = ["dns:client.example", …]; peers = "any-signed-by-ca"'
                if security.is_from_file
                else "peers=['dns:client.example', …]; PeerPolicy.any_signed_by_ca()"
            )
            + " is the explicit way to trust every certificate of the CA"
        )
    security.credentials.check_role("server")
    server_tls(security, security.credentials.current)


def check_client(security: Security, *, unix: bool = False) -> None:
    """Check that a client can use this Security, on a Unix socket if ``unix``. Raises ConfigurationError."""
    check_security(security, "client")
    if unix:
        check_unix_socket(security)
        return
    security.credentials.check_role("client")


def check_unproxied(security: Security, carrier: str, reason: str) -> None:
    """Raise ConfigurationError if a Security has proxies, for a carrier that cannot have any."""
    if security.proxies is not None:
        raise ConfigurationError(
            f"proxy_protocol: {carrier} {reason}; give this server a configuration of its own, without proxy_protocol"
        )


def check_unix_socket(security: Security) -> None:
    """Check that either end of a Unix socket can use this Security. Raises ConfigurationError."""
    of_file = security.is_from_file
    if not security.service:
        service = 'service = "orders"' if of_file else "service='orders'"
        raise ConfigurationError(
            f"a Unix socket has no host name: give the service a name, as in {service}, the same at both ends"
        )
    if security.peers is None or not security.peers.names_processes:
        entry = f"uid:{os.geteuid()}"
        entries = f'peers = ["{entry}", …]' if of_file else f"peers=['{entry}', …]"
        raise ConfigurationError(
            "a Unix socket has no certificates; the kernel reports the process at the other end. List the users of "
            f"acceptable processes: {entries}"
        )


def server_tls(security: Security, certificates: Certificates) -> ssl.SSLContext:
    """Return the TLS context of a server, shared by all its connections. Raises ConfigurationError."""
    anonymous = security.peers is not None and security.peers.allows_anonymous
    return certificates.once(("TLS server", anonymous), partial(server_context, anonymous=anonymous))


def client_tls(security: Security, certificates: Certificates, *, named: bool = True) -> ssl.SSLContext:
    """Return the TLS context of a client, shared by all its connections. Raises ConfigurationError.

    If the server has no host that could be ``named``, the client verifies only its list of peers.
    """
    check = named and not replaces_host_name(security)
    return certificates.once(("TLS client", check), partial(client_context, check_hostname=check))


def carrier_tls(certificates: Certificates) -> ssl.SSLContext:
    """Return a TLS context for a host on the way, whose name is verified. Raises ConfigurationError."""
    return certificates.once(("TLS client", True), partial(client_context, check_hostname=True))


def replaces_host_name(security: Security) -> bool:
    """Return True if a client verifies a URI or fingerprint of the server instead of its host name."""
    return security.peers is not None and security.peers.replaces_host_name


def signing_key(security: Security, identity: PeerIdentity | None) -> Key:
    """Return the key that a client with this identity signs with now. Raises ConfigurationError if it has none."""
    owner = identity or "a client without a certificate"
    return security.keys.current.signing_key(datetime.now(UTC), usable=lambda key: may_use(key, identity), owner=owner)


def client_parameters(
    security: Security,
    certificates: Certificates,
    *,
    host: str,
    peer: PeerIdentity,
    leaf: bytes,
    above: tuple[bytes, ...] = (),
) -> ClientParameters:
    """Return the parameters of a client's handshake, after the server's certificate chain was verified.

    Args:
        security: The client's Security.
        certificates: The client's certificates that TLS used.
        host: The server's host name in canonical form.
        peer: The server's identity.
        leaf: The server's certificate, DER.
        above: The certificates between it and the root, DER.

    Raises:
        HandshakeFailed: The certificate of a CA above the server's is on a revocation list.
        PeerNotAllowed: The server is not on the list of peers.
        ConfigurationError: No key is valid, or the names are too long.
    """
    if certificates.revocations.include_any(above):
        raise explain.server_certificate(host, explain.revoked_above(certificates))
    _check_peer(security, peer, host or "the other end")
    binding = Binding.of(server=leaf, client=certificates.leaf)
    return _client_parameters(security, certificates.identity, "" if replaces_host_name(security) else host, binding)


def unix_client_parameters(
    security: Security, own: PeerIdentity, peer: PeerIdentity, address: str = "the socket"
) -> ClientParameters:
    """Return the parameters of a client's handshake on a Unix socket. Raises PeerNotAllowed, ConfigurationError."""
    _check_peer(security, peer, address)
    return _client_parameters(security, own, "", Binding())


def server_features(security: Security, *, at_once: int, in_parts: bool) -> Features:
    """Return the features of a server.

    Args:
        security: The server's Security.
        at_once: Requests of one connection that it works on at a time.
        in_parts: True if its handlers take and give messages in parts.
    """
    return Features(True, True, security.limits.part_window if in_parts else 0, at_once if in_parts else 0)


def server_parameters(
    security: Security,
    certificates: Certificates | None,
    *,
    client: PeerIdentity | None,
    leaf: bytes | None,
    above: tuple[bytes, ...] = (),
    busy: Callable[[], int | None],
    keys: Callable[[], KeySnapshot] | None = None,
    features: Features = NO_FEATURES,
) -> ServerParameters:
    """Return the parameters of a server's handshake with one client.

    Args:
        security: The server's Security.
        certificates: The server's certificates that TLS used; None on a Unix socket.
        client: The client's identity; None without a certificate.
        leaf: The client's verified certificate, DER; None without one.
        above: The certificates between it and the root, DER.
        busy: Returns the code to REJECT an authorised client with, or None.
        keys: Returns the keys in use. By default they are those in use now, and the server does not look for others.
        features: The features that the server has.
    """
    current = security.keys.current
    reason, problem = _peer_problem(security, certificates, client, above)
    return ServerParameters(
        find_key=partial(_usable_key, (lambda: current) if keys is None else keys, client),
        doubt=(lambda: False)
        if keys is None
        else (lambda: security.keys.current is not keys() or security.keys.may_look()),
        accepts_name=partial(_is_service, security)
        if certificates is None
        else partial(_accepts, security, certificates),
        binding=Binding() if certificates is None else Binding.of(server=certificates.leaf, client=leaf),
        codec=security.codec.name,
        max_frame=security.limits.max_frame,
        peer_problem=problem,
        peer_reason=reason,
        busy=busy,
        features=features,
    )


def accepts_host(security: Security, host: str) -> bool:
    """Return True if a server's certificate or ``names`` contain this host. Raises ConfigurationError if malformed."""
    name = canonical_host(host)
    own = security.credentials.identity
    return name in security.names or (own is not None and own.is_named(name))


def _peer_problem(
    security: Security, certificates: Certificates | None, client: PeerIdentity | None, above: tuple[bytes, ...]
) -> tuple[str, str | None]:
    if certificates is not None and certificates.revocations.include_any(above):
        return "certificate", explain.revoked_above(certificates)
    if security.peers is None or not security.peers.allows(client):
        return "peer_not_listed", "the certificate's identity is not on the peer list"
    return "", None


def _check_peer(security: Security, peer: PeerIdentity, address: str) -> None:
    if security.peers is not None and not security.peers.allows(peer):
        raise PeerNotAllowed(
            f"the server at {address} showed {peer}, which is not on this client's list of peers; "
            "add one of its names to peers if it is the right one"
        )


def _client_parameters(security: Security, own: PeerIdentity | None, host: str, binding: Binding) -> ClientParameters:
    name = f"{host}/{security.service}" if security.service else host
    if len(name) > _MAX_SERVER_NAME:
        raise ConfigurationError(
            f"host and service have {len(name)} characters together; {_MAX_SERVER_NAME} are allowed"
        )
    return ClientParameters(
        key=signing_key(security, own),
        binding=binding,
        codec=security.codec.name,
        server_name=name,
        max_frame=security.limits.max_frame,
        features=Features(metadata=True, cancel=True, window=security.limits.part_window),
    )


def _usable_key(keys: Callable[[], KeySnapshot], client: PeerIdentity | None, key_id: str) -> Key | None:
    return keys().verifying_key(key_id, datetime.now(UTC), client)


def _is_service(security: Security, name: str) -> bool:
    return name == f"/{security.service}"


def _accepts(security: Security, certificates: Certificates, name: str) -> bool:
    """Return True if a client means this server with ``host/service`` or, if there is no service, ``host``."""
    host, slash, service = name.partition("/")
    if service != security.service or bool(slash) is not bool(security.service):
        return False
    if not host or host in security.names or host in certificates.host_names:
        return True
    own = certificates.identity
    try:
        return own is not None and own.is_named(host) and canonical_host(host) == host
    except ConfigurationError:
        return False
