"""``sealwire keys rotate``, ``revoke``, ``prune`` and ``show``: keys that come and go while everybody goes on."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import tomlkit

from sealwire.cli.console import print_fields, print_json, printable
from sealwire.cli.directory import report_written
from sealwire.cli.keys.group import append, change, file_option, free_id, keys, moment_text, state
from sealwire.errors import ConfigurationError
from sealwire.keyring import Keyring
from sealwire.tls.policy import PeerPolicy
from sealwire.wire.keys import MIN_SECRET, Key

_SPAN = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _span(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    match = _SPAN.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no span of time like 90s, 30m, 12h or 7d", ctx, param)
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


@keys.command()
@click.option("--in", "lead", default="1h", show_default=True, callback=_span, metavar="SPAN", help="Until it signs.")
@click.option(
    "--overlap",
    default="1d",
    show_default=True,
    callback=_span,
    metavar="SPAN",
    help="From then to the old one's end.",
)
@click.option("--days", type=click.IntRange(min=1, max=36500), help="Days of the new key.  [default: no end]")
@click.option("--id", "key_id", help="Name of the new key.  [default: date and 4 hex digits]")
@click.option("--identity", metavar="ENTRY", help="Rotate the key of this client, like dns:client.example.")
@file_option
def rotate(
    *, lead: timedelta, overlap: timedelta, days: int | None, key_id: str | None, identity: str | None, path: Path
) -> None:
    """Add a key that takes over later.

    Until --in is over nobody signs with it: time to bring the file to every server, then to every client, in this
    order. Then the clients sign with it by themselves. The key that signed until now ends --overlap after that, and is
    of no use any more; `sealwire keys prune` takes it out.

    \b
    sealwire keys rotate --in 1h --overlap 1d
    """
    if identity is not None:
        PeerPolicy([identity])  # refuses what is no entry
    now = datetime.now(UTC).replace(microsecond=0)
    start, end = now + lead, now + lead + overlap
    made: list[Key] = []
    ended: list[str] = []

    def edit(text: str, ring: Keyring | None) -> str:
        present = [key for key in ring or () if key.identity == identity and key.valid_at(now)]
        if not present:
            whose = "" if identity is None else f" of {identity}"
            raise ConfigurationError(
                f"{path}: no key{whose} is valid now, which could be rotated; see `sealwire keys list`"
            )
        key = Key(
            key_id or free_id(now, {each.id for each in ring or ()}),
            secrets.token_bytes(MIN_SECRET),
            not_before=start,
            not_after=None if days is None else start + timedelta(days=days),
            identity=identity,
        )
        made.append(key)
        ended.extend(each.id for each in present if each.not_after is None or each.not_after > end)
        document = tomlkit.parse(text)
        for entry in _entries(document):
            if entry["id"] in ended:
                entry["not_after"] = end
        return append(tomlkit.dumps(document), key)

    change(path, edit)
    (key,) = made
    report_written(path, f"key {key.id!r} added")
    for each in ended:
        click.echo(f"key {printable(each)} ends {moment_text(end)}")
    click.echo(
        f"Next: bring the file to the servers, then to the clients, all before {moment_text(start)}, when it signs"
    )


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--force", is_flag=True, help="Even if no key is left that is valid now.")
@file_option
def revoke(*, key_id: str, force: bool, path: Path) -> None:
    """Take a key out at once.

    Bring the file to every server: connections under this key are closed, and new ones refused.

    \b
    sealwire keys revoke 2026-11-25-4f1a
    """
    now = datetime.now(UTC)

    def edit(text: str, ring: Keyring | None) -> str:
        if ring is None or ring.get(key_id) is None:
            raise ConfigurationError(f"{path}: no key has the id {key_id!r}; see `sealwire keys list`")
        rest = [key for key in ring if key.id != key_id]
        if not any(key.valid_at(now) for key in rest) and not (force and rest):
            raise ConfigurationError(
                f"{path}: without {key_id!r} no key would be valid now, and nobody could connect; "
                "add another one first (`sealwire keys new`)" + (", or --force" if rest else "")
            )
        return _without(text, {key_id})

    change(path, edit)
    report_written(path, f"key {key_id!r} taken out")
    click.echo("Next: bring the file to the servers, then to the clients")


@keys.command()
@click.option(
    "--older-than", "age", default="1d", show_default=True, callback=_span, metavar="SPAN", help="Since they expired."
)
@file_option
def prune(*, age: timedelta, path: Path) -> None:
    """Take out keys that have expired.

    \b
    sealwire keys prune
    """
    limit = datetime.now(UTC) - age
    gone: list[str] = []

    def edit(text: str, ring: Keyring | None) -> str:
        keys = list(ring or ())
        gone.extend(key.id for key in keys if key.not_after is not None and key.not_after < limit)
        if len(gone) == len(keys):
            raise ConfigurationError(f"{path}: every key has expired; add one first (`sealwire keys new`)")
        return _without(text, set(gone))

    ring = Keyring.from_file(path)
    if not any(key.not_after is not None and key.not_after < limit for key in ring):
        click.echo(f"nothing to take out of {printable(path)}")
        return
    change(path, edit)
    report_written(path, f"taken out: {', '.join(gone)}")


@keys.command()
@click.argument("key_id", metavar="[ID]", required=False)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@file_option
def show(*, key_id: str | None, as_json: bool, path: Path) -> None:
    """Show keys one by one, never their secrets.

    With the moments at which each begins and ends to sign.

    \b
    sealwire keys show 2026-11-25-4f1a
    """
    ring = Keyring.from_file(path)
    chosen = [key for key in ring if key_id in (None, key.id)]
    if not chosen:
        raise ConfigurationError(f"{path}: no key has the id {key_id!r}; see `sealwire keys list`")
    now = datetime.now(UTC)
    if as_json:
        print_json([_as_json(key, ring, now) for key in chosen])
        return
    for key in chosen:
        click.echo(f"key {printable(key.id)}")
        end = moment_text(key.not_after) if key.not_after is not None else "no end"
        print_fields(
            [
                ("state", state(key, ring, now)),
                ("valid from", moment_text(key.not_before)),
                ("until", end),
                ("for", key.identity or "everybody"),
                ("secret", f"{len(key.secret)} bytes, not shown"),
            ]
        )


def _as_json(key: Key, ring: Keyring, now: datetime) -> dict[str, Any]:
    return {
        "id": key.id,
        "state": state(key, ring, now),
        "not_before": None if key.not_before is None else key.not_before.isoformat(),
        "not_after": None if key.not_after is None else key.not_after.isoformat(),
        "identity": key.identity,
    }


def _entries(document: Any) -> list[Any]:
    return list(document["key"])


def _without(text: str, ids: set[str]) -> str:
    """The text without those keys; comments and the other ones stay."""
    document = tomlkit.parse(text)
    kept = document["key"]
    for index in reversed(range(len(kept))):
        if kept[index]["id"] in ids:
            del kept[index]
    return tomlkit.dumps(document)
