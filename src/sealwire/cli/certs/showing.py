"""``sealwire certs show`` and ``expiring``: what is in a file, and what will soon be of no use."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sealwire.cli.certs.group import certs, directory_option
from sealwire.cli.console import print_fields, print_json, print_table, printable
from sealwire.cli.inventory import Row, inventory, kind_of, names_of, rows_of
from sealwire.errors import ConfigurationError
from sealwire.rotation import read_file
from sealwire.tls.revocation import number_of, read_lists

_MAX_FILE = 4 << 20
_MAX_ENTRIES = 20
_UNREADABLE = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm)


@certs.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def show(*, file: Path, as_json: bool) -> None:
    """Show what a PEM file holds.

    Certificates, a request, revocation lists, whether a key fits. `-` reads the standard input. Nothing secret is
    shown.

    \b
    sealwire certs show certs/server.pem
    """
    data = sys.stdin.buffer.read(_MAX_FILE) if str(file) == "-" else read_file(file, most=_MAX_FILE).data
    parts = list(_parts(data, file))
    if not parts:
        raise ConfigurationError(f"{file}: nothing in PEM form (-----BEGIN …) could be read")
    if as_json:
        print_json(parts)
        return
    for part in parts:
        click.echo(part["what"])
        print_fields(
            (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else value)
            for name, value in part.items()
            if name != "what" and value not in (None, "", [])
        )


def _parts(data: bytes, file: Path) -> Iterator[dict[str, Any]]:
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            yield from map(_certificate, x509.load_pem_x509_certificates(data))
        if b"-----BEGIN CERTIFICATE REQUEST-----" in data or b"-----BEGIN NEW CERTIFICATE REQUEST-----" in data:
            yield _request(x509.load_pem_x509_csr(data))
        if b"-----BEGIN X509 CRL-----" in data:
            yield from map(_list, read_lists(data))
    except _UNREADABLE:
        raise ConfigurationError(f"{file}: broken, so that it cannot be read") from None
    if b"PRIVATE KEY-----" in data:
        yield _private_key(data, file)


def _certificate(certificate: x509.Certificate) -> dict[str, Any]:
    end = certificate.not_valid_after_utc
    return {
        "what": f"certificate ({kind_of(certificate)})",
        "subject": certificate.subject.rfc4514_string(),
        "names": list(names_of(certificate)),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": end.isoformat(),
        "days_left": (end - datetime.now(UTC)).days,
        "key": _describe_key(certificate.public_key()),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _request(asked: x509.CertificateSigningRequest) -> dict[str, Any]:
    return {
        "what": "certificate signing request",
        "subject": asked.subject.rfc4514_string(),
        "names": list(names_of(asked)),
        "key": _describe_key(asked.public_key()),
        "signature": "good: whoever made it holds the key" if asked.is_signature_valid else "BAD",
    }


def _list(crl: x509.CertificateRevocationList) -> dict[str, Any]:
    entries = [f"{each.serial_number:x} ({each.revocation_date_utc:%Y-%m-%d})" for each in crl]
    more = [f"and {len(entries) - _MAX_ENTRIES} more"] if len(entries) > _MAX_ENTRIES else []
    return {
        "what": "revocation list",
        "issuer": crl.issuer.rfc4514_string(),
        "number": number_of(crl),
        "last_update": crl.last_update_utc.isoformat(),
        "next_update": None if crl.next_update_utc is None else crl.next_update_utc.isoformat(),
        "days_left": None if crl.next_update_utc is None else (crl.next_update_utc - datetime.now(UTC)).days,
        "revoked": entries[:_MAX_ENTRIES] + more,
    }


def _private_key(data: bytes, file: Path) -> dict[str, Any]:
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        return {"what": "private key, encrypted"}
    except (ValueError, UnsupportedAlgorithm):
        return {"what": "private key that cannot be read"}
    fits = ""
    beside = file.with_suffix(".pem")
    if str(file) != "-" and beside != file and beside.is_file():
        try:
            other = x509.load_pem_x509_certificates(read_file(beside, most=_MAX_FILE).data)[0].public_key()
            fits = f"{'that of' if other == key.public_key() else 'NOT that of'} {beside}"
        except _UNREADABLE:
            fits = f"{beside} cannot be read"
    return {"what": "private key", "key": _describe_key(key.public_key()), "it_is": fits}


def _describe_key(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC, {key.curve.name}"
    return type(key).__name__.lstrip("_").removesuffix("PublicKey")


@dataclass(frozen=True)
class Expiry:
    """When one thing of a file is of no use any more. not_after: None for a file that cannot be read."""

    file: str
    what: str
    not_after: datetime | None

    @property
    def days_left(self) -> int | None:
        """Whole days; negative when it is over."""
        return None if self.not_after is None else (self.not_after - datetime.now(UTC)).days


@certs.command()
@click.argument("files", metavar="[FILE...]", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--within", type=click.IntRange(0, 3650), default=14, show_default=True, metavar="DAYS", help="How soon is soon."
)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@directory_option
def expiring(*, files: Sequence[Path], within: int, as_json: bool, directory: Path) -> None:
    """List what expires soon.

    Certificates and revocation lists, of the directory, or of the files that are given. The exit status is 0 if
    nothing does, 1 if something expires
    within --within days, and 2 if something has expired or cannot be read.

    \b
    sealwire certs expiring --within 14
    """
    found = [each for path in files for each in _of_file(path)] if files else list(_of_directory(directory))
    now = datetime.now(UTC)
    soon = [each for each in found if each.days_left is None or each.days_left < within]
    if as_json:
        print_json(
            [
                {
                    "file": each.file,
                    "what": each.what,
                    "not_after": None if each.not_after is None else each.not_after.isoformat(),
                    "days_left": each.days_left,
                }
                for each in soon
            ]
        )
    elif not soon:
        click.echo(f"nothing expires within {within} days, of {len(found)} looked at")
    else:
        print_table(
            ("file", "what", "expires", "days left"),
            (
                (
                    each.file,
                    each.what,
                    "" if each.not_after is None else f"{each.not_after:%Y-%m-%d %H:%M} UTC",
                    _left(each),
                )
                for each in sorted(soon, key=lambda each: each.not_after or now)
            ),
        )
    if soon:
        over = any(each.not_after is None or each.not_after < now for each in soon)
        raise click.exceptions.Exit(2 if over else 1)


def _left(each: Expiry) -> object:
    return "" if each.days_left is None else each.days_left


def _of_directory(directory: Path) -> Iterator[Expiry]:
    if not directory.is_dir():
        raise ConfigurationError(f"{directory}: no such directory")
    crl = directory / "crl.pem"
    yield from (_expiry(row) for row in inventory(directory) if row.file != crl.name)
    if crl.exists():
        yield from _of_file(crl)


def _of_file(path: Path) -> Iterator[Expiry]:
    data = read_file(path, most=_MAX_FILE).data
    if b"-----BEGIN X509 CRL-----" not in data:
        yield from (_expiry(row) for row in rows_of(path))
        return
    try:
        lists = read_lists(data)
    except ValueError:
        yield Expiry(printable(path), "broken", None)
        return
    for each in lists:
        if each.next_update_utc is not None:
            yield Expiry(printable(path), f"revocation list of {each.issuer.rfc4514_string()}", each.next_update_utc)


def _expiry(row: Row) -> Expiry:
    return Expiry(row.file, f"{row.kind} {', '.join(row.names)}".strip() or row.state, row.not_after)
