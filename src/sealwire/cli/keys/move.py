"""``sealwire keys export`` and ``import``: the keys of one client, from one keyring file to another."""

from __future__ import annotations

import os
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from sealwire.cli.console import print_line
from sealwire.cli.keys.common import (
    HEADER,
    KeyringFile,
    edit_keyring,
    file_option,
    identity_option,
    keys,
    keys_command,
    table_of,
)
from sealwire.cli.lifetimes import key_owners
from sealwire.cli.options import FILE, FILE_OR_DASH, STDIN
from sealwire.cli.workdir import mode_of, refuse_link, report_written
from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.pki.files import PRIVATE, NewFile, write_files
from sealwire.remedies import command
from sealwire.trust.key_snapshot import KeySnapshot
from sealwire.trust.keyring import read_keyring
from sealwire.wire.keys import Key

_MAX_INPUT = 1 << 20


@keys.command("export")
@identity_option("The client, like dns:client.example.", "--for", required=True)
@click.option("-o", "--out", type=FILE, help="Write this file, with mode 0600.  [default: standard output]")
@click.option("--show", is_flag=True, allow_from_autoenv=False, help="Print the secrets even to a terminal.")
@file_option
def export(*, identity: str, out: Path | None, show: bool, path: Path) -> None:
    """Write one client's keys, with their secrets.

    They make a keyring of its own, which goes to the client encrypted, as by ssh, and `sealwire keys import` takes it
    in there. Nothing is printed to a terminal, or into a file that other users can read.

    \b
    sealwire keys export --for dns:client.example | ssh client sealwire keys import
    """
    making = f"make a keyring with {keys_command(path, 'new', '--identity', identity)}"
    present = KeySnapshot.parse(read_keyring(path, making=making).data, source=str(path))
    now = datetime.now(UTC)
    chosen = [key for key in present if key.identity == identity and (key.not_after is None or now <= key.not_after)]
    if not chosen:
        others = ", ".join(owner for owner in key_owners(present) if owner is not None) or "no client in particular"
        make = keys_command(path, "new", "--identity", identity)
        raise ConfigurationError(
            f"{path}: has no key for {identity} that has not expired; it has keys for {others}; add one with {make}"
        )
    text = HEADER + "".join(f"\n{table_of(key)}" for key in chosen)
    if out is not None:
        refuse_link(out)
        if out.exists() and out.samefile(path):
            raise ConfigurationError(
                f"{out}: the keyring itself, which would lose the keys of all others; name another"
            )
        write_files([NewFile(out, text.encode(), mode_of(out, PRIVATE) & PRIVATE)], replace=True)
        report_written(out, f"{len(chosen)} of the keys in {path}, for {identity}")
        return
    _check_output(show=show)
    click.echo(text, file=sys.stdout, nl=False)


def _check_output(*, show: bool) -> None:
    """Raise ConfigurationError if others could read what is printed."""
    status = os.fstat(sys.stdout.fileno())
    if sys.stdout.isatty() and not show:
        raise ConfigurationError(
            "the secrets would be printed to the terminal: pipe them into `sealwire keys import`, write a file with "
            "--out, or --show them"
        )
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        raise ConfigurationError(
            f"standard output is a file of mode {stat.S_IMODE(status.st_mode):04o}, which other users could read: use "
            "--out, which makes one of mode 0600, or `umask 077` before"
        )


@keys.command("import")
@click.argument("source", metavar="[FILE|-]", type=FILE_OR_DASH, default=STDIN)
@file_option
def import_(*, source: Path, path: Path) -> None:
    """Take in keys that `sealwire keys export` has written.

    A key that is there already gets the beginning and the end that it has now. Everything else in the keyring stays.

    \b
    ssh server sealwire keys export --for dns:client.example | sealwire keys import
    """
    name = "standard input" if source == STDIN else str(source)
    found = KeySnapshot.parse(_read(source), source=name)
    with edit_keyring(path) as file:
        changes = [(key, _take(file, key)) for key in found]
    for key, change in changes:
        until = (
            f"from {moment_text(key.not_before, none='any time')} until {moment_text(key.not_after, none='revoked')}"
        )
        print_line(f"{change} key {key.id!r} for {key.identity or 'every client'}, {until}")


def _take(file: KeyringFile, key: Key) -> str:
    """Put a key into a keyring, and return the change in a word. Raises ConfigurationError."""
    if key.id in file.revoked:
        raise ConfigurationError(f"{file.path}: key {key.id!r} was revoked there, so nothing was written; take another")
    present = next((each for each in file.keys if each.id == key.id), None)
    if present is None:
        file.append(table_of(key))
        return "added"
    if present.secret != key.secret:
        raise ConfigurationError(
            f"{file.path}: has another key with the id {key.id!r}, so nothing was written; give one of them another id"
        )
    if present.identity != key.identity:
        raise ConfigurationError(
            f"{file.path}: key {key.id!r} is for {present.identity or 'every client'} there, not for "
            f"{key.identity or 'every client'}, so nothing was written"
        )
    if (present.not_before, present.not_after) == (key.not_before, key.not_after):
        return "unchanged"
    file.set_times(key)
    return "changed"


def _read(source: Path) -> bytes:
    if source != STDIN:
        write = command("sealwire", "keys", "export", "--for", "CLIENT", "--out", source.name)
        return read_keyring(source, making=f"write it where the keys are ({write}), and bring it here").data
    if sys.stdin.isatty():
        raise ConfigurationError(
            "the keys are read from standard input, which is a terminal; pipe in what "
            "`sealwire keys export --for CLIENT` writes, or name a file"
        )
    data = sys.stdin.buffer.read(_MAX_INPUT + 1)
    if len(data) > _MAX_INPUT:
        raise ConfigurationError(f"standard input: more than {_MAX_INPUT} bytes")
    if not data.strip():
        raise ConfigurationError("standard input: empty; the export has failed, as its own message says")
    return data
