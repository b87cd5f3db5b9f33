"""``sealwire keys rotate``, ``revoke`` and ``prune``: changes of keys while the service goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from sealwire.cli.console import print_line
from sealwire.cli.keys.common import (
    KeyringFile,
    edit_keyring,
    file_option,
    find_keys,
    id_option,
    identity_option,
    keys,
    keys_command,
    span_option,
)
from sealwire.cli.lifetimes import key_owners
from sealwire.cli.workdir import remove_old_copies, report_written
from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.wire.keys import Key


@keys.command()
@span_option("--in", "lead", default="1h", help_text="Time until it signs.")
@span_option("--overlap", default="1d", help_text="Time from then to the end of the old key.")
@click.option(
    "--days",
    type=click.IntRange(min=1, max=36500),
    help="Days that the new key is valid.  [default: as long as the old one]",
)
@id_option
@identity_option("Rotate the key of this client, like dns:client.example.")
@click.option("--all", "everything", is_flag=True, help="Rotate the keys of all clients that have no next one yet.")
@file_option
def rotate(
    *,
    lead: timedelta,
    overlap: timedelta,
    days: int | None,
    key_id: str | None,
    identity: str | None,
    everything: bool,
    path: Path,
) -> None:
    """Add a key that takes over later.

    No client signs with it until --in is over. Before that, bring the file to every server, then to every client, in
    this order; all clients change to the new key by themselves. The old key ends --overlap later, and `sealwire keys
    prune` takes it out. The new key is for the same client as the old one, and lives as long.

    \b
    sealwire keys rotate --in 1h --overlap 1d
    sealwire keys rotate --all
    """
    if everything and (identity is not None or key_id is not None):
        raise click.UsageError("--all or one key: --identity and --id are for one")
    now = datetime.now(UTC).replace(microsecond=0)
    start, end = now + lead, now + lead + overlap
    done: list[tuple[Key, list[str]]] = []
    with edit_keyring(path) as file:
        for owner in _owners(file, identity, now, everything=everything):
            owned = [key for key in file.keys if key.identity == owner]
            ended = [key.id for key in owned if key.valid_at(now) and (key.not_after is None or key.not_after > end)]
            file.end(ended, end)
            done.append((file.add(key_id, start, _life(owned) if days is None else timedelta(days=days), owner), ended))
    if not done:
        print_line(f"nothing to rotate in {path}: every client has its next key already")
        return
    for key, ended in done:
        report_written(
            path,
            f"key {key.id!r} added for {key.identity or 'every client'}, "
            f"until {moment_text(key.not_after, none='revoked')}",
        )
        for old_id in ended:
            print_line(f"key {old_id} ends {moment_text(end)}")
    print_line(
        f"Next: bring the file to the servers, then to the clients, all before {moment_text(start)}, when it signs"
    )


def _owners(file: KeyringFile, identity: str | None, now: datetime, *, everything: bool) -> list[str | None]:
    """Return the clients that get new keys; None stands for keys of every client. Raises ConfigurationError."""
    present = key_owners(key for key in file.keys if key.valid_at(now))
    if everything and present:
        following = key_owners(key for key in file.keys if key.not_before is not None and key.not_before > now)
        return [owner for owner in present if owner not in following]
    if identity in present:
        return [identity]
    if identity is None and len(present) == 1:
        return present
    if identity is None and present:
        names = ", ".join(str(owner) for owner in present)
        raise ConfigurationError(
            f"{file.path}: has keys of several clients ({names}); name one with --identity, or rotate them --all"
        )
    owner = "" if identity is None else f" of {identity}"
    bound = () if identity is None else ("--identity", identity)
    raise ConfigurationError(
        f"{file.path}: no key{owner} is valid now to be rotated; add one with {keys_command(file.path, 'new', *bound)}"
    )


def _life(keys: list[Key]) -> timedelta | None:
    """Return how long the newest key of a client lives; None without an end."""
    newest = max(keys, key=lambda key: key.not_before or datetime.min.replace(tzinfo=UTC))
    if newest.not_before is None or newest.not_after is None:
        return None
    return newest.not_after - newest.not_before


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--force", is_flag=True, allow_from_autoenv=False, help="Even if no key is left that is valid now.")
@file_option
def revoke(*, key_id: str, force: bool, path: Path) -> None:
    """Revoke a key at once.

    It is marked as revoked, without its secret, and `sealwire keys prune` takes it out later. Bring the file to every
    server: it closes connections under this key, and refuses new ones. The secret remains in the copy of the old file
    for 7 days, unless `sealwire keys prune --older-than 0s` removes that, too.

    \b
    sealwire keys revoke 2026-11-25-4f1a
    """
    now = datetime.now(UTC)
    with edit_keyring(path) as file:
        owner = find_keys(file.keys, key_id, path)[0].identity
        rest = [key for key in file.keys if key.id != key_id]
        if not any(key.valid_at(now) for key in rest) and not (force and rest):
            raise ConfigurationError(
                f"{path}: without {key_id!r} no key would be valid now, and no client could connect; "
                f"add another one first ({keys_command(path, 'new')})" + (", or --force" if rest else "")
            )
        file.revoke(key_id)
    report_written(path, f"key {key_id!r} revoked, of {owner or 'every client'}")
    print_line("Next: bring the file to the servers, then to the clients")


@keys.command()
@span_option("--older-than", "age", default="1d", help_text="Time since they expired, or the file was replaced.")
@file_option
def prune(*, age: timedelta, path: Path) -> None:
    """Take out keys that have expired or are revoked.

    Copies of the file that other commands have kept, with the secrets of such keys, are removed, too.

    \b
    sealwire keys prune
    """
    limit = datetime.now(UTC) - age
    with edit_keyring(path) as file:
        expired = [key.id for key in file.keys if key.not_after is not None and key.not_after < limit]
        if len(expired) == len(file.keys):
            raise ConfigurationError(f"{path}: no key would be left; add one first ({keys_command(path, 'new')})")
        gone = [*expired, *file.revoked]
        file.remove(gone)
    if gone:
        report_written(path, f"taken out: {', '.join(gone)}")
    copies = remove_old_copies(path.parent, age, name=path.name)
    if not gone and not copies:
        recent = any(key.not_after is not None and key.not_after < limit + age for key in file.keys)
        more = "; what expired more recently stays, unless --older-than says less" if recent else ""
        print_line(f"nothing to take out of {path}{more}")
