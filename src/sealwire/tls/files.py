"""Writing files: at no moment can others read a private one, and nothing is overwritten unasked."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

PRIVATE = 0o600
PUBLIC = 0o644


class NewFile(NamedTuple):
    """A file to write. mode: if private (nothing for group and others) exactly that; else that less the umask."""

    path: Path
    content: bytes
    mode: int


def write_files(files: Iterable[NewFile], *, replace: bool = False, keep: bool = False) -> list[Path]:
    """Write files that belong together, in existing directories, and have them on the disk when this returns.

    Each is created exclusively, with its final mode and without following a symbolic link. If one cannot be created,
    those made before are removed, so that there are all or none.

    replace: put them in the place of files of those names. All are complete under temporary names first, then renamed:
    at any moment a name stands for the old file or the new one, whole. keep: keep the old ones beside them, under their
    names and the time at which they were written; returns these.

    The new ones belong to whom the old ones belonged to.

    Raises FileExistsError without ``replace``, PermissionError where with it the old file is another user's, and every
    other OSError of the calls beneath.
    """
    wanted = list(files)
    old = [_replaceable(file.path) if replace else None for file in wanted]
    names = [_temporary(file.path) if replace else file.path for file in wanted]
    made: list[Path] = []
    kept: list[Path] = []
    try:
        for name, file, before in zip(names, wanted, old, strict=True):
            _create(name, file, made, before)
        if replace:
            for file in wanted if keep else ():
                kept += _keep(file.path)
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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold off everybody else who locks ``path``, which need not exist, to read it, change it and write it back.

    The lock (flock(2), freed with the process) is on ``.NAME.lock`` beside it, because replacing a file leaves its own
    lock on the old one. That file stays: removing it would let two hold locks on two files of that name.
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
            # All that the umask can have taken from it are the owner's own bits.
            os.fchmod(stream.fileno(), file.mode)
        if old is not None:
            # Whoever reads the old one has to read the new one.
            with suppress(PermissionError):  # of a group that we are not in
                os.fchown(stream.fileno(), old.st_uid, old.st_gid)
            os.fchmod(stream.fileno(), file.mode)
        stream.write(file.content)
        stream.flush()
        os.fsync(stream.fileno())


def _keep(path: Path) -> list[Path]:
    """A second name for the file, under which it stays as it is, mode and owner too; none where there is no file."""
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
    """The file's status, whose owner the new one gets; None where there is no file.

    Only root can give files away: one of ours in the place of another user's could not be read by the service that it
    is for. Raises PermissionError.
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
    """A new name is on the disk when its directory is (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
