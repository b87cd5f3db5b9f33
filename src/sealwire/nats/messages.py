"""The messages between the two inboxes of a session, without I/O (docs/nats.md).

A session is a stream of bytes each way, cut into messages. Each message says at which position of its stream it begins,
so that one that NATS has dropped is noticed with the next, and up to which position of the other stream its sender
takes bytes. There is nothing secret or trusted here: the bytes are TLS records.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct("!BBQQ")
_VERSION: Final = 1
HEADER_SIZE: Final = _HEADER.size


class Kind(IntEnum):
    """The kinds of messages."""

    DATA = 0
    """Bytes of the stream, or none to move the limit or to answer PROBE."""
    OPEN = 1
    """A client's first message, to the subject, with the first bytes of its stream."""
    ACCEPT = 2
    """A server's first message."""
    PROBE = 3
    """To be answered at once with any message."""
    END = 4
    """The end of the stream; the other one may go on."""
    RESET = 5
    """The session is over, and what was not delivered is lost."""


_WITH_DATA: Final = (Kind.DATA, Kind.OPEN)


class Message(NamedTuple):
    """A message.

    Attributes:
        kind: Its kind.
        position: The position of its data, or of the data after it, in the stream of its sender.
        limit: The position in the other stream up to which its sender takes bytes.
        data: The bytes of the stream.
    """

    kind: Kind
    position: int
    limit: int
    data: bytes


def pack(kind: Kind, position: int, limit: int, data: bytes | memoryview = b"") -> bytes:
    """Return a message as bytes."""
    return b"".join((_HEADER.pack(_VERSION, kind, position, limit), data))


def unpack(payload: bytes) -> Message:
    """Read a message. Raises ValueError if it is not one of this version."""
    if len(payload) < HEADER_SIZE:
        raise ValueError("a message is shorter than its header")
    version, number, position, limit = _HEADER.unpack_from(payload)
    if version != _VERSION:
        raise ValueError(f"a message has version {version}, and this is {_VERSION}")
    kind = Kind(number)
    data = payload[HEADER_SIZE:]
    if data and kind not in _WITH_DATA:
        raise ValueError(f"a message of kind {kind} has data")
    return Message(kind, position, limit, data)
