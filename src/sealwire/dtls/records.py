"""DTLS records in datagrams (RFC 6347, section 4.1): the fields that are readable without keys."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

MTU: Final = 1232
"""Bytes of UDP payload that fit on any link: IPv6's minimum of 1,280 less both headers (RFC 8200, section 5)."""
MAX_DATAGRAM: Final = 2048
"""Bytes of a datagram that are read: more than any peer with our max_frame sends."""

_RECORD: Final = Struct(">BHHIHH")
"""Type, version, epoch, sequence (32 and 16 bits), length."""
_MESSAGE: Final = Struct(">BBHHBHBH")
"""Type, length, number; offset and length of the part. Lengths and offsets have 8 and 16 bits."""
HANDSHAKE: Final = 22
"""The type of a record with handshake messages."""
_APPLICATION: Final = 23
_CLIENT_HELLO: Final = 1
_BODY: Final = 25
"""Position of ClientHello: after the headers of record (13 bytes) and handshake message (12)."""
_RANDOM: Final = slice(_BODY + 2, _BODY + 34)
"""Position of ClientHello's random: after the version."""


def datagrams(records: bytes, largest: int = MTU) -> Iterator[bytes]:
    """Pack records into datagrams of at most ``largest`` bytes; application data gets a datagram per record."""
    packed = b""
    while records:
        kind, *_, length = _RECORD.unpack_from(records)
        size = _RECORD.size + length
        record, records = records[:size], records[size:]
        if packed and (kind == _APPLICATION or len(packed) + size > largest):
            yield packed
            packed = b""
        packed += record
        if kind == _APPLICATION:
            yield packed
            packed = b""
    if packed:
        yield packed


def is_encrypted(datagram: bytes) -> bool:
    """Return True if a datagram begins with an encrypted record, one of an epoch after the first."""
    return len(datagram) >= _RECORD.size and _RECORD.unpack_from(datagram)[2] > 0


def client_random(datagram: bytes) -> bytes | None:
    """Return the random of a ClientHello, None for any other datagram.

    It tells clients apart, but is the same when a client repeats its ClientHello with a cookie.
    """
    if len(datagram) < _RANDOM.stop or datagram[0] != HANDSHAKE or is_encrypted(datagram):
        return None
    return datagram[_RANDOM] if datagram[_RECORD.size] == _CLIENT_HELLO else None


def client_offer(datagram: bytes) -> bytes | None:
    """Return a ClientHello without its cookie, None for any other datagram.

    A client repeats the rest of its ClientHello with the cookie (RFC 6347, section 4.2.1).
    """
    if client_random(datagram) is None:
        return None
    end = _RECORD.size + _RECORD.unpack_from(datagram)[-1]
    cookie = _RANDOM.stop + 1 + (datagram[_RANDOM.stop] if len(datagram) > _RANDOM.stop else 0)
    if not cookie < end <= len(datagram):
        return None
    return datagram[_BODY:cookie] + datagram[cookie + 1 + datagram[cookie] : end]


def announced(datagram: bytes) -> Iterator[tuple[int, int]]:
    """Yield number and length of each handshake message that a datagram has a part of, in records without encryption.

    The lengths are those of the whole messages, for which DTLS sets memory aside.
    """
    view = memoryview(datagram)
    while len(view) >= _RECORD.size:
        kind, _, epoch, *_, length = _RECORD.unpack_from(view)
        part, view = view[_RECORD.size :][:length], view[_RECORD.size + length :]
        while kind == HANDSHAKE and not epoch and len(part) >= _MESSAGE.size:
            _, high, low, number, _, _, here_high, here_low = _MESSAGE.unpack_from(part)
            yield number, high << 16 | low
            part = part[_MESSAGE.size + (here_high << 16 | here_low) :]


def is_forged(datagram: bytes, shortest: int) -> bool:
    """Return True if an encrypted record in a datagram is shorter than what its cipher adds.

    Some releases of OpenSSL (3.4, for one) do not drop such a record: it ends the association, and anyone can write it.
    """
    while len(datagram) >= _RECORD.size:
        *_, epoch, _, _, length = _RECORD.unpack_from(datagram)
        if epoch and length < shortest:
            return True
        datagram = datagram[_RECORD.size + length :]
    return False
