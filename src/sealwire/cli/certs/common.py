"""Options and helpers of the commands of ``sealwire certs``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, get_args

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sealwire.cli.console import print_fields
from sealwire.cli.inventory import names_of
from sealwire.cli.options import is_given
from sealwire.cli.pem_files import read_certificates, read_pem
from sealwire.cli.workdir import DEFAULT, mode_of, replace_files
from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.pki.authority import MAX_LEAF_DAYS, Issuer, KeyType, Profile
from sealwire.pki.files import PRIVATE, PUBLIC, NewFile, pair
from sealwire.pki.pem import private_key_of
from sealwire.remedies import command

CA: Final = "ca"

directory_option = click.option(
    "-d",
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT,
    show_default=True,
    help="Directory of certificates and keys.",
)
key_type_option = click.option(
    "--key-type", type=click.Choice(get_args(KeyType)), default="p256", show_default=True, help="Kind of the new key."
)
force_option = click.option("--force", is_flag=True, allow_from_autoenv=False, help="Replace files of these names.")
profile_argument = click.argument("profile", type=click.Choice(get_args(Profile)))
stem_option = click.option(
    "--as", "stem", metavar="STEM", help="Name of the two files, without ending.  [default: the profile]"
)
OTHER_NAME: Final = "replace it with --force, or choose another name with --as"


def days_option(default: int, maximum: int) -> Callable[[Any], Any]:
    """Return the option ``--days``, from 1 to ``maximum``."""
    return click.option(
        "--days", type=click.IntRange(1, maximum), default=default, show_default=True, help="Days until it expires."
    )


leaf_days_option = days_option(MAX_LEAF_DAYS, MAX_LEAF_DAYS)


@click.group()
def certs() -> None:
    """Issue, renew, revoke and list certificates."""


def load_ca(directory: Path) -> Issuer:
    """Read the CA of a directory. Raises ConfigurationError."""
    cert, key = directory / f"{CA}.pem", directory / f"{CA}.key"
    if not cert.is_file() and not key.is_file():
        raise ConfigurationError(f"{cert}: not there; make a CA with {certs_command(directory, 'init')}")
    if not key.is_file():
        ask = certs_command(directory, "request", "PROFILE", "NAME", "--as", "STEM")
        raise ConfigurationError(
            f"{key}: the CA's key is not here; make a request here ({ask}), have it signed where the key is "
            "(`sealwire certs sign STEM.csr`), and bring the certificate here"
        )
    if not cert.is_file():
        raise ConfigurationError(f"{cert}: not there; every server and client has a copy")
    cert_pem, key_pem = read_pem(cert), read_pem(key, private=True)
    try:
        return Issuer.from_pem(cert_pem, key_pem)
    except ConfigurationError as error:
        raise ConfigurationError(f"{cert} and {key.name}: {error}") from None


def certificate_path(name: str, directory: Path) -> Path:
    """Return the file of a certificate that is named by its path, or by its stem in the directory."""
    path = Path(name)
    return path if path.suffix in (".pem", ".crt") or len(path.parts) > 1 else directory / f"{name}.pem"


def write(files: Iterable[NewFile], *, replace: bool = True, remedy: str = "") -> None:
    """Write all files or none; those that are replaced are kept under other names.

    Without ``replace`` a file that exists already is an error, in which ``remedy`` says what to do. Raises
    ConfigurationError.
    """
    try:
        replace_files(files, replace=replace)
    except FileExistsError as error:
        raise ConfigurationError(f"{error.filename}: already there, so nothing was written; {remedy}") from None


def new_pair(path: Path, cert: bytes, key: bytes) -> list[NewFile]:
    """Return the files to write for a certificate and its private key (both PEM), side by side, with the modes of those
    that are there."""
    key_path = path.with_suffix(".key")
    old_key = None
    with suppress(ConfigurationError, OSError):  # there is no pair yet, or none that fits
        old_key = private_key_of(read_pem(key_path), str(key_path), read_certificates(path)[0].public_key())
    return pair(
        NewFile(path, cert, mode_of(path, PUBLIC)), NewFile(key_path, key, mode_of(key_path, PRIVATE)), old_key or b""
    )


def check_stem(stem: str, name: str = "--as") -> str:
    """Return the file name, without ending, of a certificate and its key. Raises click.BadParameter for that option."""
    if not re.fullmatch(r"\w[\w.-]*", stem, re.ASCII) or stem.lower() == CA:
        raise click.BadParameter("a file name of letters, digits, '.', '_' and '-', other than 'ca'", param_hint=name)
    return stem


def print_certificate(certificate: x509.Certificate) -> None:
    """Print the fields of a certificate that was just made."""
    days = round((certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() / 86400)
    names = names_of(certificate)
    print_fields(
        [
            ("subject", certificate.subject.rfc4514_string()),
            *([("names", ", ".join(names))] if names else []),
            ("serial", f"{certificate.serial_number:x}"),
            ("expires", f"{moment_text(certificate.not_valid_after_utc)}, {days} day{'s' * (days != 1)}"),
            ("fingerprint", f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"),
        ]
    )


def certs_command(directory: Path, *words: str | Path) -> str:
    """Return a command of this group in backquotes, with ``--dir`` if the user gave it."""
    there = ("--dir", directory) if directory != DEFAULT or is_given("directory") else ()
    return command("sealwire", "certs", *words, *there)
