"""The header that a proxy sends before a connection's own bytes: the PROXY protocol, versions 1 and 2, of HAProxy.

It tells a server the address of the client that the proxy serves. Anyone can write one, so that a server reads it only
from the addresses of its proxies, and believes it no more than the proxy. It never authenticates anyone.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from sealwire.errors import RemoteProtocolError

MAX_HEADER: Final = 536
"""Bytes of a header, at most: every TCP segment has room for that many."""
_MAX_LINE: Final = 107
"""Bytes of the line that is a header of version 1, at most."""
_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?|(TCP[46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4}))\r\n"
)
_NAME: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_START: Final = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED: Final = 0x00
_ADDRESSES: Final = {
    _UNSPECIFIED: struct.Struct(""),
    0x11: struct.Struct("!4s4sHH"),
    0x21: struct.Struct("!16s16sHH"),
    0x31: struct.Struct("108s108s"),
}
"""The addresses by family and transport: none, or a stream over IPv4, over IPv6 or on a Unix socket."""
_FIELD: Final = struct.Struct("!BH")
_CRC32C: Final = 0x03
_POLYNOMIAL: Final = 0x82F63B78

Address = tuple[str, int] | tuple[str, int, int, int]
"""The address of a client as socket.accept has it, of IPv4 or of IPv6."""


class ProxyHeader:
    """The header of one connection, which may come in any pieces.

    Args:
        expected: True if the connection must begin with a header; False if it must not, since this server does not
            believe its sender. Default: True.

    Attributes:
        complete: True when the bytes that follow are the connection's own.
        source: The client's address; None if the header has none, as that of a proxy's own connection (LOCAL), or of a
            client whose address it does not know (UNKNOWN) or that has none (a Unix socket).
    """

    def __init__(self, *, expected: bool = True) -> None:
        self.expected = expected
        self.complete = False
        self.source: Address | None = None
        self._taken = b""

    def take(self, seen: bytes) -> int:
        """Process the next bytes of the connection, as far as they belong to the header.

        Args:
            seen: One byte or more. It may have bytes behind the header's.

        Returns:
            The number of bytes that belong to the header. Give the others to the connection, once it is complete.

        Raises:
            RemoteProtocolError: They are not an acceptable header, or a header that is not expected. No byte of
                ``seen`` is taken.
        """
        if not self.expected:
            if seen[:1] in (_NAME[:1], _SIGNATURE[:1]):
                raise RemoteProtocolError("a PROXY header from an address that is not listed in proxy_protocol")
            self.complete = True
            return 0
        data = self._taken + seen
        end = _end(data)
        if end is None:
            self._taken = data
            return len(seen)
        self.source = _line(data[:end]) if data.startswith(_NAME) else _binary(data[:end])
        self.complete = True
        return end - len(self._taken)


def _end(data: bytes) -> int | None:
    """Return the length of the header that these bytes begin with; None if more of it is to come."""
    if data.startswith(_SIGNATURE[: len(data)]):
        if len(data) < _START.size:
            return None
        size = _START.size + _START.unpack_from(data)[3]
        if size > MAX_HEADER:
            raise RemoteProtocolError(f"a PROXY header of {size} bytes; at most {MAX_HEADER} are accepted")
        return size if len(data) >= size else None
    if data.startswith(_NAME[: len(data)]):
        end = data.find(b"\n", 0, _MAX_LINE) + 1
        if not end and len(data) >= _MAX_LINE:
            raise RemoteProtocolError(f"a PROXY header without an end within {_MAX_LINE} bytes")
        return end or None
    raise RemoteProtocolError("no PROXY header, which this address must send first (proxy_protocol); check the proxy")


def _line(line: bytes) -> Address | None:
    """Return the client's address in a header of version 1."""
    match = _LINE.fullmatch(line)
    if match is not None and match[1] is None:
        return None
    try:
        if match is not None and all(int(port) < 65_536 for port in match.group(4, 5)):
            kind = IPv4Address if match[1] == b"TCP4" else IPv6Address
            source, _ = (kind(text.decode()) for text in match.group(2, 3))
            return _address(source, int(match[4]))
    except ValueError:
        pass
    raise RemoteProtocolError("a malformed PROXY header of version 1")


def _binary(header: bytes) -> Address | None:
    """Return the client's address in a header of version 2."""
    _, command, family, _ = _START.unpack_from(header)
    if command not in (_LOCAL, _PROXY):
        raise RemoteProtocolError("a PROXY header of an unknown version, or with an unknown command")
    if command == _LOCAL and family != _UNSPECIFIED:
        return None  # to be ignored with all that follows
    addresses = _ADDRESSES.get(family)
    if addresses is None or len(header) < _START.size + addresses.size:
        raise RemoteProtocolError("a PROXY header without the addresses of a stream")
    _check_fields(header, _START.size + addresses.size)
    found = addresses.unpack_from(header, _START.size)
    return _address(ip_address(found[0]), found[2]) if len(found) == 4 else None


def _check_fields(header: bytes, position: int) -> None:
    """Check the form of the fields behind the addresses, and the checksum if one of them has it."""
    while position < len(header):
        if len(header) - position < _FIELD.size:
            raise RemoteProtocolError("a PROXY header with a field that is cut off")
        kind, size = _FIELD.unpack_from(header, position)
        start = position + _FIELD.size
        position = start + size
        if position > len(header):
            raise RemoteProtocolError("a PROXY header with a field that is cut off")
        if kind == _CRC32C:
            checksum = _crc32c(header[:start] + bytes(size) + header[position:])
            if header[start:position] != checksum.to_bytes(4):
                raise RemoteProtocolError("a PROXY header with a wrong checksum")


def _crc32c(data: bytes) -> int:
    """Return the checksum of RFC 3720, appendix B.4."""
    remainder = 0xFFFF_FFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (_POLYNOMIAL if remainder & 1 else 0)
    return remainder ^ 0xFFFF_FFFF


def _address(source: IPv4Address | IPv6Address, port: int) -> Address:
    if isinstance(source, IPv6Address):
        if source.ipv4_mapped is None:
            return str(source), port, 0, 0
        source = source.ipv4_mapped
    return str(source), port
