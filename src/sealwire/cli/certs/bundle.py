"""``sealwire certs bundle``: the certificates, or revocation lists, of several CAs in one file."""

from __future__ import annotations

import string
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire.cli.certs.common import certs, write
from sealwire.cli.console import print_line
from sealwire.cli.inventory import kind_of
from sealwire.cli.options import FILE
from sealwire.cli.pem_files import read_certificates, read_crls
from sealwire.cli.workdir import mode_of, refuse_link, report_written
from sealwire.errors import ConfigurationError
from sealwire.pki.files import PUBLIC, NewFile
from sealwire.pki.pem import to_pem
from sealwire.trust.revocation import deciding_lists


@certs.command()
@click.argument("files", metavar="FILE...", nargs=-1, type=FILE)
@click.option("-o", "--out", type=FILE, required=True, help="The file to write; an existing one is replaced.")
@click.option("--remove", metavar="FILE_OR_SHA256", multiple=True, help="Leave this certificate out.")
@click.option("--crl", "lists", is_flag=True, help="The files are revocation lists.")
def bundle(*, files: Sequence[Path], out: Path, remove: Sequence[str], lists: bool) -> None:
    """Put the certificates of several CAs into one file.

    This is how to replace a CA: give every server and client the old and the new one together, then new certificates,
    and in the end the new CA alone. With --crl it does the same for revocation lists.

    \b
    sealwire certs bundle certs/ca.pem new/ca.pem --out certs/ca.pem
    sealwire certs bundle certs/ca.pem --remove old-ca.pem --out certs/ca.pem
    """
    if not files:
        raise click.UsageError("name the files to put together")
    content = _bundle_crls(files) if lists else _bundle_anchors(files, remove)
    refuse_link(out)
    write([NewFile(out, content, mode_of(out, PUBLIC))])
    count = content.count(b"-----BEGIN ")
    report_written(out, f"{count} {'revocation lists' if lists else 'trust anchors'}")
    if not lists and count > 1:
        print_line(
            "Next: bring it to every server and client; then renew their certificates; then leave the old CA out"
        )


def _bundle_anchors(files: Sequence[Path], remove: Sequence[str]) -> bytes:
    unwanted = {fingerprint for text in remove for fingerprint in _fingerprints(text)}
    anchors: dict[str, x509.Certificate] = {}
    for path in files:
        for certificate in read_certificates(path):
            fingerprint = _fingerprint(certificate)
            if fingerprint not in unwanted:
                _check_anchor(path, certificate)
                anchors[fingerprint] = certificate
    if not anchors:
        raise ConfigurationError("no certificate is left, and a file without a trust anchor would let no peer in")
    return b"".join(anchor.public_bytes(Encoding.PEM) for anchor in anchors.values())


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _fingerprints(text: str) -> list[str]:
    digits = text.removeprefix("sha256:").replace(":", "").lower()
    if len(digits) == 64 and set(digits) <= set(string.hexdigits):
        return [digits]
    return [_fingerprint(certificate) for certificate in read_certificates(Path(text))]


def _check_anchor(path: Path, certificate: x509.Certificate) -> None:
    name = certificate.subject.rfc4514_string()
    if kind_of(certificate) != "CA":
        raise ConfigurationError(f"{path}: {name} is not the certificate of a CA; a leaf cannot be a trust anchor")
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise ConfigurationError(f"{path}: {name} has expired; leave it out with --remove {_fingerprint(certificate)}")


def _bundle_crls(files: Sequence[Path]) -> bytes:
    """Join revocation lists, of each issuer the newest."""
    found: list[x509.CertificateRevocationList] = []
    for path in files:
        lists = read_crls(path)
        found += deciding_lists(lists, (), str(path), in_service=lists)
    return to_pem(deciding_lists(found, (), ", ".join(map(str, files)), in_service=found))
