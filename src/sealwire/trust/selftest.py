"""Tests credentials before they come into service: a handshake in memory, and no loss against those in service.

The other side of the handshake trusts the same anchors and has the same revocation lists, so the handshake shows how
they would judge the endpoint's own certificate, and those of peers that have the same CA. An endpoint's
certificate need not come from its own anchors, since servers and clients may have different CAs, so a failed
verification alone is no reason for refusal. But once a certificate that did verify is in service, whatever is replaced,
the certificate, the anchors or the lists, it must verify afterwards.

The same is true of a chain that is complete: one that builds without the intermediate certificates that only the file
of trust anchors has. TLS sends those along, but peers cannot rely on it.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache, partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sealwire.errors import ConfigurationError
from sealwire.fork_gate import apart_from_forks
from sealwire.pki.pem import private_key_pem, to_pem
from sealwire.trust.certificates import Certificates, is_root
from sealwire.trust.contexts import (
    CRL_CODES,
    certificates_above,
    load_chain,
    plain_context,
    verification_problem,
    verifying_context,
)
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.revocation import signers_of

_ROUNDS = 4
"""Flights of a TLS 1.3 handshake, and one to spare."""


def validate(credentials: Certificates, previous: Certificates | None) -> None:
    """Complete a handshake in memory, and compare with the credentials in service.

    Args:
        credentials: The new credentials.
        previous: Those in service; None at first.

    Raises:
        ConfigurationError: The credentials do not work, or lack a role, a name, a revocation list or the chain that
            those in service have.
    """
    problem = chain_problem(credentials)
    if previous is None:
        return
    _check_lists(credentials, previous)
    if credentials.leaf is None or previous.leaf is None:
        return
    name = credentials.paths["cert"]
    if credentials.leaf != previous.leaf:
        lost = previous.roles - credentials.roles
        if lost:
            raise ConfigurationError(
                f"{name}: the certificate is not for TLS {' and '.join(sorted(lost))}s, unlike the one in service; "
                "issue it with the same profile (extended key usage)"
            )
        _check_names(credentials.identity, previous.identity, name)
    if is_revoked(credentials) and not credentials.revocations.include_any(_own_chain(previous)):
        raise ConfigurationError(
            f"{name}: the certificate, or that of a CA above it, is on a revocation list in "
            f"{credentials.paths['crl']}, unlike the one in service; issue another one"
        )
    if problem is not None and chain_problem(previous) is None:
        raise ConfigurationError(_unlike(credentials, previous, problem))
    if problem is None and not is_complete(credentials) and is_complete(previous):
        raise ConfigurationError(
            f"{name}: lacks an intermediate certificate that only {credentials.paths['ca']} has, unlike the chain in "
            "service, so peers that know the root alone could refuse it; append the intermediate"
        )


def chain_problem(credentials: Certificates) -> str | None:
    """Verify the endpoint's certificate by its own trust anchors and revocation lists, except that it may be revoked.

    Returns:
        OpenSSL's words for the problem; None if the certificate builds to the anchors, or if there is none.

    Raises:
        ConfigurationError: OpenSSL refuses the credentials altogether.
    """
    return _verify(credentials, roots_alone=False)[0]


def is_complete(credentials: Certificates) -> bool:
    """Return False if the chain builds only with the help of intermediate certificates among the trust anchors."""
    if all(map(is_root, credentials.authorities)) or chain_problem(credentials) is not None:
        return True
    return _verify(credentials, roots_alone=True)[0] is None


def is_revoked(credentials: Certificates) -> bool:
    """Return True if the own certificate, or one between it and the root, is on a revocation list of ours."""
    return credentials.revocations.include_any(_own_chain(credentials))


def _own_chain(credentials: Certificates) -> list[bytes]:
    """Return the own certificate (DER) and those between it and the root, as far as they are known."""
    return [] if credentials.leaf is None else [credentials.leaf, *_verify(credentials, roots_alone=False)[1]]


def _verify(credentials: Certificates, *, roots_alone: bool) -> tuple[str | None, tuple[bytes, ...]]:
    """Verify the own certificate, with those in its own file and the trust anchors or the roots among them.

    Returns:
        OpenSSL's words for the problem, if there is one, and the certificates between leaf and root, if not.
    """
    if not credentials.authorities:
        return None, ()
    as_server = "server" in credentials.roles
    other = credentials.once(("self-test", roots_alone), partial(_verifier, roots_alone=roots_alone))
    if credentials.leaf is None:
        return None, ()
    own = credentials.once("self-test", partial(plain_context, server=as_server))
    try:
        return None, certificates_above(_handshake(own, other, own_is_server=as_server))
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in CRL_CODES:
            return verification_problem(error.verify_code, error.verify_message, credentials), ()
        return error.verify_message, ()
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{credentials.paths['cert']}: a handshake with this certificate and key fails: {error.reason}"
        ) from None


def _verifier(credentials: Certificates, *, roots_alone: bool) -> ssl.SSLContext:
    """Make the context of the other side, which is a server if the own certificate is not for one."""
    server = "server" not in credentials.roles
    anchors = [each for each in credentials.authorities if not roots_alone or is_root(each)]
    # If the own certificate is revoked, peers will say so, and the lists must come into service nonetheless.
    lists = not credentials.revokes_itself
    context = verifying_context(credentials, server=server, anchors=anchors, lists=lists)
    if server:
        load_chain(context, *_self_signed())
    return context


def _unlike(credentials: Certificates, previous: Certificates, problem: str) -> str:
    """Explain that the own certificate would not verify any more, by the files that have changed."""
    cert, ca = credentials.paths["cert"], credentials.paths["ca"]
    if credentials.chain != previous.chain:
        return (
            f"{cert}: the certificate does not build to the trust anchors in {ca} ({problem}), "
            "unlike the one in service; add the new CA there first, or an intermediate certificate to the chain"
        )
    if credentials.authorities != previous.authorities:
        return (
            f"{ca}: the certificate in {cert} does not build to these trust anchors ({problem}), unlike to those in "
            "service, so peers with certificates of its CA would be refused; keep that CA's certificate here until all "
            "certificates are replaced, or restart to change to another CA for the peers"
        )
    return (
        f"{credentials.paths['crl']}: with these revocation lists the certificate in {cert} would be refused "
        f"({problem}), and so would those of all peers with the same CA"
    )


def _handshake(own: ssl.SSLContext, other: ssl.SSLContext, *, own_is_server: bool) -> ssl.SSLObject:
    """Return the other's end after a handshake."""
    server, client = (own, other) if own_is_server else (other, own)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="selftest.invalid"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    verifier = ends[0 if own_is_server else 1]
    for _ in range(_ROUNDS):
        for end in list(ends):
            try:
                apart_from_forks(end.do_handshake)
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    return verifier


def _check_names(new: PeerIdentity | None, old: PeerIdentity | None, name: str) -> None:
    if new is None or old is None:
        return
    hosts = [each for each in (*old.dns, *old.ip) if each not in (*new.dns, *new.ip) and not new.is_named(each)]
    lost = [*hosts, *(set(old.uri) - set(new.uri)), *(set(old.email) - set(new.email))]
    if lost:
        raise ConfigurationError(
            f"{name}: the certificate lacks {len(lost)} of the names of the one in service, such as {lost[0]!r}; "
            "issue it for the same names, or restart to drop one"
        )


def _check_lists(credentials: Certificates, previous: Certificates) -> None:
    """Refuse to lose the revocation list of a CA that is still trusted: all of its leaves would be refused."""
    for each in previous.lists:
        known = signers_of(each, credentials.known_authorities)
        if known and not any(signers_of(kept, known) for kept in credentials.lists):
            raise ConfigurationError(
                f"{credentials.paths['crl']}: the revocation list of {each.issuer.rfc4514_string()} is missing, so "
                "every peer with a certificate of that CA would be refused; put it back, or take the CA out of "
                f"{credentials.paths['ca']}"
            )


@cache
def _self_signed() -> tuple[bytes, bytes]:
    """Return a self-signed server certificate and its key, for a handshake with a client in memory."""
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
    return to_pem([certificate]), private_key_pem(key)
