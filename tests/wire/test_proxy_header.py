"""The PROXY protocol's header, judged beside a plain reading of its specification."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import RemoteProtocolError
from sealwire.wire.proxy_header import MAX_HEADER, ProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TLS = bytes.fromhex("16030100")
"""The bytes after a header."""
V4 = ipaddress.IPv4Address("203.0.113.7").packed
V6 = ipaddress.IPv6Address("2001:db8::7").packed


def binary(command: int = 0x21, family: int = 0x11, block: bytes | None = None, fields: bytes = b"") -> bytes:
    block = (V4 + V4 + struct.pack("!HH", 4711, 443) if block is None else block) + fields
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def field(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def crc32c(data: bytes) -> int:
    """By long division, the bits of each byte from the lowest."""
    bits = [byte >> place & 1 for byte in data for place in range(8)]
    bits = [bit ^ (number < 32) for number, bit in enumerate(bits + [0] * 32)]
    divisor = [int(bit) for bit in f"{0x11EDC6F41:b}"]
    for start in range(len(bits) - 32):
        if bits[start]:
            for place, bit in enumerate(divisor):
                bits[start + place] ^= bit
    return sum((1 - bit) << place for place, bit in enumerate(bits[-32:]))


def checked(fields: bytes = b"", family: int = 0x11, block: bytes | None = None, command: int = 0x21) -> bytes:
    """With a checksum that is right."""
    blank = binary(command, family, block, fields + field(3, bytes(4)))
    return blank[:-4] + struct.pack("!I", crc32c(blank))


def read(data: bytes) -> tuple[Any, int]:
    """The client's address, and the length of the header at the beginning of these bytes."""
    header = ProxyHeader()
    size = header.take(data)
    assert header.complete
    return header.source, size


def refused(data: bytes, *, expected: bool = True) -> str:
    header = ProxyHeader(expected=expected)
    with pytest.raises(RemoteProtocolError) as error:
        header.take(data)
    with pytest.raises(RemoteProtocolError):
        header.take(data)
    assert not header.complete
    return str(error.value)


ACCEPTED = {
    b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n": ("203.0.113.7", 4711),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": ("255.255.255.255", 65535),
    b"PROXY TCP4 203.0.113.7 192.0.2.1 0 0\r\n": ("203.0.113.7", 0),
    b"PROXY TCP6 2001:DB8::7 ::1 4711 443\r\n": ("2001:db8::7", 4711, 0, 0),
    b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 443\r\n": ("203.0.113.7", 4711),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n": None,
    b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n": None,
    binary(): ("203.0.113.7", 4711),
    binary(family=0x21, block=V6 + V6 + struct.pack("!HH", 4711, 443)): ("2001:db8::7", 4711, 0, 0),
    binary(family=0x21, block=bytes(10) + b"\xff\xff" + V4 + V6 + bytes(4)): ("203.0.113.7", 0),
    binary(family=0x31, block=bytes(216)): None,
    binary(family=0x00, block=b""): None,
    binary(command=0x20, family=0x00, block=b""): None,
    binary(command=0x20, block=b"what is here is ignored"): None,
    binary(command=0x20, family=0xFF): None,
    binary(fields=field(5, b"an id") + field(0x20, bytes(5) + field(0x21, b"TLSv1.3")) + field(4, b"")): (
        "203.0.113.7",
        4711,
    ),
    binary(fields=field(0xEE, bytes(MAX_HEADER - 16 - 12 - 3))): ("203.0.113.7", 4711),
    checked(): ("203.0.113.7", 4711),
    checked(field(5, b"an id")): ("203.0.113.7", 4711),
    checked(command=0x20, family=0x00, block=b""): None,
}

OF_HAPROXY = {
    "0d0a0d0a000d0a515549540a2000000f030004889da1df2000050000000000": None,
    "0d0a0d0a000d0a515549540a211100427f0000017f000001a0fc4423030004af3bde9305002461623536373366322d336239622d3433"
    "64622d386461362d3332656162656633356661632000050000000000": ("127.0.0.1", 41212),
    "0d0a0d0a000d0a515549540a2121005a00000000000000000000ffff7f00000100000000000000000000ffff7f000001b24644260300"
    "042b1006b505002462633135643834342d303564332d343730612d613936342d3639383063326161356566632000050000000000": (
        "127.0.0.1",
        45638,
    ),
    "0d0a0d0a000d0a515549540a2121005a0000000000000000000000000000000100000000000000000000000000000001ab0e44260300"
    "04223d782805002434643331613362632d383165382d346235612d386165312d3566316133346638356365652000050000000000": (
        "::1",
        43790,
        0,
        0,
    ),
}
"""As HAProxy 2.6 sends them with crc32c, unique-id and ssl: its check, and clients of IPv4, of IPv4 at a socket of
IPv6, and of IPv6."""

ACCEPTED |= {bytes.fromhex(text): address for text, address in OF_HAPROXY.items()}

REFUSED = [
    b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\r\n",
    b"PROXY TCP4 203.0.113.7\n192.0.2.1 4711 443\r\n",
    b"PROXY TCP4  203.0.113.7 192.0.2.1 4711 443\r\n",
    b"PROXY  TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443 \r\n",
    b"PROXY TCP4\t203.0.113.7 192.0.2.1 4711 443\r\n",
    b"PROXY TCP4 203.0.113.007 192.0.2.1 4711 443\r\n",
    b"PROXY TCP4 203.0.113 192.0.2.1 4711 443\r\n",
    b"PROXY TCP4 203.0.113.256 192.0.2.1 4711 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 04711 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 65536\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 +443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n",
    b"PROXY TCP4 203.0.113.7 2001:db8::7 4711 443\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::7 4711 443\r\n",
    b"PROXY TCP6 203.0.113.7 203.0.113.7 4711 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 4711 443\r\n",
    b"PROXY TCP6 2001:db8:::7 ::1 4711 443\r\n",
    b"PROXY TCP6 00001::7 ::1 4711 443\r\n",
    b"PROXY TCP5 203.0.113.7 192.0.2.1 4711 443\r\n",
    b"PROXY tcp4 203.0.113.7 192.0.2.1 4711 443\r\n",
    b"PROXY UNIX\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY UNKNOWN a\x00b\r\n",
    b"PROXY UNKNOWN a\rb\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * 400,
    b"PROXY\r\n",
    b"PROXYTCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
    b"proxy TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
    b" PROXY UNKNOWN\r\n",
    b"\r\nx",
    b"\r\n\r\n\x00\r\nQUIT\r",
    b"GET / HTTP/1.1\r\n",
    TLS,
    binary(command=0x11),
    binary(command=0x31),
    binary(command=0x22),
    binary(family=0x12),
    binary(family=0x10),
    binary(family=0x41),
    binary(family=0x01),
    binary(block=bytes(11)),
    binary(family=0x21, block=bytes(35)),
    binary(family=0x31, block=bytes(215)),
    binary(fields=b"\x05"),
    binary(fields=b"\x05\x00"),
    binary(fields=field(5, b"an id")[:-1]),
    binary(fields=field(0xEE, bytes(MAX_HEADER - 16 - 12 - 3 + 1))),
    binary(command=0x20, block=bytes(MAX_HEADER - 15)),
    binary(fields=field(3, b"")),
    binary(fields=field(3, bytes(4))),
    checked()[:-1] + bytes((checked()[-1] ^ 1,)),
    checked().replace(V4, V4[::-1], 1),
    checked(field(3, bytes(4))),
]


@pytest.mark.parametrize("header", ACCEPTED, ids=lambda header: str(header[:60]))
def test_accepted(header: bytes) -> None:
    """In one piece with what follows, which is not taken, and byte by byte."""
    assert read(header) == (ACCEPTED[header], len(header))
    assert read(header + TLS * 200) == (ACCEPTED[header], len(header))
    slow = ProxyHeader()
    for number, byte in enumerate(header, 1):
        assert slow.take(bytes((byte,))) == 1
        assert slow.complete is (number == len(header))
    assert slow.source == ACCEPTED[header]


@pytest.mark.parametrize("header", REFUSED, ids=lambda header: str(header[:60]))
def test_refused(header: bytes) -> None:
    text = refused(header)
    assert "PROXY header" in text
    assert refused(header + TLS * 200) == text
    slow, taken = ProxyHeader(), 0

    def go_on() -> None:
        nonlocal taken
        for byte in header + TLS * 200:
            taken += slow.take(bytes((byte,)))

    with pytest.raises(RemoteProtocolError):
        go_on()
    assert taken < min(len(header) + len(TLS) * 200, MAX_HEADER)


def test_checksum() -> None:
    """Of RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("first", [b"P", b"PROXY UNKNOWN\r\n", b"\r", binary()])
def test_not_expected(first: bytes) -> None:
    assert "not listed in proxy_protocol" in refused(first, expected=False)


@pytest.mark.parametrize("first", [TLS, b"\x00", b"GET"])
def test_none_and_none_expected(first: bytes) -> None:
    header = ProxyHeader(expected=False)
    assert header.take(first) == 0
    assert header.complete
    assert header.source is None


ports = st.integers(0, 65535)


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, Any]:
    """A header, and the address in it."""
    kind = draw(st.sampled_from((4, 6)))
    source, target = (draw(st.ip_addresses(v=kind)) for _ in range(2))
    port, other = draw(ports), draw(ports)
    plain = getattr(source, "ipv4_mapped", None) or source
    told = (str(plain), port) if plain.version == 4 else (str(plain), port, 0, 0)
    if draw(st.booleans()):
        return f"PROXY TCP{kind} {source} {target} {port} {other}\r\n".encode(), told
    fields = draw(st.lists(st.builds(field, st.integers(4, 255), st.binary(max_size=60)), max_size=5))
    make = draw(st.sampled_from((binary, checked)))
    block = source.packed + target.packed + struct.pack("!HH", port, other)
    return make(family=0x11 if kind == 4 else 0x21, block=block, fields=b"".join(fields)), told


@given(headers(), st.binary(max_size=20), st.lists(st.integers(1, 60), max_size=20))
def test_any_pieces(made: tuple[bytes, Any], rest: bytes, sizes: list[int]) -> None:
    """However they come, the same address, and the same bytes left over."""
    whole, told = made
    header, left = ProxyHeader(), whole + rest
    for size in [*sizes, len(left)]:
        taken = header.take(left[:size])
        left = left[taken:]
        if header.complete:
            break
        assert taken == size
    assert (header.source, left) == (told, rest)


@given(headers(), st.integers(0, 600), st.integers(1, 255))
def test_a_changed_byte(made: tuple[bytes, Any], place: int, mask: int) -> None:
    """Is refused, or gives an address that the header has; nothing else is raised."""
    whole, _ = made
    place %= len(whole)
    changed = whole[:place] + bytes((whole[place] ^ mask,)) + whole[place + 1 :]
    header = ProxyHeader()
    try:
        taken = header.take(changed + bytes(MAX_HEADER))
    except RemoteProtocolError:
        return
    assert taken <= MAX_HEADER
    if header.source is not None:
        ipaddress.ip_address(header.source[0])
        assert 0 <= header.source[1] < 65536


@given(
    st.binary(min_size=1, max_size=600), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"!"])
)
def test_any_bytes(data: bytes, start: bytes) -> None:
    header = ProxyHeader()
    try:
        taken = header.take(start + data)
    except RemoteProtocolError:
        return
    assert 0 < taken <= len(start + data)
    assert header.complete or taken == len(start + data) <= MAX_HEADER


def test_a_line_ends_at_its_first_newline_whatever_follows():
    line = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
    assert read(line + b"\r\n\r\n") == (("203.0.113.7", 4711), len(line))


def test_a_line_without_an_end_is_refused_at_its_107th_byte():
    line = b"PROXY UNKNOWN " + b"x" * 93
    header = ProxyHeader()
    assert header.take(line[:106]) == 106
    with pytest.raises(RemoteProtocolError, match="without an end within 107 bytes"):
        header.take(line[106:])
