"""The vectors of section 9: handshakes with features, and the frames that these add."""

from __future__ import annotations

import struct
from typing import Any

from reference import raw
from reference.raw import (
    CANCEL,
    CLOSE,
    CREDIT,
    END,
    FAULT,
    MESSAGE,
    METADATA,
    PART,
    PARTS,
    PING,
    U32,
    UPLOAD,
    WELCOME,
    Extensions,
)

WINDOW, SERVER_WINDOW = 2000, 1000
PLAIN: Extensions = ((16, b""), (17, b""))


def parts(window: int, at_once: int) -> tuple[int, bytes]:
    """The extension that offers parts, or takes them up."""
    return 18, struct.pack(">IH", window, at_once)


OFFER, ANSWER = (*PLAIN, parts(WINDOW, 0)), (*PLAIN, parts(SERVER_WINDOW, 64))
HANDSHAKES: list[tuple[str, str, dict[str, Extensions]]] = [
    ("features", "all features", {"hello_extensions": OFFER, "welcome_extensions": ANSWER}),
    ("features-not-taken", "all are offered, none is taken up", {"hello_extensions": OFFER}),
    (
        "features-some",
        "all are offered, all but parts are taken up",
        {"hello_extensions": OFFER, "welcome_extensions": PLAIN},
    ),
    ("metadata", "one alone", {"hello_extensions": PLAIN[:1], "welcome_extensions": PLAIN[:1]}),
    ("cancel", "one alone", {"hello_extensions": PLAIN[1:], "welcome_extensions": PLAIN[1:]}),
    (
        "parts-least",
        "the least windows",
        {"hello_extensions": (parts(1, 0),), "welcome_extensions": (parts(1, 1),)},
    ),
    (
        "parts-most",
        "the largest windows",
        {"hello_extensions": (parts(U32, 0),), "welcome_extensions": (parts(U32, 0xFFFF),)},
    ),
]
WRONG_VALUES: dict[str, Extensions] = {
    "metadata with a value": ((16, b"x"),),
    "cancel with a value": ((17, b"x"),),
    "parts without a value": ((18, b""),),
    "parts of 5 bytes": ((18, bytes(3) + b"\x01\x00"),),
    "parts of 7 bytes": ((18, bytes(3) + b"\x01\x00\x00\x00"),),
    "window of 0": (parts(0, 0),),
}
WRONG_OFFERS = WRONG_VALUES | {"parts with at_once": (parts(1, 1),)}
WRONG_ANSWERS = WRONG_VALUES | {
    "window of 0 beside at_once": (parts(0, 1),),
    "at_once of 0": (parts(1, 0),),
    "type not offered": (*ANSWER, (19, b"")),
}


def entry(key: bytes, value: bytes) -> bytes:
    """One entry of metadata."""
    return raw.s8(key) + struct.pack(">H", len(value)) + value


MOST = b"\x20" + b"".join(entry(b"%02d" % number, b"") for number in range(32))
LONGEST = b"\x01" + entry(b"k", b"x" * (4096 - 1 - 4))
WRONG_METADATA = {
    "nothing": b"",
    "a count without an entry": b"\x01",
    "an entry cut in its key": b"\x01\x02k",
    "an entry cut in the length of its value": b"\x01\x01k\x00",
    "an entry cut in its value": b"\x01\x01k\x00\x02v",
    "an empty key": b"\x01" + entry(b"", b"v"),
    "a key of 65 bytes": b"\x01" + entry(b"k" * 65, b"v"),
    "a key with a space": b"\x01" + entry(b"k k", b"v"),
    "a key with 0x7f": b"\x01" + entry(b"k\x7f", b"v"),
    "a key in UTF-8": b"\x01" + entry("ké".encode(), b"v"),
    "a key twice": b"\x02" + entry(b"k", b"v") * 2,
    "keys that descend": b"\x02" + entry(b"l", b"") + entry(b"k", b""),
    "a key before its prefix": b"\x02" + entry(b"kk", b"") + entry(b"k", b""),
    "a value that is not UTF-8": b"\x01" + entry(b"k", b"\xff"),
    "a value with a surrogate": b"\x01" + entry(b"k", b"\xed\xa0\x80"),
    "33 entries": b"\x21" + MOST[1:] + entry(b"32", b""),
    "4,097 bytes": b"\x01" + entry(b"k", b"x" * (4096 - 4)),
}


def credit(amount: int) -> bytes:
    """The payload of CREDIT."""
    return struct.pack(">I", amount)


def _refused_welcome(case: dict[str, Any]) -> list[dict[str, str]]:
    nonce, max_frame, codec = bytes.fromhex(case["server_nonce"]), case["server_max_frame"], case["codec"].encode()
    psk, salt, bound, hello = (bytes.fromhex(case[name]) for name in ("psk", "salt", "binding", "hello_frame"))
    made = []
    for name, extensions in WRONG_ANSWERS.items():
        signed = raw.signed(WELCOME, raw.welcome(nonce, max_frame, codec, raw.extensions(extensions)))
        info = b"sealwire/1 server to client" + bound + raw.sha256(hello + signed)
        made.append({"name": name, "frame": raw.seal(signed, raw.hkdf(psk, salt, info)).hex()})
    return made


class _Makes:
    """Makes frames of both sides after the handshake of a case."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.keys = {name: bytes.fromhex(case[name]) for name in ("k_c2s", "k_s2c")}

    def client(self, name: str, kind: int, payload: bytes = b"", **header: int) -> dict[str, Any]:
        return raw.frame(name, "k_c2s", self.keys["k_c2s"], kind, payload, **header)

    def server(self, name: str, kind: int, payload: bytes = b"", **header: int) -> dict[str, Any]:
        return raw.frame(name, "k_s2c", self.keys["k_s2c"], kind, payload, **header)

    def series(self, side: str, first: int, *frames: tuple[int, bytes, dict[str, int]]) -> str:
        """Several frames of one side, with the sequences from ``first`` on."""
        make = getattr(self, side)
        return "".join(
            make("", kind, payload, **({"sequence": first + number} | header))["frame"]
            for number, (kind, payload, header) in enumerate(frames)
        )


def _accepted(make: _Makes) -> list[dict[str, Any]]:
    client, server = make.client, make.server
    values = b"\x02" + entry(b"request-id", b"7") + entry(b"tenant", "café".encode())
    return [
        client("request with metadata", MESSAGE, values + b"hello", sequence=1, flags=METADATA, wait=150),
        client("request with metadata of no entries", MESSAGE, b"\x00hello", sequence=1, flags=METADATA),
        client("request with 32 entries", MESSAGE, MOST, sequence=1, flags=METADATA),
        client("request with 4,096 bytes of metadata", MESSAGE, LONGEST + b"hello", sequence=1, flags=METADATA),
        client("request for parts", MESSAGE, b"hello", sequence=1, flags=PARTS),
        client("request in parts", MESSAGE, b"", sequence=1, flags=UPLOAD),
        client("request in parts, for parts, with metadata", MESSAGE, values, sequence=1, flags=7),
        client("CANCEL", CANCEL, sequence=3, reply_to=1),
        client("PART of a client", PART, b"one", sequence=2, reply_to=1),
        client("PART of a client without bytes", PART, sequence=2, reply_to=1),
        client("END", END, sequence=3, reply_to=1),
        client("CREDIT of a client", CREDIT, credit(WINDOW // 2), sequence=2, reply_to=1),
        server("reply with metadata", MESSAGE, values + b"yes", sequence=1, reply_to=1, flags=METADATA),
        server("PART of a server", PART, b"one", sequence=1, reply_to=1),
        server("PART of a server without bytes", PART, sequence=1, reply_to=1),
        server("CREDIT of a server", CREDIT, credit(SERVER_WINDOW), sequence=1, reply_to=1),
        server("FAULT 22", FAULT, struct.pack(">H", 22) + b"no", sequence=1, reply_to=1),
        server("FAULT 23", FAULT, struct.pack(">H", 23) + b"no", sequence=1, reply_to=1),
    ]


CONVERSATION: list[tuple[int, bytes, dict[str, int]]] = [
    (MESSAGE, b"", {"flags": PARTS | UPLOAD}),
    (MESSAGE, b"two", {}),
    (MESSAGE, b"", {"flags": UPLOAD}),
    (END, b"", {"reply_to": 3}),
    (MESSAGE, b"five", {}),
    (CANCEL, b"", {"reply_to": 5}),
    (PING, b"ping", {}),
]
"""Frames 1 to 7 of a client, before those below."""
NEXT = len(CONVERSATION) + 1


def _refused_from_client(make: _Makes) -> dict[str, str]:
    def one(kind: int, payload: bytes = b"", **header: int) -> str:
        return make.client("", kind, payload, **({"sequence": NEXT} | header))["frame"]

    about = {
        f"{name} for {what}": one(kind, payload, reply_to=request)
        for name, kind, payload in (("CANCEL", CANCEL, b""), ("CREDIT", CREDIT, credit(1)), ("END", END, b""))
        for what, request in (("0", 0), ("itself", NEXT), ("what comes later", NEXT + 1))
    }
    not_in_parts = {
        f"{name} for {what}": one(kind, reply_to=request)
        for name, kind in (("PART", PART), ("END", END))
        for what, request in (("a plain request", 2), ("what has ended", 3), ("an END", 4), ("a PING", 7))
    }
    malformed = {f"metadata: {name}": one(MESSAGE, data, flags=METADATA) for name, data in WRONG_METADATA.items()}
    return about | not_in_parts | malformed | {
        "PART for 0": one(PART),
        "PART after CANCEL": make.series("client", NEXT, (CANCEL, b"", {"reply_to": 1}), (PART, b"", {"reply_to": 1})),
        "END after CANCEL": make.series("client", NEXT, (CANCEL, b"", {"reply_to": 1}), (END, b"", {"reply_to": 1})),
        "a second CANCEL": one(CANCEL, reply_to=5),
        "CANCEL with a payload": one(CANCEL, b"x", reply_to=1),
        "END with a payload": one(END, b"x", reply_to=1),
        "PART without credit": make.series(
            "client", NEXT, (PART, bytes(SERVER_WINDOW - 52), {"reply_to": 1}), (PART, b"", {"reply_to": 1})
        ),
        "CREDIT of 0": one(CREDIT, credit(0), reply_to=1),
        "CREDIT of 0 for a plain request": one(CREDIT, credit(0), reply_to=2),
        "CREDIT of 3 bytes": one(CREDIT, b"\x00\x00\x01", reply_to=1),
        "CREDIT of 5 bytes": one(CREDIT, b"\x00\x00\x00\x01\x00", reply_to=1),
        "CREDIT above the most": one(CREDIT, credit(U32 - WINDOW + 1), reply_to=1),
        "UPLOAD with a payload": one(MESSAGE, b"x", flags=UPLOAD),
        "UPLOAD with metadata and a payload": one(MESSAGE, b"\x00x", flags=UPLOAD | METADATA),
        **{f"flag {flag} of MESSAGE": one(MESSAGE, flags=flag) for flag in (8, 16, 32, 64, 128)},
        "flags on PART": one(PART, reply_to=1, flags=1),
        "flags on CANCEL": one(CANCEL, reply_to=1, flags=2),
        "flags on END": one(END, reply_to=1, flags=4),
        "flags on CREDIT": one(CREDIT, credit(1), reply_to=1, flags=1),
        "flags on CLOSE": one(CLOSE, bytes(10), flags=1),
        "wait on PART": one(PART, reply_to=1, wait=1),
        "wait on CANCEL": one(CANCEL, reply_to=1, wait=1),
        "reply_to on MESSAGE": one(MESSAGE, flags=PARTS, reply_to=1),
        "kind 13": one(13, reply_to=1),
    }  # fmt: skip


def _refused_from_server(make: _Makes) -> dict[str, str]:
    def one(kind: int, payload: bytes = b"", **header: int) -> str:
        return make.server("", kind, payload, **({"sequence": 1} | header))["frame"]

    malformed = {
        f"metadata{what}: {name}": one(MESSAGE, data, flags=METADATA, reply_to=request)
        for what, request in (("", 2), (" of what is dropped", 5))
        for name, data in WRONG_METADATA.items()
    }
    answered = (MESSAGE, b"", {"reply_to": 1})
    return malformed | {
        "PART for 0": one(PART),
        "PART for a plain request": one(PART, reply_to=2),
        "PART for a request in parts": one(PART, reply_to=3),
        "PART for what was never sent": one(PART, reply_to=NEXT),
        "PART after the answer": make.series("server", 1, answered, (PART, b"", {"reply_to": 1})),
        "PART without credit": make.series(
            "server", 1, (PART, bytes(WINDOW - 52), {"reply_to": 1}), (PART, b"", {"reply_to": 1})
        ),
        "answer to an END": one(MESSAGE, reply_to=4),
        "answer to a CANCEL": one(FAULT, b"\x00\x16", reply_to=6),
        "two answers to what was cancelled": make.series("server", 1, *[(FAULT, b"\x00\x16", {"reply_to": 5})] * 2),
        "CREDIT for 0": one(CREDIT, credit(1)),
        "CREDIT for what was never sent": one(CREDIT, credit(1), reply_to=NEXT),
        "CREDIT of 0": one(CREDIT, credit(0), reply_to=1),
        "CREDIT of 0 for a plain request": one(CREDIT, credit(0), reply_to=2),
        "CREDIT of 3 bytes": one(CREDIT, b"\x00\x00\x01", reply_to=1),
        "CREDIT of 5 bytes": one(CREDIT, b"\x00\x00\x00\x01\x00", reply_to=1),
        "CREDIT above the most": one(CREDIT, credit(U32 - SERVER_WINDOW + 1), reply_to=1),
        **{f"flag {flag} of MESSAGE": one(MESSAGE, reply_to=2, flags=flag) for flag in (2, 4, 8, 16, 32, 64, 128)},
        "flags on FAULT": one(FAULT, b"\x00\x13", reply_to=2, flags=1),
        "flags on PART": one(PART, reply_to=1, flags=1),
        "flags on CREDIT": one(CREDIT, credit(1), reply_to=1, flags=1),
        "flags on CLOSE": one(CLOSE, bytes(10), flags=1),
        "wait on PART": one(PART, reply_to=1, wait=1),
        "CANCEL from a server": one(CANCEL, reply_to=1),
        "END from a server": one(END, reply_to=1),
        "kind 13": one(13, reply_to=1),
    }  # fmt: skip


def _ignored(make: _Makes) -> dict[str, str]:
    """Return the frames that each side may get at any time, all of them after the conversation."""
    needless = [(CREDIT, credit(U32), {"reply_to": request}) for request in (2, 3, 4, 6, 7)]
    cancelled = [(CANCEL, b"", {"reply_to": request}) for request in (4, 4, 6, 7)]
    return {
        "client": make.series("client", NEXT, *needless, *cancelled),
        "server": make.series("server", 1, *needless, (CREDIT, credit(U32), {"reply_to": 5})),
    }


def frames(case: dict[str, Any]) -> dict[str, Any]:
    """The whole of features.json, for the handshake with all features."""
    make = _Makes(case)

    def refused(by_name: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "frame": made} for name, made in by_name.items()]

    ignored = _ignored(make)
    return {
        "handshake": case["name"],
        "k_c2s": case["k_c2s"],
        "k_s2c": case["k_s2c"],
        "frames": _accepted(make),
        "refused_welcome": _refused_welcome(case),
        "conversation": make.series("client", 1, *CONVERSATION),
        "refused_from_client": refused(_refused_from_client(make)),
        "refused_from_server": refused(_refused_from_server(make)),
        "ignored_from_client": ignored["client"],
        "ignored_from_server": ignored["server"],
    }
