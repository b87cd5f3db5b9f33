"""The pure part of an independent implementation of the Sealwire wire protocol, version 1.

Written from docs/protocol.md alone and sharing no code with ``sealwire``, so that a deviation shows as a failure
between the two. Section numbers are those of that page. Slow and plain on purpose; never use it outside tests.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass, field

VERSION = 1
ALPN = "sealwire/1"
HEADER, TAG = 20, 32
OVERHEAD = HEADER + TAG
HANDSHAKE_CAP = 1024
MIN_MAX_FRAME = 1184
MAX_PING = 125
MAX_FAULT_TEXT = 1024
ZERO = bytes(32)

HELLO, WELCOME, MESSAGE, FAULT, PING, PONG, CLOSE, REJECT, CANCEL, PART, CREDIT, END = range(1, 13)
NAMES = "HELLO WELCOME MESSAGE FAULT PING PONG CLOSE REJECT CANCEL PART CREDIT END"
KINDS = dict(enumerate(NAMES.split(), 1))
REJECT_CODES, CLOSE_CODES, FAULT_CODES = range(1, 6), range(5), {*range(16, 24), *range(64, 256)}
METADATA, PARTS, UPLOAD = 1, 2, 4
Extensions = tuple[tuple[int, bytes], ...]


class Violation(Exception):
    """The other side did what the protocol forbids; the message starts with the section."""


def demand(condition: object, section: str, what: str) -> None:
    """Raise Violation unless ``condition`` holds."""
    if not condition:
        raise Violation(f"section {section}: {what}")


# Section 3: keys


def hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256 and 32 bytes out, which is a single block of its expand step."""
    prk = hmac.digest(salt or ZERO, ikm, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


def binding(server_der: bytes | None, client_der: bytes | None) -> bytes:
    """64 bytes that name both leaf certificates; 32 zero bytes for one that is absent."""
    return b"".join(hashlib.sha256(der).digest() if der else ZERO for der in (server_der, client_der))


def k_hello(psk: bytes, server_der: bytes | None, client_der: bytes | None) -> bytes:
    """The key that tags HELLO."""
    return hkdf(psk, binding(server_der, client_der), b"sealwire/1 hello")


def log_hash(hello: bytes, welcome_untagged: bytes) -> bytes:
    """``log``: the HELLO frame whole, then the WELCOME frame without its tag."""
    return hashlib.sha256(hello + welcome_untagged).digest()


def traffic_keys(psk: bytes, salt: bytes, bound: bytes, log: bytes) -> tuple[bytes, bytes]:
    """``(K_c2s, K_s2c)``; ``salt`` is the client's nonce and the server's, ``bound`` the binding."""
    return (
        hkdf(psk, salt, b"sealwire/1 client to server" + bound + log),
        hkdf(psk, salt, b"sealwire/1 server to client" + bound + log),
    )


# Section 2: frames


@dataclass(frozen=True)
class Frame:
    """One frame as received; ``raw`` is the whole of it, length and tag included."""

    kind: int
    flags: int
    wait: int
    sequence: int
    reply_to: int
    payload: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return KINDS.get(self.kind, f"kind {self.kind}")

    @property
    def request(self) -> int:
        """The sequence of the request that the frame is or belongs to."""
        return self.reply_to if self.kind in (CANCEL, PART, CREDIT, END) else self.sequence

    @property
    def code(self) -> int:
        """Of a FAULT, CLOSE or REJECT."""
        return int.from_bytes(self.payload[:2], "big")

    @property
    def last(self) -> int:
        """Of a CLOSE."""
        return int.from_bytes(self.payload[2:10], "big")

    def check_tag(self, key: bytes | None) -> None:
        """Raise Violation where the tag was not made with ``key``; None stands for the zero tag of REJECT."""
        expected = tag(self.raw[:-TAG], key)
        demand(hmac.compare_digest(self.raw[-TAG:], expected), "2", f"wrong tag on {self.name} {self.sequence}")


def u(value: int, size: int) -> bytes:
    """``value`` as an unsigned big-endian integer of ``size`` bytes."""
    return value.to_bytes(size, "big")


def untagged(kind: int, payload: bytes, sequence: int = 0, reply_to: int = 0, wait: int = 0, flags: int = 0) -> bytes:
    """A frame from its length on, without its tag."""
    header = u(kind, 1) + u(flags, 1) + u(wait, 2) + u(sequence, 8) + u(reply_to, 8)
    return u(len(header) + len(payload) + TAG, 4) + header + payload


def tag(signed: bytes, key: bytes | None) -> bytes:
    """The tag over everything before it; None gives the zero tag of REJECT."""
    return ZERO if key is None else hmac.digest(key, signed, "sha256")


def frame(
    kind: int,
    payload: bytes,
    sequence: int,
    reply_to: int,
    key: bytes | None,
    wait: int = 0,
    flags: int = 0,
) -> bytes:
    """A whole frame; nothing is checked, so that any wrong one can be made."""
    signed = untagged(kind, payload, sequence, reply_to, wait, flags)
    return signed + tag(signed, key)


def parse_frame(raw: bytes) -> Frame:
    """Take a whole frame apart; its tag, order and meaning are the caller's to check."""
    length = int.from_bytes(raw[:4], "big")
    demand(length >= OVERHEAD, "2", f"length {length} is under {OVERHEAD}")
    demand(length == len(raw) - 4, "2", f"length {length} for a body of {len(raw) - 4}")
    return Frame(
        kind=raw[4],
        flags=raw[5],
        wait=int.from_bytes(raw[6:8], "big"),
        sequence=int.from_bytes(raw[8:16], "big"),
        reply_to=int.from_bytes(raw[16:24], "big"),
        payload=raw[24:-TAG],
        raw=raw,
    )


def wait_field(seconds: float | None) -> int:
    """Hundredths of a second, rounded up; 0 for unknown (None) or more than 655.35 s."""
    # The inner rounding takes back the binary fraction's error: 0.07 * 100 is 7.000000000000001.
    hundredths = math.ceil(round((seconds or 0) * 100, 6))
    return hundredths if hundredths <= 0xFFFF else 0


# Section 2: payloads


@dataclass(frozen=True)
class Hello:
    """The fields of HELLO; in WELCOME ``key_id`` and ``server_name`` are empty."""

    version: int
    nonce: bytes
    max_frame: int
    key_id: bytes
    codec: bytes
    server_name: bytes
    extensions: Extensions = ()


def s8(value: bytes) -> bytes:
    """``length u8 ‖ bytes``."""
    return u(len(value), 1) + value


def extension_bytes(extensions: Extensions) -> bytes:
    """``type u16 ‖ length u16 ‖ value`` for each, in the order given."""
    return b"".join(u(kind, 2) + u(len(value), 2) + value for kind, value in extensions)


def hello_payload(
    *,
    nonce: bytes,
    max_frame: int,
    key_id: bytes,
    codec: bytes,
    server_name: bytes,
    version: int = VERSION,
    extensions: Extensions = (),
) -> bytes:
    """HELLO's payload; nothing is checked."""
    fields = s8(key_id) + s8(codec) + s8(server_name) + extension_bytes(extensions)
    return u(version, 1) + nonce + u(max_frame, 4) + fields


def welcome_payload(
    *,
    nonce: bytes,
    max_frame: int,
    codec: bytes,
    version: int = VERSION,
    extensions: Extensions = (),
) -> bytes:
    """WELCOME's payload; nothing is checked."""
    return u(version, 1) + nonce + u(max_frame, 4) + s8(codec) + extension_bytes(extensions)


def close_payload(code: int, last: int) -> bytes:
    """``code u16 ‖ last u64``."""
    return u(code, 2) + u(last, 8)


def fault_payload(code: int, text: str = "") -> bytes:
    """``code u16 ‖`` UTF-8 text."""
    return u(code, 2) + text.encode()


class _Reader:
    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.at, self.what = data, 0, what

    def take(self, size: int) -> bytes:
        demand(self.at + size <= len(self.data), "2", f"{self.what} is cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def s8(self) -> bytes:
        return self.take(self.number(1))

    def token(self, name: str) -> bytes:
        value = self.s8()
        demand(1 <= len(value) <= 64, "2", f"{name} of {len(value)} bytes")
        demand(all(0x21 <= byte <= 0x7E for byte in value), "2", f"{name} has bytes outside 0x21-0x7E")
        return value

    def extensions(self) -> Extensions:
        found: list[tuple[int, bytes]] = []
        while self.at < len(self.data):
            kind = self.number(2)
            demand(not found or found[-1][0] < kind, "2", "extension types do not ascend")
            found.append((kind, self.take(self.number(2))))
        return tuple(found)


def parse_hello(payload: bytes) -> Hello:
    """HELLO's fields, each within its bounds. The version is checked first, as another one has another layout."""
    reader = _Reader(payload, "HELLO")
    version = reader.number(1)
    demand(version == VERSION, "3", f"version {version}")
    nonce, max_frame = reader.take(32), reader.number(4)
    demand(max_frame >= MIN_MAX_FRAME, "2", f"max_frame {max_frame}")
    key_id, codec, server_name = reader.token("key_id"), reader.token("codec"), reader.s8()
    demand(all(0x20 <= byte <= 0x7E for byte in server_name), "2", "server_name is not printable ASCII")
    return Hello(version, nonce, max_frame, key_id, codec, server_name, reader.extensions())


def parse_welcome(payload: bytes) -> Hello:
    """WELCOME's fields, each within its bounds; whether they fit HELLO is the caller's to check."""
    reader = _Reader(payload, "WELCOME")
    version = reader.number(1)
    demand(version == VERSION, "3", f"WELCOME has version {version}")
    nonce, max_frame = reader.take(32), reader.number(4)
    demand(max_frame >= MIN_MAX_FRAME, "2", f"max_frame {max_frame}")
    codec = reader.token("codec")
    return Hello(version, nonce, max_frame, b"", codec, b"", reader.extensions())


def check_payload(got: Frame) -> None:
    """Raise Violation where the payload of a frame other than HELLO, WELCOME and MESSAGE is out of bounds."""
    size = len(got.payload)
    if got.kind == FAULT:
        demand(2 <= size <= 2 + MAX_FAULT_TEXT, "2", f"FAULT with a payload of {size} bytes")
        demand(got.code in FAULT_CODES, "3", f"FAULT {got.code} is not a code of version 1")
        try:
            got.payload[2:].decode()
        except UnicodeDecodeError:
            raise Violation("section 2: the text of FAULT is not UTF-8") from None
    elif got.kind in (PING, PONG):
        demand(size <= MAX_PING, "2", f"{got.name} with a payload of {size} bytes")
    elif got.kind == CLOSE:
        demand(size == 10, "2", f"CLOSE with a payload of {size} bytes")
        demand(got.code in CLOSE_CODES, "3", f"CLOSE {got.code} is not a code of version 1")
    elif got.kind == REJECT:
        demand(size == 2, "2", f"REJECT with a payload of {size} bytes")
        demand(got.code in REJECT_CODES, "3", f"REJECT {got.code} is not a code of version 1")
    elif got.kind in (CANCEL, END):
        demand(size == 0, "9", f"{got.name} with a payload of {size} bytes")
    elif got.kind == CREDIT:
        demand(size == 4, "9", f"CREDIT with a payload of {size} bytes")
        demand(any(got.payload), "9", "CREDIT of 0 bytes")
