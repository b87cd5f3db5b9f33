"""``sealwire keys new``: a key that is valid at once, or from a date on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from sealwire.cli.console import print_fields, print_line
from sealwire.cli.keys.common import edit_keyring, file_option, id_option, identity_option, keys
from sealwire.cli.lifetimes import key_state
from sealwire.cli.workdir import report_written
from sealwire.moments import moment_text
from sealwire.pki.authority import BACKDATED
from sealwire.trust.keyring import Keyring


def _parse_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Return a date, or date and time, of ISO 8601; in UTC unless it has another offset."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or not 2000 <= moment.year < 9000:
        raise click.BadParameter(f"{value!r} is not a date like 2026-12-01 or 2026-12-01T08:00:00+01:00", ctx, param)
    return moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)


@keys.command()
@id_option
@click.option(
    "--not-before", metavar="DATE", callback=_parse_moment, help="When it becomes valid.  [default: five minutes ago]"
)
@click.option("--days", type=click.IntRange(min=1, max=36500), help="Days that the key is valid.  [default: no end]")
@identity_option("The only client that may use it, like dns:client.example.")
@file_option
def new(*, key_id: str | None, not_before: datetime | None, days: int | None, identity: str | None, path: Path) -> None:
    """Add a new random key to a keyring file.

    If there is no such file, it is made, with mode 0600.
    """
    now, life = datetime.now(UTC), None if days is None else timedelta(days=days)
    with edit_keyring(path) as file:
        # Not before the start of another one: the newest valid key signs, and that is to be this one.
        starts = [key.not_before for key in file.keys if key.not_before is not None and key.not_before <= now]
        key = file.add(key_id, not_before or max([now - BACKDATED, *starts]), life, identity)
    ring = Keyring.from_file(path)
    report_written(path, f"key {key.id!r} added, {len(ring)} in all" if len(ring) > 1 else f"key {key.id!r}")
    print_fields(
        [
            ("valid from", moment_text(key.not_before)),
            ("until", moment_text(key.not_after)),
            ("for", identity or "every client"),
        ]
    )
    print_line(f"State: {key_state(key, ring)}. The newest valid key signs, every valid one verifies.")
    print_line("Next: bring the file to the servers first, then to the clients, encrypted on its way (scp, a vault)")
