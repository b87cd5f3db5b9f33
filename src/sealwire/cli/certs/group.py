"""What the commands of ``sealwire certs`` share."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sealwire.cli.console import print_fields, printable
from sealwire.cli.directory import DEFAULT, report_kept
from sealwire.cli.inventory import names_of
from sealwire.errors import ConfigurationError
from sealwire.tls.files import NewFile, write_files
from sealwire.tls.issue import Issuer, KeyType

CA = "ca"

directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT,
    show_default=True,
    help="Where certificates and keys are.",
)
key_type_option = click.option(
    "--key-type", type=click.Choice(get_args(KeyType)), default="p256", show_default=True, help="Kind of the new key."
)
force_option = click.option("--force", is_flag=True, help="Replace files of these names.")


def days_option(default: int, most: int) -> Callable[[Any], Any]:
    return click.option(
        "--days", type=click.IntRange(1, most), default=default, show_default=True, help="Days until it expires."
    )


@click.group()
def certs() -> None:
    """Issue, renew, revoke and look at certificates."""


def load_ca(directory: Path) -> Issuer:
    """The directory's CA. Raises ConfigurationError."""
    cert, key = directory / "ca.pem", directory / "ca.key"
    for path in (cert, key):
        if not path.is_file():
            raise ConfigurationError(f"{path}: not there; make a CA with `{command_text('certs', 'init', directory)}`")
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & 0o077:
        raise ConfigurationError(
            f"{key}: mode {mode:04o} lets others at the CA's key; run `chmod 600 {shlex.quote(str(key))}` and, "
            "if anybody could have read it, make a new CA"
        )
    try:
        return Issuer.from_pem(cert.read_bytes(), key.read_bytes())
    except ConfigurationError as error:
        raise ConfigurationError(f"{cert} and {key.name}: {error}") from None


def write(files: Iterable[NewFile], *, replace: bool, remedy: str) -> None:
    """Write files, all or none; those that are replaced are kept under other names."""
    try:
        report_kept(write_files(files, replace=replace, keep=True))
    except FileExistsError as error:
        raise ConfigurationError(f"{error.filename}: already there, so nothing was written; {remedy}") from None


def check_stem(stem: str) -> str:
    """A name for a certificate and its key. Raises click.BadParameter."""
    if not re.fullmatch(r"\w[\w.-]*", stem, re.ASCII) or stem.lower() == CA:
        raise click.BadParameter("a file name of letters, digits, '.', '_' and '-', other than 'ca'", param_hint="--as")
    return stem


def describe(certificate: x509.Certificate) -> None:
    """Print what it says."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    names = names_of(certificate)
    print_fields(
        [
            ("subject", certificate.subject.rfc4514_string()),
            *([("names", ", ".join(names))] if names else []),
            ("serial", f"{certificate.serial_number:x}"),
            ("expires", f"{end:%Y-%m-%d %H:%M} UTC, {round((end - start).total_seconds() / 86400)} days"),
            ("fingerprint", f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"),
        ]
    )


def command_text(group: str, command: str, directory: Path) -> str:
    """What to type next, with the directory if it is not the usual one."""
    where = "" if directory == DEFAULT else f" --dir {shlex.quote(str(directory))}"
    return printable(f"sealwire {group} {command}{where}")


def short(text: str) -> str:
    return text if len(text) <= 16 else f"{text[:16]}…"
