"""``sealwire certs``: a certificate authority in a directory, and the certificates that it issues."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from sealwire.cli.console import print_fields, print_json, print_table, printable
from sealwire.cli.directory import DEFAULT, prepare, report_written
from sealwire.cli.inventory import inventory, names_of
from sealwire.errors import ConfigurationError
from sealwire.tls.files import PRIVATE, PUBLIC, NewFile, write_files
from sealwire.tls.issue import (
    DEFAULT_CA_DAYS,
    MAX_CA_DAYS,
    MAX_LEAF_DAYS,
    Issued,
    Issuer,
    KeyType,
    Profile,
    create_ca,
)

_CA = "ca"

_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT,
    show_default=True,
    help="Where certificates and keys are.",
)
_key_type = click.option(
    "--key-type", type=click.Choice(get_args(KeyType)), default="p256", show_default=True, help="Kind of the new key."
)
_force = click.option("--force", is_flag=True, help="Replace files of these names.")


def _days(default: int, most: int) -> Callable[[Any], Any]:
    return click.option(
        "--days", type=click.IntRange(1, most), default=default, show_default=True, help="Days until it expires."
    )


@click.group()
def certs() -> None:
    """Issue and list certificates."""


@certs.command()
@click.option("--name", help="The CA's common name.  [default: Sealwire CA and part of its key id]")
@click.option("--server", "server", metavar="NAME", multiple=True, help="Also issue server.pem, for these names.")
@click.option("--client", "client", metavar="NAME", multiple=True, help="Also issue client.pem, for these names.")
@_days(DEFAULT_CA_DAYS, MAX_CA_DAYS)
@_key_type
@_force
@_directory
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
    _write({_CA: ca, **leaves}, directory, force=force)
    report_written(directory / "ca.pem", "the trust anchor, which every server and client needs")
    report_written(directory / "ca.key", "the CA's private key, which stays here")
    _describe(ca)
    if force:
        click.echo("If there was a CA before: issue every certificate anew, the old ones are not from this one.")
    for profile, leaf in leaves.items():
        _report(leaf, directory, profile, profile)
    if not leaves:
        click.echo(f"Next: {_command('certs', 'issue', directory)} server localhost 127.0.0.1")


@certs.command()
@click.argument("profile", type=click.Choice(get_args(Profile)))
@click.argument("names", nargs=-1, required=True)
@click.option("--as", "stem", metavar="STEM", help="Name of the two files, without ending.  [default: the profile]")
@_days(MAX_LEAF_DAYS, MAX_LEAF_DAYS)
@_key_type
@_force
@_directory
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
    if not re.fullmatch(r"\w[\w.-]*", stem, re.ASCII) or stem.lower() == _CA:
        raise click.BadParameter("a file name of letters, digits, '.', '_' and '-', other than 'ca'", param_hint="--as")
    leaf = _load_ca(directory).issue(*names, profile=profile, days=days, key_type=key_type)
    _write({stem: leaf}, directory, force=force)
    _report(leaf, directory, profile, stem)


@certs.command("list")
@click.option("--wide", is_flag=True, help="Whole serial numbers and fingerprints.")
@click.option("--json", "as_json", is_flag=True, help="Everything, for scripts.")
@_directory
def list_(*, wide: bool, as_json: bool, directory: Path) -> None:
    """List certificates and the state of their keys."""
    if not directory.is_dir():
        raise ConfigurationError(
            f"{directory}: no such directory; make a CA with {_command('certs', 'init', directory)}"
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
                    row.serial if wide else _short(row.serial),
                    row.sha256 if wide else _short(row.sha256),
                    "" if row.not_after is None else f"{row.not_after:%Y-%m-%d}",
                    "" if row.days_left is None else row.days_left,
                    row.key,
                    row.state,
                )
                for row in rows
            ),
        )


def _load_ca(directory: Path) -> Issuer:
    cert, key = directory / "ca.pem", directory / "ca.key"
    for path in (cert, key):
        if not path.is_file():
            raise ConfigurationError(f"{path}: not there; make a CA with `{_command('certs', 'init', directory)}`")
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


def _report(leaf: Issued, directory: Path, profile: str, stem: str) -> None:
    cert, key = directory / f"{stem}.pem", directory / f"{stem}.key"
    report_written(cert, f"the certificate of a TLS {profile}")
    report_written(key, "its private key")
    _describe(leaf)
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
    try:
        write_files(files, replace=force)
    except FileExistsError as error:
        other_name = "" if _CA in issued else ", or --as another name"
        raise ConfigurationError(
            f"{error.filename}: already there, so nothing was written; replace it with --force{other_name}"
        ) from None


def _describe(issued: Issued) -> None:
    certificate = issued.certificate
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    names = names_of(certificate)
    print_fields(
        [
            ("subject", certificate.subject.rfc4514_string()),
            *([("names", ", ".join(names))] if names else []),
            ("serial", f"{certificate.serial_number:x}"),
            ("expires", f"{end:%Y-%m-%d %H:%M} UTC, {round((end - start).total_seconds() / 86400)} days"),
            ("fingerprint", f"sha256:{issued.fingerprint}"),
        ]
    )


def _command(group: str, command: str, directory: Path) -> str:
    """What to type next, with the directory if it is not the usual one."""
    where = "" if directory == DEFAULT else f" --dir {shlex.quote(str(directory))}"
    return printable(f"sealwire {group} {command}{where}")


def _short(text: str) -> str:
    return text if len(text) <= 16 else f"{text[:16]}…"
