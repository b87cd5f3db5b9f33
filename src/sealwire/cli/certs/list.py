"""``sealwire certs list``, ``show`` and ``expiring``: the content of a directory or file, and when it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sealwire.cli.certs.common import certs, certs_command, directory_option
from sealwire.cli.console import print_fields, print_json, print_line, print_table
from sealwire.cli.exit_statuses import unknown_if_it_fails
from sealwire.cli.inventory import Row, inventory, kind_of, names_of, rows_of
from sealwire.cli.lifetimes import days_left, iso
from sealwire.cli.options import FILE, FILE_OR_DASH, STDIN, json_option, quiet_option, soon_option
from sealwire.cli.pem_files import CERTIFICATE, CRL, MAX_FILE, UNREADABLE, read_certificates, read_pem
from sealwire.cli.report import exit_for
from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.pki import pem
from sealwire.pki.crl import number_of

_REQUESTS: Final = (b"-----BEGIN CERTIFICATE REQUEST-----", b"-----BEGIN NEW CERTIFICATE REQUEST-----")
_MAX_ENTRIES: Final = 20
"""Entries of a revocation list that are shown."""


def _rows_in(directory: Path) -> list[Row]:
    if not directory.is_dir():
        raise ConfigurationError(f"{directory}: no such directory; make a CA with {certs_command(directory, 'init')}")
    return inventory(directory)


@certs.command("list")
@click.option("--wide", is_flag=True, help="Print serial numbers and fingerprints, too.")
@json_option
@directory_option
def list_(*, wide: bool, as_json: bool, directory: Path) -> None:
    """List certificates and the state of their keys."""
    rows = _rows_in(directory)

    if as_json:
        print_json([row.as_json() for row in rows])
    elif not rows:
        print_line(f"no certificates in {directory}", err=True)
    else:
        print_table(
            ("file", "kind", "names", "expires", "days left", "key", "state", *(("serial", "sha256") if wide else ())),
            (
                (
                    row.file,
                    row.kind,
                    ", ".join(row.names),
                    None if row.not_after is None else f"{row.not_after:%Y-%m-%d}",
                    row.days_left,
                    row.key,
                    row.state,
                    *((row.serial, row.sha256) if wide else ()),
                )
                for row in rows
            ),
        )


@certs.command()
@click.argument("file", type=FILE_OR_DASH)
@json_option
def show(*, file: Path, as_json: bool) -> None:
    """Show the content of a PEM file.

    It shows certificates, requests, revocation lists, and whether a key is that of the certificate beside it; never
    anything secret. A dash reads standard input.

    \b
    sealwire certs show certs/server.pem
    """
    data = sys.stdin.buffer.read(MAX_FILE) if file == STDIN else read_pem(file)
    parts = list(_parts(data, file))
    if not parts:
        raise ConfigurationError(f"{file}: nothing in PEM form (-----BEGIN …) could be read")
    if as_json:
        print_json(parts)
        return
    for part in parts:
        print_line(part["what"])
        print_fields(
            (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else value)
            for name, value in part.items()
            if name != "what" and value not in (None, "", [])
        )


def _parts(data: bytes, file: Path) -> Iterator[dict[str, Any]]:
    try:
        if CERTIFICATE in data:
            yield from map(_certificate, pem.read_certificates(data, str(file)))
        if any(begin in data for begin in _REQUESTS):
            yield _request(x509.load_pem_x509_csr(data))
        if CRL in data:
            yield from map(_crl, pem.read_crls(data, str(file)))
    except ConfigurationError:
        raise
    except UNREADABLE:
        raise ConfigurationError(f"{file}: has names or extensions that cannot be read") from None
    if b"PRIVATE KEY-----" in data:
        yield _private_key(data, file)


def _certificate(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "what": f"certificate ({kind_of(certificate)})",
        "subject": certificate.subject.rfc4514_string(),
        "names": [*names_of(certificate)],
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": iso(certificate.not_valid_before_utc),
        "not_after": iso(certificate.not_valid_after_utc),
        "days_left": days_left(certificate.not_valid_after_utc),
        "key": _key_text(certificate.public_key()),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _request(request: x509.CertificateSigningRequest) -> dict[str, Any]:
    return {
        "what": "certificate signing request",
        "subject": request.subject.rfc4514_string(),
        "names": [*names_of(request)],
        "key": _key_text(request.public_key()),
        "signature": "good: made with the private key" if request.is_signature_valid else "BAD",
    }


def _crl(crl: x509.CertificateRevocationList) -> dict[str, Any]:
    entries = [f"{entry.serial_number:x} ({entry.revocation_date_utc:%Y-%m-%d})" for entry in crl]
    more = [f"and {len(entries) - _MAX_ENTRIES} more"] if len(entries) > _MAX_ENTRIES else []
    return {
        "what": "revocation list",
        "issuer": crl.issuer.rfc4514_string(),
        "number": number_of(crl),
        "last_update": iso(crl.last_update_utc),
        "next_update": iso(crl.next_update_utc),
        "days_left": days_left(crl.next_update_utc),
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
    if file not in (STDIN, beside) and beside.is_file():
        try:
            other = read_certificates(beside)[0].public_key()
            fits = f"{'that of' if other == key.public_key() else 'NOT that of'} {beside}"
        except UNREADABLE:
            fits = f"{beside} cannot be read"
    return {"what": "private key", "key": _key_text(key.public_key()), "it_is": fits}


def _key_text(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC, {key.curve.name}"
    return type(key).__name__.lstrip("_").removesuffix("PublicKey")


@certs.command()
@click.argument("files", metavar="[FILE...]", nargs=-1, type=FILE)
@soon_option("--within")
@json_option
@directory_option
@quiet_option
@unknown_if_it_fails
def expiring(*, files: Sequence[Path], days: int | None, as_json: bool, directory: Path) -> None:
    """List certificates and revocation lists that expire soon.

    It checks the directory, or the files that are given.

    Exit status: 0 if nothing expires, 1 if something expires soon (--within), 2 if something has expired
    or cannot be read, 3 if it could not check.

    \b
    sealwire certs expiring --within 14
    """
    rows = [row for path in files for row in rows_of(path)] if files else _rows_in(directory)
    lifetimes = [row.lifetime for row in rows]
    severities = {lifetime: severity for lifetime in lifetimes if (severity := lifetime.severity(days)) is not None}
    if as_json:
        print_json(
            [
                {
                    "file": lifetime.file,
                    "what": lifetime.name,
                    "not_after": iso(lifetime.not_after),
                    "days_left": days_left(lifetime.not_after),
                }
                for lifetime in severities
            ]
        )
    elif not severities:
        print_line(f"nothing expires {'soon' if days is None else f'within {days} days'} ({len(lifetimes)} checked)")
    else:
        print_table(
            ("file", "what", "expires", "days left"),
            (
                (lifetime.file, lifetime.name, moment_text(lifetime.not_after, none=""), days_left(lifetime.not_after))
                for lifetime in sorted(severities, key=lambda lifetime: days_left(lifetime.not_after) or 0)
            ),
        )
    exit_for([*severities.values()])
