"""``sealwire certs init``, ``issue`` and ``list``: a certificate authority in a directory, and what it issues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import click

from sealwire.cli.certs.group import (
    CA,
    certs,
    check_stem,
    command_text,
    days_option,
    describe,
    directory_option,
    force_option,
    key_type_option,
    load_ca,
    short,
    write,
)
from sealwire.cli.console import print_json, print_table, printable
from sealwire.cli.directory import prepare, report_written
from sealwire.cli.inventory import inventory
from sealwire.errors import ConfigurationError
from sealwire.tls.files import PRIVATE, PUBLIC, NewFile
from sealwire.tls.issue import (
    DEFAULT_CA_DAYS,
    MAX_CA_DAYS,
    MAX_LEAF_DAYS,
    Issued,
    KeyType,
    Profile,
    create_ca,
)


@certs.command()
@click.option("--name", help="The CA's common name.  [default: Sealwire CA and part of its key id]")
@click.option("--server", "server", metavar="NAME", multiple=True, help="Also issue server.pem, for these names.")
@click.option("--client", "client", metavar="NAME", multiple=True, help="Also issue client.pem, for these names.")
@days_option(DEFAULT_CA_DAYS, MAX_CA_DAYS)
@key_type_option
@force_option
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

    With names, its first certificates as well. ca.pem is for every server and client, ca.key for none of them.

    \b
    sealwire certs init --server localhost --server 127.0.0.1 --client client.example
    """
    ca = create_ca(name, days=days, key_type=key_type)
    profiles: tuple[tuple[Profile, Sequence[str]], ...] = (("server", server), ("client", client))
    leaves: dict[str, Issued] = {
        profile: ca.issue(*names, profile=profile, days=MAX_LEAF_DAYS, key_type=key_type)
        for profile, names in profiles
        if names
    }
    prepare(directory)
    _write({CA: ca, **leaves}, directory, force=force)
    report_written(directory / "ca.pem", "the trust anchor, which every server and client needs")
    report_written(directory / "ca.key", "the CA's private key, which stays here")
    describe(ca.certificate)
    if force:
        click.echo("If there was a CA before: issue every certificate anew, the old ones are not from this one.")
    for profile, leaf in leaves.items():
        _report(leaf, directory, profile, profile)
    if not leaves:
        click.echo(f"Next: {command_text('certs', 'issue', directory)} server localhost 127.0.0.1")


@certs.command()
@click.argument("profile", type=click.Choice(get_args(Profile)))
@click.argument("names", nargs=-1, required=True)
@click.option("--as", "stem", metavar="STEM", help="Name of the two files, without ending.  [default: the profile]")
@days_option(MAX_LEAF_DAYS, MAX_LEAF_DAYS)
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

    NAMES are what it is known by: DNS names, IP addresses, URIs, e-mail addresses. Where it is not plain which one a
    name is, put dns:, ip:, uri: or email: in front.

    \b
    sealwire certs issue server localhost 127.0.0.1
    sealwire certs issue client client.example
    sealwire certs issue client spiffe://prod/billing/worker --as billing
    """
    stem = profile if stem is None else stem
    check_stem(stem)
    leaf = load_ca(directory).issue(*names, profile=profile, days=days, key_type=key_type)
    _write({stem: leaf}, directory, force=force)
    _report(leaf, directory, profile, stem)


@certs.command("list")
@click.option("--wide", is_flag=True, help="Whole serial numbers and fingerprints.")
@click.option("--json", "as_json", is_flag=True, help="Everything, for scripts.")
@directory_option
def list_(*, wide: bool, as_json: bool, directory: Path) -> None:
    """List certificates and the state of their keys."""
    if not directory.is_dir():
        raise ConfigurationError(
            f"{directory}: no such directory; make a CA with {command_text('certs', 'init', directory)}"
        )
    rows = inventory(directory)
    if as_json:
        print_json([row.as_json() for row in rows])
    elif not rows:
        click.echo(f"no certificates in {printable(directory)}", err=True)
    else:
        print_table(
            ("file", "kind", "names", "serial", "sha256", "expires", "days left", "key", "state"),
            (
                (
                    row.file,
                    row.kind,
                    ", ".join(row.names),
                    row.serial if wide else short(row.serial),
                    row.sha256 if wide else short(row.sha256),
                    "" if row.not_after is None else f"{row.not_after:%Y-%m-%d}",
                    "" if row.days_left is None else row.days_left,
                    row.key,
                    row.state,
                )
                for row in rows
            ),
        )


def _report(leaf: Issued, directory: Path, profile: str, stem: str) -> None:
    cert, key = directory / f"{stem}.pem", directory / f"{stem}.key"
    report_written(cert, f"the certificate of a TLS {profile}")
    report_written(key, "its private key")
    describe(leaf.certificate)
    click.echo(f"Next: the {profile} needs {printable(cert)}, {printable(key)} and {printable(directory / 'ca.pem')}")


def _write(issued: Mapping[str, Issued], directory: Path, *, force: bool) -> None:
    """Write each certificate and key under its stem: all of them or none."""
    files = [
        new
        for stem, each in issued.items()
        for new in (
            NewFile(directory / f"{stem}.key", each.key_pem, PRIVATE),
            NewFile(directory / f"{stem}.pem", each.cert_pem, PUBLIC),
        )
    ]
    other_name = "" if CA in issued else ", or --as another name"
    write(files, replace=force, remedy=f"replace it with --force{other_name}")
