"""When certificates, revocation lists and keys end, for all commands that show or check it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sealwire.cli.report import Finding, Severity
from sealwire.errors import ConfigurationError
from sealwire.trust.credentials import CredentialsStatus
from sealwire.trust.key_snapshot import KeySnapshot
from sealwire.trust.keyring import Keyring, KeyringStatus
from sealwire.wire.keys import Key

CRL_DAYS: Final = 1
"""Days before the end of a revocation list from which on ``status`` warns: lists are short-lived."""


def days_left(moment: datetime | None) -> int | None:
    """Return the whole days until then, negative if it has passed; None if there is no end."""
    return None if moment is None else (moment - datetime.now(UTC)).days


def moment_text(moment: datetime | None, *, none: str = "no end") -> str:
    """Return date and time in UTC for people; ``none`` stands for no limit."""
    return none if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def iso(moment: datetime | None) -> str | None:
    """Return date and time in ISO 8601 for scripts."""
    return None if moment is None else moment.isoformat()


class Lifetime(NamedTuple):
    """When something ends; ``not_after`` is None if it has no end, or cannot be read."""

    file: str
    name: str
    not_after: datetime | None
    fix: str = ""
    readable: bool = True

    def severity(self, days: int) -> Severity | None:
        """Return CRITICAL if it has ended or cannot be read, WARNING if it ends in fewer days, None otherwise."""
        remaining = days_left(self.not_after)
        if not self.readable or (remaining is not None and remaining < 0):
            return Severity.CRITICAL
        return Severity.WARNING if remaining is not None and remaining < days else None

    def finding(self, days: int) -> Iterator[Finding]:
        """Yield a finding if it has ended or ends in fewer days."""
        severity, remaining, end = self.severity(days), days_left(self.not_after), moment_text(self.not_after)
        if severity is not None:
            soon = f"expires at {end}, in {remaining} {'day' if remaining == 1 else 'days'}"
            text = soon if severity is Severity.WARNING else f"has expired, at {end}"
            yield Finding(severity, self.file, f"the {self.name} {text}", self.fix)


def expiring(credentials: CredentialsStatus, keys: KeyringStatus, days: int) -> Iterator[Finding]:
    """Find certificates, revocation lists and keys in service that have ended or end in fewer days."""
    files = credentials.files
    if credentials.identity is not None:
        end, fix = credentials.identity.not_after, "renew it: `sealwire certs renew`"
        yield from Lifetime(files["cert"], "certificate", end, fix).finding(days)
    fix = "make a new CA, give it to every peer beside the old one (`sealwire certs bundle`), then renew"
    for anchor in credentials.authorities:
        name = f"trust anchor {anchor.subject.rfc4514_string()}"
        yield from Lifetime(files["ca"], name, anchor.not_valid_after_utc, fix).finding(days)
    fix = "get the CA's current list: `sealwire certs crl` there"
    for crl in credentials.lists:
        name = f"revocation list of {crl.issuer.rfc4514_string()}"
        yield from Lifetime(files["crl"], name, crl.next_update_utc, fix).finding(CRL_DAYS)
    if credentials.revoked:
        fix = "issue a new one, and bring it here"
        yield Finding(
            Severity.CRITICAL,
            files["cert"],
            "the certificate, or that of a CA above it, is on a revocation list here",
            fix,
        )
    for identity in key_owners(keys.keys):
        yield from _missing_key(keys, identity, days)


def key_owners(keys: KeySnapshot | Keyring) -> list[str | None]:
    """Return the identities that keys are bound to, each once; None for keys that every client may use."""
    return list(dict.fromkeys(key.identity for key in keys))


def _missing_key(status: KeyringStatus, identity: str | None, days: int) -> Iterator[Finding]:
    now = datetime.now(UTC)
    owned = [key for key in status.keys if key.identity == identity]
    for severity, moment, when in (
        (Severity.CRITICAL, now, "now"),
        (Severity.WARNING, now + timedelta(days=days), f"in {days} days"),
    ):
        if not any(key.valid_at(moment) for key in owned):
            owner = "" if identity is None else f" for {identity}"
            text = f"no key{owner} is valid {when}"
            yield Finding(severity, status.file or "keyring", text, "add one: `sealwire keys rotate`")
            return


def signing_now(keys: KeySnapshot | Keyring, identity: str | None) -> str:
    """Return the id of the key that a client of that identity signs with; empty if there is none."""
    try:
        return keys.signing_key(datetime.now(UTC), usable=lambda key: key.identity in (None, identity)).id
    except ConfigurationError:
        return ""


def signing_next(keys: KeySnapshot | Keyring, identity: str | None) -> str:
    """Return the id of the key that will take over from the present one; empty if there is none."""
    now = datetime.now(UTC)
    starts = [(key.not_before, key.id) for key in keys if key.not_before and key.identity in (None, identity)]
    return min((start for start in starts if start[0] > now), default=(now, ""))[1]


def key_state(key: Key, keys: KeySnapshot | Keyring) -> str:
    """Return ``signs`` (for the clients that may use it), ``verifies``, ``not yet valid`` or ``expired``."""
    now = datetime.now(UTC)
    if key.not_before is not None and now < key.not_before:
        return "not yet valid"
    if not key.valid_at(now):
        return "expired"
    return "signs" if signing_now(keys, key.identity) == key.id else "verifies"
