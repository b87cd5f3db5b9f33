"""``sealwire certs renew`` and ``bundle``: new certificates for old ones, and a new CA beside the old one."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sealwire.cli.certs.group import (
    CA,
    certs,
    days_option,
    describe,
    directory_option,
    load_ca,
    write,
)
from sealwire.cli.console import printable
from sealwire.cli.directory import report_written
from sealwire.errors import ConfigurationError
from sealwire.rotation import read_file
from sealwire.tls.files import PRIVATE, PUBLIC, NewFile
from sealwire.tls.issue import MAX_LEAF_DAYS, Issuer, PrivateKey
from sealwire.tls.requests import key_like
from sealwire.tls.requests import renew as renewed
from sealwire.tls.revocation import pem_of, read_lists

_MAX_FILE = 4 << 20


@certs.command()
@click.argument("which", metavar="STEM_OR_FILE...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every leaf of the directory that has its key beside it.")
@click.option("--within", type=click.IntRange(0, 3650), metavar="DAYS", help="Only those that expire in so many days.")
@click.option("--keep-key", is_flag=True, help="Certify the old key again, instead of a new one.")
@days_option(MAX_LEAF_DAYS, MAX_LEAF_DAYS)
@directory_option
def renew(
    *, which: Sequence[str], everything: bool, within: int | None, keep_key: bool, days: int, directory: Path
) -> None:
    """Replace certificates by new ones.

    The new one has the same names and uses, and a new key of the same kind. Key and certificate are complete before
    they take the old ones' places; modes are kept, and so are the old files, under other names. A running server or
    client notices.

    \b
    sealwire certs renew server
    sealwire certs renew --all --within 14
    """
    if bool(which) is everything:
        raise click.UsageError("say which certificates to renew, or --all")
    paths = _leaves(directory) if everything else [_path_of(name, directory) for name in which]
    if not (directory / f"{CA}.key").exists():
        raise ConfigurationError(
            f"{directory / CA}.key: the CA's key is not here; make a request here (`sealwire certs request`), have it "
            "signed where the key is (`sealwire certs sign`), or leave it to whoever issued the certificate"
        )
    ca = load_ca(directory)
    done = 0
    for path in paths:
        old = _leaf(path)
        if within is not None and old.not_valid_after_utc - datetime.now(UTC) > timedelta(days=within):
            continue
        _renew(ca, path, old, keep_key=keep_key, days=days)
        done += 1
    if not done:
        click.echo("nothing to renew")


def _renew(ca: Issuer, path: Path, old: x509.Certificate, *, keep_key: bool, days: int) -> None:
    key_path = path.with_suffix(".key")
    for each in (path, key_path):
        if each.is_symlink():
            raise ConfigurationError(
                f"{each}: a symbolic link, which others put there; renew {os.path.realpath(each)}, or leave it to them"
            )
    key = _private_key(key_path, old) if keep_key else key_like(old.public_key())
    try:
        certificate = renewed(ca, old, key=key, days=days)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # What stood behind the old leaf were its issuer's intermediates; ours has none.
    files = [NewFile(path, certificate.public_bytes(Encoding.PEM), _mode(path, PUBLIC))]
    if not keep_key:
        files.insert(0, NewFile(key_path, pem, _mode(key_path, PRIVATE)))
    write(files, replace=True, remedy="")
    report_written(path, "the new certificate")
    describe(certificate)
    if old.issuer != certificate.issuer:
        issuers = old.issuer.rfc4514_string(), certificate.issuer.rfc4514_string()
        click.echo(f"The old one was from {printable(issuers[0])}, this one is from {printable(issuers[1])}.")


def _path_of(name: str, directory: Path) -> Path:
    path = Path(name)
    if path.suffix in (".pem", ".crt") or len(path.parts) > 1:
        return path
    return directory / f"{name}.pem"


def _leaves(directory: Path) -> list[Path]:
    return [
        path
        for path in sorted(directory.glob("*.pem"))
        if path.stem != CA and path.with_suffix(".key").exists() and not path.name.startswith(".")
    ]


def _leaf(path: Path) -> x509.Certificate:
    try:
        leaf = x509.load_pem_x509_certificates(read_file(path, most=_MAX_FILE).data)[0]
        is_ca = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{path}: no certificate in PEM form could be read") from None
    if is_ca:
        raise ConfigurationError(
            f"{path}: the certificate of a CA; make a new CA with `sealwire certs init --dir` elsewhere, and put both "
            "into one file with `sealwire certs bundle`"
        )
    return leaf


def _private_key(path: Path, leaf: x509.Certificate) -> PrivateKey:
    try:
        key = load_pem_private_key(read_file(path, most=_MAX_FILE).data, password=None)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{path}: no private key that is not encrypted could be read") from None
    if key.public_key() != leaf.public_key():
        raise ConfigurationError(f"{path}: the key of another certificate; renew without --keep-key")
    return key  # type: ignore[return-value]  # of other kinds there are no certificates for TLS


def _mode(path: Path, default: int) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return default


@certs.command()
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write, replacing it."
)
@click.option("--remove", metavar="FILE_OR_SHA256", multiple=True, help="Leave this one out.")
@click.option("--crl", "lists", is_flag=True, help="The files are revocation lists.")
def bundle(*, files: Sequence[Path], out: Path, remove: Sequence[str], lists: bool) -> None:
    """Put the certificates of several CAs into one file.

    That is how a CA is replaced: give everybody the old and the new one together, then new certificates, and in the end
    the new CA alone. With --crl the same for revocation lists.

    \b
    sealwire certs bundle certs/ca.pem new/ca.pem --out certs/ca.pem
    sealwire certs bundle certs/ca.pem --remove old-ca.pem --out certs/ca.pem
    """
    if not files:
        raise click.UsageError("say which files to put together")
    content = _bundled_lists(files) if lists else _bundled_anchors(files, remove)
    if out.is_symlink():
        raise ConfigurationError(f"{out}: a symbolic link, which others put there; write {os.path.realpath(out)}")
    write([NewFile(out, content, _mode(out, PUBLIC))], replace=True, remedy="")
    count = content.count(b"-----BEGIN ")
    report_written(out, f"{count} {'revocation lists' if lists else 'trust anchors'}")
    if not lists and count > 1:
        click.echo(
            "Next: bring it to every server and client; then renew their certificates; then leave the old CA out"
        )


def _bundled_anchors(files: Sequence[Path], remove: Sequence[str]) -> bytes:
    unwanted = {fingerprint for each in remove for fingerprint in _fingerprints(each)}
    found: dict[str, x509.Certificate] = {}
    for path in files:
        for certificate in _certificates(path):
            fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
            if fingerprint not in unwanted:
                _check_anchor(path, certificate)
                found[fingerprint] = certificate
    if not found:
        raise ConfigurationError("nothing is left, and a file without a trust anchor would let nobody in")
    return b"".join(each.public_bytes(Encoding.PEM) for each in found.values())


def _fingerprints(text: str) -> list[str]:
    plain = text.removeprefix("sha256:").replace(":", "").lower()
    if len(plain) == 64 and all(digit in "0123456789abcdef" for digit in plain):
        return [plain]
    return [each.fingerprint(hashes.SHA256()).hex() for each in _certificates(Path(text))]


def _certificates(path: Path) -> list[x509.Certificate]:
    data = read_file(path, most=_MAX_FILE).data
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise ConfigurationError(f"{path}: no certificate in PEM form could be read") from None


def _check_anchor(path: Path, certificate: x509.Certificate) -> None:
    name = certificate.subject.rfc4514_string()
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        is_ca = False
    if not is_ca:
        raise ConfigurationError(f"{path}: {printable(name)} is no CA's certificate; a leaf can vouch for nobody")
    if certificate.not_valid_after_utc < datetime.now(UTC):
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        raise ConfigurationError(f"{path}: {printable(name)} has expired; leave it out with --remove {fingerprint}")


def _bundled_lists(files: Sequence[Path]) -> bytes:
    found: dict[bytes, x509.CertificateRevocationList] = {}
    for path in files:
        data = read_file(path, most=_MAX_FILE).data
        try:
            lists = read_lists(data)
        except ValueError:
            lists = []
        if not lists:
            raise ConfigurationError(f"{path}: no revocation list in PEM form could be read")
        for crl in lists:
            known = found.get(crl.issuer.public_bytes())
            if known is None or known.last_update_utc <= crl.last_update_utc:
                found[crl.issuer.public_bytes()] = crl
    return pem_of(found.values())
