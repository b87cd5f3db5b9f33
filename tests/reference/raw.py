"""The primitives of the vectors: struct, hashlib, hmac and cryptography's HKDF.

Neither implementation of the protocol has a share in it, so that none vouches for itself.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HELLO, WELCOME, MESSAGE, FAULT, PING, PONG, CLOSE, REJECT, CANCEL, PART, CREDIT, END = range(1, 13)
METADATA, PARTS, UPLOAD = 1, 2, 4
MIN_MAX_FRAME, MIB, U32, U64 = 1184, 2**20, 2**32 - 1, 2**64 - 1
Extensions = tuple[tuple[int, bytes], ...]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(ikm)


def fixed(label: str, size: int = 32) -> bytes:
    """Bytes that look random and are the same each time."""
    return hashlib.shake_256(b"sealwire test vector " + label.encode()).digest(size)


def s8(value: bytes) -> bytes:
    return struct.pack(">B", len(value)) + value


def extensions(extensions: Extensions) -> bytes:
    return b"".join(struct.pack(">HH", kind, len(value)) + value for kind, value in extensions)


def signed(kind: int, payload: bytes, flags: int = 0, wait: int = 0, sequence: int = 0, reply_to: int = 0) -> bytes:
    return struct.pack(">IBBHQQ", 52 + len(payload), kind, flags, wait, sequence, reply_to) + payload


def seal(signed: bytes, key: bytes) -> bytes:
    return signed + hmac.new(key, signed, hashlib.sha256).digest()


def hello(
    nonce: bytes,
    max_frame: int,
    key_id: bytes,
    codec: bytes,
    server_name: bytes,
    extensions: bytes = b"",
    version: int = 1,
) -> bytes:
    fields = s8(key_id) + s8(codec) + s8(server_name) + extensions
    return struct.pack(">B32sI", version, nonce, max_frame) + fields


def welcome(nonce: bytes, max_frame: int, codec: bytes, extensions: bytes = b"", version: int = 1) -> bytes:
    return struct.pack(">B32sI", version, nonce, max_frame) + s8(codec) + extensions


def frame(name: str, key_name: str, key: bytes, kind: int, payload: bytes, **header: int) -> dict[str, Any]:
    header = {"flags": 0, "wait": 0, "sequence": 0, "reply_to": 0} | header
    whole = seal(signed(kind, payload, **header), key)
    return {
        "name": name,
        "key": key_name,
        "kind": kind,
        **header,
        "payload": payload.hex(),
        "frame": whole.hex(),
    }
