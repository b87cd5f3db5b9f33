"""From objects to the bytes of a payload and back: :func:`encode`, :func:`decode` and :class:`Codec`."""

from __future__ import annotations

from typing import Any, Final

from sealwire.errors import EncodeError
from sealwire.limits import Limits
from sealwire.pickling import Allowlist, Decoder, Encoder
from sealwire.pickling.plain import NOT_PLAIN, Plain

__all__ = ["Allowlist", "Codec", "RawCodec", "decode", "encode"]

Buffer = bytes | bytearray | memoryview


class Codec:
    """Payloads are pickles, of the types on an allowlist and within limits, and nothing else.

    ``allowlist``: default the standard value types. ``limits``: default ``Limits()``; max_frame, less 52 bytes, bounds
    the payload. Immutable; threads may share one.
    """

    name: Final = "pickle-5"
    """How the handshake calls it (docs/protocol.md, section 3)."""

    __slots__ = ("_decoder", "_encoder", "_plain", "allowlist", "limits")

    def __init__(self, allowlist: Allowlist | None = None, *, limits: Limits | None = None) -> None:
        self.allowlist: Final = allowlist if allowlist is not None else Allowlist()
        self.limits: Final = limits if limits is not None else Limits()
        self._decoder: Final = Decoder(self.allowlist, self.limits)
        self._encoder: Final = Encoder(self.allowlist, self.limits, self._decoder)
        self._plain: Final = Plain(self.limits)

    def encode(self, value: object) -> bytes:
        """An ordinary pickle of protocol 5.

        A memoryview, or a pickle.PickleBuffer, is encoded as the bytes that it shows.
        Raises EncodeError, naming the path to what is wrong, for each value that :meth:`decode` would refuse.
        """
        data = self.encode_pieces(value)
        return b"".join(data) if isinstance(data, list) else data

    def encode_pieces(self, value: object) -> bytes | list[bytes | bytearray]:
        """The same, to be sent: in pieces where something is large, so that it is copied once at most."""
        data, good = self._plain.encode(value)
        return data if good and data is not None else self._encoder.encode(value, data)

    def decode(self, data: Buffer) -> Any:
        """The value that was encoded: by :meth:`encode`, or by ``pickle.dumps`` at protocols 2 to 5.

        ``data``: what is 64 KiB or more and writable is not copied and must not be changed meanwhile.
        Raises DecodeError, of which a subclass says what was wrong; TypeError where ``data`` is not
        bytes, bytearray or memoryview.
        """
        if type(data) is bytes:
            value = self._plain.decode(data)
            if value is not NOT_PLAIN:
                return value
        return self._decoder.decode(data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.allowlist!r})"


class RawCodec:
    """Payloads are the caller's own bytes."""

    name: Final = "raw"
    """How the handshake calls it (docs/protocol.md, section 3)."""

    __slots__ = ()

    def encode(self, value: object) -> bytes:
        """The bytes. Raises EncodeError for anything that is not bytes-like."""
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise EncodeError(f"a raw payload must be bytes, bytearray or memoryview, not {type(value).__name__}")

    encode_pieces = encode

    def decode(self, data: Buffer) -> bytes:
        """The bytes. Raises TypeError for anything that is not bytes-like."""
        if isinstance(data, bytes | bytearray | memoryview):
            return bytes(data)
        raise TypeError(f"a payload must be bytes, bytearray or memoryview, not {type(data).__name__}")

    def __repr__(self) -> str:
        return "RawCodec()"


_default: Final = Codec()


def encode(value: object) -> bytes:
    """The payload for a value of the standard value types: ``Codec().encode``. Raises EncodeError."""
    return _default.encode(value)


def decode(data: Buffer) -> Any:
    """The value of a payload, of the standard value types: ``Codec().decode``. Raises DecodeError, TypeError."""
    return _default.decode(data)
