"""``sealwire certs request``, ``sign`` and ``install``: certificates for private keys that never leave their host."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import get_args

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire.cli.certs.common import (
    OTHER_NAME,
    certs,
    certs_command,
    check_stem,
    directory_option,
    force_option,
    key_type_option,
    leaf_days_option,
    load_ca,
    new_pair,
    print_certificate,
    profile_argument,
    stem_option,
    write,
)
from sealwire.cli.console import print_line
from sealwire.cli.inventory import names_of
from sealwire.cli.options import FILE, checked, usage
from sealwire.cli.pem_files import read_certificates, read_pem
from sealwire.cli.workdir import prepare, refuse_link, report_written
from sealwire.errors import ConfigurationError
from sealwire.pki.authority import KeyType, Profile, leaf_names
from sealwire.pki.csr import request as make_request
from sealwire.pki.csr import sign as sign_request
from sealwire.pki.files import PRIVATE, PUBLIC, NewFile, locked
from sealwire.pki.subject_names import subject_alternative_names
from sealwire.remedies import command
from sealwire.trust.credentials import Credentials
from sealwire.trust.selftest import validate

_MAX_REQUEST = 1 << 16


@certs.command()
@profile_argument
@click.argument("names", metavar="[NAMES]...", nargs=-1)
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

    If STEM.pem is here already, this is a renewal: key and request are STEM.new.key and STEM.new.csr, by default for
    the same names, and the present ones stay in service until `sealwire certs install STEM`.

    \b
    sealwire certs request client client.example
    """
    stem = check_stem(profile if stem is None else stem)
    present = directory / f"{stem}.pem"
    renewal = present.exists()
    if not names and not renewal:
        raise click.UsageError("name what the certificate is for, such as a host name")
    if names:
        with usage(hint="NAMES"):
            leaf_names(names, profile)
    made = make_request(*(names or names_of(read_certificates(present)[0])), profile=profile, key_type=key_type)
    prepare(directory)
    name = f"{stem}.new" if renewal else stem
    key, csr = directory / f"{name}.key", directory / f"{name}.csr"
    files = [NewFile(key, made.key_pem, PRIVATE), NewFile(csr, made.request_pem, PUBLIC)]
    with locked(present) if renewal else nullcontext():
        if renewal and not force and (key.exists() or csr.exists()):
            raise ConfigurationError(
                f"{key}: a request was made before, so nothing was written; install its certificate with "
                f"{certs_command(directory, 'install', stem)}, or make another request with --force"
            )
        write(files, replace=force, remedy=OTHER_NAME)
    report_written(key, "the private key, which stays here")
    report_written(csr, f"the request for a certificate of a TLS {profile}")
    print_line(f"Next: bring {csr} to the CA, run {command('sealwire', 'certs', 'sign', csr.name)} there,")
    if renewal:
        print_line(f"      bring {name}.pem back to {directory}, and run {certs_command(directory, 'install', stem)}")
        print_line(f"      Until then, {stem}.key and {stem}.pem stay in service.")
    else:
        print_line(f"      and bring {stem}.pem and ca.pem back to {directory}")


@certs.command()
@click.argument("stem")
@click.argument("file", type=FILE, required=False)
@directory_option
def install(*, stem: str, file: Path | None, directory: Path) -> None:
    """Put a renewed certificate and its key in service.

    STEM.new.key, of `sealwire certs request`, and its certificate, STEM.new.pem or FILE, take the places of STEM.key
    and STEM.pem: after the checks of a running server, and in such an order that at no moment there is no key for the
    certificate. A server or client notices.

    \b
    sealwire certs install server
    """
    path = directory / f"{check_stem(stem, 'STEM')}.pem"
    new_key = directory / f"{stem}.new.key"
    new_cert = directory / f"{stem}.new.pem" if file is None else file
    if not new_key.exists():
        names = () if path.exists() else ("NAME",)
        ask = certs_command(directory, "request", "PROFILE", *names, "--as", stem)
        raise ConfigurationError(f"{new_key}: not there; make a key and a request with {ask}")
    refuse_link(path)
    refuse_link(path.with_suffix(".key"))
    with locked(path):
        cert, key = read_pem(new_cert), read_pem(new_key, private=True)
        made = _check_successor(path, new_cert, new_key)
        write(new_pair(path, cert, key))
        for each in (new_key, directory / f"{stem}.new.csr", directory / f"{stem}.new.pem"):
            each.unlink(missing_ok=True)
    report_written(path, "the new certificate")
    report_written(path.with_suffix(".key"), "its private key")
    print_certificate(made)


def _check_successor(path: Path, new_cert: Path, new_key: Path) -> x509.Certificate:
    """Check a new pair of files as a running server would. Raises ConfigurationError."""
    anchors = path.with_name("ca.pem")
    new = Credentials.from_files(cert=new_cert, key=new_key, ca=anchors).current
    try:
        old = Credentials.from_files(cert=path, key=path.with_suffix(".key"), ca=anchors).current
    except ConfigurationError:  # no pair that is in service could be
        old = None
    validate(new, old)
    return new.certificates[0]


@certs.command()
@click.argument("csr", type=FILE)
@click.option(
    "--as", "stem", metavar="STEM", help="Name of the certificate's file, without ending.  [default: the CSR's]"
)
@click.option(
    "--name", "names", metavar="NAME", multiple=True, callback=checked(subject_alternative_names),
    help="A name that the request may ask for; others are refused.",
)  # fmt: skip
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
    # The last renewal's is of no use here any more.
    replace = force or stem.endswith(".new")
    write([NewFile(path, certificate.public_bytes(Encoding.PEM), PUBLIC)], replace=replace, remedy=OTHER_NAME)
    report_written(path, "the certificate")
    print_certificate(certificate)
    print_line(f"Next: bring {path} and {directory / 'ca.pem'} to the host of the key")
