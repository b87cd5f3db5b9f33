"""The directory that ``sealwire certs`` and ``sealwire keys`` work in."""

from __future__ import annotations

import stat
from pathlib import Path

import click

from sealwire.cli.console import printable
from sealwire.tls.files import PUBLIC, NewFile, write_files

DEFAULT = Path("certs")
_GITIGNORE = b"# Keys and certificates are never committed.\n*\n"


def prepare(directory: Path) -> None:
    """Make the directory if it is missing: for its owner only, and such that git sees nothing in it. Raises OSError."""
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not directory.is_dir():
            raise
    else:
        write_files([NewFile(directory / ".gitignore", _GITIGNORE, PUBLIC)])


def report_kept(paths: list[Path]) -> None:
    """Say where the files are that were replaced."""
    for path in paths:
        click.echo(f"kept {printable(path)}: what was there before; remove it when nobody needs it any more")


def report_written(path: Path, what: str) -> None:
    """Say that a file was written, and with what mode."""
    mode = stat.S_IMODE(path.stat().st_mode)
    click.echo(f"wrote {printable(path)} (mode {mode:04o}): {what}")
