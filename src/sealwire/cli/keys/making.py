"""``sealwire keys new`` and ``list``."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from sealwire.cli.console import print_fields, print_json, print_table, printable
from sealwire.cli.directory import report_written
from sealwire.cli.keys.group import append, change, file_option, free_id, keys, moment_text, state
from sealwire.keyring import Keyring
from sealwire.tls.issue import BACKDATED
from sealwire.tls.policy import PeerPolicy
from sealwire.wire.keys import MIN_SECRET, Key


def _parse_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A date or a date and time, ISO 8601; UTC where it says nothing else."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or not 2000 <= moment.year < 9000:
        raise click.BadParameter(f"{value!r} is no date like 2026-12-01 or 2026-12-01T08:00:00+01:00", ctx, param)
    return moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)


@keys.command()
@click.option("--id", "key_id", help="Name of the key, sent with each handshake.  [default: date and 4 hex digits]")
@click.option(
    "--not-before", metavar="DATE", callback=_parse_moment, help="When it becomes valid.  [default: five minutes ago]"
)
@click.option("--days", type=click.IntRange(min=1, max=36500), help="Days from then to its end.  [default: no end]")
@click.option("--identity", metavar="ENTRY", help="The only client that may use it, like dns:client.example.")
@file_option
def new(*, key_id: str | None, not_before: datetime | None, days: int | None, identity: str | None, path: Path) -> None:
    """Add a new random key to a keyring file.

    If there is no such file, it is made, with mode 0600.
    """
    if identity is not None:
        if not identity.isascii() or not identity.isprintable():
            raise click.BadParameter("printable ASCII only", param_hint="--identity")
        PeerPolicy([identity])  # refuses what is no entry
    now = datetime.now(UTC)
    made: list[Key] = []

    def edit(text: str, ring: Keyring | None) -> str:
        # Not before another one's beginning: the newest valid key signs, and this one is meant to.
        begun = [key.not_before for key in ring or () if key.not_before is not None and key.not_before <= now]
        start = (not_before or max([now - BACKDATED, *begun])).replace(microsecond=0)
        key = Key(
            key_id or free_id(now, {each.id for each in ring or ()}),
            secrets.token_bytes(MIN_SECRET),
            not_before=start,
            not_after=None if days is None else start + timedelta(days=days),
            identity=identity,
        )
        made.append(key)
        return append(text, key)

    changed = change(path, edit)
    (key,) = made
    report_written(path, f"key {key.id!r} added, {len(changed)} in all" if len(changed) > 1 else f"key {key.id!r}")
    print_fields(
        [
            ("valid from", moment_text(key.not_before)),
            ("until", moment_text(key.not_after)),
            ("for", identity or "everybody"),
        ]
    )
    click.echo(f"State: {printable(state(key, changed, now))}. The newest valid key signs, every valid one verifies.")
    click.echo("Next: bring the file to the servers first, to the clients then, encrypted on its way (scp, a vault)")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@file_option
def list_(*, as_json: bool, path: Path) -> None:
    """List the keys in a keyring file, never their secrets."""
    ring = Keyring.from_file(path)
    now = datetime.now(UTC)
    if as_json:
        print_json(
            [
                {
                    "id": key.id,
                    "not_before": None if key.not_before is None else key.not_before.isoformat(),
                    "not_after": None if key.not_after is None else key.not_after.isoformat(),
                    "identity": key.identity,
                    "state": state(key, ring, now),
                }
                for key in ring
            ]
        )
    else:
        print_table(
            ("id", "valid from", "until", "for", "state"),
            (
                (
                    key.id,
                    moment_text(key.not_before),
                    moment_text(key.not_after),
                    key.identity or "everybody",
                    state(key, ring, now),
                )
                for key in ring
            ),
        )
