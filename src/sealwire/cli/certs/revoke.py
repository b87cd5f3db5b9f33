"""``sealwire certs revoke`` and ``crl``: certificates that are refused before they expire."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import click
from cryptography import x509

from sealwire.cli.certs.common import certificate_path, certs, days_option, directory_option, load_ca, write
from sealwire.cli.console import print_line
from sealwire.cli.inventory import inventory, is_issued_by
from sealwire.cli.pem_files import read_certificates, read_crls
from sealwire.cli.workdir import mode_of, refuse_link, report_written
from sealwire.errors import ConfigurationError
from sealwire.pki.authority import Issuer
from sealwire.pki.crl import DEFAULT_CRL_DAYS, MAX_CRL_DAYS, REASONS, newer, number_of, reissue
from sealwire.pki.files import PUBLIC, NewFile, locked
from sealwire.pki.pem import to_pem
from sealwire.trust.revocation import canonical_name

_crl_days_option = days_option(DEFAULT_CRL_DAYS, MAX_CRL_DAYS)


@certs.command()
@click.argument("which", metavar="STEM_OR_FILE_OR_NAME_OR_SERIAL...", nargs=-1, required=True)
@click.option("--reason", type=click.Choice(list(REASONS)), help="Reason to put on the list.")
@click.option("--unlisted", is_flag=True, help="Take serial numbers of certificates that are not in the directory.")
@_crl_days_option
@directory_option
def revoke(*, which: Sequence[str], reason: str | None, unlisted: bool, days: int, directory: Path) -> None:
    """Revoke certificates.

    They go on the CA's revocation list, crl.pem, which is made if there is none. Bring it to every server and client
    with crl in its configuration: they refuse new connections with these certificates, and close open ones. A name like
    dns:client.example stands for every certificate in the directory that has it. A serial number is given in
    hexadecimal, as `sealwire certs list --wide` shows it.

    \b
    sealwire certs revoke client --reason keyCompromise
    """
    ca = load_ca(directory)
    serials = [serial for name in which for serial in _serials(name, directory, ca, unlisted=unlisted)]
    _write_crl(ca, directory, serials, REASONS[reason] if reason else None, days)


@certs.command()
@_crl_days_option
@directory_option
def crl(*, days: int, directory: Path) -> None:
    """Write the revocation list anew.

    The list expires, and a server or client with an expired list refuses every peer. Run this well before, from cron
    or a timer, and bring the file to every server and client with crl in its configuration.

    \b
    sealwire certs crl --days 7
    """
    _write_crl(load_ca(directory), directory, [], None, days)


def _write_crl(ca: Issuer, directory: Path, serials: Sequence[int], reason: x509.ReasonFlags | None, days: int) -> None:
    path = directory / "crl.pem"
    refuse_link(path)
    with locked(path):
        # A bundle may hold lists of other CAs, which stay as they are.
        present = read_crls(path) if path.exists() else []
        issuer = canonical_name(ca.certificate.subject)
        own = [crl for crl in present if canonical_name(crl.issuer) == issuer]
        last = reduce(newer, own) if own else None
        try:
            new = reissue(ca, last, serials=serials, reason=reason, days=days)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from None
        write([NewFile(path, to_pem([new, *(crl for crl in present if crl not in own)]), mode_of(path, PUBLIC))])
    report_written(
        path, f"revocation list number {number_of(new)}, {len(list(new))} revoked, until {new.next_update_utc:%Y-%m-%d}"
    )
    print_line(f"Next: bring {path} to every server and client with crl in its configuration")


def _serials(name: str, directory: Path, ca: Issuer, *, unlisted: bool) -> list[int]:
    path = certificate_path(name, directory)
    number = int(name, 16) if re.fullmatch("(0x)?[0-9a-fA-F]{1,40}", name) else 0
    if path.exists():
        return [_serial_in(path, directory, ca)]
    listed = [row for row in inventory(directory) if row.kind not in ("", "CA", "revocation list")]
    found = [row for row in listed if number == int(row.serial, 16) or name in (*row.names, *map(_bare, row.names))]
    if not found and number and unlisted:
        return [number]
    if not found:
        raise ConfigurationError(
            f"{name!r} is no certificate's file, name or serial number in {directory}; see `sealwire certs list --wide`"
            + (" (--unlisted revokes a serial number that is not there)" if number else "")
        )
    return [_serial_in(directory / row.file, directory, ca) for row in found]


def _bare(name: str) -> str:
    """Return a name in a certificate without its kind: ``client.example`` of ``dns:client.example``."""
    return name.partition(":")[2]


def _serial_in(path: Path, directory: Path, ca: Issuer) -> int:
    certificate = read_certificates(path)[0]
    if not is_issued_by(certificate, ca.certificate):
        raise ConfigurationError(
            f"{path}: not issued by the CA in {directory / 'ca.pem'}; only the CA that issued it can revoke it"
        )
    if certificate.serial_number == ca.certificate.serial_number:
        raise ConfigurationError(f"{path}: the CA itself; take it out of the trust anchors of every peer instead")
    return certificate.serial_number
