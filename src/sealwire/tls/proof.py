"""Whether credentials work, before they are put in service: a handshake in memory, and nothing lost that there was.

The handshake is with a party that trusts the same anchors. Where a deployment has one CA for servers and another one
for clients, an endpoint's own certificate is none of its anchors' business, so that this alone refuses nothing. But a
service whose certificate did come from its own anchors never puts one in service that does not.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sealwire.errors import ConfigurationError
from sealwire.tls.contexts import load_chain, plain_context
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.identity import PeerIdentity

_TURNS = 4
"""Flights of a TLS 1.3 handshake, and one to spare."""


def prove(credentials: CredentialSet, previous: CredentialSet | None) -> None:
    """Complete a handshake in memory; compare with what is in service. Raises ConfigurationError."""
    problem = chain_problem(credentials)
    if previous is None:
        return
    _check_lists(credentials, previous)
    if credentials.leaf is None or credentials.leaf == previous.leaf or previous.leaf is None:
        return
    name = credentials.paths["cert"]
    lost = previous.roles - credentials.roles
    if lost:
        raise ConfigurationError(
            f"{name}: the certificate is not for TLS {' and '.join(sorted(lost))}s, as the one in service is; issue it "
            "with the same profile (extended key usage)"
        )
    _check_names(credentials.identity, previous.identity, name)
    if problem is not None and chain_problem(previous) is None:
        raise ConfigurationError(
            f"{name}: the certificate does not build to the trust anchors in {credentials.paths['ca']} ({problem}), "
            "as the one in service does; add the new CA there first, or an intermediate certificate to the chain"
        )


def chain_problem(credentials: CredentialSet) -> str | None:
    """What the trust anchors have against the own certificate, in OpenSSL's words; None where it builds to them.

    Raises ConfigurationError where TLS does not take the credentials at all.
    """
    as_server = "server" in credentials.roles
    own = plain_context(credentials, server=as_server)
    if credentials.leaf is None:
        return None
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if as_server else ssl.PROTOCOL_TLS_SERVER)
    other.load_verify_locations(cadata=credentials.anchors.decode("ascii"))
    if as_server:
        other.check_hostname = False
    else:
        load_chain(other, *_stranger())
    other.verify_mode = ssl.CERT_REQUIRED
    try:
        _handshake(server=own if as_server else other, client=other if as_server else own)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{credentials.paths['cert']}: a handshake with this certificate and key fails: {error.reason}"
        ) from None
    return None


def _handshake(*, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="proof.invalid"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(_TURNS):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def _check_names(new: PeerIdentity | None, old: PeerIdentity | None, name: str) -> None:
    if new is None or old is None:
        return
    hosts = [each for each in (*old.dns, *old.ip) if each not in (*new.dns, *new.ip) and not new.is_named(each)]
    lost = [*hosts, *(set(old.uri) - set(new.uri)), *(set(old.email) - set(new.email))]
    if lost:
        raise ConfigurationError(
            f"{name}: the certificate lacks {len(lost)} of the names of the one in service, {lost[0]!r} for one; "
            "issue it for the same names, or restart to take one away"
        )


def _check_lists(credentials: CredentialSet, previous: CredentialSet) -> None:
    """A CA that is trusted still, and whose list is gone, would have all of its leaves refused."""
    anchors = {each.subject for each in credentials.authorities}
    kept = {each.issuer for each in credentials.lists}
    for each in previous.lists:
        if each.issuer in anchors and each.issuer not in kept:
            raise ConfigurationError(
                f"{credentials.paths['crl']}: the revocation list of {each.issuer.rfc4514_string()} is gone, and "
                "without it every peer with a certificate of that CA would be refused; put it back, or take the CA out "
                f"of {credentials.paths['ca']}"
            )


@cache
def _stranger() -> tuple[bytes, bytes]:
    """Certificate and key of a server of no CA, to speak to a client in memory."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
