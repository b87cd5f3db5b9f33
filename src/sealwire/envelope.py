"""Seals values at rest, or on their way through a queue: :func:`seal`, :func:`open` and :class:`Envelope`.

::

    keys = Keyring.from_file("queue.toml")  # sealwire keys new --file queue.toml
    envelope = Envelope(keys, purpose="orders", codec=Codec(Allowlist(Order)))
    data = envelope.seal(order, lifetime=3600, context={"queue": "orders"})
    order = envelope.open(data, context={"queue": "orders"})

An envelope is the codec's checked pickle under AES-256-GCM, with a key of its own that is derived from one of the
keyring's. It opens only for its purpose and context and until its end. docs/envelope.md has every byte of it, and the
bounds.

**What no stateless envelope can do.** Its carrier can hold it back, drop it, and deliver it again and again until its
end, each time at the place that its context names: give tasks an id in the context and make them idempotent, or keep
the ids that were seen until their end. A cache can return an older value of the same key. There is no forward secrecy:
a key that leaks opens every envelope that was ever sealed under it. And every holder of a key can seal: an envelope
tells that a holder has sealed it, not which one. A connection has none of these weaknesses, but for a key that is bound
to no identity; prefer one if both ends are there at the same time.

The carrier sees the key's id, the end and the size.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final, NamedTuple, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwire.codec import Codec, RawCodec
from sealwire.errors import (
    ConfigurationError,
    EnvelopeContextMismatch,
    EnvelopeExpired,
    EnvelopeForged,
    EnvelopeKeyUnknown,
    EnvelopeMalformed,
    EnvelopeTooLarge,
    EnvelopeVersionUnknown,
)
from sealwire.limits import Limits
from sealwire.moments import moment_text
from sealwire.trust.key_snapshot import CLOCK_SKEW, KeySnapshot, may_use
from sealwire.trust.keyring import Keyring
from sealwire.trust.reloading import LOOK_PATIENCE
from sealwire.wire.keys import KEY_ID, Key, envelope_key

__all__ = ["Context", "Envelope", "open", "seal"]

Context = Sequence[str] | Mapping[str, str]
"""The place of an envelope: strings in their order, or a mapping of them. One string is a sequence of one."""

MAX_SIZE: Final = 2**31 - 1
"""The most bytes of an envelope: what ``cryptography`` takes at once, and less than GCM allows for one key."""
MAX_LIFETIME: Final = 36_525 * 86_400
"""The longest lifetime: 100 years, in seconds."""

_RELOAD_INTERVAL: Final = Limits().reload_interval
_MAGIC: Final = b"SWE"
_VERSION: Final = 1
_FIXED: Final = 45  # magic, version, end, salt, and the length of the key's id
_SALT: Final = 32
_BINDING: Final = 32
_TAG: Final = 16
_NONCE: Final = bytes(12)  # the key is used once
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Envelope:
    """Seals values for one purpose, and opens them. Immutable; may be shared by threads and forked children.

    Args:
        keys: The keyring. The newest valid key seals, and every valid one opens; its file is followed. Keys that are
            bound to an identity are not used, since nothing in an envelope proves an identity.
        purpose: The purpose of the envelopes in this deployment: ``"orders cache"``. Not empty. No other purpose opens
            them.
        codec: Turns values into payloads; by default ``Codec()``.
        max_size: Bytes of an envelope, at most 2³¹ - 1; by default the codec's ``max_frame``, 16 MiB.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    __slots__ = ("_keys", "_max_size", "_scope", "codec", "purpose")

    def __init__(
        self, keys: Keyring, *, purpose: str, codec: Codec | RawCodec | None = None, max_size: int | None = None
    ) -> None:
        if not isinstance(keys, Keyring):
            raise ConfigurationError("an envelope takes a Keyring: Keyring.from_file(path) or Keyring([Key(...)])")
        if not isinstance(codec, Codec | RawCodec | None):
            raise ConfigurationError("an envelope's codec must be Codec(…) or RawCodec()")
        if not isinstance(purpose, str) or not purpose:
            raise ConfigurationError("an envelope needs a purpose: a str that is not empty")
        self.codec: Final = codec if codec is not None else Codec()
        self.purpose: Final = purpose
        if max_size is None:
            max_size = (self.codec.limits if isinstance(self.codec, Codec) else Limits()).max_frame
        if type(max_size) is not int or not 0 < max_size <= MAX_SIZE:
            raise ConfigurationError(f"max_size must be a whole number of bytes from 1 to {MAX_SIZE}")
        self._keys: Final = keys
        self._max_size: Final = max_size
        self._scope: Final = _packed([self.purpose, self.codec.name], "the purpose")

    def seal(self, value: object, *, lifetime: float, context: Context = (), now: datetime | None = None) -> bytes:
        """Seal a value.

        Args:
            value: The value, of the codec's types.
            lifetime: Seconds until it can no longer be opened, at most 100 years; fractions are rounded up to a
                millisecond. It must not outlive the key.
            context: Its place (queue and task, key of a cache, path): :meth:`open` must be given the same.
            now: The present time (aware); by default the clock's.

        Returns:
            The envelope.

        Raises:
            ConfigurationError: No key can be used, it ends before the envelope would, or an argument is not acceptable.
            EncodeError: :meth:`open` would refuse the value.
            EnvelopeTooLarge: The envelope would have more than ``max_size`` bytes.
        """
        binding = self._binding(context)
        moment = _moment(now)
        if type(lifetime) not in (int, float) or not 0 < lifetime <= MAX_LIFETIME:  # NaN is not
            raise ConfigurationError(f"lifetime must be a number of seconds above 0, at most {MAX_LIFETIME}")
        not_after = _milliseconds(moment) + math.ceil(lifetime * 1000)
        keys = self._sealing_keys()
        key = keys.signing_key(moment, usable=_is_usable)
        if key.not_after is not None and not_after > _milliseconds(key.not_after):
            raise ConfigurationError(
                f"key {key.id!r} ends at {moment_text(key.not_after)}, before the envelope would: {keys.adding()}, "
                "rotate with an `--overlap` of at least the lifetime, or shorten the lifetime"
            )
        payload = self.codec.encode(value)
        size = _FIXED + len(key.id) + _BINDING + len(payload) + _TAG
        if size > self._max_size:
            raise EnvelopeTooLarge(f"an envelope of {size} bytes; max_size is {self._max_size}")
        header = _Header(not_after, secrets.token_bytes(_SALT), key.id)
        packed = header.pack()
        return packed + AESGCM(envelope_key(key.secret, header.salt)).encrypt(_NONCE, binding + payload, packed)

    def open(self, data: bytes | bytearray | memoryview, *, context: Context = (), now: datetime | None = None) -> Any:
        """Open an envelope. The value is decoded last, when everything else is right.

        Args:
            data: The envelope.
            context: The context that it was sealed with.
            now: The present time (aware); by default the clock's.

        Returns:
            The value.

        Raises:
            EnvelopeError: It cannot be opened; the subclass gives the reason.
            DecodeError: It is genuine, but its value is not acceptable to the codec.
            ConfigurationError: An argument is not acceptable.
            TypeError: ``data`` is not bytes, bytearray or memoryview.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"an envelope must be bytes, bytearray or memoryview, not {type(data).__name__}")
        binding = self._binding(context)
        moment = _moment(now)
        view = memoryview(data).cast("B")
        if len(view) > self._max_size:
            raise EnvelopeTooLarge(f"an envelope of {len(view)} bytes; max_size is {self._max_size}")
        header, size = _Header.parse(view)
        key = self._opening_key(header.key_id, moment)
        try:
            plain = AESGCM(envelope_key(key.secret, header.salt)).decrypt(_NONCE, view[size:], view[:size])
        except InvalidTag:
            raise EnvelopeForged("the envelope was altered, or sealed with another key of the same id") from None
        if _milliseconds(moment) > header.not_after + CLOCK_SKEW // _MILLISECOND:
            raise EnvelopeExpired("the envelope's time is over; or check this machine's clock")
        if not compare_digest(plain[:_BINDING], binding):
            raise EnvelopeContextMismatch("the envelope was sealed for another purpose, codec or context")
        return self.codec.decode(memoryview(plain)[_BINDING:])

    def _binding(self, context: Context) -> bytes:
        return sha256(self._scope + _packed(context, "the context")).digest()

    def _sealing_keys(self) -> KeySnapshot:
        keys = self._keys.refresh(_RELOAD_INTERVAL)
        if not any(_is_usable(key) for key in keys):
            raise ConfigurationError(
                "every key of the keyring is bound to an identity, which an envelope cannot prove; make a keyring for "
                "envelopes with `sealwire keys new --file queue.toml`"
            )
        return keys

    def _opening_key(self, key_id: str, now: datetime) -> Key:
        key = self._keys.refresh(_RELOAD_INTERVAL).verifying_key(key_id, now, None)
        if key is None and self._keys.may_look():  # the sealing side may have a newer file
            self._keys.look(_RELOAD_INTERVAL, LOOK_PATIENCE)
            key = self._keys.current.verifying_key(key_id, now, None)
        if key is not None:
            return key
        known = self._keys.get(key_id)
        if known is None:
            raise EnvelopeKeyUnknown(
                "the envelope's key is not in the keyring, or is revoked; if it is new, copy the keyring to this host"
            )
        if not _is_usable(known):
            raise EnvelopeKeyUnknown(f"key {known.id!r} is bound to {known.identity}, which an envelope cannot prove")
        raise EnvelopeKeyUnknown(f"{known!r} is not valid now; or check this machine's clock")

    def __repr__(self) -> str:
        return f"<Envelope for {self.purpose!r}, {self._keys!r}, {self.codec!r}>"


def seal(
    value: object,
    keys: Keyring,
    *,
    purpose: str,
    lifetime: float,
    context: Context = (),
    codec: Codec | RawCodec | None = None,
) -> bytes:
    """Seal a value, as :meth:`Envelope.seal` of a new :class:`Envelope` does: same arguments, same errors."""
    return Envelope(keys, purpose=purpose, codec=codec).seal(value, lifetime=lifetime, context=context)


def open(  # noqa: A001 - the counterpart of seal; builtins.open is not used here
    data: bytes | bytearray | memoryview,
    keys: Keyring,
    *,
    purpose: str,
    context: Context = (),
    codec: Codec | RawCodec | None = None,
) -> Any:
    """Open an envelope, as :meth:`Envelope.open` of a new :class:`Envelope` does: same arguments, same errors."""
    return Envelope(keys, purpose=purpose, codec=codec).open(data, context=context)


class _Header(NamedTuple):
    """The part in clear. ``not_after``: the end, in milliseconds since 1970."""

    not_after: int
    salt: bytes
    key_id: str

    def pack(self) -> bytes:
        fixed = _MAGIC + bytes((_VERSION,)) + self.not_after.to_bytes(8, "big") + self.salt
        return fixed + bytes((len(self.key_id),)) + self.key_id.encode("ascii")

    @classmethod
    def parse(cls, view: memoryview) -> tuple[Self, int]:
        """Return the header and its size."""
        if bytes(view[:3]) != _MAGIC:
            raise EnvelopeMalformed("not an envelope: it does not begin with the bytes SWE")
        if len(view) > 3 and view[3] != _VERSION:
            raise EnvelopeVersionUnknown(f"an envelope of version {view[3]}; this library knows version {_VERSION}")
        size = _FIXED + view[_FIXED - 1] if len(view) >= _FIXED else 0
        key_id = bytes(view[_FIXED:size]).decode("latin-1")
        if len(view) < size + _BINDING + _TAG or not KEY_ID.fullmatch(key_id):
            raise EnvelopeMalformed("the envelope was cut, or its key id is not one")
        return cls(int.from_bytes(view[4:12], "big"), bytes(view[12:44]), key_id), size


def _packed(context: Context, name: str) -> bytes:
    """Return strings with their number and lengths, so that no two contexts have the same bytes."""
    entries: list[Any] | None = None
    if isinstance(context, Mapping):
        entries = [*context.items()]
    elif isinstance(context, str | list | tuple):
        entries = [(text,) for text in ((context,) if isinstance(context, str) else context)]
    if entries is None or not all(isinstance(text, str) for entry in entries for text in entry):
        raise ConfigurationError(f"{name} must be a str, a list or tuple of str, or a mapping of str to str")
    try:
        encoded = [[text.encode() for text in entry] for entry in entries]
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} has a lone surrogate, which UTF-8 cannot encode") from None
    if isinstance(context, Mapping):
        encoded.sort()
    texts = b"".join(len(text).to_bytes(4, "big") + text for entry in encoded for text in entry)
    return bytes((isinstance(context, Mapping),)) + len(encoded).to_bytes(4, "big") + texts


def _is_usable(key: Key) -> bool:
    """Return True if a key is bound to no identity: nothing in an envelope proves one."""
    return may_use(key, None)


def _moment(now: datetime | None) -> datetime:
    if now is None:
        return datetime.now(UTC)
    if not isinstance(now, datetime) or now.utcoffset() is None:
        raise ConfigurationError("now must be a datetime with a UTC offset")
    return now


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
