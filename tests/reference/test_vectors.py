"""The test vectors in ``tests/vectors`` are what vectors.py computes, and protocol.py agrees with every one.

Schema. Byte strings are lower-case hexadecimal, names are ASCII text, all else is a number. Sections are those of
docs/protocol.md.

``handshake.json``
    ``cases``: handshakes that succeed, each with
        ``name``, ``note``                          which and why
        ``server_certificate``, ``client_certificate``  leaf, DER; "" where there is none
        ``psk``, ``key_id``, ``codec``, ``server_name``, ``client_nonce``, ``server_nonce``,
        ``client_max_frame`` (in HELLO), ``server_max_frame`` (in WELCOME),
        ``hello_extensions``, ``welcome_extensions``    lists of ``[type, value]``
        ``binding``, ``k_hello``, ``salt``, ``log``, ``info_c2s``, ``info_s2c``, ``k_c2s``, ``k_s2c``  as in section 3
        ``hello_payload``, ``welcome_payload``      without header and tag
        ``hello_frame``, ``welcome_frame``          whole, with length and tag
    ``reject``: ``code`` and the whole ``frame``, for each code
    ``refused_hello``: frames (or just their length) for a server that is set up as the first case says, which knows
        section 9 and the codecs ``pickle-5`` and ``raw``; ``outcome`` is ``end`` (it sends nothing and ends) or
        ``reject N``
    ``refused_welcome``: frames for the client of the first case, which has sent that case's HELLO: it ends the
        connection

``frames.json``: frames after the handshake of the case that ``handshake`` names, with its ``k_c2s`` and ``k_s2c``
    ``frames``: valid ones: ``name``, ``key`` ("k_c2s" from a client, "k_s2c" from a server), ``kind``, ``flags``,
        ``wait``, ``sequence``, ``reply_to``, ``payload`` and the whole ``frame``. Each stands for itself: they are no
        conversation, and their sequences need not be what a receiver expects next
    ``refused_from_client``: frames (or just a length) that end the connection at a server that has sent WELCOME and
        received HELLO only, so expects sequence 1, and announced a ``max_frame`` of 1,184
    ``refused_from_server``: the same for a client that announced 1,184, received WELCOME only, and has sent two
        frames: MESSAGE 1 and PING 2 with the payload "ping", both unanswered

``features.json``: the same after the handshake of the case that ``handshake`` names, which agrees on all of section 9
    ``frames``: as above
    ``refused_welcome``: for the client of that handshake, which has sent its HELLO
    ``conversation``: frames 1 to 7 of the client, of which the server answers none but the PING: MESSAGE 1 for parts
        and in parts, a plain MESSAGE 2, MESSAGE 3 in parts, END for it, MESSAGE 5, CANCEL for it, PING
    ``refused_from_client``, ``refused_from_server``: one or more frames after these, of which the last one ends the
        connection
    ``ignored_from_client``, ``ignored_from_server``: frames after these that have no effect
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from reference import protocol, vectors

HANDSHAKE = json.loads((vectors.DIRECTORY / "handshake.json").read_text(encoding="utf-8"))
FRAMES = json.loads((vectors.DIRECTORY / "frames.json").read_text(encoding="utf-8"))
FEATURES = json.loads((vectors.DIRECTORY / "features.json").read_text(encoding="utf-8"))


def named(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


def unhex(case: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def extensions(case: dict[str, Any], name: str) -> tuple[tuple[int, bytes], ...]:
    return tuple((kind, bytes.fromhex(value)) for kind, value in case[name])


@pytest.mark.parametrize(("path", "text"), vectors.rendered().items(), ids=lambda value: getattr(value, "name", ""))
def test_file_is_what_the_generator_writes(path: Path, text: str) -> None:
    # A bare assert would print a diff of the whole file; its digest says as much.
    assert hashlib.sha256(path.read_bytes()).hexdigest() == hashlib.sha256(text.encode()).hexdigest()


def test_certificates_are_real() -> None:
    for der in (vectors.SERVER_DER, vectors.CLIENT_DER):
        assert x509.load_der_x509_certificate(der).serial_number == 1


def test_hkdf_of_rfc_5869() -> None:
    """RFC 5869, A.1, A.2 and A.3: the first 32 bytes of longer outputs."""
    a1 = protocol.hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert a1.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    a2 = protocol.hkdf(bytes(range(80)), bytes(range(0x60, 0xB0)), bytes(range(0xB0, 0x100)))
    assert a2.hex() == "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
    a3 = protocol.hkdf(b"\x0b" * 22, b"", b"")
    assert a3.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


@named(HANDSHAKE["cases"])
def test_handshake(case: dict[str, Any]) -> None:
    psk, server_der, client_der = unhex(case, "psk", "server_certificate", "client_certificate")
    client_nonce, server_nonce = unhex(case, "client_nonce", "server_nonce")
    bound = protocol.binding(server_der, client_der)
    k_hello = protocol.k_hello(psk, server_der, client_der)
    assert [bound, k_hello] == unhex(case, "binding", "k_hello")

    hello = protocol.hello_payload(
        nonce=client_nonce,
        max_frame=case["client_max_frame"],
        key_id=case["key_id"].encode(),
        codec=case["codec"].encode(),
        server_name=case["server_name"].encode(),
        extensions=extensions(case, "hello_extensions"),
    )
    hello_frame = protocol.frame(protocol.HELLO, hello, 0, 0, k_hello)
    assert [hello, hello_frame] == unhex(case, "hello_payload", "hello_frame")
    assert len(hello_frame) - 4 <= protocol.HANDSHAKE_CAP

    welcome = protocol.welcome_payload(
        nonce=server_nonce,
        max_frame=case["server_max_frame"],
        codec=case["codec"].encode(),
        extensions=extensions(case, "welcome_extensions"),
    )
    log = protocol.log_hash(hello_frame, protocol.untagged(protocol.WELCOME, welcome))
    salt = client_nonce + server_nonce
    k_c2s, k_s2c = protocol.traffic_keys(psk, salt, bound, log)
    assert [salt, log, k_c2s, k_s2c] == unhex(case, "salt", "log", "k_c2s", "k_s2c")
    welcome_frame = protocol.frame(protocol.WELCOME, welcome, 0, 0, k_s2c)
    assert [welcome, welcome_frame] == unhex(case, "welcome_payload", "welcome_frame")

    parsed = protocol.parse_frame(hello_frame)
    parsed.check_tag(k_hello)
    assert protocol.parse_hello(parsed.payload) == protocol.Hello(
        1,
        client_nonce,
        case["client_max_frame"],
        case["key_id"].encode(),
        case["codec"].encode(),
        case["server_name"].encode(),
        extensions(case, "hello_extensions"),
    )
    answer = protocol.parse_welcome(protocol.parse_frame(welcome_frame).payload)
    assert (answer.nonce, answer.max_frame) == (server_nonce, case["server_max_frame"])
    assert answer.extensions == extensions(case, "welcome_extensions")


@pytest.mark.parametrize("case", HANDSHAKE["reject"], ids=lambda case: str(case["code"]))
def test_reject(case: dict[str, Any]) -> None:
    parsed = protocol.parse_frame(bytes.fromhex(case["frame"]))
    parsed.check_tag(None)
    protocol.check_payload(parsed)
    assert (parsed.kind, parsed.sequence, parsed.code) == (protocol.REJECT, 0, case["code"])


@pytest.mark.parametrize(
    ("keys", "case"),
    [(keys, case) for keys in (FRAMES, FEATURES) for case in keys["frames"]],
    ids=lambda value: value.get("name", ""),
)
def test_frame(keys: dict[str, Any], case: dict[str, Any]) -> None:
    (payload, whole), key = unhex(case, "payload", "frame"), bytes.fromhex(keys[case["key"]])
    made = protocol.frame(
        case["kind"], payload, case["sequence"], case["reply_to"], key, wait=case["wait"], flags=case["flags"]
    )
    assert made == whole
    parsed = protocol.parse_frame(whole)
    parsed.check_tag(key)
    protocol.check_payload(parsed)
    for name in ("kind", "flags", "wait", "sequence", "reply_to"):
        assert getattr(parsed, name) == case[name]
    assert parsed.payload == payload


def test_every_kind_is_there() -> None:
    cases = FRAMES["frames"] + FEATURES["frames"]
    kinds = {case["kind"] for case in cases} | {protocol.HELLO, protocol.WELCOME, protocol.REJECT}
    assert kinds == set(protocol.KINDS)


def test_wait_field() -> None:
    seconds = (None, 0, 0.001, 0.01, 0.07, 0.0701, 1, 655.35, 655.351, 1e9)
    assert [protocol.wait_field(value) for value in seconds] == [0, 0, 1, 1, 7, 8, 100, 65535, 0, 0]
