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
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sealwire.access import open_to_others
from sealwire.errors import ConfigurationError
from sealwire.rotation import Content, Path, Refusal, Watched, read_file
from sealwire.tls.identity import PeerIdentity
from sealwire.tls.policy import PeerPolicy
from sealwire.wire.keys import MIN_SECRET, Key

CLOCK_SKEW: Final = timedelta(seconds=30)
"""How long before its not_before a key is accepted from those who sign with it already."""

_FIELDS = {"id", "secret", "not_before", "not_after", "identity"}
_MAX_FILE = 1 << 20
_MAX_SHOWN = 20
_PART = "keyring"
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Keyring:
    """The keys that an endpoint holds: the newest valid one signs, every valid one verifies.

    One that was made from a file follows it: the file may be replaced at any time, and what is no keyring leaves the
    keys in service that were there.

    Raises ConfigurationError for no keys at all, two of one id, or an identity that is no entry of a peer list.
    """

    __slots__ = ("_keys", "_watched")

    def __init__(self, keys: Iterable[Key]) -> None:
        if isinstance(keys, str | bytes | Key) or not isinstance(keys, Iterable):
            raise ConfigurationError("a keyring takes a list of keys: Keyring([Key(...), ...])")
        self._keys = KeySet(keys)
        self._watched: Watched[KeySet] | None = None

    @classmethod
    def from_file(cls, path: Path) -> Keyring:
        """Read a keyring file, and follow it.

        Raises ConfigurationError, naming file, key and remedy; never a secret.
        """
        name = os.fspath(path)
        made = cls.__new__(cls)
        made._watched = Watched(
            "keyring", {_PART: path}, read=_read, prove=lambda contents, _: KeySet.parse(contents[_PART], source=name)
        )
        return made

    @classmethod
    def from_toml(cls, text: str, *, source: str = "keyring") -> Keyring:
        """Read the text of a keyring file; ``source`` is what errors call it."""
        return cls(KeySet.parse(text.encode(), source=source))

    @property
    def current(self) -> KeySet:
        """The keys in service; never changed, replaced as one."""
        return self._keys if self._watched is None else self._watched.generation.value

    def refresh(self, interval: float) -> KeySet:
        """The keys in service, after a look at the file if the last one is ``interval`` seconds ago."""
        return self._keys if self._watched is None else self._watched.refresh(interval)

    def reload(self) -> bool:
        """Look at the file now. Whether what it holds is in service; if not, the log and :meth:`status` say why."""
        return self._watched is None or self._watched.reload()

    def status(self) -> KeyringStatus:
        """What is in service, and what is wrong with the file if it holds something else."""
        if self._watched is None:
            return KeyringStatus(
                generation=1, digest="", loaded_at=None, file=None, keys=self._keys, refusal=None, refusals=0
            )
        generation = self._watched.generation
        return KeyringStatus(
            generation=generation.number,
            digest=generation.digest,
            loaded_at=generation.loaded_at,
            file=self._watched.files[_PART],
            keys=generation.value,
            refusal=self._watched.refusal,
            refusals=self._watched.refusals,
        )

    def __iter__(self) -> Iterator[Key]:
        return iter(self.current)

    def __len__(self) -> int:
        return len(self.current)

    def __repr__(self) -> str:
        return f"<Keyring {self.current}, secrets redacted>"

    def __reduce__(self) -> Any:
        raise TypeError("a keyring holds secrets and cannot be pickled")

    def get(self, key_id: str) -> Key | None:
        """The key of that id, valid now or not."""
        return self.current.get(key_id)

    def signing_key(self, now: datetime, *, usable: Callable[[Key], bool] | None = None) -> Key:
        """As :meth:`KeySet.signing_key`."""
        return self.current.signing_key(now, usable=usable)


class KeySet:
    """One generation of a keyring; immutable."""

    __slots__ = ("_by_id", "_keys")

    def __init__(self, keys: Iterable[Key]) -> None:
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
        for key in self._keys:
            try:
                _policy(key)
            except ConfigurationError as error:
                raise ConfigurationError(f"key {key.id!r}: identity {error}") from None

    @classmethod
    def parse(cls, content: bytes, *, source: str) -> KeySet:
        """Read the content of a keyring file; ``source`` is what errors call it. Raises ConfigurationError."""
        document = text = None
        with suppress(UnicodeDecodeError):
            text = content.decode()
        if text is None:
            # Not raised while that was handled, since it holds the whole content.
            raise ConfigurationError(f"{source}: not UTF-8 text")
        with suppress(ValueError, RecursionError):
            document = tomllib.loads(text)
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

    def __str__(self) -> str:
        """The ids, for a log."""
        return ", ".join(repr(key.id) for key in self._keys)

    def __repr__(self) -> str:
        return f"<KeySet {self}, secrets redacted>"

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

    def verifying_key(self, key_id: str, now: datetime, identity: PeerIdentity | None) -> Key | None:
        """The key of that id, if it is valid at ``now`` (aware) and that client may use it; else None.

        It is taken CLOCK_SKEW before its not_before: a client whose clock is a little ahead signs with it already.
        """
        key = self._by_id.get(key_id)
        if key is None or not may_use(key, identity):
            return None
        started = key.not_before is None or key.not_before <= now + CLOCK_SKEW
        return key if started and (key.not_after is None or now <= key.not_after) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyringStatus:
    """What is in service.

    generation: its number, from 1. digest: SHA-256 of the file's content, in hexadecimal; empty without a file.
    loaded_at: aware. keys: in the file's order. refusal: why the file's present content is not in service; None where
    it is. refusals: how many there were.
    """

    generation: int
    digest: str
    loaded_at: datetime | None
    file: str | None
    keys: KeySet
    refusal: Refusal | None
    refusals: int


def may_use(key: Key, identity: PeerIdentity | None) -> bool:
    """Whether a client of that identity (None: without a certificate) may use the key."""
    policy = _policy(key)
    return policy is None or policy.allows(identity)


def _policy(key: Key) -> PeerPolicy | None:
    return None if key.identity is None else PeerPolicy([key.identity])


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


def _read(_: str, path: Path) -> Content:
    try:
        return read_file(path, most=_MAX_FILE, check=_check_private)
    except ConfigurationError as error:
        if os.path.lexists(path):
            raise
        raise ConfigurationError(f"{error}; make a keyring with `sealwire keys new`") from None


def _check_private(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{name}: a keyring must be a regular file")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o100 or open_to_others(name, status):
        raise ConfigurationError(
            f"{name}: mode {mode:04o} lets others at the secrets; run `chmod 600 {name}` "
            "and, if anybody could have read it, replace the keys"
        )
