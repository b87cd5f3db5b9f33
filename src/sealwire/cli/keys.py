"""``sealwire keys``: the pre-shared keys in a keyring file."""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from sealwire.cli.console import print_fields, print_json, print_table, printable
from sealwire.cli.directory import DEFAULT, prepare, report_kept, report_written
from sealwire.errors import ConfigurationError
from sealwire.keyring import Keyring
from sealwire.tls.files import PRIVATE, NewFile, locked, write_files
from sealwire.tls.issue import BACKDATED
from sealwire.tls.policy import PeerPolicy
from sealwire.wire.keys import MIN_SECRET, Key

_HEADER = (
    "# Keyring of Sealwire. Everybody who can read it can pose as its users: mode 0600, never in version control.\n"
)

_file = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT / "keyring.toml",
    show_default=True,
    help="The keyring file.",
)


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


@click.group()
def keys() -> None:
    """Make and list pre-shared keys."""


@keys.command()
@click.option("--id", "key_id", help="Name of the key, sent with each handshake.  [default: date and 4 hex digits]")
@click.option(
    "--not-before", metavar="DATE", callback=_parse_moment, help="When it becomes valid.  [default: five minutes ago]"
)
@click.option("--days", type=click.IntRange(min=1, max=36500), help="Days from then to its end.  [default: no end]")
@click.option("--identity", metavar="ENTRY", help="The only client that may use it, like dns:client.example.")
@_file
def new(*, key_id: str | None, not_before: datetime | None, days: int | None, identity: str | None, path: Path) -> None:
    """Add a new random key to a keyring file.

    If there is no such file, it is made, with mode 0600.
    """
    if identity is not None:
        if not identity.isascii() or not identity.isprintable():
            raise click.BadParameter("printable ASCII only", param_hint="--identity")
        PeerPolicy([identity])  # refuses what is no entry
    now = datetime.now(UTC)
    start = (not_before or now - BACKDATED).replace(microsecond=0)
    prepare(path.parent)
    with locked(path):
        text, mode = _existing(path)
        ring = () if text is None else tuple(Keyring.from_toml(text, source=str(path)))
        key = Key(
            key_id or _free_id(now, {each.id for each in ring}),
            secrets.token_bytes(MIN_SECRET),
            not_before=start,
            not_after=None if days is None else start + timedelta(days=days),
            identity=identity,
        )
        content = _append(text if text is not None else _HEADER, key)
        changed = Keyring.from_toml(content, source=str(path))  # never write what could not be read back
        report_kept(write_files([NewFile(path, content.encode(), mode)], replace=text is not None, keep=True))
    report_written(path, f"key {key.id!r} added, {len(changed)} in all" if ring else f"key {key.id!r}")
    print_fields(
        [("valid from", _moment(key.not_before)), ("until", _moment(key.not_after)), ("for", identity or "everybody")]
    )
    click.echo(f"State: {printable(_state(key, changed, now))}. The newest valid key signs, every valid one verifies.")
    click.echo("Next: bring the file to the servers first, to the clients then, encrypted on its way (scp, a vault)")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@_file
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
                    "state": _state(key, ring, now),
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
                    _moment(key.not_before),
                    _moment(key.not_after),
                    key.identity or "everybody",
                    _state(key, ring, now),
                )
                for key in ring
            ),
        )


def _existing(path: Path) -> tuple[str | None, int]:
    """Text and mode of a keyring file that may be changed; None and 0600 for one to make."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None, PRIVATE
    if stat.S_ISLNK(status.st_mode):
        raise ConfigurationError(f"{path}: a symbolic link; give --file {os.path.realpath(path)}")
    Keyring.from_file(path)  # for its checks of mode and kind
    return path.read_bytes().decode(), stat.S_IMODE(status.st_mode)


def _free_id(now: datetime, taken: set[str]) -> str:
    while (key_id := f"{now:%Y-%m-%d}-{secrets.token_hex(2)}") in taken:
        pass
    return key_id


def _append(text: str, key: Key) -> str:
    fields = {
        "id": json.dumps(key.id),
        "secret": json.dumps(base64.b64encode(key.secret).decode()),
        "not_before": None if key.not_before is None else key.not_before.isoformat(),
        "not_after": None if key.not_after is None else key.not_after.isoformat(),
        "identity": None if key.identity is None else json.dumps(key.identity),
    }
    table = "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None)
    return f"{text}{'' if text.endswith(chr(10)) else chr(10)}\n[[key]]\n{table}"


def _state(key: Key, ring: Keyring, now: datetime) -> str:
    """``signs`` (for the clients it is for), ``verifies``, ``not yet valid`` or ``expired``."""
    if key.not_before is not None and now < key.not_before:
        return "not yet valid"
    if not key.valid_at(now):
        return "expired"
    signing = ring.signing_key(now, usable=lambda other: other.identity in (None, key.identity))
    return "signs" if signing.id == key.id else "verifies"


def _moment(moment: datetime | None) -> str:
    return "any time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
