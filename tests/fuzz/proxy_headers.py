"""PROXY headers, versions 1 and 2: any pieces give the same, nothing behind the cap is taken, addresses come back."""

from __future__ import annotations

import ipaddress
import struct

from fuzz.harness import Source, refusal
from sealwire.errors import RemoteProtocolError
from sealwire.wire.proxy_header import MAX_HEADER, ProxyHeader

RUNS = 8_000
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def take(
    data: bytes, sizes: list[int], *, expected: bool = True
) -> tuple[ProxyHeader, int, RemoteProtocolError | None]:
    """Feed the bytes in pieces of these sizes, in turn; return the header, the bytes that it took, and its error."""
    header, taken, number = ProxyHeader(expected=expected), 0, 0

    def go_on() -> None:
        nonlocal taken, number
        while taken < len(data) and not header.complete:
            piece = data[taken : taken + sizes[number % len(sizes)]]
            count = header.take(piece)
            assert count == len(piece) or header.complete
            taken, number = taken + count, number + 1

    error = refusal(RemoteProtocolError, of=go_on)
    assert error is None or not header.complete
    assert taken <= MAX_HEADER, "more was taken than a header may have"
    return header, taken, error


def written(source: tuple[object, ...]) -> list[bytes]:
    """Return headers of both versions that have this address."""
    address, port = ipaddress.ip_address(str(source[0])), source[1]
    kind, family = (4, 0x11) if address.version == 4 else (6, 0x21)
    block = address.packed * 2 + struct.pack("!HH", port, port)
    line = f"PROXY TCP{kind} {address} {address} {port} {port}\r\n".encode()
    return [line, SIGNATURE + struct.pack("!BBH", 0x21, family, len(block)) + block]


def one(data: bytes) -> None:
    source = Source(data)
    sizes = [1 + source.number(63) for _ in range(3)]
    stream = source.choice(b"", b"PROXY TCP4 ", SIGNATURE + b"\x21\x11\0") + source.rest()
    header, taken, error = take(stream, [1 << 20])
    again, also_taken, same_error = take(stream, sizes)
    assert (header.complete, header.source, str(error)) == (again.complete, again.source, str(same_error))
    if header.complete:
        assert taken == also_taken
    if header.source is not None:
        assert 0 <= header.source[1] < 65536
        for text in written(header.source):
            assert take(text + b"\x16\3\1", sizes)[0].source == header.source
    unexpected, none_taken, _ = take(stream, sizes, expected=False)
    assert none_taken == 0
    assert unexpected.source is None


SEEDS = [
    bytes(4) + b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n\x16\3\1",
    bytes(4) + b"PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 4711 443\r\n",
    bytes(4) + b"PROXY UNKNOWN what ever\r\n",
    bytes(4) + b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
    bytes(4) + SIGNATURE + b"\x21\x11\2\x10" + bytes(528),
    b"\1\1\1\1203.0.113.7 192.0.2.1 4711 443\r\n",
    b"\7\7\7\2\x0c" + bytes(12),
    *(
        bytes(4) + SIGNATURE + bytes.fromhex(rest)
        for rest in (
            "2000000f030004889da1df2000050000000000",
            "211100427f0000017f000001a0fc4423030004af3bde9305002461623536373366322d336239622d343364622d386461362d33"
            "32656162656633356661632000050000000000",
            "21210024" + "20010db8" + "00" * 11 + "07" + "00" * 16 + "126701bb",
            "213100d8" + "00" * 216,
            "20ff0003616263",
        )
    ),
]
