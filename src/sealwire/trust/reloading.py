"""Values that follow the files they were read from, without a restart.

The files of one :class:`Reloadable` (say certificate, private key and trust anchors) are read, validated and put in
service together; each such set is a *generation*. Its value is immutable and reached through one reference, so a thread
that has fetched it keeps a consistent view for as long as it needs one. Files that fail validation change nothing: the
generation in service stays, and the reason goes to the log and to :attr:`Status.refusal`.

Changes are detected by content, because timestamps and inode numbers each miss some way to replace a file: a rename
keeps the old times, Kubernetes swaps a directory further up the path, an editor writes in place.

Half-written files must not come into service. Two checks keep them out:

* Paths are resolved before and after reading. If they differ, a directory on the way was swapped meanwhile, and
  everything is read again, so that all parts belong to one state.
* New content is left alone for ``SETTLE_SECONDS`` after the last write, since the writer may not have finished, and is
  then read once more. :meth:`Reloadable.reload` skips this check: its caller says that the files are complete.

A file that was cut between two of its parts can pass both, and be valid. So a subclass may keep what is in use and has
vanished without a word (:meth:`Reloadable._keep`) until ``STEADY_LOOKS`` checks have found the file unchanged.

One thread at a time reads the files; the others continue with the current value instead of waiting. A signal handler
may raise as soon as the lock is acquired, or call this again in the same thread: so it is reentrant, acquired inside
the ``try``, and released, if it was acquired, by a call that no other call comes before. A forked child makes itself a
new lock, because the thread that held the old one may not exist there.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar, Final, Generic, TypeVar

from sealwire.errors import ConfigurationError
from sealwire.events import emit
from sealwire.trust.reading import FileContent, StrPath

T = TypeVar("T")
FileContents = Mapping[str, bytes]

SETTLE_SECONDS: Final = 0.25
"""Seconds without a write after which a file counts as complete."""
LOOK_INTERVAL: Final = 0.25
"""Seconds between two looks at the files that a peer can cause."""
LOOK_PATIENCE: Final = 1.0
"""Seconds that a look may take: another thread's check, or files that are just being written."""
PAUSE: Final = 9
"""The shortest pause after a check of refused files, as a multiple of its time. They are validated at each check, since
the reason may have passed; without a pause, a thread that checks before it reads might never come to read."""
STATUS_INTERVAL: Final = 1.0
"""Seconds between two looks that are made for a status alone."""
STEADY_LOOKS: Final = 3
"""Further looks at unchanged files after which what they lack is meant to be gone."""
_ATTEMPTS: Final = 3
"""Readings before giving up on files that are replaced each time."""


@dataclass(frozen=True, slots=True)
class RejectedReload:
    """Files that could not be put in service.

    Attributes:
        reason: The error, naming the file and the remedy.
        digest: SHA-256 of the files' content in hexadecimal; empty if they could not be read.
        since: When this was first seen (aware).
    """

    reason: str
    digest: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Status:
    """The generation in service, and the state of its files.

    Attributes:
        generation: Its number, counted from 1.
        digest: SHA-256 of the files' content in hexadecimal, equal in all processes that loaded the same; empty without
            files.
        loaded_at: When it was loaded (aware); None without files.
        files: Absolute paths by part.
        refusal: Why the present content of the files is not in service; None if it is.
        refusals: The number of times that new content was rejected.
    """

    generation: int = 1
    digest: str = ""
    loaded_at: datetime | None = None
    files: dict[str, str]
    refusal: RejectedReload | None = None
    refusals: int = 0


class Reloadable(ABC, Generic[T]):
    """A value that is read from files and replaced when they change; base of Credentials and Keyring.

    Subclasses say how to read one file and how to make a value of all contents. Both raise ConfigurationError: from
    the constructor it propagates, later it is logged and recorded in the status. Instances may be shared by threads
    and inherited by forked children.
    """

    __slots__ = (
        "_checked_since",
        "_loaded",
        "_lock",
        "_looking",
        "_looks",
        "_next_check",
        "_next_look",
        "_paths",
        "_process",
    )

    _log_name: ClassVar[str]
    _loaded: tuple[T, Status]
    """Value and status, replaced as one, so that readers need no lock."""

    def __init__(self, files: Mapping[str, StrPath]) -> None:
        """Load the first generation from ``files``, paths by part."""
        self._prepare(files)
        contents = self._contents(self._paths)
        value = self._validate(_data(contents), None)
        # A service may change its directory.
        absolute = {part: os.path.abspath(path) for part, path in self._paths.items()}
        self._loaded = value, Status(files=absolute, digest=digest_of(contents), loaded_at=datetime.now(UTC))

    def _set_fixed(self, value: T) -> None:
        """Set a value that has no files; called instead of the constructor."""
        self._prepare({})
        self._loaded = value, Status(files={})

    def _prepare(self, files: Mapping[str, StrPath]) -> None:
        for part, path in files.items():
            if not isinstance(path, str | bytes | os.PathLike):
                raise ConfigurationError(f"{part}: expected the path of a file, as a str or a Path")
        self._paths = {part: os.fsdecode(path) for part, path in files.items()}
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._next_check = 0.0
        self._next_look = 0.0
        self._looking = False
        self._checked_since = 0.0
        self._looks = 0  # at the content in service, since another one was seen

    @abstractmethod
    def _read(self, path: StrPath, part: str) -> FileContent:
        """Read one of the files, of that part."""

    @abstractmethod
    def _validate(self, contents: FileContents, previous: T | None) -> T:
        """Make a value of the contents, by part; ``previous`` is in service, None at first."""

    def _keep(self, value: T, _previous: T) -> T:  # for subclasses
        """Return the new value with what is to be kept of the previous one."""
        return value

    def _let_go(self, value: T) -> T:
        """Return a value without what was kept."""
        return value

    def _is_complete(self, contents: Mapping[str, FileContent]) -> bool:
        """Return True if nobody is writing new content."""
        return _settled(contents)

    @property
    def current(self) -> T:
        """The value in service, without a look at the files. It is immutable, and replaced as a whole."""
        return self._loaded[0]

    def follows(self, files: Mapping[str, StrPath]) -> bool:
        """Return True if these, by part, are its files."""
        return {part: os.path.abspath(path) for part, path in files.items()} == self._loaded[1].files

    @property
    def refusal(self) -> RejectedReload | None:
        """The reason if the last content of the files that was read is not in service; None if it is."""
        return self._loaded[1].refusal

    def refresh_due(self) -> bool:
        """Return True if :meth:`refresh` would read the files now. Does no I/O."""
        return bool(self._paths) and time.monotonic() >= self._next_check

    def refresh(self, interval: float) -> T:
        """Return the value in service, reloading changed files first if the last check is old enough.

        Args:
            interval: Seconds from this check to the next one.
        """
        if self.refresh_due():
            self._check_files(interval, forced=False)
        return self.current

    @property
    def looking(self) -> bool:
        """True while files are being checked, or will be: by the caller of may_look, or because they were just
        written."""
        return self._looking

    def may_look(self) -> bool:
        """Return True, but only once in LOOK_INTERVAL seconds: for looks that a peer can cause.

        Meanwhile it returns True if there is a check to wait for.
        """
        now = time.monotonic()
        if now < self._next_look:
            return self._looking
        self._next_look = now + LOOK_INTERVAL
        self._looking = bool(self._paths)
        return self._looking

    def look(self, interval: float, seconds: float) -> None:
        """Reload changed files now, however recent the last check.

        Args:
            interval: Seconds from this check to the next one.
            seconds: Time to wait for another thread's check, and for files that are just being written.
        """
        deadline = time.monotonic() + seconds
        while self._paths and not self._check_files(interval, forced=False, patience=deadline - time.monotonic()):
            pause = min(self._next_check, deadline) - time.monotonic()
            if pause <= 0:
                return
            time.sleep(pause)

    def let_go(self) -> bool:
        """Take out of service what is kept although the files lack it: the other side has refused it. Does no I/O.

        Returns:
            True if that has changed anything.
        """
        try:
            if not self._lock.acquire(blocking=False):
                return False
            previous, status = self._loaded
            value = self._let_go(previous)
            if value is not previous:
                self._put_in_service(value, status, status.digest)
            return value is not previous
        finally:
            try:  # noqa: SIM105 - suppress() would be a call before release(); see the head of the module
                self._lock.release()
            except RuntimeError:
                pass

    def reload(self) -> bool:
        """Read the files now. Return True if their content is in service; the log and the status say why not."""
        if self._paths:
            self._check_files(0.0, forced=True)
        return self._loaded[1].refusal is None

    def _status_fields(self, status: Status) -> dict[str, Any]:
        """Return the fields of a status, for a subclass of it."""
        return vars(status) | {"files": dict(status.files)}

    def _check_files(self, interval: float, *, forced: bool, patience: float = 0.0) -> bool:
        """Put changed files in service; return False if that must wait because they were just written.

        While another thread reads them, this one waits for ``patience`` seconds, without a limit if ``forced``. A check
        that another thread has begun and ended meanwhile is enough.
        """
        if self._process != os.getpid():
            self._lock, self._process = threading.RLock(), os.getpid()
        asked = time.monotonic()
        try:
            if not self._lock.acquire(timeout=-1 if forced else max(0.0, patience)):
                return True
            if self._checked_since > asked and not forced:
                return not self._looking
            self._looking = True
            began = time.monotonic()
            complete = self._read_and_load(forced=forced)
            self._looking = not complete
            ended = time.monotonic()
            pause = interval if complete else min(interval, SETTLE_SECONDS)
            if interval and self._loaded[1].refusal is not None:
                pause = max(pause, PAUSE * (ended - began))
            self._next_check, self._checked_since = ended + pause, began
            return complete
        finally:
            try:  # noqa: SIM105 - suppress() would be a call before release(); see the head of the module
                self._lock.release()
            except RuntimeError:
                pass

    def _read_and_load(self, *, forced: bool) -> bool:
        """Put changed files in service; return False if that must wait because they were just written."""
        _, status = self._loaded
        try:
            contents = self._contents(status.files)
        except ConfigurationError as error:
            self._looks = 0
            self._reject(str(error), "")
            return True
        if not forced and digest_of(contents) != status.digest and not self._is_complete(contents):
            self._looks = 0
            return False
        self._load(contents, final=forced)
        return True

    def _load(self, contents: Mapping[str, FileContent], *, final: bool) -> None:
        """Put content in service; ``final`` if nothing is to be kept of what it lacks."""
        previous, status = self._loaded
        digest = digest_of(contents)
        if digest == status.digest:
            self._looks += 1
            if status.refusal is not None:
                self._report("reload.taken", f"the files again hold generation {status.generation}, in service", status)
                status = replace(status, refusal=None)
                self._loaded = previous, status
            value = self._let_go(previous) if final or self._looks >= STEADY_LOOKS else previous
            if value is previous:
                return
        else:
            self._looks = 0
            try:
                value = self._validate(_data(contents), previous)
            except (ConfigurationError, OSError) as error:  # OSError: no descriptor is free for OpenSSL, say
                self._reject(str(error), digest)
                return
            value = value if final else self._keep(value, previous)
        self._put_in_service(value, status, digest)

    def _put_in_service(self, value: T, status: Status, digest: str) -> None:
        number = status.generation + 1
        loaded_at = datetime.now(UTC)
        self._loaded = value, replace(status, generation=number, digest=digest, loaded_at=loaded_at, refusal=None)
        text = f"generation {number} in service (digest {digest[:12]}): {value}"
        self._report("reload.taken", text, self._loaded[1])

    def _reject(self, reason: str, digest: str) -> None:
        value, status = self._loaded
        if status.refusal is None or (status.refusal.reason, status.refusal.digest) != (reason, digest):
            rejected = RejectedReload(reason, digest, datetime.now(UTC))
            self._loaded = value, replace(status, refusal=rejected, refusals=status.refusals + 1)
            text = f"reload rejected, keeping generation {status.generation}: {reason}"
            self._report("reload.refused", text, status, why=reason)

    def _report(self, event: str, text: str, status: Status, **fields: Any) -> None:
        emit(
            event, f"{self._log_name}: {text}", files=self._log_name, generation=status.generation,
            digest=status.digest, **fields,
        )  # fmt: skip

    def _contents(self, files: Mapping[str, str]) -> dict[str, FileContent]:
        """Read all files in one state of the directories that lead to them."""
        for _ in range(_ATTEMPTS):
            before = _resolved(files)
            contents = {part: self._read(path, part) for part, path in files.items()}
            if before == _resolved(files):
                return contents
        raise ConfigurationError(f"{', '.join(files.values())}: replaced again and again while they were read")


def _data(contents: Mapping[str, FileContent]) -> dict[str, bytes]:
    return {part: content.data for part, content in contents.items()}


def _resolved(files: Mapping[str, str]) -> list[str]:
    with suppress(ValueError):  # not a valid path, as reading it will report
        return [os.path.realpath(path) for path in files.values()]
    return []


def _settled(contents: Mapping[str, FileContent]) -> bool:
    now = time.time()
    # A time in the future comes from another machine's clock, and tells nothing.
    return not any(0 <= now - content.modified < SETTLE_SECONDS for content in contents.values())


def digest_of(contents: Mapping[str, FileContent]) -> str:
    """Return the SHA-256 of all files in hexadecimal."""
    whole = sha256()
    for part, content in sorted(contents.items()):
        whole.update(f"{part} {len(content.data)}\n".encode())
        whole.update(content.data)
    return whole.hexdigest()
