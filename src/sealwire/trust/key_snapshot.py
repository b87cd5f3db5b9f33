"""An immutable set of pre-shared keys, and the text of a keyring file.

The text is TOML::

    [[key]]
    id = "2026-11"
    secret = "…base64 of at least 32 random bytes…"
    not_before = 2026-11-01T00:00:00Z        # optional, with offset
    not_after = 2027-02-01T00:00:00Z         # optional, with offset
    identity = "dns:client.example"          # optional: the only client identity that may use the key
    revoked = true                           # optional: out of use at once; the secret may be missing then
"""

from __future__ import annotations

import base64
import binascii
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sealwire.errors import ConfigurationError
from sealwire.remedies import command
from sealwire.toml_options import encoding_problem
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.peers import PeerPolicy
from sealwire.trust.reading import StrPath
from sealwire.wire.keys import MIN_SECRET, Key

CLOCK_SKEW: Final = timedelta(seconds=30)
"""The time before its not_before from which a key is accepted, for clients with a clock ahead of ours."""

_FIELDS = {"id", "secret", "not_before", "not_after", "identity", "revoked"}
_NO_SECRET = base64.b64encode(bytes(MIN_SECRET))
_MAX_SHOWN = 20
_MAX_LISTED: Final = 20
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class KeySnapshot:
    """An immutable set of keys.

    Arguments and errors besides those of ``Keyring``:
        revoked: The ids of keys that are revoked; with one, there need be no key.
        file: The keys that the file has, if these are kept for a while longer.
        ages: By id, the not_before by which to compare keys, instead of their own.
        path: The file that the keys are from, or None.
    """

    __slots__ = ("_ages", "_by_id", "_keys", "file", "path", "revoked")

    def __init__(
        self,
        keys: Iterable[Key],
        *,
        revoked: Iterable[str] = (),
        file: KeySnapshot | None = None,
        ages: Mapping[str, datetime] | None = None,
        path: StrPath | None = None,
    ) -> None:
        self._keys = tuple(keys)
        self.revoked: Final = tuple(revoked)
        self.file: Final = file
        self.path: Final = path
        self._ages = ages or {}
        if not all(isinstance(key, Key) for key in self._keys):
            raise ConfigurationError("a keyring takes a list of keys: Keyring([Key(...), ...])")
        self._by_id = {key.id: key for key in self._keys}
        if not self._keys and not self.revoked:
            raise ConfigurationError("a keyring needs at least one key: Keyring([Key(...), ...])")
        ids = [*(key.id for key in self._keys), *self.revoked]
        if len(set(ids)) != len(ids):
            twice = next(each for each, count in Counter(ids).items() if count > 1)
            raise ConfigurationError(f"two keys of a keyring have the id {twice!r}; ids must differ")
        for key in self._keys:
            try:
                _policy(key)
            except ConfigurationError as error:
                raise ConfigurationError(f"key {key.id!r}: identity {error}") from None

    @classmethod
    def parse(cls, content: bytes, *, source: str, path: StrPath | None = None) -> KeySnapshot:
        """Parse the content of a keyring file.

        Args:
            content: UTF-8 text in TOML.
            source: Name of the content in errors.
            path: The file, if it is one.

        Raises:
            ConfigurationError: The text is not a valid keyring; the error names key and remedy, never a secret.
        """
        document = None
        problem = encoding_problem(content)
        if problem is not None:
            raise ConfigurationError(f"{source}: not valid TOML: {problem}")
        with suppress(ValueError, RecursionError):
            document = tomllib.loads(content.decode())
        if document is None:
            # Not raised in the handler: tomllib's error, its context, can quote the text and so a secret.
            raise ConfigurationError(
                f"{source}: not valid TOML; compare it with what `sealwire keys new --file example.toml` writes"
            )
        entries = document.get("key")
        if set(document) != {"key"} or not isinstance(entries, list):
            raise ConfigurationError(f"{source}: not a keyring, which has [[key]] tables and nothing else")
        if not entries:
            raise ConfigurationError(f"{source}: expected at least one [[key]] table")
        keys, revoked = [], []
        for number, entry in enumerate(entries, 1):
            try:
                key, is_revoked = _key(entry)
                if is_revoked:
                    revoked.append(key.id)
                else:
                    keys.append(key)
            except ConfigurationError as error:
                raise ConfigurationError(f"{source}: [[key]] number {number}: {error}") from None
        try:
            return cls(keys, revoked=revoked, path=path)
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}: {error}") from None

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __str__(self) -> str:
        """Return the ids, for a log."""
        return list_ids(key.id for key in self._keys)

    def __repr__(self) -> str:
        return f"<KeySnapshot {self}, secrets redacted>"

    def __reduce__(self) -> Any:
        raise TypeError("a keyring holds secrets and cannot be pickled")

    def get(self, key_id: str) -> Key | None:
        """Return the key of that id, even if it is not valid now."""
        return self._by_id.get(key_id)

    def signing_key(self, now: datetime, *, usable: Callable[[Key], bool] | None = None, owner: object = "") -> Key:
        """Return the newest valid key: the one with the latest not_before; among equals, the last in the file.

        Args:
            now: The time (aware).
            usable: Further condition on the key.
            owner: The client that is to use it, for the error.

        Raises:
            ConfigurationError: There is none.
        """
        valid = [key for key in self._keys if key.valid_at(now) and (usable is None or usable(key))]
        if not valid:
            there = [f"{key.id!r} for {key.identity}" if key.identity else repr(key.id) for key in self._keys]
            raise ConfigurationError(
                f"no key of the keyring ({shortened(there)}) is valid now{owner and f' for {owner}'}; {self.adding()}, "
                "or check this machine's clock"
            )
        return max(reversed(valid), key=self.age)

    def adding(self) -> str:
        """Return how to add a key."""
        if self.path is None:
            return "add a key"
        return f"add a key with {command('sealwire', 'keys', 'new', '--file', self.path)}"

    def age(self, key: Key) -> datetime:
        """Return the moment by which the key is compared with others: the later, the newer."""
        return self._ages.get(key.id, key.not_before or _EARLIEST)

    def verifying_key(self, key_id: str, now: datetime, identity: PeerIdentity | None) -> Key | None:
        """Return the key of that id; None if it is not valid, or not for this client.

        A key counts as valid from CLOCK_SKEW before its not_before, since a client with a fast clock may already sign
        with it.

        Args:
            key_id: The key's id.
            now: The time (aware).
            identity: The client's identity; None without a certificate.
        """
        key = self._by_id.get(key_id)
        if key is None or not may_use(key, identity):
            return None
        started = key.not_before is None or key.not_before <= now + CLOCK_SKEW
        return key if started and (key.not_after is None or now <= key.not_after) else None


def list_ids(ids: Iterable[str]) -> str:
    """Return ids of keys for a message: the first of them if there are many."""
    return shortened([*map(repr, ids)])


def shortened(texts: Sequence[str]) -> str:
    """Return texts for a message, with commas between them: the first of them if there are many."""
    more = len(texts) - _MAX_LISTED
    shown = ", ".join(texts[:_MAX_LISTED])
    return f"{shown} and {more} more" if more > 0 else shown


def may_use(key: Key, identity: PeerIdentity | None) -> bool:
    """Return True if a client of that identity (None: without a certificate) may use the key."""
    policy = _policy(key)
    return policy is None or policy.allows(identity)


def _policy(key: Key) -> PeerPolicy | None:
    return None if key.identity is None else PeerPolicy([key.identity])


def _key(entry: object) -> tuple[Key, bool]:
    """Return a key, without its secret if it is revoked, and whether it is."""
    if not isinstance(entry, dict):
        raise ConfigurationError("expected a table")
    unknown = sorted(set(entry) - _FIELDS)
    if unknown:
        # A long name may be a secret in the wrong place.
        shown = repr(unknown[0]) if len(unknown[0]) <= _MAX_SHOWN else "with a long name"
        raise ConfigurationError(f"unknown field {shown}; expected {', '.join(sorted(_FIELDS))}")
    fields: dict[str, Any] = dict(entry)
    revoked = fields.pop("revoked", False)
    if type(revoked) is not bool:
        raise ConfigurationError("revoked must be true or false")
    if revoked:
        fields["secret"] = _NO_SECRET
    missing = sorted({"id", "secret"} - set(fields))
    if missing:
        raise ConfigurationError(f"the field {missing[0]!r} is missing")
    try:
        secret = base64.b64decode(fields.pop("secret"), validate=True)
    except (binascii.Error, ValueError, TypeError):
        secret = b""
    if len(secret) < MIN_SECRET:
        # Checked before Key does, whose error shows the id: the two may have been swapped.
        raise ConfigurationError(
            "secret must be base64 of at least 32 random bytes, such as `openssl rand -base64 32` prints"
        )
    return Key(fields.pop("id"), secret, **fields), revoked
