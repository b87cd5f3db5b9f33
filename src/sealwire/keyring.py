"""The set of pre-shared keys that an endpoint holds, and the file that it is read from.

The file is TOML, and its mode must keep everybody but its owner out::

    [[key]]
    id = "2026-11"
    secret = "…base64 of at least 32 random bytes…"
    not_before = 2026-11-01T00:00:00Z        # optional, with offset
    not_after = 2027-02-01T00:00:00Z         # optional, with offset
    identity = "dns:client.example"          # optional: the only client identity that may use the key
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sealwire.errors import ConfigurationError
from sealwire.wire.keys import MIN_SECRET, Key

_FIELDS = {"id", "secret", "not_before", "not_after", "identity"}
_MAX_FILE = 1 << 20
_MAX_SHOWN = 20
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Keyring:
    """An immutable set of keys: the newest valid one signs, every valid one verifies.

    Raises ConfigurationError for no keys at all or two of one id.
    """

    __slots__ = ("_by_id", "_keys")

    def __init__(self, keys: Iterable[Key]) -> None:
        if isinstance(keys, str | bytes | Key) or not isinstance(keys, Iterable):
            raise ConfigurationError("a keyring takes a list of keys: Keyring([Key(...), ...])")
        self._keys = tuple(keys)
        if not all(isinstance(key, Key) for key in self._keys):
            raise ConfigurationError("a keyring takes a list of keys: Keyring([Key(...), ...])")
        self._by_id = {key.id: key for key in self._keys}
        if not self._keys:
            raise ConfigurationError("a keyring needs at least one key; make one with `sealwire keys new`")
        if len(self._by_id) != len(self._keys):
            ids = [key.id for key in self._keys]
            twice = next(each for each in ids if ids.count(each) > 1)
            raise ConfigurationError(f"two keys of a keyring have the id {twice!r}; ids must differ")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Keyring:
        """Read a keyring file. Raises ConfigurationError, naming file, key and remedy; never a secret."""
        return cls.from_toml(_read_private(path), source=os.fspath(path))

    @classmethod
    def from_toml(cls, text: str, *, source: str = "keyring") -> Keyring:
        """Read the text of a keyring file; ``source`` is what errors call it."""
        try:
            document = tomllib.loads(text)
        except (ValueError, RecursionError):
            document = None
        if document is None:
            # Not raised above: tomllib's own error can quote the text, and so a secret, even as the context of another.
            raise ConfigurationError(f"{source}: not valid TOML; compare it with what `sealwire keys new` writes")
        entries = document.get("key")
        if set(document) != {"key"} or not isinstance(entries, list):
            raise ConfigurationError(f"{source}: expected [[key]] tables and nothing else")
        keys = []
        for number, entry in enumerate(entries, 1):
            try:
                keys.append(_key(entry))
            except ConfigurationError as error:
                raise ConfigurationError(f"{source}: [[key]] number {number}: {error}") from None
        try:
            return cls(keys)
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}: {error}") from None

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(repr(key.id) for key in self._keys)}, secrets redacted>"

    def __reduce__(self) -> Any:
        raise TypeError("a keyring holds secrets and cannot be pickled")

    def get(self, key_id: str) -> Key | None:
        """The key of that id, valid now or not."""
        return self._by_id.get(key_id)

    def signing_key(self, now: datetime, *, usable: Callable[[Key], bool] | None = None) -> Key:
        """The newest key that is valid at ``now`` (aware) and ``usable``: the latest not_before, of equals the last.

        Raises ConfigurationError where there is none.
        """
        valid = [key for key in self._keys if key.valid_at(now) and (usable is None or usable(key))]
        if not valid:
            raise ConfigurationError(
                f"no key of the keyring ({', '.join(key.id for key in self._keys)}) is valid now for this identity; "
                "add one with `sealwire keys new`, or check this machine's clock"
            )
        return max(reversed(valid), key=lambda key: key.not_before or _EARLIEST)


def _key(entry: object) -> Key:
    if not isinstance(entry, dict):
        raise ConfigurationError("expected a table")
    unknown = sorted(set(entry) - _FIELDS)
    if unknown:
        # What is so long may be a secret in the wrong place.
        shown = repr(unknown[0]) if len(unknown[0]) <= _MAX_SHOWN else "with a long name"
        raise ConfigurationError(f"unknown field {shown}; expected {', '.join(sorted(_FIELDS))}")
    missing = sorted({"id", "secret"} - set(entry))
    if missing:
        raise ConfigurationError(f"the field {missing[0]!r} is missing")
    fields: dict[str, Any] = dict(entry)
    try:
        secret = base64.b64decode(fields.pop("secret"), validate=True)
    except (binascii.Error, ValueError, TypeError):
        secret = b""
    if len(secret) < MIN_SECRET:
        # Before Key says so together with the id: the two may have been confused.
        raise ConfigurationError("secret must be base64 of at least 32 random bytes, as `sealwire keys new` writes it")
    return Key(fields.pop("id"), secret, **fields)


def _read_private(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    try:
        # O_NONBLOCK, so that a FIFO in the file's place cannot stop us.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            _check_private(os.fstat(file.fileno()), name)
            content = file.read(_MAX_FILE + 1)
    except ConfigurationError:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"{name}: cannot be read ({error.strerror}); make a keyring with `sealwire keys new`"
        ) from None
    except ValueError:
        raise ConfigurationError(f"{name!r}: cannot be read (no path has such characters)") from None
    if len(content) > _MAX_FILE:
        raise ConfigurationError(f"{name}: larger than {_MAX_FILE} bytes; a keyring is not")
    with suppress(UnicodeDecodeError):
        return content.decode()
    # Not raised while that was handled, since it holds the whole content.
    raise ConfigurationError(f"{name}: not UTF-8 text")


def _check_private(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{name}: a keyring must be a regular file")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o177:
        raise ConfigurationError(
            f"{name}: mode {mode:04o} lets others at the secrets; run `chmod 600 {name}` "
            "and, if anybody could have read it, replace the keys"
        )
