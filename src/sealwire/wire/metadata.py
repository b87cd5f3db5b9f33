"""The metadata of a request or reply: a small map of str to str, inside the seal (docs/protocol.md, section 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sealwire.errors import ConfigurationError, RemoteProtocolError

MAX_ENTRIES: Final = 32
MAX_SIZE: Final = 4096
"""Bytes of all entries, with their lengths."""
Metadata = Mapping[str, str]
TRACE_CONTEXT: Final = frozenset(("traceparent", "tracestate", "baggage"))
"""The keys of W3C Trace Context and Baggage, on which no reply depends."""
_KEY: Final = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)


def pack(metadata: Metadata) -> bytes:
    """Return the bytes that precede the payload. Raises ConfigurationError for metadata that is not acceptable."""
    if not isinstance(metadata, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in metadata.items()
    ):
        raise ConfigurationError("metadata must be a mapping of str to str")
    if len(metadata) > MAX_ENTRIES:
        raise ConfigurationError(f"metadata has {len(metadata)} entries; {MAX_ENTRIES} are allowed")
    packed = bytes((len(metadata),))
    for key in sorted(metadata):
        if not _KEY.fullmatch(key):
            raise ConfigurationError("a key of metadata must have 1 to 64 printable ASCII characters without a space")
        try:
            value = metadata[key].encode()
        except UnicodeEncodeError:
            raise ConfigurationError(f"the metadata of {key} has a lone surrogate, which UTF-8 cannot encode") from None
        if len(packed) + len(value) > MAX_SIZE:
            raise ConfigurationError(f"metadata has more than {MAX_SIZE} bytes; put what is larger into the message")
        packed += bytes((len(key),)) + key.encode() + len(value).to_bytes(2, "big") + value
    if len(packed) > MAX_SIZE:
        raise ConfigurationError(f"metadata has more than {MAX_SIZE} bytes; put what is larger into the message")
    return packed


def checked(metadata: Metadata) -> Metadata | None:
    """Return metadata to send; None if it is empty. Raises ConfigurationError like :func:`pack`."""
    if metadata:
        pack(metadata)
    return metadata or None


def unpack(payload: bytes | memoryview) -> tuple[dict[str, str], int]:
    """Return the metadata at the beginning of a verified payload, and its size. Raises RemoteProtocolError."""
    head = bytes(payload[:MAX_SIZE])
    metadata: dict[str, str] = {}
    is_ordered = True
    count, at, before = 0, 1, ""
    try:
        count = head[0]
        for _ in range(count):
            key, at = _take(head, at + 1, head[at])
            value, at = _take(head, at + 2, int.from_bytes(head[at : at + 2], "big"))
            name = key.decode("ascii")
            is_ordered = is_ordered and name > before and _KEY.fullmatch(name) is not None
            metadata[name], before = value.decode(), name
    except (IndexError, UnicodeDecodeError):
        is_ordered = False
    if not is_ordered or count > MAX_ENTRIES:
        raise RemoteProtocolError("MESSAGE with metadata that is malformed or too long")
    return metadata, at


def _take(head: bytes, start: int, size: int) -> tuple[bytes, int]:
    stop = start + size
    if stop > len(head):
        raise IndexError
    return head[start:stop], stop
