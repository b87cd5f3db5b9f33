"""``sealwire certs revoke`` and ``crl``: certificates that count no more before they expire."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import click
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from sealwire.cli.certs.group import certs, days_option, directory_option, load_ca, write
from sealwire.cli.console import printable
from sealwire.cli.directory import report_written
from sealwire.errors import ConfigurationError
from sealwire.rotation import read_file
from sealwire.tls.files import PUBLIC, NewFile, locked
from sealwire.tls.issue import Issuer
from sealwire.tls.revocation import (
    DEFAULT_CRL_DAYS,
    MAX_CRL_DAYS,
    REASONS,
    number_of,
    pem_of,
    read_lists,
    reissue,
)

_MAX_FILE = 4 << 20


@certs.command()
@click.argument("which", metavar="STEM_OR_FILE_OR_SERIAL...", nargs=-1, required=True)
@click.option("--reason", type=click.Choice(list(REASONS)), help="Why, for whoever looks.")
@days_option(DEFAULT_CRL_DAYS, MAX_CRL_DAYS)
@directory_option
def revoke(*, which: Sequence[str], reason: str | None, days: int, directory: Path) -> None:
    """Revoke certificates.

    They go on the CA's revocation list, crl.pem, which is made if there is none. Bring it to whoever has crl in his
    configuration: new connections
    with these certificates are refused, and those that are open are closed. A serial number is given in hexadecimal, as
    `sealwire certs list --wide` shows it.

    \b
    sealwire certs revoke client --reason keyCompromise
    """
    ca = load_ca(directory)
    serials = [_serial(each, directory, ca) for each in which]
    _write_list(ca, directory, serials, REASONS[reason] if reason else None, days)


@certs.command()
@days_option(DEFAULT_CRL_DAYS, MAX_CRL_DAYS)
@directory_option
def crl(*, days: int, directory: Path) -> None:
    """Write the revocation list anew.

    The list expires. While it has, whoever has it in his configuration refuses everybody. So do this well before,
    from cron or a
    timer, and bring the file to them.

    \b
    sealwire certs crl --days 7
    """
    _write_list(load_ca(directory), directory, [], None, days)


def _write_list(
    ca: Issuer, directory: Path, serials: Sequence[int], reason: x509.ReasonFlags | None, days: int
) -> None:
    path = directory / "crl.pem"
    if path.is_symlink():
        raise ConfigurationError(
            f"{path}: a symbolic link, which others put there; work where {os.path.realpath(path)} is"
        )
    with locked(path):
        present = _present(path)
        own = next((each for each in present if each.issuer == ca.certificate.subject), None)
        try:
            made = reissue(ca, own, serials=serials, reason=reason, days=days)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from None
        others = [each for each in present if each is not own]
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else PUBLIC
        write([NewFile(path, pem_of([made, *others]), mode)], replace=True, remedy="")
    count = len(list(made))
    report_written(
        path, f"revocation list number {number_of(made)}, {count} revoked, until {made.next_update_utc:%Y-%m-%d}"
    )
    click.echo(f"Next: bring {printable(path)} to every server and client that has crl in its configuration")


def _present(path: Path) -> list[x509.CertificateRevocationList]:
    if not path.exists():
        return []
    try:
        lists = read_lists(read_file(path, most=_MAX_FILE).data)
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        lists = []
    if not lists:
        raise ConfigurationError(
            f"{path}: no revocation list in PEM form could be read; move it away to begin a new one"
        )
    return lists


def _serial(text: str, directory: Path, ca: Issuer) -> int:
    path = Path(text)
    if path.suffix not in (".pem", ".crt") and len(path.parts) == 1:
        path = directory / f"{text}.pem"
        if not path.exists() and re.fullmatch("(0x)?[0-9a-fA-F]{2,40}", text):
            return int(text, 16)
    try:
        certificate = x509.load_pem_x509_certificates(read_file(path, most=_MAX_FILE).data)[0]
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{path}: no certificate in PEM form could be read") from None
    try:
        certificate.verify_directly_issued_by(ca.certificate)
    except (ValueError, TypeError, InvalidSignature):
        raise ConfigurationError(
            f"{path}: not issued by the CA in {directory / 'ca.pem'}, which cannot revoke it; its own CA has to"
        ) from None
    if certificate.serial_number == ca.certificate.serial_number:
        raise ConfigurationError(f"{path}: the CA itself; take it out of everybody's trust anchors instead")
    return certificate.serial_number
