"""What of certificates, revocation lists and keys ends, and when: the checks that ``status`` and ``doctor`` share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sealwire.cli.findings import Finding, Severity
from sealwire.errors import ConfigurationError
from sealwire.keyring import KeyringStatus
from sealwire.tls.credentials import CredentialsStatus

LIST_DAYS = 1
"""Days before the end of a revocation list from which on it is a warning: lists are short-lived."""


def lifetimes(credentials: CredentialsStatus, keys: KeyringStatus, warn: int) -> Iterator[Finding]:
    """What has ended or ends within ``warn`` days."""
    files = credentials.files
    if credentials.identity is not None:
        yield from _ends(
            files["cert"], "the certificate", credentials.identity.not_after, warn, "renew it: `sealwire certs renew`"
        )
    for each in credentials.authorities:
        name = each.subject.rfc4514_string()
        fix = "make a new CA, give it to everybody beside the old one (`sealwire certs bundle`), then renew"
        yield from _ends(files["ca"], f"the trust anchor {name}", each.not_valid_after_utc, warn, fix)
    for crl in credentials.lists:
        if crl.next_update_utc is not None:
            name = crl.issuer.rfc4514_string()
            fix = "get the CA's present one: `sealwire certs crl` there"
            yield from _ends(files["crl"], f"the revocation list of {name}", crl.next_update_utc, LIST_DAYS, fix)
    if credentials.revoked:
        fix = "issue a new one, and bring it here"
        yield Finding(Severity.CRITICAL, files["cert"], "the certificate is on the revocation list itself", fix)
    yield from _of_keys(keys, warn)


def _ends(where: str, what: str, end: datetime, warn: int, fix: str) -> Iterator[Finding]:
    left = end - datetime.now(UTC)
    if left < timedelta(0):
        yield Finding(Severity.CRITICAL, where, f"{what} has expired, {-left.days} days ago or less", fix)
    elif left < timedelta(days=warn):
        yield Finding(Severity.WARNING, where, f"{what} expires at {end:%Y-%m-%d %H:%M} UTC, in {left.days} days", fix)


def _of_keys(status: KeyringStatus, warn: int) -> Iterator[Finding]:
    """For each client that has keys of its own, and for everybody: whether there is one now, and then."""
    where = status.file or "keyring"
    now = datetime.now(UTC)
    fix = "add one: `sealwire keys rotate`"
    for identity in dict.fromkeys(key.identity for key in status.keys):
        whose = "" if identity is None else f" for {identity}"
        mine = [key for key in status.keys if key.identity == identity]
        for moment, severity, what in (
            (now, Severity.CRITICAL, "now"),
            (now + timedelta(days=warn), Severity.WARNING, f"in {warn} days"),
        ):
            if not any(key.valid_at(moment) for key in mine):
                yield Finding(severity, where, f"no key{whose} is valid {what}", fix)
                break


def signs_next(status: KeyringStatus, identity: str | None) -> tuple[str, str]:
    """The ids of the key that signs now and of the one that takes over, for clients of that entry; empty for none."""
    now = datetime.now(UTC)

    def usable(key: object) -> bool:
        return getattr(key, "identity", None) in (None, identity)

    try:
        current = status.keys.signing_key(now, usable=usable).id
    except ConfigurationError:
        current = ""
    later = [key for key in status.keys if key.not_before is not None and key.not_before > now and usable(key)]
    return current, min(later, key=lambda key: key.not_before or now).id if later else ""
