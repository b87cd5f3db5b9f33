"""Pre-shared keys, and the keys derived from them (docs/protocol.md, section 3, and docs/envelope.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

MIN_SECRET = 32
"""The smallest number of bytes of a secret: the output of SHA-256 (RFC 2104, section 3)."""

_BLOCK = 64  # of SHA-256, in bytes
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
KEY_ID = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
"""The form of a key's id."""


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Key:
    """A pre-shared key.

    Args:
        id: 1 to 64 printable ASCII characters without spaces. TLS hides it from eavesdroppers.
        secret: 32 or more random bytes, never a passphrase.
        not_before: The first moment at which the key is valid, as an aware datetime; None (the default) for no bound.
        not_after: The last moment at which the key is valid, as an aware datetime; None (the default) for no bound.
        identity: The only client that may use the key, as an entry of a peer list (``dns:client.example``). None (the
            default) lets every allowed client use it.

    Raises:
        ConfigurationError: An argument is of the wrong type or out of range.
    """

    id: str
    secret: bytes
    not_before: datetime | None
    not_after: datetime | None
    identity: str | None

    def __init__(
        self,
        id: str,  # noqa: A002 - the public name, and the usual term
        secret: bytes,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        identity: str | None = None,
    ) -> None:
        if not isinstance(id, str) or not KEY_ID.fullmatch(id):
            raise ConfigurationError("a key's id must be 1 to 64 printable ASCII characters without spaces")
        if not isinstance(secret, bytes | bytearray):
            raise ConfigurationError(f"key {id!r}: the secret must be bytes, not {type(secret).__name__}")
        if len(secret) < MIN_SECRET:
            raise ConfigurationError(
                f"key {id!r}: the secret has {len(secret)} bytes and needs at least {MIN_SECRET} random ones; "
                "make it with secrets.token_bytes(32)"
            )
        for name, moment in (("not_before", not_before), ("not_after", not_after)):
            if moment is not None and (not isinstance(moment, datetime) or moment.utcoffset() is None):
                raise ConfigurationError(f"key {id!r}: {name} must be a date and time with an offset from UTC")
        if not_before is not None and not_after is not None and not_after <= not_before:
            raise ConfigurationError(f"key {id!r}: not_after must be later than not_before")
        if identity is not None and (not isinstance(identity, str) or not identity):
            raise ConfigurationError(f"key {id!r}: identity must be an entry of a peer list, like 'dns:client.example'")
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "secret", bytes(secret))
        object.__setattr__(self, "not_before", not_before)
        object.__setattr__(self, "not_after", not_after)
        object.__setattr__(self, "identity", identity)

    def __repr__(self) -> str:
        bound = f", identity={self.identity!r}" if self.identity is not None else ""
        return (
            f"<Key {self.id!r}, secret redacted, valid {_moment(self.not_before)} to {_moment(self.not_after)}{bound}>"
        )

    def __reduce__(self) -> Any:
        raise TypeError("a key holds a secret and cannot be pickled")

    def valid_at(self, now: datetime) -> bool:
        """Return True if the key is valid at ``now``, an aware datetime."""
        return (self.not_before is None or self.not_before <= now) and (self.not_after is None or now <= self.not_after)


def _moment(moment: datetime | None) -> str:
    return moment_text(moment, none="any time")


class Mac:
    """HMAC-SHA256 (RFC 2104) with one key.

    The two blocks that depend only on the key are hashed once, as section 4 of the RFC suggests; for a small frame they
    would be most of the work. A large frame is hashed while it is sent or received, with :meth:`begin` and
    :meth:`finish`.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(_BLOCK, b"\0")
        self._inner = sha256(block.translate(_INNER))
        self._outer = sha256(block.translate(_OUTER))

    def __reduce__(self) -> Any:
        raise TypeError("a MAC holds a secret and cannot be pickled")

    def tag(self, signed: bytes | memoryview) -> bytes:
        """Return the tag of ``signed``."""
        inner = self._inner.copy()
        inner.update(signed)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    @property
    def blocks(self) -> tuple[Hash, Hash]:
        """The hashes of the inner and the outer block. They must not be updated."""
        return self._inner, self._outer

    def begin(self) -> Hash:
        """Return a hash object to update with the signed bytes, piece by piece."""
        return self._inner.copy()

    def finish(self, inner: Hash) -> bytes:
        """Return the tag of the bytes with which ``inner``, a hash from :meth:`begin`, was updated."""
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Binding(NamedTuple):
    """SHA-256 of each leaf certificate (DER) of a connection; 32 zero bytes for a side without a certificate."""

    server: bytes = bytes(32)
    client: bytes = bytes(32)

    @classmethod
    def of(cls, *, server: bytes | None, client: bytes | None) -> Binding:
        """Make a binding from the two leaf certificates in DER."""
        return cls(*(bytes(32) if der is None else sha256(der).digest() for der in (server, client)))


class TrafficKeys(NamedTuple):
    """The MACs of the two directions."""

    client_to_server: Mac
    server_to_client: Mac


def hello_mac(secret: bytes, binding: Binding) -> Mac:
    """Return the MAC with the key K_hello."""
    return Mac(_hkdf(secret, salt=binding.server + binding.client, info=b"sealwire/1 hello"))


def traffic_keys(
    secret: bytes, *, client_nonce: bytes, server_nonce: bytes, binding: Binding, log: bytes
) -> TrafficKeys:
    """Return the MACs with the keys K_c2s and K_s2c; ``log`` is the transcript hash."""
    salt = client_nonce + server_nonce
    context = binding.server + binding.client + log
    return TrafficKeys(
        Mac(_hkdf(secret, salt=salt, info=b"sealwire/1 client to server" + context)),
        Mac(_hkdf(secret, salt=salt, info=b"sealwire/1 server to client" + context)),
    )


def envelope_key(secret: bytes, salt: bytes) -> bytes:
    """Return the key of one envelope (docs/envelope.md)."""
    return _hkdf(secret, salt=salt, info=b"sealwire/1 envelope")


def transcript(hello: bytes, untagged_welcome: bytes) -> bytes:
    """Return the transcript hash of the whole HELLO frame and the WELCOME frame without its tag."""
    return sha256(hello + untagged_welcome).digest()


def _hkdf(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)
