"""``sealwire certs request`` and ``sign``: a private key that never leaves its host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire.cli.certs.group import (
    certs,
    check_stem,
    days_option,
    describe,
    directory_option,
    force_option,
    key_type_option,
    load_ca,
    write,
)
from sealwire.cli.console import printable
from sealwire.cli.directory import prepare, report_written
from sealwire.errors import ConfigurationError
from sealwire.rotation import read_file
from sealwire.tls.files import PRIVATE, PUBLIC, NewFile
from sealwire.tls.issue import MAX_LEAF_DAYS, KeyType, Profile
from sealwire.tls.requests import request as new_request
from sealwire.tls.requests import sign as sign_request

_MAX_REQUEST = 1 << 16


@certs.command()
@click.argument("profile", type=click.Choice(get_args(Profile)))
@click.argument("names", nargs=-1, required=True)
@click.option("--as", "stem", metavar="STEM", help="Name of the two files, without ending.  [default: the profile]")
@key_type_option
@force_option
@directory_option
def request(
    *, profile: Profile, names: Sequence[str], stem: str | None, key_type: KeyType, force: bool, directory: Path
) -> None:
    """Make a private key here, and a request.

    The key stays where it is. STEM.csr is for whoever has the CA, who makes STEM.pem of it; anybody may see these two.
    NAMES are as for `sealwire certs issue`.

    \b
    sealwire certs request client client.example
    """
    stem = check_stem(profile if stem is None else stem)
    made = new_request(*names, profile=profile, key_type=key_type)
    prepare(directory)
    key, csr = directory / f"{stem}.key", directory / f"{stem}.csr"
    write(
        [NewFile(key, made.key_pem, PRIVATE), NewFile(csr, made.request_pem, PUBLIC)],
        replace=force,
        remedy="replace it with --force, or --as another name",
    )
    report_written(key, "the private key, which stays here")
    report_written(csr, f"the request for a certificate of a TLS {profile}")
    click.echo(f"Next: bring {printable(csr)} to the CA, `sealwire certs sign {printable(csr.name)}` there, and bring")
    click.echo(f"      {stem}.pem and ca.pem back to {printable(directory)}")


@certs.command()
@click.argument("csr", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--as", "stem", metavar="STEM", help="Name of the certificate's file, without ending.  [default: the CSR's]"
)
@click.option(
    "--name", "names", metavar="NAME", multiple=True, help="A name that it may ask for; with any other it is refused."
)
@click.option("--profile", type=click.Choice(get_args(Profile)), help="What it is for.  [default: what it asks for]")
@days_option(MAX_LEAF_DAYS, MAX_LEAF_DAYS)
@force_option
@directory_option
def sign(
    *,
    csr: Path,
    stem: str | None,
    names: Sequence[str],
    profile: Profile | None,
    days: int,
    force: bool,
    directory: Path,
) -> None:
    """Issue what a request asks for.

    Whoever sent it proves by its signature that he holds the key. Only its names and its key are taken, and whether it
    is for a server, a client or both: look at the names before you send the certificate back, or say with --name which
    ones it may have.

    \b
    sealwire certs sign client.csr --name client.example
    """
    stem = check_stem(csr.stem if stem is None else stem)
    content = read_file(csr, most=_MAX_REQUEST).data
    try:
        asked = x509.load_pem_x509_csr(content)
    except ValueError:
        raise ConfigurationError(f"{csr}: no certificate signing request in PEM form") from None
    ca = load_ca(directory)
    try:
        certificate = sign_request(ca, asked, expected=names, profile=profile, days=days)
    except ConfigurationError as error:
        raise ConfigurationError(f"{csr}: {error}") from None
    path = directory / f"{stem}.pem"
    write(
        [NewFile(path, certificate.public_bytes(Encoding.PEM), PUBLIC)],
        replace=force,
        remedy="replace it with --force, or --as another name",
    )
    report_written(path, "the certificate")
    describe(certificate)
    click.echo(f"Next: bring {printable(path)} and {printable(directory / 'ca.pem')} to where the key is")
