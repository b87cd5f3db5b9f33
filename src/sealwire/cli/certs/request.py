"""``sealwire certs request`` and ``sign``: certificates for private keys that never leave their host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire.cli.certs.common import (
    OTHER_NAME,
    certs,
    check_stem,
    directory_option,
    force_option,
    key_type_option,
    leaf_days_option,
    load_ca,
    print_certificate,
    profile_argument,
    stem_option,
    write,
)
from sealwire.cli.console import print_line
from sealwire.cli.options import FILE
from sealwire.cli.pem_files import read_pem
from sealwire.cli.workdir import prepare, report_written
from sealwire.errors import ConfigurationError
from sealwire.pki.authority import KeyType, Profile
from sealwire.pki.csr import request as make_request
from sealwire.pki.csr import sign as sign_request
from sealwire.pki.files import PRIVATE, PUBLIC, NewFile

_MAX_REQUEST = 1 << 16


@certs.command()
@profile_argument
@click.argument("names", nargs=-1, required=True)
@stem_option
@key_type_option
@force_option
@directory_option
def request(
    *, profile: Profile, names: Sequence[str], stem: str | None, key_type: KeyType, force: bool, directory: Path
) -> None:
    """Make a private key, and a request for its certificate.

    The key stays here. STEM.csr goes to the CA, which makes STEM.pem of it; neither of these two is secret. NAMES are
    as for `sealwire certs issue`.

    \b
    sealwire certs request client client.example
    """
    stem = check_stem(profile if stem is None else stem)
    made = make_request(*names, profile=profile, key_type=key_type)
    prepare(directory)
    key, csr = directory / f"{stem}.key", directory / f"{stem}.csr"
    files = [NewFile(key, made.key_pem, PRIVATE), NewFile(csr, made.request_pem, PUBLIC)]
    write(files, replace=force, remedy=OTHER_NAME)
    report_written(key, "the private key, which stays here")
    report_written(csr, f"the request for a certificate of a TLS {profile}")
    print_line(f"Next: bring {csr} to the CA, run `sealwire certs sign {csr.name}` there,")
    print_line(f"      and bring {stem}.pem and ca.pem back to {directory}")


@certs.command()
@click.argument("csr", type=FILE)
@click.option(
    "--as", "stem", metavar="STEM", help="Name of the certificate's file, without ending.  [default: the CSR's]"
)
@click.option(
    "--name", "names", metavar="NAME", multiple=True, help="A name that the request may ask for; others are refused."
)
@click.option("--profile", type=click.Choice(get_args(Profile)), help="Its use.  [default: the one in the request]")
@leaf_days_option
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
    """Issue the certificate that a request asks for.

    The request's signature proves that its sender holds the key. Only the names, the key and the profile (server,
    client or both) are taken from it: check the names before you send the certificate back, or say with --name which
    ones are allowed.

    \b
    sealwire certs sign client.csr --name client.example
    """
    stem = check_stem(csr.stem if stem is None else stem)
    try:
        asked = x509.load_pem_x509_csr(read_pem(csr, max_size=_MAX_REQUEST))
    except ConfigurationError:
        raise
    except ValueError:
        raise ConfigurationError(f"{csr}: no certificate signing request in PEM form") from None
    ca = load_ca(directory)
    try:
        certificate = sign_request(ca, asked, expected=names, profile=profile, days=days)
    except ConfigurationError as error:
        raise ConfigurationError(f"{csr}: {error}") from None
    path = directory / f"{stem}.pem"
    write([NewFile(path, certificate.public_bytes(Encoding.PEM), PUBLIC)], replace=force, remedy=OTHER_NAME)
    report_written(path, "the certificate")
    print_certificate(certificate)
    print_line(f"Next: bring {path} and {directory / 'ca.pem'} to the host of the key")
