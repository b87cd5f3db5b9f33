"""The configuration file of a Security, followed: read again at a signal or as it changes, and taken as a whole.

The configured value is made again, with all that it names, and shown to every server that uses it (*checks*) before it
comes into service. So a connection sees one configuration or another and never parts of two, and a file that cannot be
used changes nothing.

Forked children inherit the file and what was in service at the fork. A process that takes a configuration writes a part
of its digest to memory that it shares with them; the others read the file as soon as they find another one there.
"""

from __future__ import annotations

import mmap
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakMethod

from sealwire import toml_options
from sealwire.errors import ConfigurationError
from sealwire.events import emit
from sealwire.trust.reading import FileContent, StrPath, read_file
from sealwire.trust.reloading import LOOK_PATIENCE, FileContents, Reloadable, Status, digest_of

_PART: Final = "configuration"
_MAX_FILE: Final = 16 << 20


class Configured(Protocol):
    """The value that a configuration file makes."""

    @property
    @abstractmethod
    def waiting(self) -> Mapping[str, tuple[object, object]]:
        """The settings that need a restart: their values in the file, and in service."""


T = TypeVar("T", bound=Configured)


@dataclass(frozen=True, kw_only=True)
class ConfigurationStatus(Status):
    """The configuration in service, and the state of its file.

    Attributes besides those of :class:`Status`:
        waiting: The settings in the file that come into service with a restart only.
    """

    waiting: tuple[str, ...] = ()


class ConfigurationFile(Reloadable[T]):
    """A configuration file, and what it makes.

    Args:
        path: The TOML file.
        make: Makes the value of the parsed file, its directory, and the value in service (None at first). Raises
            ConfigurationError.
    """

    __slots__ = ("_announced", "_checks", "_make", "_seen")

    _log_name = "configuration"

    def __init__(self, path: StrPath, make: Callable[[dict[str, Any], Path, T | None], T]) -> None:
        self._make = make
        self._checks: list[WeakMethod[Callable[[Any], object]]] = []
        self._announced = memoryview(mmap.mmap(-1, 8)).cast("Q")
        self._seen = 0
        super().__init__({_PART: path})

    def require(self, check: Callable[[Any], object]) -> None:
        """Show every later value to a method before it comes into service, as long as its object exists.

        Args:
            check: Raises ConfigurationError for a value that cannot be used.
        """
        self._checks = [each for each in self._checks if each() is not None]
        self._checks.append(WeakMethod(check))

    @property
    def announced(self) -> bool:
        """True if another process has taken a configuration, and this one has not looked since."""
        return self._announced[0] != self._seen

    def follow(self) -> None:
        """Read the file because another process has taken a configuration.

        Processes that share a listening socket must change together: a client that one of them has sent away for a new
        configuration would otherwise be sent away by the next one, too, and may send its request again only once.
        """
        asked, announced = time.monotonic(), self._announced[0]
        complete = self._check_files(0.0, forced=False, patience=LOOK_PATIENCE)
        # Otherwise somebody is writing it, or another thread's check goes on, begun before: the next call looks again.
        if complete and self._checked_since >= asked:
            self._seen = announced

    def status(self) -> ConfigurationStatus:
        """Return what is in service, and any problem with the present content of the file."""
        value, status = self._loaded
        return ConfigurationStatus(**self._status_fields(status), waiting=tuple(value.waiting))

    def _read(self, path: StrPath, _part: str) -> FileContent:  # there is one part
        return read_file(path, max_bytes=_MAX_FILE)

    def _validate(self, contents: FileContents, previous: T | None) -> T:
        path = self._paths[_PART] if previous is None else self._loaded[1].files[_PART]
        try:
            value = self._make(toml_options.parse_toml(contents[_PART]), Path(path).parent, previous)
            for each in self._checks:
                if (check := each()) is not None:
                    check(value)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._paths[_PART]}: {error}") from None
        return value

    def _is_complete(self, contents: Mapping[str, FileContent]) -> bool:
        # What another process has in service was complete when that process took it.
        return _number(digest_of(contents)) == self._announced[0] or super()._is_complete(contents)

    def _put_in_service(self, value: T, status: Status, digest: str) -> None:
        # If another process took one meanwhile, the file may have that by now, and is looked at once more.
        seen = self._seen if self.announced else _number(digest)
        super()._put_in_service(value, status, digest)
        self._announced[0], self._seen = _number(digest), seen
        for name, (wanted, present) in value.waiting.items():
            emit(
                "reload.waits",
                f"configuration: {name} is {wanted!r} in the file and stays {present!r}: a running process cannot "
                "change it; restart it",
                files="configuration", setting=name,
            )  # fmt: skip


def _number(digest: str) -> int:
    """Return the first eight bytes of a digest in hexadecimal, as a number."""
    return int(digest[:16], 16)
