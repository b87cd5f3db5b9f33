"""Generates ``tests/vectors/*.json``: ``python -m reference.vectors`` in ``tests`` rewrites all of them.

The schema is at the top of test_vectors.py.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

from reference import feature_vectors, raw
from reference.raw import (
    CLOSE,
    FAULT,
    HELLO,
    MESSAGE,
    MIB,
    MIN_MAX_FRAME,
    PING,
    PONG,
    REJECT,
    U32,
    U64,
    WELCOME,
    Extensions,
)

DIRECTORY = Path(__file__).resolve().parent.parent / "vectors"

# Two real certificates, Ed25519, self-signed, long expired, with their keys thrown away: only their hashes count.
SERVER_DER = base64.b64decode(
    "MIIBKzCB3qADAgECAgEBMAUGAytlcDAmMSQwIgYDVQQDDBtzZWFsd2lyZSB0ZXN0IHZlY3RvciBzZXJ2ZXIwHhcNMjAwMTAxMDAwMDAw"
    "WhcNMjAwMTAyMDAwMDAwWjAmMSQwIgYDVQQDDBtzZWFsd2lyZSB0ZXN0IHZlY3RvciBzZXJ2ZXIwKjAFBgMrZXADIQDAP2Q4mIPng+ul"
    "PqCo5ZULVL37mmfWMQlezuqYhC7KAaMxMC8wLQYDVR0RBCYwJIIOc2VydmVyLmV4YW1wbGWGEnVybjpleGFtcGxlOnNlcnZlcjAFBgMr"
    "ZXADQQDoAFDtiduuUlIM/lOg6RVy4qzIQcFZXGZU9AU/1TnXO43dfp6M0wKfq++vSKm+cn+MGZjcZ46GRHa5IpzBHhUF"
)
CLIENT_DER = base64.b64decode(
    "MIIBGzCBzqADAgECAgEBMAUGAytlcDAmMSQwIgYDVQQDDBtzZWFsd2lyZSB0ZXN0IHZlY3RvciBjbGllbnQwHhcNMjAwMTAxMDAwMDAw"
    "WhcNMjAwMTAyMDAwMDAwWjAmMSQwIgYDVQQDDBtzZWFsd2lyZSB0ZXN0IHZlY3RvciBjbGllbnQwKjAFBgMrZXADIQCo4nyce3ajwBXq"
    "bdf4vakSzB4Pt29JD2iHvKd07HVzKKMhMB8wHQYDVR0RBBYwFIYSdXJuOmV4YW1wbGU6Y2xpZW50MAUGAytlcANBANBVkXwKoFCth2Lb"
    "L6bt2MFm9jr3ui5lNQFAO7q5AW+JG4YcmhU6qk8eEE9vlPLxd0i+kDb/xy7MrT7spwXdgQs="
)


def _handshake(
    name: str,
    note: str,
    *,
    server_der: bytes = SERVER_DER,
    client_der: bytes = CLIENT_DER,
    psk: bytes | None = None,
    key_id: str = "client-1",
    codec: str = "pickle-5",
    server_name: str = "server.example",
    client_max_frame: int = 16 * MIB,
    server_max_frame: int = 16 * MIB,
    hello_extensions: Extensions = (),
    welcome_extensions: Extensions = (),
) -> dict[str, Any]:
    psk = psk or raw.fixed(f"{name} psk")
    client_nonce, server_nonce = raw.fixed(f"{name} client nonce"), raw.fixed(f"{name} server nonce")
    bound = b"".join(raw.sha256(der) if der else bytes(32) for der in (server_der, client_der))
    k_hello = raw.hkdf(psk, bound, b"sealwire/1 hello")
    hello = raw.hello(
        client_nonce,
        client_max_frame,
        key_id.encode(),
        codec.encode(),
        server_name.encode(),
        raw.extensions(hello_extensions),
    )
    hello_frame = raw.seal(raw.signed(HELLO, hello), k_hello)
    welcome = raw.welcome(server_nonce, server_max_frame, codec.encode(), raw.extensions(welcome_extensions))
    signed_welcome = raw.signed(WELCOME, welcome)
    salt = client_nonce + server_nonce
    log = raw.sha256(hello_frame + signed_welcome)
    info_c2s = b"sealwire/1 client to server" + bound + log
    info_s2c = b"sealwire/1 server to client" + bound + log
    k_c2s, k_s2c = raw.hkdf(psk, salt, info_c2s), raw.hkdf(psk, salt, info_s2c)
    return {
        "name": name,
        "note": note,
        "server_certificate": server_der.hex(),
        "client_certificate": client_der.hex(),
        "psk": psk.hex(),
        "key_id": key_id,
        "codec": codec,
        "server_name": server_name,
        "client_nonce": client_nonce.hex(),
        "server_nonce": server_nonce.hex(),
        "client_max_frame": client_max_frame,
        "server_max_frame": server_max_frame,
        "hello_extensions": [[kind, value.hex()] for kind, value in hello_extensions],
        "welcome_extensions": [[kind, value.hex()] for kind, value in welcome_extensions],
        "binding": bound.hex(),
        "k_hello": k_hello.hex(),
        "hello_payload": hello.hex(),
        "hello_frame": hello_frame.hex(),
        "welcome_payload": welcome.hex(),
        "welcome_frame": raw.seal(signed_welcome, k_s2c).hex(),
        "salt": salt.hex(),
        "log": log.hex(),
        "info_c2s": info_c2s.hex(),
        "info_s2c": info_s2c.hex(),
        "k_c2s": k_c2s.hex(),
        "k_s2c": k_s2c.hex(),
    }


def _cases() -> list[dict[str, Any]]:
    return [
        _handshake("mutual", "both certificates, as by default"),
        _handshake("no-client-certificate", "the second half of the binding is zero", client_der=b""),
        _handshake(
            "unix", "no certificates: both halves are zero", server_der=b"", client_der=b"", server_name="/backup"
        ),
        _handshake("service", "a service name, raw codec", server_name="server.example/inventory", codec="raw"),
        _handshake("uri-verified", "the client verified a URI name: no host", server_name=""),
        _handshake("uri-verified-service", "no host, but a service", server_name="/inventory", codec="msgpack"),
        _handshake("ipv6", "an address as RFC 5952 writes it", server_name="2001:db8::1"),
        _handshake(
            "extensions",
            "HELLO offers two extensions of a later version; the server knows neither",
            hello_extensions=((1, b"one"), (0xFFFF, b"")),
        ),
        _handshake(
            "extension-taken",
            "WELCOME takes one of those offered (only from a client that offers it)",
            hello_extensions=((1, b"one"), (2, raw.fixed("extension", 64))),
            welcome_extensions=((2, b"two"),),
        ),
        _handshake(
            "max-frame-least", "both announce the least", client_max_frame=MIN_MAX_FRAME, server_max_frame=MIN_MAX_FRAME
        ),
        _handshake("max-frame-most", "both announce the most", client_max_frame=U32, server_max_frame=U32),
        _handshake(
            "longest-fields",
            "the longest key_id and server_name, a longer psk, and extensions up to the cap of 1,024",
            psk=raw.fixed("long psk", 96),
            key_id="~" * 64,
            server_name="a" * 63 + ("." + "b" * 63) * 2 + "/" + "s" * 63,
            hello_extensions=((7, bytes(1024 - 52 - 37 - 65 - 9 - 256 - 4)),),
        ),
        _handshake("shortest-key-id", "one byte of key_id", key_id="!"),
        *(_handshake(name, note, **extensions) for name, note, extensions in feature_vectors.HANDSHAKES),
    ]


def _refused_hello(case: dict[str, Any]) -> list[dict[str, Any]]:
    """HELLO frames that a server in the state of ``case`` must not accept, each with a right tag unless it says so."""
    key = bytes.fromhex(case["k_hello"])
    good = {
        "nonce": bytes.fromhex(case["client_nonce"]),
        "max_frame": case["client_max_frame"],
        "key_id": case["key_id"].encode(),
        "codec": case["codec"].encode(),
        "server_name": case["server_name"].encode(),
    }
    whole = raw.hello(**good)
    payloads: dict[str, bytes] = {
        "empty payload": b"",
        "version only": b"\x01",
        "max_frame under 1,184": raw.hello(**good | {"max_frame": MIN_MAX_FRAME - 1}),
        "key_id empty": raw.hello(**good | {"key_id": b""}),
        "key_id of 65 bytes": raw.hello(**good | {"key_id": b"k" * 65}),
        "key_id with a space": raw.hello(**good | {"key_id": b"client 1"}),
        "key_id with 0x7f": raw.hello(**good | {"key_id": b"client\x7f"}),
        "codec empty": raw.hello(**good | {"codec": b""}),
        "codec of 65 bytes": raw.hello(**good | {"codec": b"c" * 65}),
        "codec not ASCII": raw.hello(**good | {"codec": "rå".encode()}),
        "server_name with a newline": raw.hello(**good | {"server_name": b"server.example\n"}),
        "server_name not ASCII": raw.hello(**good | {"server_name": "sërver.example".encode()}),
        "server_name longer than the payload": whole[: -len(good["server_name"]) - 1] + b"\xff" + good["server_name"],
        "no server_name": whole[: -len(good["server_name"]) - 1],
        "one byte after the last field": whole + b"\x00",
        "extension header cut short": whole + b"\x00\x01\x00",
        "extension value cut short": whole + b"\x00\x01\x00\x02x",
        "extension types descend": raw.hello(**good, extensions=raw.extensions(((2, b""), (1, b"")))),
        "extension type twice": raw.hello(**good, extensions=raw.extensions(((2, b""), (2, b"")))),
    } | {
        name: raw.hello(**good, extensions=raw.extensions(extensions))
        for name, extensions in feature_vectors.WRONG_OFFERS.items()
    }
    refused = [(name, raw.seal(raw.signed(HELLO, payload), key), "end") for name, payload in payloads.items()]
    refused += [
        ("kind MESSAGE", raw.seal(raw.signed(MESSAGE, whole), key), "end"),
        ("kind WELCOME", raw.seal(raw.signed(WELCOME, whole), key), "end"),
        ("kind 0", raw.seal(raw.signed(0, whole), key), "end"),
        ("flags set", raw.seal(raw.signed(HELLO, whole, flags=1), key), "end"),
        ("wait set", raw.seal(raw.signed(HELLO, whole, wait=1), key), "end"),
        ("sequence 1", raw.seal(raw.signed(HELLO, whole, sequence=1), key), "end"),
        ("reply_to 1", raw.seal(raw.signed(HELLO, whole, reply_to=1), key), "end"),
        ("length of 51", struct.pack(">I", 51) + bytes(51), "end"),
        ("length of 1,025", struct.pack(">I", 1025), "end"),
        ("window of 0 and a wrong tag", raw.seal(raw.signed(HELLO, payloads["window of 0"]), bytes(32)), "end"),
        ("version 0", raw.seal(raw.signed(HELLO, raw.hello(**good, version=0)), key), "reject 1"),
        ("version 2", raw.seal(raw.signed(HELLO, raw.hello(**good, version=2)), key), "reject 1"),
        ("version 2 in another layout", raw.seal(raw.signed(HELLO, b"\x02 else"), key), "reject 1"),
        (
            "version 2 with a wrong tag",
            raw.seal(raw.signed(HELLO, raw.hello(**good, version=2)), bytes(32)),
            "reject 1",
        ),
        ("codec unknown", raw.seal(raw.signed(HELLO, raw.hello(**good | {"codec": b"else"})), key), "reject 2"),
        ("key_id unknown", raw.seal(raw.signed(HELLO, raw.hello(**good | {"key_id": b"else"})), key), "reject 3"),
        ("wrong tag", raw.seal(raw.signed(HELLO, whole), bytes(32)), "reject 3"),
        (
            "wrong tag and codec unknown",
            raw.seal(raw.signed(HELLO, raw.hello(**good | {"codec": b"else"})), bytes(32)),
            "reject 3",
        ),
        (
            "server_name of another",
            raw.seal(raw.signed(HELLO, raw.hello(**good | {"server_name": b"else.example"})), key),
            "reject 3",
        ),
        (
            "service of another",
            raw.seal(raw.signed(HELLO, raw.hello(**good | {"server_name": good["server_name"] + b"/else"})), key),
            "reject 3",
        ),
    ]
    return [{"name": name, "frame": raw.hex(), "outcome": outcome} for name, raw, outcome in refused]


def _refused_welcome(case: dict[str, Any]) -> list[dict[str, Any]]:
    """WELCOME frames that the client of ``case`` must not accept; their tags are right for their own bytes."""
    psk, salt, bound = (bytes.fromhex(case[name]) for name in ("psk", "salt", "binding"))
    hello_frame = bytes.fromhex(case["hello_frame"])
    good = {
        "nonce": bytes.fromhex(case["server_nonce"]),
        "max_frame": case["server_max_frame"],
        "codec": case["codec"].encode(),
    }
    whole = raw.welcome(**good)

    def sealed(signed: bytes) -> bytes:
        log = raw.sha256(hello_frame + signed)
        return raw.seal(signed, raw.hkdf(psk, salt, b"sealwire/1 server to client" + bound + log))

    right = sealed(raw.signed(WELCOME, whole))
    refused = {
        "empty payload": sealed(raw.signed(WELCOME, b"")),
        "version 2": sealed(raw.signed(WELCOME, raw.welcome(**good, version=2))),
        "max_frame under 1,184": sealed(raw.signed(WELCOME, raw.welcome(**good | {"max_frame": MIN_MAX_FRAME - 1}))),
        "another codec": sealed(raw.signed(WELCOME, raw.welcome(**good | {"codec": b"raw"}))),
        "codec empty": sealed(raw.signed(WELCOME, raw.welcome(**good | {"codec": b""}))),
        "extension not offered": sealed(
            raw.signed(WELCOME, raw.welcome(**good, extensions=raw.extensions(((1, b""),))))
        ),
        "one byte after the last field": sealed(raw.signed(WELCOME, whole + b"\x00")),
        "flags set": sealed(raw.signed(WELCOME, whole, flags=1)),
        "wait set": sealed(raw.signed(WELCOME, whole, wait=1)),
        "sequence 1": sealed(raw.signed(WELCOME, whole, sequence=1)),
        "reply_to 1": sealed(raw.signed(WELCOME, whole, reply_to=1)),
        "kind MESSAGE": sealed(raw.signed(MESSAGE, whole)),
        "tag of K_c2s": raw.seal(raw.signed(WELCOME, whole), bytes.fromhex(case["k_c2s"])),
        "tag altered": right[:-1] + bytes([right[-1] ^ 1]),
        "REJECT with a tag": raw.seal(raw.signed(REJECT, b"\x00\x03"), bytes.fromhex(case["k_s2c"])),
        "REJECT with three bytes": raw.signed(REJECT, b"\x00\x03\x00") + bytes(32),
        "REJECT with sequence 1": raw.signed(REJECT, b"\x00\x03", sequence=1) + bytes(32),
        "length of 1,025": struct.pack(">I", 1025),
    }
    return [{"name": name, "frame": raw.hex()} for name, raw in refused.items()]


def handshake() -> dict[str, Any]:
    """The whole of handshake.json."""
    cases = _cases()
    rejects = [
        {"code": code, "frame": (raw.signed(REJECT, struct.pack(">H", code)) + bytes(32)).hex()} for code in range(1, 6)
    ]
    return {
        "cases": cases,
        "reject": rejects,
        "refused_hello": _refused_hello(cases[0]),
        "refused_welcome": _refused_welcome(cases[0]),
    }


def frames() -> dict[str, Any]:
    """The whole of frames.json."""
    case = handshake()["cases"][0]
    k_c2s, k_s2c = bytes.fromhex(case["k_c2s"]), bytes.fromhex(case["k_s2c"])

    def client(name: str, kind: int, payload: bytes, **header: int) -> dict[str, Any]:
        return raw.frame(name, "k_c2s", k_c2s, kind, payload, **header)

    def server(name: str, kind: int, payload: bytes, **header: int) -> dict[str, Any]:
        return raw.frame(name, "k_s2c", k_s2c, kind, payload, **header)

    def close(code: int, last: int) -> bytes:
        return struct.pack(">HQ", code, last)

    faults = [
        server(f"FAULT {code}", FAULT, struct.pack(">H", code) + b"no", sequence=1, reply_to=1)
        for code in range(16, 22)
    ]
    accepted = [
        client("request", MESSAGE, b"hello, world", sequence=1),
        client("request with the least wait", MESSAGE, b"hello, world", sequence=1, wait=1),
        client("request with the most wait", MESSAGE, b"hello, world", sequence=1, wait=0xFFFF),
        client("request without payload", MESSAGE, b"", sequence=1),
        client("request as long as a cap of 1,184 allows", MESSAGE, bytes(1132), sequence=1),
        client("request with a late sequence", MESSAGE, b"hello, world", sequence=0x0102030405060708),
        client("request with the last sequence", MESSAGE, b"hello, world", sequence=U64),
        server("reply", MESSAGE, b"hello yourself", sequence=1, reply_to=1),
        server("reply without payload", MESSAGE, b"", sequence=1, reply_to=1),
        server("reply out of order", MESSAGE, b"hello yourself", sequence=7, reply_to=0x0102030405060708),
        *faults,
        server("FAULT without text", FAULT, struct.pack(">H", 19), sequence=1, reply_to=1),
        server("FAULT in UTF-8", FAULT, struct.pack(">H", 19) + "défaut ✗".encode(), sequence=1, reply_to=1),
        server("FAULT with the longest text", FAULT, struct.pack(">H", 19) + b"x" * 1024, sequence=1, reply_to=1),
        client("PING", PING, b"ping", sequence=1),
        client("PING without payload", PING, b"", sequence=1),
        client("PING with the longest payload", PING, bytes(range(125)), sequence=1),
        server("PONG", PONG, b"ping", sequence=1, reply_to=1),
        server("PONG without payload", PONG, b"", sequence=1, reply_to=1),
        *(client(f"CLOSE {code} of a client", CLOSE, close(code, 3), sequence=1) for code in range(5)),
        *(server(f"CLOSE {code} of a server", CLOSE, close(code, 1), sequence=1) for code in range(5)),
        server("CLOSE with nothing handed over", CLOSE, close(0, 0), sequence=1),
        server("CLOSE with the highest last", CLOSE, close(2, U64), sequence=1),
    ]
    message = client("", MESSAGE, b"hello, world", sequence=1)["frame"]
    reply = server("", MESSAGE, b"hello yourself", sequence=1, reply_to=1)["frame"]
    client_refused = {
        "flags set": client("", MESSAGE, b"", sequence=1, flags=1),
        "reply_to set": client("", MESSAGE, b"", sequence=1, reply_to=1),
        "sequence repeated": client("", MESSAGE, b"", sequence=0),
        "sequence skipped": client("", MESSAGE, b"", sequence=2),
        "tag of the server's key": server("", MESSAGE, b"", sequence=1),
        "wait on PING": client("", PING, b"", sequence=1, wait=1),
        "wait on CLOSE": client("", CLOSE, close(0, 0), sequence=1, wait=1),
        "PING of 126 bytes": client("", PING, bytes(126), sequence=1),
        "CLOSE of 9 bytes": client("", CLOSE, bytes(9), sequence=1),
        "CLOSE of 11 bytes": client("", CLOSE, bytes(11), sequence=1),
        "kind 0": client("", 0, b"", sequence=1),
        "kind 9": client("", 9, b"", sequence=1),
        "kind 255": client("", 255, b"", sequence=1),
        "a second HELLO": client("", HELLO, bytes.fromhex(case["hello_payload"]), sequence=1),
        "FAULT from a client": client("", FAULT, b"\x00\x13", sequence=1),
        "PONG from a client": client("", PONG, b"", sequence=1),
        "REJECT from a client": client("", REJECT, b"\x00\x03", sequence=1),
        "payload altered": message[:48] + "00" + message[50:],
        "tag altered": message[:-2] + f"{int(message[-2:], 16) ^ 1:02x}",
        "length of 0": "00000000",
        "length of 51": "00000033",
        "length over the cap of 1,184": "000004a1",
        "length of 4 GiB less one": "ffffffff",
    }
    server_refused = {
        "flags set": server("", MESSAGE, b"", sequence=1, reply_to=1, flags=128),
        "wait set": server("", MESSAGE, b"", sequence=1, reply_to=1, wait=1),
        "reply to nothing": server("", MESSAGE, b"", sequence=1, reply_to=0),
        "reply to a PING": server("", MESSAGE, b"", sequence=1, reply_to=2),
        "reply to what was never sent": server("", MESSAGE, b"", sequence=1, reply_to=3),
        "FAULT for a PING": server("", FAULT, b"\x00\x13", sequence=1, reply_to=2),
        "PONG for a MESSAGE": server("", PONG, b"", sequence=1, reply_to=1),
        "PONG with other bytes": server("", PONG, b"gnip", sequence=1, reply_to=2),
        "sequence repeated": server("", MESSAGE, b"", sequence=0, reply_to=1),
        "sequence skipped": server("", MESSAGE, b"", sequence=2, reply_to=1),
        "tag of the client's key": client("", MESSAGE, b"", sequence=1, reply_to=1),
        "FAULT without a code": server("", FAULT, b"\x00", sequence=1, reply_to=1),
        "FAULT with 1,025 bytes of text": server("", FAULT, b"\x00\x13" + bytes(1025), sequence=1, reply_to=1),
        "reply_to on CLOSE": server("", CLOSE, close(0, 0), sequence=1, reply_to=1),
        "CLOSE of 9 bytes": server("", CLOSE, bytes(9), sequence=1),
        "CLOSE of 11 bytes": server("", CLOSE, bytes(11), sequence=1),
        "CLOSE with a last above what was sent": server("", CLOSE, close(0, 3), sequence=1),
        "a second WELCOME": server("", WELCOME, bytes.fromhex(case["welcome_payload"]), sequence=1),
        "PING from a server": server("", PING, b"", sequence=1),
        "REJECT after WELCOME": (raw.signed(REJECT, b"\x00\x03", sequence=1) + bytes(32)).hex(),
        "kind 0": server("", 0, b"", sequence=1, reply_to=1),
        "kind 9": server("", 9, b"", sequence=1, reply_to=1),
        "payload altered": reply[:48] + "00" + reply[50:],
        "tag altered": reply[:-2] + f"{int(reply[-2:], 16) ^ 1:02x}",
        "length of 51": "00000033",
        "length over the cap of 1,184": "000004a1",
    }

    def refused(by_name: dict[str, Any]) -> list[dict[str, str]]:
        return [
            {"name": name, "frame": made if isinstance(made, str) else made["frame"]} for name, made in by_name.items()
        ]

    return {
        "handshake": case["name"],
        "k_c2s": case["k_c2s"],
        "k_s2c": case["k_s2c"],
        "frames": accepted,
        "refused_from_client": refused(client_refused),
        "refused_from_server": refused(server_refused),
    }


def rendered() -> dict[Path, str]:
    """Each file's path and the text it must have."""
    handshakes = handshake()
    by_name = {case["name"]: case for case in handshakes["cases"]}
    features = feature_vectors.frames(by_name["features"])
    files = {"handshake.json": handshakes, "frames.json": frames(), "features.json": features}
    return {DIRECTORY / name: json.dumps(content, indent=1) + "\n" for name, content in files.items()}


if __name__ == "__main__":
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")
