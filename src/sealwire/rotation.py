"""Files that are replaced while a service runs.

What a set of files holds at one moment is a *generation*: read together, proved, and then in service as one reference
that is swapped. Whoever uses one keeps it for as long as he needs one consistent view. A generation that cannot be
proved leaves the one before in service.

Changes are noticed by content, because everything else misses some way of replacing a file: a rename keeps the old
times, Kubernetes swaps a directory above, an editor writes in place. Two things keep a half-written state out: the
names are resolved before and after reading, and what was written a moment ago is looked at once more before it counts.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Generic, NamedTuple, TypeVar

from sealwire.errors import ConfigurationError

logger = logging.getLogger("sealwire.rotation")

T = TypeVar("T")
Path = str | os.PathLike[str]
Contents = Mapping[str, bytes]

SETTLED: Final = 0.25
"""Seconds since a file was last written, before which whoever writes it may not be done."""
_ATTEMPTS: Final = 3
"""Readings until the names stand for the same files before and after."""


class Content(NamedTuple):
    """A file as it was read. modified: its time of last modification, in seconds since the epoch."""

    data: bytes
    modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation(Generic[T]):
    """What is in service. number: counted from 1. digest: SHA-256 of what the files hold, in hexadecimal: the same in
    every process that has read the same. loaded_at: aware."""

    value: T
    number: int
    digest: str
    loaded_at: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the files hold now, and why it is not in service. since: when it was first seen, aware."""

    reason: str
    digest: str
    since: datetime


def read_file(path: Path, *, most: int, check: Callable[[os.stat_result, str], None] | None = None) -> Content:
    """Read a file of at most that many bytes; ``check`` sees its status and name first.

    Raises ConfigurationError, naming the file.
    """
    name = os.fspath(path)
    try:
        # O_NONBLOCK, so that a FIFO in the file's place cannot stop us.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if check is not None:
                check(status, name)
            data = file.read(most + 1) or b""
    except ConfigurationError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise ConfigurationError(f"{name!r}: cannot be read (no path has such characters)") from None
    if len(data) > most:
        raise ConfigurationError(f"{name}: larger than {most} bytes")
    return Content(data, status.st_mtime)


class Watched(Generic[T]):
    """The newest good generation of what some files hold.

    what: their name in the log. files: path by the part that each plays. read: reads one. prove: makes of the contents,
    by part, what they stand for, given what is in service (None at first). Both raise ConfigurationError; here that
    leaves this object unmade, later it is logged. Threads may share it, and forked children inherit it.
    """

    def __init__(
        self,
        what: str,
        files: Mapping[str, Path],
        *,
        read: Callable[[str, Path], Content],
        prove: Callable[[Contents, T | None], T],
    ) -> None:
        self.what: Final = what
        # A service may change its directory.
        self.files: Final = {part: os.path.abspath(path) for part, path in files.items()}
        self._named: Final = {part: os.fspath(path) for part, path in files.items()}
        self._read = read
        self._prove = prove
        self._lock = threading.Lock()
        self._process = os.getpid()
        contents = self._contents(self._named)
        self._generation = _generation(1, prove(_data(contents), None), contents)
        self.refusal: Refusal | None = None
        self.refusals = 0
        self._next_look = 0.0

    @property
    def generation(self) -> Generation[T]:
        """What is in service."""
        return self._generation

    def refresh(self, interval: float) -> T:
        """What is in service, after a look at the files where the last one is ``interval`` seconds ago."""
        if time.monotonic() >= self._next_look:
            self._look(interval, wait=False)
        return self._generation.value

    def reload(self) -> bool:
        """Look at the files now. Whether what they hold is in service."""
        self._look(0.0, wait=True)
        return self.refusal is None

    def _look(self, interval: float, *, wait: bool) -> None:
        if self._process != os.getpid():
            # In a forked child nobody is left who could give the lock back.
            self._lock, self._process = threading.Lock(), os.getpid()
        # Others go on with what is there while one looks.
        if not self._lock.acquire(blocking=wait):
            return
        try:
            self._next_look = time.monotonic() + interval
            try:
                contents = self._contents(self.files)
            except ConfigurationError as error:
                self._refuse(str(error), "")
                return
            if not wait and _digest(contents) != self._generation.digest and not _settled(contents):
                self._next_look = time.monotonic() + min(interval, SETTLED)
                return
            self._take(contents)
        finally:
            self._lock.release()

    def _take(self, contents: Mapping[str, Content]) -> None:
        digest = _digest(contents)
        if digest == self._generation.digest:
            if self.refusal is not None:
                logger.info("%s: the files hold what is in service again", self.what)
            self.refusal = None
            return
        try:
            value = self._prove(_data(contents), self._generation.value)
        except ConfigurationError as error:
            self._refuse(str(error), digest)
            return
        self.refusal = None
        self._generation = _generation(self._generation.number + 1, value, contents)
        number, digest = self._generation.number, self._generation.digest[:12]
        logger.info("%s: generation %d in service (digest %s): %s", self.what, number, digest, value)

    def _refuse(self, reason: str, digest: str) -> None:
        if self.refusal is None or (self.refusal.reason, self.refusal.digest) != (reason, digest):
            self.refusal = Refusal(reason, digest, datetime.now(UTC))
            self.refusals += 1
            logger.error(
                "%s: what the files hold now is not taken, generation %d stays in service: %s",
                self.what, self._generation.number, reason,
            )  # fmt: skip

    def _contents(self, files: Mapping[str, str]) -> dict[str, Content]:
        """All files, from one state of the directories that lead to them."""
        for _ in range(_ATTEMPTS):
            before = _resolved(files)
            contents = {part: self._read(part, path) for part, path in files.items()}
            if before == _resolved(files):
                return contents
        raise ConfigurationError(f"{', '.join(files.values())}: replaced again and again while they were read")


def _generation(number: int, value: T, contents: Mapping[str, Content]) -> Generation[T]:
    return Generation(value=value, number=number, digest=_digest(contents), loaded_at=datetime.now(UTC))


def _data(contents: Mapping[str, Content]) -> dict[str, bytes]:
    return {part: content.data for part, content in contents.items()}


def _resolved(files: Mapping[str, str]) -> list[str]:
    with suppress(ValueError):  # no path has such characters, as whoever reads it says
        return [os.path.realpath(path) for path in files.values()]
    return []


def _settled(contents: Mapping[str, Content]) -> bool:
    now = time.time()
    # A time in the future is another machine's clock, and says nothing.
    return not any(0 <= now - content.modified < SETTLED for content in contents.values())


def _digest(contents: Mapping[str, Content]) -> str:
    whole = sha256()
    for part, content in sorted(contents.items()):
        whole.update(f"{part} {len(content.data)}\n".encode())
        whole.update(content.data)
    return whole.hexdigest()
