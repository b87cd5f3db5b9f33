"""``sealwire certs renew``: new certificates for old ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sealwire.cli.certs.common import (
    CA,
    certificate_path,
    certs,
    directory_option,
    leaf_days_option,
    load_ca,
    print_certificate,
    write,
)
from sealwire.cli.console import print_line
from sealwire.cli.inventory import kind_of
from sealwire.cli.lifetimes import days_left
from sealwire.cli.pem_files import UNREADABLE, read_certificates, read_private_key
from sealwire.cli.workdir import mode_of, refuse_link, report_written
from sealwire.errors import ConfigurationError
from sealwire.pki.authority import Issuer, PrivateKey
from sealwire.pki.csr import key_like
from sealwire.pki.csr import renew as renew_certificate
from sealwire.pki.files import PRIVATE, PUBLIC, NewFile


@certs.command()
@click.argument("which", metavar="STEM_OR_FILE...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every leaf of the directory that has its key beside it.")
@click.option("--within", type=click.IntRange(0, 3650), metavar="DAYS", help="Only those that expire in fewer days.")
@click.option("--keep-key", is_flag=True, help="Certify the old key again, instead of a new one.")
@leaf_days_option
@directory_option
def renew(
    *, which: Sequence[str], everything: bool, within: int | None, keep_key: bool, days: int, directory: Path
) -> None:
    """Replace certificates by new ones.

    A new certificate has the same names and uses, and a new key of the same kind. Key and certificate are complete
    before they replace the old ones; modes are kept, and so are the old files, under other names. A running server or
    client notices.

    \b
    sealwire certs renew server
    sealwire certs renew --all --within 14
    """
    if bool(which) is everything:
        raise click.UsageError("name the certificates to renew, or give --all")
    paths = _leaves_in(directory) if everything else [certificate_path(name, directory) for name in which]
    if not (directory / f"{CA}.key").exists():
        raise ConfigurationError(
            f"{directory / CA}.key: the CA's key is not here; make a request here (`sealwire certs request`) and have "
            "it signed where the key is (`sealwire certs sign`), or leave renewal to the CA that issued the certificate"
        )
    ca = load_ca(directory)
    leaves = {path: _read_leaf(path) for path in paths}
    due = {
        path: leaf
        for path, leaf in leaves.items()
        if within is None or (days_left(leaf.not_valid_after_utc) or 0) < within
    }
    for path, leaf in due.items():
        _renew(ca, path, leaf, keep_key=keep_key, days=days)
    if not due:
        print_line("nothing to renew")


def _renew(ca: Issuer, path: Path, old: x509.Certificate, *, keep_key: bool, days: int) -> None:
    key_path = path.with_suffix(".key")
    refuse_link(path)
    refuse_link(key_path)
    key = _old_key(key_path, old) if keep_key else key_like(old.public_key())
    try:
        certificate = renew_certificate(ca, old, key=key, days=days)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # Intermediates behind the old leaf were its issuer's; this CA has none.
    files = [NewFile(path, certificate.public_bytes(Encoding.PEM), mode_of(path, PUBLIC))]
    if not keep_key:
        files.insert(0, NewFile(key_path, pem, mode_of(key_path, PRIVATE)))
    write(files)
    report_written(path, "the new certificate")
    print_certificate(certificate)
    if old.issuer != certificate.issuer:
        issuers = old.issuer.rfc4514_string(), certificate.issuer.rfc4514_string()
        print_line(f"The old one was from {issuers[0]}, this one is from {issuers[1]}.")


def _leaves_in(directory: Path) -> list[Path]:
    return [
        path
        for path in sorted(directory.glob("*.pem"))
        if path.stem != CA and path.with_suffix(".key").exists() and not path.name.startswith(".")
    ]


def _read_leaf(path: Path) -> x509.Certificate:
    leaf = read_certificates(path)[0]
    try:
        leaf.extensions  # noqa: B018 - read here, where the file can be named
    except UNREADABLE:
        raise ConfigurationError(f"{path}: has names or extensions that cannot be read") from None
    if kind_of(leaf) == "CA":
        raise ConfigurationError(
            f"{path}: the certificate of a CA; make a new CA with `sealwire certs init --dir` elsewhere, and put both "
            "into one file with `sealwire certs bundle`"
        )
    return leaf


def _old_key(path: Path, leaf: x509.Certificate) -> PrivateKey:
    key = read_private_key(path)
    if key.public_key() != leaf.public_key():
        raise ConfigurationError(f"{path}: the key of another certificate; renew without --keep-key")
    return key
