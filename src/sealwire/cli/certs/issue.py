"""``sealwire certs init`` and ``issue``: a certificate authority in a directory, and its certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from sealwire.cli.certs.common import (
    CA,
    OTHER_NAME,
    certs,
    certs_command,
    check_stem,
    days_option,
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
from sealwire.cli.options import usage
from sealwire.cli.workdir import prepare, report_written
from sealwire.pki.authority import DEFAULT_CA_DAYS, MAX_CA_DAYS, Issued, KeyType, Profile, create_ca, leaf_names
from sealwire.pki.files import locked
from sealwire.remedies import command


@certs.command()
@click.option("--name", help="The CA's common name.  [default: Sealwire CA and part of its key id]")
@click.option("--server", metavar="NAME", multiple=True, help="Also issue server.pem, for these names.")
@click.option("--client", metavar="NAME", multiple=True, help="Also issue client.pem, for these names.")
@days_option(DEFAULT_CA_DAYS, MAX_CA_DAYS)
@key_type_option
@click.option(
    "--force",
    is_flag=True,
    allow_from_autoenv=False,
    help="Replace files of these names, and so end a CA that is there.",
)
@directory_option
def init(
    *,
    name: str | None,
    server: Sequence[str],
    client: Sequence[str],
    days: int,
    key_type: KeyType,
    force: bool,
    directory: Path,
) -> None:
    """Make a certificate authority.

    With names, also its first certificates. Every server and client needs ca.pem; ca.key belongs on none of them.

    \b
    sealwire certs init --server localhost --server 127.0.0.1 --client client.example
    """
    for profile, names in (("server", server), ("client", client)):
        with usage(hint=f"--{profile}"):
            leaf_names(names or ["localhost"], profile)
    with usage(hint="--name"):
        ca = create_ca(name, days=days, key_type=key_type)
    leaves: dict[str, Issued] = {}
    if server:
        leaves["server"] = ca.issue(*server, profile="server", key_type=key_type)
    if client:
        leaves["client"] = ca.issue(*client, profile="client", key_type=key_type)
    prepare(directory)
    _write({CA: ca, **leaves}, directory, force=force)
    report_written(directory / "ca.pem", "the trust anchor, which every server and client needs")
    report_written(directory / "ca.key", "the CA's private key, which stays here")
    print_certificate(ca.certificate)
    if force:
        print_line("If there was a CA before, issue every certificate again: the old ones are not from this CA.")
    for profile, leaf in leaves.items():
        _report(leaf, directory, profile, profile)
    if not leaves:
        print_line(f"Next: {certs_command(directory, 'issue', 'server', 'localhost', '127.0.0.1')}")


@certs.command()
@profile_argument
@click.argument("names", nargs=-1, required=True)
@stem_option
@leaf_days_option
@key_type_option
@force_option
@directory_option
def issue(
    *,
    profile: Profile,
    names: Sequence[str],
    stem: str | None,
    days: int,
    key_type: KeyType,
    force: bool,
    directory: Path,
) -> None:
    """Issue a certificate and its key.

    It is for a server, a client, or a peer, which is both.

    NAMES are DNS names, IP addresses, URIs or e-mail addresses. If the kind of a name is ambiguous, put dns:, ip:,
    uri: or email: in front.

    \b
    sealwire certs issue server localhost 127.0.0.1
    sealwire certs issue client client.example
    sealwire certs issue client spiffe://prod/billing/worker --as billing
    """
    stem = check_stem(profile if stem is None else stem)
    with usage(hint="NAMES"):
        leaf_names(names, profile)
    leaf = load_ca(directory).issue(*names, profile=profile, days=days, key_type=key_type)
    _write({stem: leaf}, directory, force=force)
    _report(leaf, directory, profile, stem)


def _write(issued: Mapping[str, Issued], directory: Path, *, force: bool) -> None:
    """Write the certificates and keys under their stems, all or none."""
    with ExitStack() as locks:
        for stem in sorted(issued) if force else ():
            locks.enter_context(locked(directory / f"{stem}.pem"))
        files = [
            file
            for stem, each in issued.items()
            for file in new_pair(directory / f"{stem}.pem", each.cert_pem, each.key_pem)
        ]
        write(files, replace=force, remedy=_other_ca(directory) if CA in issued else OTHER_NAME)


def _other_ca(directory: Path) -> str:
    """Return the remedy if there are files of a CA already."""
    more = certs_command(directory, "issue", "PROFILE", "NAME", "--as", "STEM")
    other = command("sealwire", "certs", "init", "--dir", "DIRECTORY")
    return (
        f"a CA that is there issues further certificates ({more}); make another one elsewhere ({other}). --force would "
        "end the one that is there: no peer would accept its certificates any more"
    )


def _report(leaf: Issued, directory: Path, profile: str, stem: str) -> None:
    cert, key = directory / f"{stem}.pem", directory / f"{stem}.key"
    report_written(cert, f"the certificate of a TLS {profile}")
    report_written(key, "its private key")
    print_certificate(leaf.certificate)
    print_line(f"Next: give the {profile} {cert}, {key} and {directory / 'ca.pem'}")
