"""DTLS records in datagrams (RFC 6347, section 4.1), as far as they can be told apart without their keys."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

MTU: Final = 1232
"""Bytes of UDP payload that pass everywhere: IPv6's 1,280 less its header and UDP's (RFC 8200, section 5)."""
MOST: Final = 2048
"""Bytes of a datagram that is looked at: more than any peer with our max_frame sends."""

_RECORD: Final = Struct(">BHHIHH")
"""Type, version, epoch, sequence (32 and 16 bits), length."""
_HANDSHAKE: Final = 22
_APPLICATION: Final = 23
_CLIENT_HELLO: Final = 1
_RANDOM: Final = slice(27, 59)
"""Of ClientHello, after the headers of record and handshake message and the version."""


def datagrams(records: bytes) -> Iterator[bytes]:
    """Records packed into datagrams of at most MTU; each with application data into one of its own."""
    packed = b""
    while records:
        kind, *_, length = _RECORD.unpack_from(records)
        size = _RECORD.size + length
        record, records = records[:size], records[size:]
        if packed and (kind == _APPLICATION or len(packed) + size > MTU):
            yield packed
            packed = b""
        packed += record
        if kind == _APPLICATION:
            yield packed
            packed = b""
    if packed:
        yield packed


def is_encrypted(datagram: bytes) -> bool:
    """Whether it begins with a record of another epoch than the first one, which has no keys."""
    return len(datagram) >= _RECORD.size and _RECORD.unpack_from(datagram)[2] > 0


def client_random(datagram: bytes) -> bytes | None:
    """What tells one ClientHello from another (but not from its repetition with a cookie); None for anything else."""
    if len(datagram) < _RANDOM.stop or datagram[0] != _HANDSHAKE or is_encrypted(datagram):
        return None
    return datagram[_RANDOM] if datagram[_RECORD.size] == _CLIENT_HELLO else None
