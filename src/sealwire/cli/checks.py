"""The checks of ``sealwire doctor`` that need no connection: of files, the loaded configuration, keys and types."""

from __future__ import annotations

import os
import ssl
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sealwire.cli.config import peer_effects
from sealwire.cli.remedies import binding, ending, renewal_of
from sealwire.cli.report import Finding, Severity
from sealwire.codec import Codec
from sealwire.configuration_options import FILES
from sealwire.errors import ConfigurationError
from sealwire.pki.authority import MAX_LEAF_DAYS, check_strength
from sealwire.remedies import command
from sealwire.security import Security
from sealwire.session.terms import accepts_host
from sealwire.toml_options import read_toml
from sealwire.trust.certificates import is_root
from sealwire.trust.file_permissions import in_private_directory, open_to_others
from sealwire.trust.keyring import KeyringStatus
from sealwire.trust.own_certificate import certificate_problems, name_problems

_SECRET: Final = ("key", "keyring")
_GOOD_RSA_BITS: Final = 3072
"""128 bits of strength by NIST SP 800-57."""
_CLOCK_TOLERANCE: Final = 60.0
"""Seconds by which a file may have been written in the future."""

_Check = tuple[bool, Severity, str, str, str]
"""True if there is a finding, and its parts."""
_NOTE, _WARNING, _CRITICAL = Severity.NOTE, Severity.WARNING, Severity.CRITICAL


def _findings(checks: Iterable[_Check]) -> list[Finding]:
    return [
        Finding(severity, location, problem, remedy) for found, severity, location, problem, remedy in checks if found
    ]


def paths_of(config: Path) -> dict[str, Path]:
    """Return the files that a configuration names, as it and the user name them. Raises ConfigurationError."""
    tables = read_toml(config)
    return {part: config.parent / tables[part] for part in FILES if isinstance(tables.get(part), str)}


def check_files(config: Path) -> Iterator[Finding]:
    """Check modes, owners, directories and times of the files that a configuration names."""
    try:
        tables, paths = read_toml(config), paths_of(config)
    except ConfigurationError:
        return  # loading the configuration reports it
    for part, path in paths.items():
        try:
            status = path.stat()
        except OSError as error:
            yield Finding(_CRITICAL, str(path), f"cannot be read ({error.strerror})", f"see {part} in {config}")
        else:
            accepted = part == "key" and (tables.get("allow_readable_key") is True or in_private_directory(path))
            exposed = part in _SECRET and open_to_others(
                path, status, keyring_group=tables.get("keyring_group") is True
            )
            yield from _check_file(path, status, exposed=exposed, accepted=accepted)
    for directory in {parent for path in paths.values() for parent in path.resolve().parents}:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if mode & 0o022 and not mode & stat.S_ISVTX:
            text = f"mode {mode:04o} lets other users put files there"
            shown = directory
            if not config.is_absolute() and directory.is_relative_to(Path.cwd()):
                shown = directory.relative_to(Path.cwd())
            yield Finding(_CRITICAL, str(shown), text, command("chmod", "go-w", shown))
    for directory in {path.parent for path in paths.values()}:
        if (directory / "ca.key").exists():
            text = "the CA's private key is on this machine: an intruder could issue any certificate"
            fix = "move it to a machine that serves nothing, to which this one sends requests for certificates"
            yield Finding(_NOTE, str(directory / "ca.key"), text, fix)


def _check_file(path: Path, status: os.stat_result, *, exposed: bool, accepted: bool) -> list[Finding]:
    name, mode, owner = str(path), stat.S_IMODE(status.st_mode), status.st_uid
    replace = f"{command('chmod', '600', path)}; if another user could have read it, replace it"
    foreign = f"belongs to another user (uid {owner}), which can change it"
    early = "was written in the future: this machine's clock is behind, or was"
    return _findings(
        [
            (exposed, _NOTE if accepted else _CRITICAL, name, f"mode {mode:04o} lets other users open it", replace),
            (
                not exposed and mode & 0o022 != 0, _CRITICAL, name,
                f"mode {mode:04o} lets other users change it", command('chmod', 'go-w', path),
            ),
            (owner not in (os.geteuid(), 0), _WARNING, name, foreign, "give it to root or to the service's user"),
            (status.st_mtime > time.time() + _CLOCK_TOLERANCE, _WARNING, name, early, "keep the clock with NTP"),
        ]
    )  # fmt: skip


def check_security(security: Security, host: str | None) -> list[Finding]:
    """Check a loaded configuration; ``host`` is the name by which clients reach the server, if it is known."""
    current, peers = security.credentials.current, security.peers
    if not current.authorities:
        return []  # it is for Unix sockets alone
    ca, cert = current.paths["ca"], current.paths.get("cert", "")
    role = "client" if peers is None else "server"
    life = timedelta(0) if current.identity is None else current.identity.not_after - current.identity.not_before
    status = security.credentials.status()
    problem = status.chain_problem
    problems = [*certificate_problems(current, role), *(name_problems(current) if role == "server" else ())]
    checks: list[_Check] = [
        (
            not cert and peers is not None and not peers.names_processes, _CRITICAL, ca,
            "a server needs a certificate", "give cert and key",
        ),
        *((True, _CRITICAL, cert, problem, fix) for problem, fix in problems),
        *(_check_names(security, cert, host) if role == "server" and current.identity is not None else ()),
        (
            life > timedelta(days=MAX_LEAF_DAYS), _NOTE, cert,
            f"the certificate lives {life.days} days; a thief could use it as long",
            f"{renewal_of(cert)}, for {MAX_LEAF_DAYS} days at most",
        ),
        (
            problem is not None, _NOTE, cert,
            f"the certificate does not build to the trust anchors in {ca} ({problem})",
            "this is right if servers and clients have different CAs; otherwise get a certificate of this one",
        ),
        (
            not status.chain_complete, _WARNING, cert,
            f"the chain lacks an intermediate certificate that only {ca} has: TLS sends it along, UDP does not, and "
            "peers that know the root alone could refuse the chain",
            f"append the intermediate certificate to {cert}",
        ),
        (
            any(map(is_root, current.certificates[1:])), _NOTE, cert,
            "has a root CA besides the chain, which peers must have anyway", "take it out",
        ),
        (
            not current.lists, _NOTE, ca, "no revocation list: a stolen certificate is accepted until it expires",
            "have the CA write one (`sealwire certs crl`), and name it as crl; or let certificates live for days",
        ),
        (
            peers is not None and peers.allows_anonymous, _NOTE, "peers",
            "clients without a certificate may connect", "take 'anonymous' out",
        ),
        (
            repr(peers) == "PeerPolicy.any_signed_by_ca()", _NOTE, "peers",
            "every client with a certificate of the CA may connect",
            "list the clients, unless the CA serves nothing else",
        ),
        (
            ssl.OPENSSL_VERSION_INFO < (3, 0), _WARNING, ssl.OPENSSL_VERSION,
            "gets no security fixes any more", "use a Python with OpenSSL 3",
        ),
    ]  # fmt: skip
    strengths = [
        *(_check_strength(cert, certificate) for certificate in current.certificates),
        *(_check_strength(ca, certificate) for certificate in current.authorities),
    ]
    return _findings([*checks, *strengths])


def _check_names(security: Security, cert: str, host: str | None) -> Iterator[_Check]:
    """Check that a server's certificate has the names that its clients may verify."""
    own = security.credentials.current.identity
    assert own is not None  # it has a certificate
    yield (
        host is not None and not accepts_host(security, host), _CRITICAL, cert,
        f"the certificate is not for {host}", "issue one with this name, or list it under names",
    )  # fmt: skip
    for name in sorted(security.names):
        yield (
            not own.is_named(name), _NOTE, cert,
            f"the certificate is not for {name}, which is one of names: a client that verifies the host refuses it",
            "issue one with this name; clients that list a URI or fingerprint of the server need none",
        )  # fmt: skip


def _check_strength(path: str, certificate: x509.Certificate) -> _Check:
    name = certificate.subject.rfc4514_string() or "the certificate"
    key = certificate.public_key()
    try:
        check_strength(key, name)
    except ConfigurationError as error:
        return True, _CRITICAL, path, str(error), "issue a new one"
    bits = key.key_size if isinstance(key, rsa.RSAPublicKey) else _GOOD_RSA_BITS
    fix = f"use at least {_GOOD_RSA_BITS} bits, or P-256, when you replace it"
    return bits < _GOOD_RSA_BITS, _NOTE, path, f"{name}: RSA with {bits} bits", fix


def check_interpreter() -> Iterator[Finding]:
    """Find settings of this process's environment that a service should not have."""
    seed = os.environ.get("PYTHONHASHSEED", "random")
    if seed not in ("", "random") or not sys.flags.hash_randomization:
        text = "the hashes of str and bytes are known: a peer can choose keys of one hash, which keep a dict busy"
        yield Finding(_WARNING, f"PYTHONHASHSEED={seed}", text, "unset it where the service is started")


def check_keys(status: KeyringStatus) -> Iterator[Finding]:
    """Find keys that several clients share, or that never end."""
    path = status.file or "keyring"
    for key in status.keys:
        if key.identity is None:
            text = f"key {key.id!r} is bound to no identity: each of its holders can pose as any other"
            yield Finding(_NOTE, path, text, binding(path, key))
        if key.not_after is None:
            yield Finding(_NOTE, path, f"key {key.id!r} has no end", ending(path, key))


def check_types(security: Security, config: Path) -> Iterator[Finding]:
    """Find allowed types that let a peer do more than choose values for declared fields."""
    codec = security.codec
    listing = command("sealwire", "allowlist", "check", "--config", config)
    if isinstance(codec, Codec):
        for adapter in codec.allowlist.adapters:
            for effect in peer_effects(adapter):
                fix = f"see {listing}, and decide whether that is intended"
                yield Finding(_NOTE, adapter.qualified_name, f"a peer {effect}", fix)
