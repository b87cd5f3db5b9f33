"""Features beyond the plain exchange of requests and replies (docs/protocol.md, section 9).

A client offers each feature in an extension of HELLO, and the server takes it up by its echo in WELCOME. Both frames
are authenticated, so that a third party can neither add a feature nor take one away.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sealwire.errors import RemoteProtocolError
from sealwire.wire.frames import Flag

_METADATA: Final = 16
_CANCEL: Final = 17
_PARTS: Final = 18
_PARTS_SIZE: Final = 6
_EMPTY: Final = (_METADATA, _CANCEL)


class Features(NamedTuple):
    """The features that one side offers, or that both have agreed on; then the parameters are the peer's."""

    metadata: bool = False
    """MESSAGE frames may carry metadata."""
    cancel: bool = False
    """The client may cancel a request."""
    window: int = 0
    """Bytes of parts that the peer may send for one request before it gets credit; 0 if there are no parts."""
    at_once: int = 0
    """Requests of one connection that the server works on at a time, at least 1; a client sends 0."""

    @property
    def parts(self) -> bool:
        """True if requests and replies may come in parts."""
        return self.window > 0

    @property
    def without_parts(self) -> Features:
        """Return the features for datagrams, which keep no order that parts could rely on."""
        return self._replace(window=0, at_once=0)

    def flags(self, *, of_client: bool) -> int:
        """Return the flags that a MESSAGE of one side may have if these features were agreed on."""
        flags = Flag.METADATA if self.metadata else Flag(0)
        if self.parts and of_client:
            flags |= Flag.PARTS | Flag.UPLOAD
        return int(flags)  # the complement of a Flag would lack the bits that have no name

    def pack(self) -> bytes:
        """Return the extensions of HELLO or WELCOME."""
        packed = b""
        if self.metadata:
            packed += _extension(_METADATA, b"")
        if self.cancel:
            packed += _extension(_CANCEL, b"")
        if self.window:
            packed += _extension(_PARTS, self.window.to_bytes(4, "big") + self.at_once.to_bytes(2, "big"))
        return packed

    @classmethod
    def unpack(cls, extensions: bytes, *, from_client: bool) -> Features:
        """Return the features among well-formed extensions; others are ignored. Raises RemoteProtocolError."""
        values = _values(extensions)
        window = at_once = 0
        is_right = not any(values.get(kind) for kind in _EMPTY)
        if _PARTS in values:
            parts = values[_PARTS]
            window, at_once = int.from_bytes(parts[:4], "big"), int.from_bytes(parts[4:], "big")
            is_right = is_right and len(parts) == _PARTS_SIZE and window > 0 and (at_once == 0) is from_client
        if not is_right:
            raise RemoteProtocolError("an extension for a feature with a value out of range")
        return cls(_METADATA in values, _CANCEL in values, window, at_once)

    def agreed(self, offered: Features) -> Features:
        """Return the features that both sides have, with the parameters of ``self``."""
        parts = self.parts and offered.parts
        return Features(
            self.metadata and offered.metadata,
            self.cancel and offered.cancel,
            self.window if parts else 0,
            self.at_once if parts else 0,
        )


NO_FEATURES: Final = Features()


def extension_types(extensions: bytes) -> frozenset[int]:
    """Return the types of well-formed extensions."""
    return frozenset(_values(extensions))


def _values(extensions: bytes) -> dict[int, bytes]:
    values = {}
    while extensions:
        kind, size = int.from_bytes(extensions[:2], "big"), int.from_bytes(extensions[2:4], "big")
        values[kind], extensions = extensions[4 : 4 + size], extensions[4 + size :]
    return values


def _extension(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
