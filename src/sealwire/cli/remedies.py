"""Remedies for certificates, keys and CAs, as commands that fit the files that are there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sealwire.cli.pem_files import UNREADABLE, read_certificates
from sealwire.errors import ConfigurationError
from sealwire.pki.renewal import renewal
from sealwire.remedies import command
from sealwire.wire.keys import Key

_LEAD: Final = timedelta(hours=1)
"""The time until a new key signs, by default, in `sealwire keys rotate`."""


def new_ca(anchors: str | Path) -> str:
    """Return how to bring a new CA to every peer beside those in a file of trust anchors."""
    make = command("sealwire", "certs", "init", "--dir", "new-ca")
    both = command("sealwire", "certs", "bundle", anchors, "new-ca/ca.pem", "--out", anchors)
    return f"make a new CA ({make}), and bring it to every peer beside the old one ({both})"


def expired_ca(anchors: str, certificate: x509.Certificate) -> str:
    """Return how to take an expired CA out of a file that has another, valid trust anchor."""
    sha256 = certificate.fingerprint(hashes.SHA256()).hex()
    return f"take it out: {command('sealwire', 'certs', 'bundle', anchors, '--remove', sha256, '--out', anchors)}"


def renewal_of(cert: str) -> str:
    """Return how to renew a certificate that is in service."""
    try:
        leaf = read_certificates(Path(cert))[0]
    except (ConfigurationError, *UNREADABLE):
        leaf = None
    return renewal(cert, leaf)


def new_key(keyring: str, identity: str | None) -> str:
    """Return how to add a key that is valid at once, for a client or all of them."""
    bound = () if identity is None else ("--identity", identity)
    make = command("sealwire", "keys", "new", "--file", keyring, *bound)
    return f"add one with {make}, and bring the file to every peer"


def next_key(keyring: str, identity: str | None, end: datetime) -> str:
    """Return how to add a key before the last one of a client, or of all of them, ends."""
    bound = () if identity is None else ("--identity", identity)
    left = end - datetime.now(UTC)
    lead = () if left > 2 * _LEAD else ("--in", f"{max(0, int(left.total_seconds()) // 2)}s")
    return f"add the next one: {command('sealwire', 'keys', 'rotate', '--file', keyring, *bound, *lead)}"


def ending(keyring: str, key: Key) -> str:
    """Return how to let a key end that has no end."""
    if not key.valid_at(datetime.now(UTC)):
        return f"revoke it: {command('sealwire', 'keys', 'revoke', key.id, '--file', keyring)}"
    bound = () if key.identity is None else ("--identity", key.identity)
    return f"give it one: {command('sealwire', 'keys', 'rotate', '--file', keyring, '--days', '90', *bound)}"


def binding(keyring: str, key: Key) -> str:
    """Return how to replace a key that all clients share."""
    make = command("sealwire", "keys", "new", "--file", keyring, "--identity", "CLIENT")
    revoke = command("sealwire", "keys", "revoke", key.id, "--file", keyring)
    return f"make one for each client ({make}), then revoke this one ({revoke})"
