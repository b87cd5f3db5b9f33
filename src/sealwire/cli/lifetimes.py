"""The ends of certificates, revocation lists and keys, for all commands that show or check them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509

from sealwire.cli.remedies import expired_ca, new_ca, new_key, next_key, renewal_of
from sealwire.cli.report import Finding, Severity
from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.pki.renewal import next_list
from sealwire.trust.credentials import CredentialsStatus
from sealwire.trust.key_snapshot import KeySnapshot
from sealwire.trust.keyring import Keyring, KeyringStatus
from sealwire.wire.keys import Key

SOON: Final = timedelta(days=14)
"""The time before an end at which all commands begin to warn, or a quarter of the whole life if that is less, to suit
certificates of an hour and lists of a week, too. By then a renewal after two thirds of the life has failed."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


def days_left(moment: datetime | None) -> int | None:
    """Return the whole days until then, negative if it has passed; None if there is no end."""
    return None if moment is None else (moment - datetime.now(UTC)).days


def warning_from(start: datetime | None, end: datetime, days: int | None = None) -> datetime:
    """Return the moment at which warnings of an end begin.

    Args:
        start: When the life began; None if that is not known.
        end: When it ends.
        days: So many days before the end; None for :data:`SOON`.
    """
    if days is not None:
        return end - timedelta(days=days)
    return end - (SOON if start is None else min(SOON, (end - start) / 4))


def due_from(start: datetime, end: datetime, part: float) -> datetime:
    """Return the moment at which that part of a life is over."""
    return start + (end - start) * part


def iso(moment: datetime | None) -> str | None:
    """Return date and time in ISO 8601 for scripts."""
    return None if moment is None else moment.isoformat()


class Lifetime(NamedTuple):
    """The life of something; ``not_after`` is None if it has no end, or cannot be read."""

    file: str
    name: str
    not_before: datetime | None
    not_after: datetime | None
    fix: str = ""
    readable: bool = True

    def severity(self, days: int | None) -> Severity | None:
        """Return CRITICAL if it has ended or cannot be read, WARNING if it ends soon, None otherwise.

        ``days`` is as for :func:`warning_from`.
        """
        now = datetime.now(UTC)
        if not self.readable:
            return Severity.CRITICAL
        if self.not_after is None or now < warning_from(self.not_before, self.not_after, days):
            return None
        return Severity.WARNING if now <= self.not_after else Severity.CRITICAL

    def finding(self, days: int | None) -> Iterator[Finding]:
        """Yield a finding if it has ended or ends soon."""
        severity, remaining, end = self.severity(days), days_left(self.not_after), moment_text(self.not_after)
        if severity is not None:
            soon = f"expires at {end}, in {remaining} {'day' if remaining == 1 else 'days'}"
            text = soon if severity is Severity.WARNING else f"has expired, at {end}"
            yield Finding(severity, self.file, f"the {self.name} {text}", self.fix)


def expiring(credentials: CredentialsStatus, keys: KeyringStatus, days: int | None) -> Iterator[Finding]:
    """Find certificates, revocation lists and keys in service that have ended or end soon (:func:`warning_from`)."""
    files, own = credentials.files, credentials.identity
    if own is not None:
        fix = renewal_of(files["cert"])
        yield from Lifetime(files["cert"], "certificate", own.not_before, own.not_after, fix).finding(days)
    for anchor in credentials.authorities:
        fix = f"{new_ca(files['ca'])}, then renew the certificates by it, and take this one out"
        if anchor.not_valid_after_utc < datetime.now(UTC):
            fix = expired_ca(files["ca"], anchor)
        name, life = f"trust anchor {anchor.subject.rfc4514_string()}", life_of(anchor)
        yield from Lifetime(files["ca"], name, *life, fix).finding(days)
    for crl in credentials.lists:
        name = f"revocation list of {crl.issuer.rfc4514_string()}"
        yield from Lifetime(files["crl"], name, *life_of(crl), next_list(files["crl"])).finding(days)
    if credentials.revoked:
        fix = "issue a new one, and bring it here"
        yield Finding(
            Severity.CRITICAL,
            files["cert"],
            "the certificate, or that of a CA above it, is on a revocation list here",
            fix,
        )
    yield from missing_keys(keys, days)


def first_end(credentials: CredentialsStatus, keys: KeyringStatus) -> Lifetime | None:
    """Return the first lifetime to end of all that is in service; None if nothing has an end."""
    files, own, now = credentials.files, credentials.identity, datetime.now(UTC)
    lives = [] if own is None else [Lifetime(files["cert"], "certificate", own.not_before, own.not_after)]
    lives += [Lifetime(files["ca"], "trust anchor", *life_of(anchor)) for anchor in credentials.authorities]
    lives += [Lifetime(files["crl"], "revocation list", *life_of(crl)) for crl in credentials.lists]
    for identity in key_owners(keys.keys):
        last = _last_of_row([key for key in keys.keys if key.identity == identity], now)
        if last is not None:
            lives.append(Lifetime(keys.file or "keyring", f"key {last.id}", last.not_before, last.not_after))
    return min((life for life in lives if life.not_after), key=lambda life: life.not_after or _NEVER, default=None)


def life_of(source: x509.Certificate | x509.CertificateRevocationList) -> tuple[datetime, datetime | None]:
    """Return when a certificate or revocation list begins and ends."""
    if isinstance(source, x509.Certificate):
        return source.not_valid_before_utc, source.not_valid_after_utc
    return source.last_update_utc, source.next_update_utc


def key_owners(keys: Iterable[Key]) -> list[str | None]:
    """Return the identities that keys are bound to, each once; None for keys that every client may use."""
    return list(dict.fromkeys(key.identity for key in keys))


def missing_keys(status: KeyringStatus, days: int | None) -> Iterator[Finding]:
    """Find identities that have no valid key, now or soon (:func:`warning_from`)."""
    for identity in key_owners(status.keys):
        yield from _missing_key(status, identity, days)


def _missing_key(status: KeyringStatus, identity: str | None, days: int | None) -> Iterator[Finding]:
    now = datetime.now(UTC)
    owned = [key for key in status.keys if key.identity == identity]
    owner = "" if identity is None else f" for {identity}"
    keyring = status.file or "keyring"
    last = _last_of_row(owned, now)
    if last is None:
        yield Finding(Severity.CRITICAL, keyring, f"no key{owner} is valid now", new_key(keyring, identity))
    elif last.not_after is not None and now >= warning_from(last.not_before, last.not_after, days):
        text = f"no key{owner} is valid after {moment_text(last.not_after)}"
        yield Finding(Severity.WARNING, keyring, text, next_key(keyring, identity, last.not_after))


def _last_of_row(keys: Iterable[Key], moment: datetime) -> Key | None:
    """Return the key that ends last of those that follow each other without a gap from that moment on; None without."""
    last = None
    while valid := [key for key in keys if key.valid_at(moment)]:
        last = max(valid, key=lambda key: key.not_after or _NEVER)
        if last.not_after is None or last.not_after == moment:
            break
        moment = last.not_after
    return last


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
