"""Envelopes, written from docs/envelope.md alone: opens them, and makes those of ``tests/vectors/envelopes.json``.

``python -m reference.envelopes`` in ``tests`` rewrites the file.

Schema. Byte strings are lower-case hexadecimal.
    ``psk``, ``key_id``, ``purpose``: of all cases
    ``opened``: envelopes that open, each with ``name``, ``codec``, ``context`` (a list, or an object for a mapping),
        ``not_after`` (milliseconds), ``salt``, ``key``, ``binding_input``, ``binding``, ``payload`` and ``envelope``
    ``refused``: ``name``, ``envelope``, ``error``: what opening it at ``not_after`` of the first case with its context
        and codec, and at most 1,024 bytes, raises
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from reference import raw
from reference.vectors import DIRECTORY

PATH = DIRECTORY / "envelopes.json"
PSK, KEY_ID, PURPOSE = raw.fixed("envelope psk"), "2026-11", "orders"
NOT_AFTER = 1_800_000_000_123
Context = list[str] | dict[str, str]


def hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of output."""
    extracted = hmac.digest(salt, ikm, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def s32(text: str) -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode()


def binding_input(purpose: str, codec: str, context: Context) -> bytes:
    scope = struct.pack(">BI", 0, 2) + s32(purpose) + s32(codec)
    if isinstance(context, dict):
        entries = sorted(context.items(), key=lambda entry: entry[0].encode())
        return scope + struct.pack(">BI", 1, len(entries)) + b"".join(s32(key) + s32(value) for key, value in entries)
    return scope + struct.pack(">BI", 0, len(context)) + b"".join(map(s32, context))


def header(not_after: int, salt: bytes, key_id: bytes, version: int = 1) -> bytes:
    return b"SWE" + struct.pack(">BQ", version, not_after) + salt + raw.s8(key_id)


def sealed(head: bytes, key: bytes, plain: bytes) -> bytes:
    gcm = Cipher(algorithms.AES(key), modes.GCM(bytes(12))).encryptor()
    gcm.authenticate_additional_data(head)
    return head + gcm.update(plain) + gcm.finalize() + gcm.tag


def opened(envelope: bytes, psks: dict[str, bytes], purpose: str, codec: str, context: Context, now: int) -> bytes:
    """Return the payload. ``now``: milliseconds."""
    magic, version, not_after, salt, length = struct.unpack_from(">3sBQ32sB", envelope)
    assert (magic, version) == (b"SWE", 1)
    size = 45 + length
    head, body, tag = envelope[:size], envelope[size:-16], envelope[-16:]
    key = hkdf(psks[head[45:].decode("ascii")], salt, b"sealwire/1 envelope")
    gcm = Cipher(algorithms.AES(key), modes.GCM(bytes(12), tag)).decryptor()
    gcm.authenticate_additional_data(head)
    plain = gcm.update(body) + gcm.finalize()
    assert now <= not_after + 30_000
    assert plain[:32] == hashlib.sha256(binding_input(purpose, codec, context)).digest()
    return plain[32:]


def _case(name: str, context: Context, payload: bytes, codec: str = "raw") -> dict[str, Any]:
    salt = raw.fixed(f"envelope salt {name}")
    key = hkdf(PSK, salt, b"sealwire/1 envelope")
    bound = binding_input(PURPOSE, codec, context)
    binding = hashlib.sha256(bound).digest()
    return {
        "name": name,
        "codec": codec,
        "context": context,
        "not_after": NOT_AFTER,
        "salt": salt.hex(),
        "key": key.hex(),
        "binding_input": bound.hex(),
        "binding": binding.hex(),
        "payload": payload.hex(),
        "envelope": sealed(header(NOT_AFTER, salt, KEY_ID.encode()), key, binding + payload).hex(),
    }


def _refused(case: dict[str, Any]) -> list[dict[str, str]]:
    salt, key, binding, good = (bytes.fromhex(case[name]) for name in ("salt", "key", "binding", "envelope"))
    plain = binding + bytes.fromhex(case["payload"])
    key_id = KEY_ID.encode()

    def made(**changed: Any) -> bytes:
        fields = {"not_after": NOT_AFTER, "salt": salt, "key_id": key_id} | changed
        return sealed(header(**fields), key, plain)

    def flipped(at: int) -> bytes:
        return good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]

    head = header(NOT_AFTER, salt, key_id)
    cases = {
        "EnvelopeTooLarge": {"one byte too many": good + bytes(1025 - len(good))},
        "EnvelopeMalformed": {
            "empty": b"",
            "a pickle": b"\x80\x05K\x01.",
            "magic alone": b"SWE",
            "another magic": flipped(0),
            "cut in the salt": good[:30],
            "cut in the key id": good[:48],
            "no room for binding and tag": good[: len(head) + 47],
            "key id empty": made(key_id=b""),
            "key id of 65 bytes": made(key_id=b"k" * 65),
            "key id with a blank": made(key_id=b"2026 11"),
            "key id with 0x7f": made(key_id=b"2026\x7f11"),
        },
        "EnvelopeVersionUnknown": {
            "version 0": made(version=0),
            "version 2": made(version=2),
            "version 2, cut": b"SWE\2",
        },
        "EnvelopeKeyUnknown": {"another key id": made(key_id=b"2026-12")},
        "EnvelopeForged": {
            "another end": flipped(11),
            "another salt": flipped(12),
            "payload flipped": flipped(len(head) + 32),
            "tag flipped": flipped(len(good) - 1),
            "tag cut": good[:-1],
            "a byte more": good + b"\0",
            "another key": sealed(head, bytes(32), plain),
            "key of a connection": sealed(head, raw.hkdf(PSK, salt, b"sealwire/1 hello"), plain),
        },
        "EnvelopeExpired": {"ended 30.001 s ago": made(not_after=NOT_AFTER - 30_001)},
        "EnvelopeContextMismatch": {
            name: sealed(head, key, hashlib.sha256(bound).digest() + plain[32:])
            for name, bound in {
                "another context": binding_input(PURPOSE, "raw", ["queue", "refunds"]),
                "the same bytes, parted elsewhere": binding_input(PURPOSE, "raw", ["queueo", "rders"]),
                "a mapping": binding_input(PURPOSE, "raw", {"queue": "orders"}),
                "no context": binding_input(PURPOSE, "raw", []),
                "another purpose": binding_input("refunds", "raw", ["queue", "orders"]),
                "another codec": binding_input(PURPOSE, "pickle-5", ["queue", "orders"]),
            }.items()
        },
    }
    return [
        {"name": name, "envelope": envelope.hex(), "error": error}
        for error, envelopes in cases.items()
        for name, envelope in envelopes.items()
    ]


def rendered() -> str:
    cases = [
        _case("strings", ["queue", "orders"], b"hello"),
        _case("one string", ["orders"], b"hello"),
        _case("no context", [], b"hello"),
        _case("mapping", {"task": "price", "id": "7", "": "", "\u00e9": "\u20ac"}, b"hello"),
        _case("mapping of nothing", {}, b"hello"),
        _case("empty payload", ["queue", "orders"], b""),
        _case("pickle", ["queue", "orders"], b"\x80\x05}\x94\x8c\x04item\x94\x8c\x03tea\x94s.", "pickle-5"),
    ]
    document = {
        "psk": PSK.hex(),
        "key_id": KEY_ID,
        "purpose": PURPOSE,
        "opened": cases,
        "refused": _refused(cases[0]),
    }
    return json.dumps(document, indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(rendered(), encoding="utf-8")
