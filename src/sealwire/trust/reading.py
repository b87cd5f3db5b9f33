"""Reads small files that others may replace at any time; each error names the file, and the remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sealwire.errors import ConfigurationError
from sealwire.remedies import command

StrPath = str | os.PathLike[str]


class TooLarge(ConfigurationError):
    """A file is larger than it may be."""


class FileContent(NamedTuple):
    """The content of a file, and its modification time in seconds since the epoch."""

    data: bytes
    modified: float


def read_file(
    path: StrPath, *, max_bytes: int, check: Callable[[os.stat_result, str], None] | None = None
) -> FileContent:
    """Read a small file.

    Args:
        path: The file.
        max_bytes: Largest size accepted.
        check: Called with the open file's status and its name before anything is read; may raise ConfigurationError.

    Raises:
        ConfigurationError: The file cannot be read, is too large or fails the check. The message names it.
    """
    name = os.fsdecode(path)
    try:
        # O_NONBLOCK: opening a FIFO must not hang.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if check is not None:
                check(status, name)
            data = file.read(max_bytes + 1) or b""
    except ConfigurationError:
        raise
    except PermissionError as error:
        raise ConfigurationError(f"{name}: cannot be read ({error.strerror}); {_access(name)}") from None
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise ConfigurationError(f"{name!r}: cannot be read (not a valid path)") from None
    if len(data) > max_bytes:
        raise TooLarge(f"{name}: larger than {max_bytes} bytes")
    return FileContent(data, status.st_mtime)


def _can_be_entered(directory: Path) -> bool:
    return os.access(directory, os.X_OK, effective_ids=True)


def _access(name: str) -> str:
    """Tell how this process can be given access to a file."""
    user = os.geteuid()
    try:
        status = os.stat(name)
    except OSError:
        # Links lead elsewhere: what is closed is on the way to what they name.
        closed = next(each for each in Path(os.path.realpath(name)).parents if _can_be_entered(each.parent))
        return (
            f"{closed} keeps this process's user (uid {user}) out; let it in there ({command('chmod', 'o+x', closed)})"
        )
    return (
        f"it belongs to uid {status.st_uid}, gid {status.st_gid} with mode {status.st_mode & 0o7777:04o}, and this "
        f"process is uid {user}: run {command('chown', str(user), name)} and {command('chmod', '600', name)}, or leave "
        "it to root with mode 0640 and a group of this process"
    )
