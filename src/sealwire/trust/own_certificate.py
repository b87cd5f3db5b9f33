"""Judges an endpoint's own certificate as its peers must: by its purpose, its names, its chain and revocation lists."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.pki.renewal import issuing
from sealwire.trust.certificates import Certificates, is_root
from sealwire.trust.selftest import is_revoked


def certificate_problems(current: Certificates, role: str) -> Iterator[tuple[str, str]]:
    """Yield the reasons for which all peers refuse the certificate of a ``server`` or ``client``, and the remedies."""
    own, now = current.identity, datetime.now(UTC)
    if own is None:
        return
    if role not in current.roles:
        issue = issuing(current.paths["cert"], role)
        fix = f"name a {role}'s as cert and key, or issue one with the profile {role}, or peer for both: {issue}"
        yield f"the certificate is not for TLS {role}s", fix
    for between in current.certificates[1:]:
        if not is_root(between) and between.not_valid_after_utc < now:
            name, end = between.subject.rfc4514_string(), between.not_valid_after_utc
            yield f"the intermediate certificate {name} expired at {moment_text(end)}", "get the CA's current chain"


def name_problems(current: Certificates) -> Iterator[tuple[str, str]]:
    """Yield the reason for which clients that verify a server's host name refuse its certificate, and the remedy."""
    own = current.identity
    if own is not None and not (own.dns or own.ip or own.uri):
        yield (
            "the certificate has no DNS name, IP address or URI, so clients refuse it unless they list its fingerprint",
            "issue one with the names that clients use (a common name in the subject is none)",
        )


def check_certificate(current: Certificates, role: str) -> None:
    """Refuse credentials without trust anchors, and a certificate that every peer must refuse.

    Raises ConfigurationError.
    """
    current.check_anchors()
    others = "clients" if role == "server" else "servers"
    for problem, fix in certificate_problems(current, role):
        raise ConfigurationError(f"{current.paths['cert']}: {problem}, so {others} would refuse it; {fix}")
    if is_revoked(current):
        raise ConfigurationError(
            f"{current.paths['cert']}: the certificate, or that of a CA above it, is on a revocation list in "
            f"{current.paths['crl']}, so {others} would refuse it; get another one, with another key"
        )
