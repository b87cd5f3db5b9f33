"""The pre-shared keys of an endpoint, reloaded when their file changes.

A key that is valid and vanishes from the file without being marked as revoked may be missing because the file is being
written. It stays in service until some further checks find the file unchanged.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sealwire.errors import ConfigurationError
from sealwire.events import emit
from sealwire.remedies import command
from sealwire.trust.file_permissions import open_to_others, remedy
from sealwire.trust.key_snapshot import KeySnapshot, list_ids
from sealwire.trust.reading import FileContent, StrPath, read_file
from sealwire.trust.reloading import STATUS_INTERVAL, STEADY_LOOKS, FileContents, Reloadable, Status
from sealwire.wire.keys import Key

_MAX_FILE: Final = 64 << 20
_PART: Final = "keyring"


@dataclass(frozen=True, kw_only=True)
class KeyringStatus(Status):
    """The keys in service, and beside them the :class:`Status` of their file.

    Attributes:
        file: Absolute path of the file; None without one.
        keys: The keys, in the file's order.
    """

    file: str | None
    keys: KeySnapshot


class Keyring(Reloadable[KeySnapshot]):
    """The keys that an endpoint holds: the newest valid one signs, and every valid one verifies.

    A keyring made from a file follows it: the file may be replaced at any time, and content that is not a valid keyring
    leaves the present keys in service.

    Args:
        keys: At least one key; their ids must differ.

    Raises:
        ConfigurationError: There is no key, two have the same id, or a key's identity is not a valid entry of a peer
            list.
    """

    __slots__ = ("_keyring_group",)

    _keyring_group: bool

    _log_name = "keyring"

    def __init__(self, keys: Iterable[Key]) -> None:
        if isinstance(keys, str | bytes | Key) or not isinstance(keys, Iterable):
            raise ConfigurationError("a keyring takes a list of keys: Keyring([Key(...), ...])")
        self._set_fixed(KeySnapshot(keys))

    @classmethod
    def from_file(cls, path: StrPath, *, keyring_group: bool = False) -> Keyring:
        """Read a keyring file, and follow it.

        Args:
            path: The TOML file (docs/reference/configuration.md), readable by its owner alone.
            keyring_group: Accept a file of root's that a group of this process may read, not write (0640), also if the
                process is root's. Default: only if it is another user's.

        Raises:
            ConfigurationError: The file is not a valid keyring; the error names file, key and remedy, never a secret.
        """
        made = cls.__new__(cls)
        made._keyring_group = keyring_group
        Reloadable.__init__(made, {_PART: path})
        return made

    def is_made_of(self, path: StrPath, *, keyring_group: bool) -> bool:
        """Return True if :meth:`from_file` with these arguments would follow the same file in the same way."""
        return self.follows({_PART: path}) and keyring_group is self._keyring_group

    @classmethod
    def from_toml(cls, text: str, *, source: str = "keyring") -> Keyring:
        """Read the text of a keyring file.

        Args:
            text: The content.
            source: Name of the text in errors.

        Raises:
            ConfigurationError: The text is not a valid keyring; the error names key and remedy, never a secret.
        """
        if not isinstance(text, str):
            raise ConfigurationError(
                f"Keyring.from_toml takes the text of a keyring as a str, not a value of type {type(text).__name__}; "
                "Keyring.from_file takes a path"
            )
        # What UTF-8 does not have is found where the text is parsed.
        return cls(KeySnapshot.parse(text.encode(errors="surrogatepass"), source=source))

    def status(self) -> KeyringStatus:
        """Return the keys in service, and any problem with the file; checks it first like Credentials.status."""
        self.refresh(STATUS_INTERVAL)
        keys, status = self._loaded
        return KeyringStatus(**self._status_fields(status), file=status.files.get(_PART), keys=keys)

    def _read(self, path: StrPath, _part: str) -> FileContent:  # there is one part
        return read_keyring(path, keyring_group=self._keyring_group)

    def _validate(self, contents: FileContents, previous: KeySnapshot | None) -> KeySnapshot:
        found = KeySnapshot.parse(contents[_PART], source=self._paths[_PART], path=self._paths[_PART])
        if previous is None and not len(found):
            raise ConfigurationError(
                f"{self._paths[_PART]}: every key is revoked; make another one with "
                f"{command('sealwire', 'keys', 'new', '--file', self._paths[_PART])}"
            )
        return found

    def _keep(self, value: KeySnapshot, previous: KeySnapshot) -> KeySnapshot:
        now = datetime.now(UTC)
        new = {key.id: key for key in value}
        revoked = set(value.revoked)
        kept = {
            key.id: key
            for key in previous
            if key.valid_at(now) and key.id not in revoked and _lacks(new.get(key.id), key)
        }
        if not kept:
            return value
        named = list_ids(kept)
        emit(
            "reload.kept",
            f"keyring: {self._paths[_PART]} lacks the valid key {named}, or its end or identity, and does "
            "not mark it with revoked = true: the file may be incomplete, and the key stays in service as it was until "
            f"{STEADY_LOOKS} more checks find no change",
            files="keyring", keys=named,
        )  # fmt: skip
        # In the old order and with the old ages, so that no other key signs because of one that may not be gone.
        both = [kept.get(key.id) or new[key.id] for key in previous if key.id in kept or key.id in new]
        both += [key for key in value if previous.get(key.id) is None]
        ages = {key.id: previous.age(key) for key in previous}
        return KeySnapshot(both, revoked=value.revoked, file=value, ages=ages, path=value.path)

    def _let_go(self, value: KeySnapshot) -> KeySnapshot:
        return value if value.file is None else value.file

    def __iter__(self) -> Iterator[Key]:
        return iter(self.current)

    def __len__(self) -> int:
        return len(self.current)

    def __repr__(self) -> str:
        return f"<Keyring {self.current}, secrets redacted>"

    def __reduce__(self) -> Any:
        raise TypeError("a keyring holds secrets and cannot be pickled")

    def get(self, key_id: str) -> Key | None:
        """Return the key of that id, even if it is not valid now."""
        return self.current.get(key_id)

    def signing_key(self, now: datetime, *, usable: Callable[[Key], bool] | None = None) -> Key:
        """Return the newest valid key: the one with the latest not_before; among equals, the last in the file.

        Args:
            now: The time (aware).
            usable: Further condition on the key. Default: none.

        Raises:
            ConfigurationError: There is none.
        """
        return self.current.signing_key(now, usable=usable)


def read_keyring(path: StrPath, *, keyring_group: bool = False, making: str | None = None) -> FileContent:
    """Read a keyring file, which must keep other users out; ``making`` says how to make one that is missing.

    Raises ConfigurationError.
    """
    opened: list[os.stat_result] = []

    def check(status: os.stat_result, name: str) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{name}: a keyring must be a regular file")
        opened.append(status)

    try:
        content = read_file(path, max_bytes=_MAX_FILE, check=check)
        # What is wrong with a certificate in its place is not the mode.
        if b"secret" in content.data:
            _check_private(opened[0], os.fsdecode(path), keyring_group=keyring_group)
    except ConfigurationError as error:
        if not _is_missing(path):
            raise
        making = making or f"make a keyring with {command('sealwire', 'keys', 'new', '--file', path)}"
        raise ConfigurationError(f"{error}; {making}") from None
    return content


def _is_missing(path: StrPath) -> bool:
    """Return True if there is no such file, rather than one that this process may not see."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        pass
    return False


def _lacks(new: Key | None, old: Key) -> bool:
    """Return True if a key is gone, or what bounds it: all that can be missing at the end of an incomplete file."""
    if new is None:
        return True
    unbound = (old.identity is not None and new.identity is None) or (
        old.not_after is not None and new.not_after is None
    )
    return unbound and new.secret == old.secret


def _check_private(status: os.stat_result, name: str, *, keyring_group: bool) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o100 or open_to_others(name, status, keyring_group=keyring_group):
        raise ConfigurationError(
            f"{name}: mode {mode:04o} lets other users read the secrets; {remedy(name, status)}, "
            "and replace the keys if another user could have read them"
        )
