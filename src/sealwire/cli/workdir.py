"""The directory that ``sealwire certs`` and ``sealwire keys`` work in."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Final

from sealwire.cli.console import print_line
from sealwire.errors import ConfigurationError
from sealwire.pki.authority import MAX_LEAF_DAYS
from sealwire.pki.files import PUBLIC, NewFile, kept_copies, write_files

DEFAULT: Final = Path("certs")
KEEP_SECRETS: Final = timedelta(days=7)
"""The time for which a replaced private key or keyring is kept, to go back; then the next command removes it."""
KEEP_PUBLIC: Final = timedelta(days=MAX_LEAF_DAYS)
"""The same for a certificate or revocation list: a certificate can be revoked by its name until it expires."""
_SUFFIXES: Final = (".pem", ".crt", ".csr", ".key", ".toml")
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


def replace_files(files: Iterable[NewFile], *, replace: bool = True) -> None:
    """Write files as :func:`write_files` does, keep those that are replaced for a while, and tell of them.

    Raises FileExistsError without ``replace``, and OSError.
    """
    wanted = list(files)
    for path in write_files(wanted, replace=replace, keep=True):
        print_line(f"kept {path}: the file that was replaced, for {_time_kept(path).days} days")
    for directory in {file.path.parent for file in wanted}:
        remove_old_copies(directory)


def remove_old_copies(directory: Path, age: timedelta | None = None, *, name: str | None = None) -> list[Path]:
    """Remove the copies of replaced files that have been kept for long enough.

    Args:
        directory: Where they are.
        age: How long that is, in place of the usual times.
        name: Only those of the file of this name.

    Raises:
        OSError: A system call failed.
    """
    now = time.time()
    removed = []
    for path, original in kept_copies(directory).items():
        if (name is None and Path(original).suffix not in _SUFFIXES) or name not in (None, original):
            continue
        kept = _time_kept(Path(original)) if age is None else age
        try:
            # The time of its last change of status, which is when the other name was taken from it.
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and now - status.st_ctime >= kept.total_seconds():
                path.unlink()
                print_line(f"removed {path}: replaced long ago")
                removed.append(path)
        except FileNotFoundError:
            continue  # another process has removed it
        except PermissionError as error:
            print_line(f"{path}: cannot be removed ({error.strerror}), though it was replaced long ago", err=True)
    return removed


def _time_kept(path: Path) -> timedelta:
    # Nothing else can continue the old CA.
    secret = {".key", ".toml"} & set(path.suffixes) and not path.name.startswith("ca.key")
    return KEEP_SECRETS if secret else KEEP_PUBLIC


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
