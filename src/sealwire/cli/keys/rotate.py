"""``sealwire keys rotate``, ``revoke`` and ``prune``: changes of keys while the service goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from sealwire.cli.console import print_line
from sealwire.cli.keys.common import (
    days_option,
    edit_keyring,
    file_option,
    find_keys,
    id_option,
    identity_option,
    keys,
    span_option,
)
from sealwire.cli.lifetimes import moment_text
from sealwire.cli.workdir import report_written
from sealwire.errors import ConfigurationError


@keys.command()
@span_option("--in", "lead", default="1h", help_text="Time until it signs.")
@span_option("--overlap", default="1d", help_text="Time from then to the end of the old key.")
@days_option
@id_option
@identity_option("Rotate the key of this client, like dns:client.example.")
@file_option
def rotate(
    *, lead: timedelta, overlap: timedelta, days: int | None, key_id: str | None, identity: str | None, path: Path
) -> None:
    """Add a key that takes over later.

    No client signs with it until --in is over. Before that, bring the file to every server, then to every client, in
    this order; all clients change to the new key by themselves. The old key ends --overlap later, and `sealwire keys
    prune` takes it out.

    \b
    sealwire keys rotate --in 1h --overlap 1d
    """
    now = datetime.now(UTC).replace(microsecond=0)
    start, end = now + lead, now + lead + overlap
    with edit_keyring(path) as file:
        present = [key for key in file.keys if key.identity == identity and key.valid_at(now)]
        if not present:
            owner = "" if identity is None else f" of {identity}"
            raise ConfigurationError(f"{path}: no key{owner} is valid now to be rotated; see `sealwire keys list`")
        ended = [key.id for key in present if key.not_after is None or key.not_after > end]
        file.end(ended, end)
        key = file.add(key_id, start, days, identity)
    report_written(path, f"key {key.id!r} added")
    for old_id in ended:
        print_line(f"key {old_id} ends {moment_text(end)}")
    print_line(
        f"Next: bring the file to the servers, then to the clients, all before {moment_text(start)}, when it signs"
    )


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--force", is_flag=True, help="Even if no key is left that is valid now.")
@file_option
def revoke(*, key_id: str, force: bool, path: Path) -> None:
    """Revoke a key at once.

    It is marked as revoked, without its secret, and `sealwire keys prune` takes it out later. Bring the file to every
    server: it closes connections under this key, and refuses new ones.

    \b
    sealwire keys revoke 2026-11-25-4f1a
    """
    now = datetime.now(UTC)
    with edit_keyring(path) as file:
        find_keys(file.keys, key_id, path)
        rest = [key for key in file.keys if key.id != key_id]
        if not any(key.valid_at(now) for key in rest) and not (force and rest):
            raise ConfigurationError(
                f"{path}: without {key_id!r} no key would be valid now, and no client could connect; "
                "add another one first (`sealwire keys new`)" + (", or --force" if rest else "")
            )
        file.revoke(key_id)
    report_written(path, f"key {key_id!r} revoked")
    print_line("Next: bring the file to the servers, then to the clients")


@keys.command()
@span_option("--older-than", "age", default="1d", help_text="Time since they expired.")
@file_option
def prune(*, age: timedelta, path: Path) -> None:
    """Take out keys that have expired or are revoked.

    \b
    sealwire keys prune
    """
    limit = datetime.now(UTC) - age
    with edit_keyring(path) as file:
        expired = [key.id for key in file.keys if key.not_after is not None and key.not_after < limit]
        if len(expired) == len(file.keys):
            raise ConfigurationError(f"{path}: no key would be left; add one first (`sealwire keys new`)")
        gone = [*expired, *file.revoked]
        file.remove(gone)
    if gone:
        report_written(path, f"taken out: {', '.join(gone)}")
    else:
        print_line(f"nothing to take out of {path}")
