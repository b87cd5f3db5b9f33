"""Turns objects into the bytes of a payload and back: :func:`encode`, :func:`decode` and :class:`Codec`."""

from __future__ import annotations

from typing import Any, Final

from sealwire.errors import ConfigurationError, EncodeError
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder, Encoder

__all__ = ["Allowlist", "Codec", "RawCodec", "decode", "encode"]

Buffer = bytes | bytearray | memoryview


class Codec:
    """Encodes and decodes payloads: pickles of the types on an allowlist, within limits.

    Immutable; may be shared by threads.

    Args:
        allowlist: The types accepted; by default the standard value types.
        limits: The bounds, by default ``Limits()``. ``max_frame`` less 52 bytes bounds the payload.

    Raises:
        ConfigurationError: A type on the allowlist cannot be allowed, or an argument has the wrong type.
    """

    name: Final = "pickle-5"
    """Its name in the handshake (docs/protocol.md, section 3)."""

    __slots__ = ("_decoder", "_encode_surely", "_encoder", "allowlist", "decode_at_once", "limits")

    def __init__(self, allowlist: Allowlist | None = None, *, limits: Limits | None = None) -> None:
        for name, value, kind, form in (
            ("allowlist", allowlist, Allowlist, "an Allowlist, as Allowlist(Order, Item) makes it"),
            ("limits", limits, Limits, "Limits(…)"),
        ):
            if not isinstance(value, kind | None):
                raise ConfigurationError(f"{name} must be {form}, not a value of type {type(value).__name__}")
        self.allowlist: Final = allowlist if allowlist is not None else Allowlist()
        self.limits: Final = limits if limits is not None else Limits()
        self._decoder: Final = Decoder(self.allowlist, self.limits)
        self.decode_at_once: Final = self._decoder.decode_at_once
        self._encoder: Final = Encoder(self.allowlist, self.limits, self._decoder)
        self._encode_surely: Final = self._encoder.encode_surely

    def encode(self, value: object) -> bytes:
        """Encode a value as an ordinary pickle of protocol 5.

        Args:
            value: The value. A memoryview or pickle.PickleBuffer is encoded as the bytes in it.

        Returns:
            The pickle.

        Raises:
            EncodeError: :meth:`decode` would refuse the value. The message has the path to the offending part.
        """
        data = self._encode_surely(value) or self._encoder.encode(value)
        return data if isinstance(data, bytes) else b"".join(data)

    def encode_pieces(self, value: object) -> bytes | list[bytes | bytearray]:
        """Encode a value like :meth:`encode`, but leave large buffers as separate pieces, to save copies."""
        return self._encode_surely(value) or self._encoder.encode(value)

    def decode(self, data: Buffer) -> Any:
        """Decode a value, from :meth:`encode` or from ``pickle.dumps`` at protocols 2 to 5.

        Args:
            data: The payload. A writable buffer of 64 KiB or more is not copied, and must not change meanwhile.

        Returns:
            The value.

        Raises:
            DecodeError: The payload is not the pickle of an acceptable value; the subclass gives the reason.
            TypeError: ``data`` is not bytes, bytearray or memoryview.
        """
        return self.decode_at_once(data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.allowlist!r})"


class RawCodec:
    """Payloads as the caller's own bytes, unchanged."""

    name: Final = "raw"
    """Its name in the handshake (docs/protocol.md, section 3)."""

    __slots__ = ()

    def encode(self, value: object) -> bytes:
        """Return the bytes. Raises EncodeError for other types."""
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise EncodeError(f"a raw payload must be bytes, bytearray or memoryview, not {type(value).__name__}")

    encode_pieces = encode

    def decode(self, data: Buffer) -> bytes:
        """Return the bytes. Raises TypeError for other types."""
        if isinstance(data, bytes | bytearray | memoryview):
            return bytes(data)
        raise TypeError(f"a payload must be bytes, bytearray or memoryview, not {type(data).__name__}")

    decode_at_once = decode

    def __repr__(self) -> str:
        return "RawCodec()"


_default: Final = Codec()


def encode(value: object) -> bytes:
    """Encode a value of the standard value types.

    Equal to ``Codec().encode(value)``, with the same errors.
    """
    return _default.encode(value)


def decode(data: Buffer) -> Any:
    """Decode a payload of the standard value types.

    Equal to ``Codec().decode(data)``, with the same errors.
    """
    return _default.decode(data)
