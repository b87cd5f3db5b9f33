"""The directory that ``sealwire certs`` and ``sealwire keys`` work in."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from sealwire.cli.console import print_line
from sealwire.errors import ConfigurationError
from sealwire.pki.files import PUBLIC, NewFile, write_files

DEFAULT: Final = Path("certs")
_GITIGNORE: Final = b"# Keys and certificates are never committed.\n*\n"


def prepare(directory: Path) -> None:
    """Make the directory if it is missing: for its owner only, and with its content ignored by git. Raises OSError."""
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not directory.is_dir():
            raise
    else:
        write_files([NewFile(directory / ".gitignore", _GITIGNORE, PUBLIC)])


def report_kept(paths: list[Path]) -> None:
    """Print the names under which replaced files were kept."""
    for path in paths:
        print_line(f"kept {path}: the file that was replaced; remove it when it is not needed any more")


def report_written(path: Path, text: str) -> None:
    """Print that a file was written, its mode, and its content in words."""
    mode = stat.S_IMODE(path.stat().st_mode)
    print_line(f"wrote {path} (mode {mode:04o}): {text}")


def mode_of(path: Path, default: int) -> int:
    """Return the mode of a file, or ``default`` if there is none."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return default


def refuse_link(path: Path) -> None:
    """Raise ConfigurationError if a file to replace is a symbolic link, which would be lost."""
    if path.is_symlink():
        raise ConfigurationError(
            f"{path}: a symbolic link, which another tool may have put there; work on {os.path.realpath(path)} itself"
        )
