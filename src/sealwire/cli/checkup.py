"""The checks of ``sealwire doctor`` that need no connection; each yields what it finds."""

from __future__ import annotations

import os
import ssl
import stat
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sealwire.access import open_to_others
from sealwire.cli.configured import read_tables, remarks
from sealwire.cli.findings import Finding, Severity
from sealwire.encoding import Codec
from sealwire.errors import ConfigurationError
from sealwire.keyring import KeyringStatus
from sealwire.security import Security
from sealwire.tls.issue import MAX_LEAF_DAYS, check_strength

_FILES = ("cert", "key", "ca", "crl", "keyring")
_SECRET = ("key", "keyring")
_GOOD_RSA_BITS = 3072
"""NIST SP 800-57: of 128 bits of strength."""
_AHEAD = 60.0
"""Seconds in the future from which on a file's time is another clock's."""


def of_files(config: Path) -> Iterator[Finding]:
    """Modes, owners, places and times of the files that a configuration names."""
    try:
        tables = read_tables(config)
    except (ConfigurationError, OSError):
        return  # whoever loads it says so
    paths = {part: config.parent / tables[part] for part in _FILES if isinstance(tables.get(part), str)}
    for part, path in paths.items():
        try:
            status = path.stat()
        except OSError as error:
            yield Finding(Severity.CRITICAL, str(path), f"cannot be read ({error.strerror})", f"see {part} in {config}")
            continue
        mode = stat.S_IMODE(status.st_mode)
        if part in _SECRET and open_to_others(path, status):
            what = f"mode {mode:04o} lets others at the secret"
            yield Finding(
                Severity.CRITICAL, str(path), what, f"chmod 600 {path}; if anybody could have read it, replace it"
            )
        elif mode & 0o022:
            yield Finding(Severity.CRITICAL, str(path), f"mode {mode:04o} lets others change it", f"chmod go-w {path}")
        if status.st_uid not in (os.geteuid(), 0):
            what = f"belongs to another user (uid {status.st_uid}), who can change it"
            yield Finding(Severity.WARNING, str(path), what, "let it belong to root or to the service's user")
        if status.st_mtime > time.time() + _AHEAD:
            what = "was written in the future: this machine's clock is behind, or was"
            yield Finding(Severity.WARNING, str(path), what, "see whether the clock is kept by NTP")
    for directory in {parent for path in paths.values() for parent in path.resolve().parents}:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if mode & 0o022 and not mode & stat.S_ISVTX:
            what = f"mode {mode:04o} lets others put other files there"
            yield Finding(Severity.CRITICAL, str(directory), what, f"chmod go-w {directory}")
    for directory in {path.parent for path in paths.values()}:
        if (directory / "ca.key").exists():
            what = "the CA's private key is on this machine: whoever gets in here can be anybody"
            fix = "keep it on a machine that serves nothing; `sealwire certs request` needs none here"
            yield Finding(Severity.NOTE, str(directory / "ca.key"), what, fix)


def of_security(security: Security, host: str | None) -> Iterator[Finding]:
    """The certificate against its use, the trust anchors, the list of peers, and the versions underneath."""
    current = security.credentials.current
    files = current.paths
    serves = security.peers is not None
    if current.identity is not None:
        role = "server" if serves else "client"
        if role not in current.roles:
            fix = f"issue one with the profile {role}, or peer for both"
            yield Finding(Severity.CRITICAL, files["cert"], f"the certificate is not for TLS {role}s", fix)
        if serves and host is not None and not security.accepts_host(host):
            what = f"the certificate is not for {host}"
            fix = "issue one with this name, or list it under names"
            yield Finding(Severity.CRITICAL, files["cert"], what, fix)
        life = current.identity.not_after - current.identity.not_before
        if life > timedelta(days=MAX_LEAF_DAYS):
            what = f"the certificate lives {life.days} days; who steals it can use it as long"
            yield Finding(Severity.NOTE, files["cert"], what, f"renew it for {MAX_LEAF_DAYS} days at most")
    elif serves:
        yield Finding(Severity.CRITICAL, files["ca"], "a server needs a certificate", "give cert and key")
    status = security.credentials.status()
    if status.chain_problem is not None:
        what = f"the certificate does not build to the trust anchors in {files['ca']} ({status.chain_problem})"
        fix = "right if servers and clients have different CAs; otherwise get a certificate of this one"
        yield Finding(Severity.NOTE, files["cert"], what, fix)
    for part, certificates in (("cert", current.certificates), ("ca", current.authorities)):
        for each in certificates:
            yield from _strength(files[part], each)
    if not current.lists:
        what = "no revocation list: a stolen certificate counts until it expires"
        yield Finding(
            Severity.NOTE, files["ca"], what, "give crl (`sealwire certs crl`), or let certificates live for days"
        )
    if security.peers is not None and security.peers.allows_anonymous:
        yield Finding(Severity.NOTE, "peers", "anybody without a certificate may connect", "take 'anonymous' out")
    if repr(security.peers) == "PeerPolicy.any_signed_by_ca()":
        what = "everybody with a certificate of the CA may connect"
        yield Finding(Severity.NOTE, "peers", what, "list who may, unless the CA serves nothing else")
    if ssl.OPENSSL_VERSION_INFO < (3, 0):
        yield Finding(
            Severity.WARNING, ssl.OPENSSL_VERSION, "is without security fixes", "take a Python with OpenSSL 3"
        )


def _strength(where: str, certificate: x509.Certificate) -> Iterator[Finding]:
    name = certificate.subject.rfc4514_string() or "the certificate"
    key = certificate.public_key()
    try:
        check_strength(key, name)
    except ConfigurationError as error:
        yield Finding(Severity.CRITICAL, where, str(error), "issue a new one")
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _GOOD_RSA_BITS:
        what = f"{name}: RSA with {key.key_size} bits"
        yield Finding(Severity.NOTE, where, what, f"at least {_GOOD_RSA_BITS}, or P-256, when it is replaced")


def of_keys(status: KeyringStatus) -> Iterator[Finding]:
    """Keys that are anybody's, or for ever."""
    where = status.file or "keyring"
    for key in status.keys:
        if key.identity is None:
            what = f"key {key.id!r} is bound to no identity: each of its holders can be any other"
            yield Finding(Severity.NOTE, where, what, "one for each client: `sealwire keys new --identity`")
        if key.not_after is None:
            what = f"key {key.id!r} has no end"
            yield Finding(Severity.NOTE, where, what, "`sealwire keys rotate` gives it one")


def of_allowlist(security: Security) -> Iterator[Finding]:
    """What a peer can do with the types that it may send."""
    codec = security.codec
    if isinstance(codec, Codec):
        for adapter in codec.allowlist.adapters:
            for remark in remarks(adapter):
                fix = "see `sealwire allowlist check`, and whether that is meant"
                yield Finding(Severity.NOTE, adapter.spelling, f"a peer {remark}", fix)
