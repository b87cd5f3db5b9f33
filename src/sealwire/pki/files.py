"""Writes files: private ones are never readable by others, and nothing is overwritten unless asked for."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

PRIVATE = 0o600
PUBLIC = 0o644
_KEPT: Final = re.compile(r"(.+)\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(?:\.\d+)?")
_LEFT: Final = re.compile(r"\.(.+)\.[0-9a-f]{16}")


class NewFile(NamedTuple):
    """A file to write. A mode without group and other bits is set exactly; any other is reduced by the umask."""

    path: Path
    content: bytes
    mode: int


def write_files(files: Iterable[NewFile], *, replace: bool = False, keep: bool = False) -> list[Path]:
    """Write files that belong together, all or none, and sync them to disk.

    Each is created exclusively, with its final mode and without following a symbolic link. Replaced files keep their
    owner. They are written under temporary names and then renamed, so that a name stands for the whole old file or the
    whole new one at any moment.

    Args:
        files: The files, in existing directories, in the order in which they are to appear. A name may come twice.
        replace: Replace existing files.
        keep: Keep replaced files beside the new ones, with their modification time appended to the name.

    Returns:
        The paths of the files kept.

    Raises:
        FileExistsError: A file exists, without ``replace``.
        PermissionError: A file to replace belongs to another user.
        OSError: A system call failed.
    """
    wanted = list(files)
    old = [_replaceable(file.path) if replace else None for file in wanted]
    names = [_temporary(file.path) if replace else file.path for file in wanted]
    made: list[Path] = []
    kept: list[Path] = []
    try:
        for name, file, before in zip(names, wanted, old, strict=True):
            try:
                _create(name, file, made, before)
            except OSError as error:
                error.filename = os.fspath(file.path)  # neither none, of a full disk, nor the temporary one
                raise
        if replace:
            for path in dict.fromkeys(file.path for file in wanted) if keep else ():
                kept += _keep(path)
            for name, file in zip(names, wanted, strict=True):
                os.replace(name, file.path)
    except BaseException:
        for name in made:
            with suppress(FileNotFoundError):
                os.unlink(name)
        raise
    for directory in {file.path.parent for file in wanted}:
        _sync_directory(directory)
    return kept


def pair(cert: NewFile, key: NewFile, old_key: bytes) -> list[NewFile]:
    """Return the files to write, in this order, to replace a certificate and its private key.

    Two files cannot be replaced at one moment. So the file of the key has both keys, the old one first, until the
    certificate is the new one: whenever a process reads the two or is interrupted between, there is a key that fits.

    Args:
        cert: The file of the new certificate.
        key: The file of its private key (PEM).
        old_key: The key of the present certificate (PEM), empty if there is none.
    """
    return [key._replace(content=old_key + key.content), cert, key] if old_key else [key, cert]


def kept_copies(directory: Path) -> dict[Path, str]:
    """Return the copies that :func:`write_files` has kept in a directory, with the name of the file of each.

    With them come files of processes that were killed while they wrote. Raises OSError.
    """
    found = {}
    for path in directory.iterdir():
        match = _KEPT.fullmatch(path.name) or _LEFT.fullmatch(path.name)
        if match is not None:
            found[path] = match[1]
    return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock ``path`` against other processes that lock it, to read, change and replace it. It need not exist.

    The lock (flock(2), released with the process) is on ``.NAME.lock`` beside it, since a lock on the file itself would
    stay with the replaced one. The lock file is never removed: two processes could then hold locks on two files of one
    name.
    """
    name = path.with_name(f".{path.name}.lock")
    with open(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _create(name: Path, file: NewFile, made: list[Path], old: os.stat_result | None) -> None:
    # O_EXCL fails on any symbolic link in the last place, even a dangling one (open(2)).
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, file.mode), "wb") as stream:
        made.append(name)
        if not file.mode & 0o077:
            # The umask can only have cleared bits of the owner.
            os.fchmod(stream.fileno(), file.mode)
        if old is not None:
            # Readers of the old file must be able to read the new one.
            with suppress(PermissionError):  # a group that we are not in
                os.fchown(stream.fileno(), old.st_uid, old.st_gid)
            os.fchmod(stream.fileno(), file.mode)
        stream.write(file.content)
        stream.flush()
        os.fsync(stream.fileno())


def _keep(path: Path) -> list[Path]:
    """Link the file, with mode and owner, to a second name. Return that name, or nothing if there is no file."""
    try:
        written = datetime.fromtimestamp(os.lstat(path).st_mtime, UTC)
    except FileNotFoundError:
        return []
    for number in count():
        name = path.with_name(f"{path.name}.{written:%Y-%m-%dT%H-%M-%SZ}{f'.{number}' if number else ''}")
        try:
            os.link(path, name, follow_symlinks=False)
        except FileExistsError:
            continue
        return [name]
    raise AssertionError  # count() does not end


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _replaceable(path: Path) -> os.stat_result | None:
    """Return the status of the file to replace; None if there is none. Raises PermissionError.

    Only root can give files away. Replaced by one of ours, another user's file would be unreadable for its service.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if status.st_uid != os.geteuid() != 0:
        raise PermissionError(
            errno.EPERM,
            f"belongs to another user (uid {status.st_uid}); run this as that user, or remove the file first",
            str(path),
        )
    return status


def _sync_directory(directory: Path) -> None:
    """Sync a directory, which holds the names of new files (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
