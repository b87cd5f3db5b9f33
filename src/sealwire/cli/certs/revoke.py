"""``sealwire certs revoke`` and ``crl``: certificates that are refused before they expire."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path

import click
from cryptography import x509

from sealwire.cli.certs.common import (
    certificate_path,
    certs,
    certs_command,
    days_option,
    directory_option,
    load_ca,
    write,
)
from sealwire.cli.console import print_line
from sealwire.cli.inventory import Row, inventory, is_issued_by, names_of, rows_of
from sealwire.cli.lifetimes import life_of, warning_from
from sealwire.cli.pem_files import read_certificates, read_crls
from sealwire.cli.workdir import mode_of, refuse_link, report_written
from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.pki.authority import Issuer
from sealwire.pki.crl import DEFAULT_CRL_DAYS, MAX_CRL_DAYS, REASONS, newer, number_of, reissue
from sealwire.pki.files import PUBLIC, NewFile, kept_copies, locked
from sealwire.pki.pem import to_pem
from sealwire.trust.revocation import canonical_name

_crl_days_option = days_option(DEFAULT_CRL_DAYS, MAX_CRL_DAYS)


@certs.command()
@click.argument("which", metavar="STEM_OR_FILE_OR_NAME_OR_SERIAL...", nargs=-1, required=True)
@click.option("--reason", type=click.Choice(list(REASONS)), help="Reason to put on the list.")
@click.option(
    "--unlisted",
    is_flag=True,
    allow_from_autoenv=False,
    help="Take serial numbers of certificates that are not in the directory.",
)
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
    chosen = {serial: what for name in which for serial, what in _find(name, directory, ca, unlisted=unlisted)}
    before = write_crl(ca, directory, list(chosen), REASONS[reason] if reason else None, days)
    for serial, what in chosen.items():
        print_line(f"{'already revoked' if serial in before else 'revoked'}: {what}")


@certs.command()
@_crl_days_option
@directory_option
def crl(*, days: int, directory: Path) -> None:
    """Write the next revocation list.

    The list expires, and a server or client with an expired list refuses every peer. Run this well before, from cron
    or a timer, and bring the file to every server and client with crl in its configuration.

    \b
    sealwire certs crl --days 7
    """
    write_crl(load_ca(directory), directory, [], None, days)


def write_crl(
    ca: Issuer, directory: Path, serials: Sequence[int], reason: x509.ReasonFlags | None, days: int
) -> frozenset[int]:
    """Write the next list, and return the serial numbers that were on the last one."""
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
    start, end = life_of(new)
    report_written(path, f"revocation list number {number_of(new)}, {len(list(new))} revoked, until {moment_text(end)}")
    print_line(f"Next: bring {path} to every server and client with crl in its configuration")
    if end is not None:
        print_line(f"      and write the next one before {moment_text(warning_from(start, end))}: then warnings begin")
    return frozenset(entry.serial_number for entry in last or ())


def _find(name: str, directory: Path, ca: Issuer, *, unlisted: bool) -> list[tuple[int, str]]:
    """Return the serial numbers that a name stands for, and each certificate in words."""
    path = certificate_path(name, directory)
    number = int(name, 16) if re.fullmatch("(0x)?[0-9a-fA-F]{1,40}", name) else 0
    if path.exists():
        return [_certificate_in(path, directory, ca)]
    # A certificate that was replaced is valid until its end, and any holder of its key can use it.
    rows = [*inventory(directory), *_kept_rows(directory, ca)]
    listed = [row for row in rows if row.kind not in ("", "CA", "revocation list")]
    found = [row for row in listed if number == int(row.serial, 16) or name in (*row.names, *map(_bare, row.names))]
    if not found and number and unlisted:
        return [(number, f"serial {number:x}, of which there is no certificate here")]
    if not found:
        raise ConfigurationError(
            f"{name!r} is not a certificate's file, name or serial number in {directory}; see "
            f"{certs_command(directory, 'list', '--wide')}"
            + (" (--unlisted revokes a serial number that is not there)" if number else "")
        )
    return [_certificate_in(directory / Path(row.file).name, directory, ca) for row in found]


def _kept_rows(directory: Path, ca: Issuer) -> Iterator[Row]:
    """Yield the certificates of this CA that were replaced and have not expired."""
    for path in kept_copies(directory):
        with suppress(ConfigurationError):  # a key or keyring
            if is_issued_by(read_certificates(path)[0], ca.certificate):
                yield from (row for row in rows_of(path) if row.lifetime.severity(0) is None)


def _bare(name: str) -> str:
    """Return a name in a certificate without its kind: ``client.example`` of ``dns:client.example``."""
    return name.partition(":")[2]


def _certificate_in(path: Path, directory: Path, ca: Issuer) -> tuple[int, str]:
    certificate = read_certificates(path)[0]
    if not is_issued_by(certificate, ca.certificate):
        raise ConfigurationError(
            f"{path}: not issued by the CA in {directory / 'ca.pem'}; only the CA that issued it can revoke it"
        )
    if certificate.serial_number == ca.certificate.serial_number:
        raise ConfigurationError(f"{path}: the CA itself; take it out of the trust anchors of every peer instead")
    names = ", ".join(names_of(certificate)) or certificate.subject.rfc4514_string()
    return certificate.serial_number, f"{names}, serial {certificate.serial_number:x} ({path})"
