"""What the commands of ``sealwire keys`` share."""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from sealwire.cli.directory import DEFAULT, prepare, report_kept
from sealwire.errors import ConfigurationError
from sealwire.keyring import Keyring
from sealwire.tls.files import PRIVATE, NewFile, locked, write_files
from sealwire.wire.keys import Key

_HEADER = (
    "# Keyring of Sealwire. Everybody who can read it can pose as its users: mode 0600, never in version control.\n"
)

file_option = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT / "keyring.toml",
    show_default=True,
    help="The keyring file.",
)


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke pre-shared keys."""


def change(path: Path, edit: Callable[[str, Keyring | None], str]) -> Keyring:
    """Replace the keyring file by what ``edit`` makes of its text and its keys; the old one is kept.

    Nobody else changes it meanwhile, and nothing is written that could not be read back.
    Raises ConfigurationError, OSError.
    """
    prepare(path.parent)
    with locked(path):
        text, mode = _existing(path)
        content = edit(text or _HEADER, None if text is None else Keyring.from_toml(text, source=str(path)))
        changed = Keyring.from_toml(content, source=str(path))
        report_kept(write_files([NewFile(path, content.encode(), mode)], replace=text is not None, keep=True))
    return changed


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


def free_id(now: datetime, taken: set[str]) -> str:
    """A new id: today's date and four digits."""
    while (key_id := f"{now:%Y-%m-%d}-{secrets.token_hex(2)}") in taken:
        pass
    return key_id


def append(text: str, key: Key) -> str:
    """The text with one more key; every byte of it stays."""
    fields = {
        "id": json.dumps(key.id),
        "secret": json.dumps(base64.b64encode(key.secret).decode()),
        "not_before": None if key.not_before is None else key.not_before.isoformat(),
        "not_after": None if key.not_after is None else key.not_after.isoformat(),
        "identity": None if key.identity is None else json.dumps(key.identity),
    }
    table = "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None)
    return f"{text}{'' if text.endswith(chr(10)) else chr(10)}\n[[key]]\n{table}"


def state(key: Key, ring: Keyring, now: datetime) -> str:
    """``signs`` (for the clients it is for), ``verifies``, ``not yet valid`` or ``expired``."""
    if key.not_before is not None and now < key.not_before:
        return "not yet valid"
    if not key.valid_at(now):
        return "expired"
    signing = ring.signing_key(now, usable=lambda other: other.identity in (None, key.identity))
    return "signs" if signing.id == key.id else "verifies"


def moment_text(moment: datetime | None) -> str:
    """For people."""
    return "any time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
