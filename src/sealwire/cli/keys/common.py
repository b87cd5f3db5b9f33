"""Options of the commands of ``sealwire keys``, and changes to a keyring file."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import tomlkit

from sealwire.cli.lifetimes import iso
from sealwire.cli.options import FILE, checked, is_given
from sealwire.cli.workdir import DEFAULT, mode_of, prepare, refuse_link, replace_files
from sealwire.errors import ConfigurationError
from sealwire.pki.files import PRIVATE, NewFile, locked
from sealwire.remedies import command
from sealwire.trust.key_snapshot import KeySnapshot
from sealwire.trust.keyring import Keyring, read_keyring
from sealwire.trust.peers import PeerPolicy
from sealwire.wire.keys import MIN_SECRET, Key

HEADER: Final = (
    "# Keyring of Sealwire. Each of its readers can pose as its users: mode 0600, never in version control.\n"
)
_SPAN: Final = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _check_id(value: str) -> None:
    Key(value, bytes(MIN_SECRET))


_DEFAULT: Final = DEFAULT / "keyring.toml"
file_option = click.option(
    "-f", "--file", "path", type=FILE, default=_DEFAULT, show_default=True, help="The keyring file."
)
id_option = click.option(
    "--id",
    "key_id",
    callback=checked(_check_id),
    help="Name of the key, sent with each handshake.  [default: date and 4 hex digits]",
)


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke pre-shared keys."""


def identity_option(help_text: str, name: str = "--identity", *, required: bool = False) -> Callable[[Any], Any]:
    """Return the option of that name for an entry of a list of peers, the parameter ``identity``."""
    check = checked(_check_identity)
    return click.option(name, "identity", metavar="ENTRY", callback=check, required=required, help=help_text)


def _check_identity(value: str) -> None:
    if not value.isascii() or not value.isprintable():
        raise ConfigurationError("printable ASCII only")
    PeerPolicy([value])


def span_option(*names: str, default: str, help_text: str) -> Callable[[Any], Any]:
    """Return an option for a span of time like 90s, 30m, 12h or 7d."""
    return click.option(
        *names, default=default, show_default=True, callback=_parse_span, metavar="SPAN", help=help_text
    )


def _parse_span(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    match = _SPAN.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a span of time like 90s, 30m, 12h or 7d", ctx, param)
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


class KeyringFile:
    """The text and keys of a keyring file, to be changed; comments and formatting stay."""

    def __init__(self, path: Path) -> None:
        refuse_link(path)
        self.path: Final = path
        content = read_keyring(path).data if path.exists() else b""
        present = KeySnapshot.parse(content, source=str(path)) if content else None
        self.keys: Final = list(present or ())
        """The keys before any change; none if there is no file."""
        self.revoked: Final = () if present is None else present.revoked
        """The ids of those that are marked as revoked."""
        self._old = self._text = content.decode()
        self._added: set[str] = set()

    def add(self, key_id: str | None, start: datetime, life: timedelta | None, identity: str | None) -> Key:
        """Append a key with a random secret; an id is made of the date and random digits if none is given."""
        start = start.replace(microsecond=0)
        key = Key(
            key_id or _free_id({*(key.id for key in self.keys), *self.revoked, *self._added}),
            secrets.token_bytes(MIN_SECRET),
            not_before=start,
            not_after=None if life is None else start + life,
            identity=identity,
        )
        self.append(table_of(key))
        self._added.add(key.id)
        return key

    def append(self, table: str) -> None:
        """Append the text of a table."""
        text = self._text or HEADER
        self._text = f"{text}{'' if text.endswith(chr(10)) else chr(10)}\n{table}"

    def end(self, ids: Collection[str], moment: datetime) -> None:
        """Let keys end at that moment."""
        document: Any = tomlkit.parse(self._text)
        for entry in document["key"]:
            if entry["id"] in ids:
                entry["not_after"] = moment
        self._text = tomlkit.dumps(document)

    def set_times(self, key: Key) -> None:
        """Give the key of that id the beginning and the end of this one."""
        document: Any = tomlkit.parse(self._text)
        for entry in document["key"]:
            if entry["id"] == key.id:
                for name, moment in (("not_before", key.not_before), ("not_after", key.not_after)):
                    if moment is not None:
                        entry[name] = moment
                    elif name in entry:
                        del entry[name]
        self._text = tomlkit.dumps(document)

    def revoke(self, key_id: str) -> None:
        """Mark a key as revoked, and drop its secret."""
        document: Any = tomlkit.parse(self._text)
        for entry in document["key"]:
            if entry["id"] == key_id:
                entry["revoked"] = True
                del entry["secret"]
        self._text = tomlkit.dumps(document)

    def remove(self, ids: Collection[str]) -> None:
        """Take keys out."""
        document: Any = tomlkit.parse(self._text)
        entries = document["key"]
        for index in reversed(range(len(entries))):
            if entries[index]["id"] in ids:
                del entries[index]
        self._text = tomlkit.dumps(document)

    def save(self) -> None:
        """Replace the file if anything has changed, and keep the old one. Raises ConfigurationError, OSError."""
        if self._text != self._old:
            Keyring.from_toml(self._text, source=str(self.path))  # nothing is written that could not be read
            file = NewFile(self.path, self._text.encode(), mode_of(self.path, PRIVATE))
            replace_files([file], replace=bool(self._old))


@contextmanager
def edit_keyring(path: Path) -> Iterator[KeyringFile]:
    """Read a keyring file, if there is one, and save it at the end of the block; a lock holds off other editors."""
    prepare(path.parent)
    with locked(path):
        file = KeyringFile(path)
        yield file
        file.save()


def keys_command(path: Path, *words: str | Path) -> str:
    """Return a command of this group in backquotes, with ``--file`` if the user gave it."""
    there = ("--file", path) if path != _DEFAULT or is_given("path") else ()
    return command("sealwire", "keys", *words, *there)


def find_keys(keys: Iterable[Key], key_id: str | None, path: Path) -> list[Key]:
    """Return the key of that id, or if it is None, all keys. Raises ConfigurationError."""
    found = [key for key in keys if key_id in (None, key.id)]
    if not found:
        raise ConfigurationError(f"{path}: no key has the id {key_id!r}; see {keys_command(path, 'list')}")
    return found


def _free_id(taken: Collection[str]) -> str:
    while (key_id := f"{datetime.now(UTC):%Y-%m-%d}-{secrets.token_hex(2)}") in taken:
        pass
    return key_id


def table_of(key: Key) -> str:
    """Return the table of a key, with its secret."""
    fields = {
        "id": json.dumps(key.id),
        "secret": json.dumps(base64.b64encode(key.secret).decode()),
        "not_before": iso(key.not_before),
        "not_after": iso(key.not_after),
        "identity": None if key.identity is None else json.dumps(key.identity),
    }
    return "[[key]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None)
