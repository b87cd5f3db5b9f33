"""What a server of TLS 1.3 must refuse, and must bear: the cases of tlsfuzzer's scripts, made with tlslite-ng.

    python tls13_cases.py PORT CA-CERT CLIENT-CERT CLIENT-KEY OTHER-CERT OTHER-KEY

Runs with the interpreter that has tlslite-ng, and not with Sealwire's. Prints the outcome of each case as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.constants import AlertDescription
from tlslite.errors import TLSRemoteAlert
from tlslite.messages import Certificate, CertificateVerify, Finished, KeyUpdate, Message

ALERT, HANDSHAKE, CHANGE, DATA = 21, 22, 20, 23
NAME, GROUPS, SIGNATURES, ALPN, TICKET, EARLY, VERSIONS, PSK_MODES, SHARES, PSK = 0, 10, 13, 16, 35, 42, 43, 45, 51, 41
X25519, P256, X448 = 0x1D, 0x17, 0x1E
ECDSA, RSA_PSS, SHA1 = 0x0403, 0x0804, 0x0203
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")  # RFC 8446, 4.1.3
PROTOCOL = b"sealwire/1"


def sized(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size, "big") + data


def shorts(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}H", *numbers)


def share(group: int = X25519, key: bytes | None = None) -> bytes:
    return shorts(group) + sized(os.urandom(32) if key is None else key)


def extensions(**changed: bytes | None) -> list[tuple[int, bytes]]:
    """Return those of a good ClientHello, with some changed, or left out if they are None."""
    good: dict[str, bytes | None] = {
        "VERSIONS": sized(shorts(0x0304), 1),
        "GROUPS": sized(shorts(X25519)),
        "SIGNATURES": sized(shorts(ECDSA, RSA_PSS)),
        "SHARES": sized(share()),
        "ALPN": sized(sized(PROTOCOL, 1)),
        "NAME": sized(b"\0" + sized(b"localhost")),
    }
    return [(globals()[name], value) for name, value in (good | changed).items() if value is not None]


def hello(
    found: Iterable[tuple[int, bytes]] | None = None,
    *,
    ciphers: bytes = shorts(0x1301),
    compression: bytes = b"\0",
    version: int = 0x0303,
    tail: bytes = b"",
) -> bytes:
    """Return a ClientHello as a handshake message."""
    parts = b"".join(shorts(kind) + sized(value) for kind, value in (extensions() if found is None else found))
    body = shorts(version) + os.urandom(32) + sized(os.urandom(32), 1) + sized(ciphers) + sized(compression, 1)
    return b"\1" + sized(body + sized(parts) + tail, 3)


def record(content: bytes, kind: int = HANDSHAKE, version: int = 0x0301) -> bytes:
    return bytes([kind]) + shorts(version) + sized(content)


class Wire:
    """A connection on which any bytes are sent, and what the server says is named."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)

    def exchange(self, sent: bytes) -> str:
        """Return what comes first: an alert, a message of the handshake, or the end."""
        try:
            self.socket.sendall(sent)
            header = self._read(5)
            content = self._read(int.from_bytes(header[3:5], "big"))
        except EOFError:
            return "closed"
        except ConnectionError:
            return "reset"
        if header[0] == ALERT:
            return str(AlertDescription.toStr(content[1]))
        if header[0] == HANDSHAKE and content[0] == 2:
            return "hello_retry_request" if content[6:38] == RETRY else "server_hello"
        return f"record {header[0]}"

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data


PLAIN: list[tuple[str, str, Callable[[], bytes]]] = [
    ("a good ClientHello", "server_hello", lambda: record(hello())),
    (
        "legacy_version 3.0 beside supported_versions",
        "server_hello protocol_version handshake_failure",
        lambda: record(hello(version=0x0300)),
    ),
    ("no supported_versions: TLS 1.2", "protocol_version", lambda: record(hello(extensions(VERSIONS=None)))),
    (
        "supported_versions without TLS 1.3",
        "protocol_version",
        lambda: record(hello(extensions(VERSIONS=sized(shorts(0x0303, 0x0302), 1)))),
    ),
    (
        "supported_versions with unknown ones too",
        "server_hello",
        lambda: record(hello(extensions(VERSIONS=sized(shorts(0x7F1C, 0x0A0A, 0x0304), 1)))),
    ),
    ("no cipher suites", "illegal_parameter decode_error", lambda: record(hello(ciphers=b""))),
    (
        "an odd number of bytes of cipher suites",
        "decode_error illegal_parameter",
        lambda: record(hello(ciphers=b"\x13\x01\x13")),
    ),
    ("cipher suites of TLS 1.2 alone", "handshake_failure", lambda: record(hello(ciphers=shorts(0xC02B, 0xC02F)))),
    (
        "unknown cipher suites beside a known one",
        "server_hello",
        lambda: record(hello(ciphers=shorts(0x0A0A, 0xFEFE, 0x1301))),
    ),
    ("compression offered", "illegal_parameter decode_error", lambda: record(hello(compression=b"\1\0"))),
    ("no compression methods at all", "illegal_parameter decode_error", lambda: record(hello(compression=b""))),
    (
        "group secp256r1 alone",
        "handshake_failure",
        lambda: record(hello(extensions(GROUPS=sized(shorts(P256)), SHARES=sized(share(P256, b"\4" + bytes(64)))))),
    ),
    (
        "unknown groups alone",
        "handshake_failure",
        lambda: record(hello(extensions(GROUPS=sized(shorts(0x1A1A, 0x01FB)), SHARES=sized(share(0x1A1A))))),
    ),
    ("no supported_groups", "missing_extension", lambda: record(hello(extensions(GROUPS=None)))),
    ("no key_share", "missing_extension", lambda: record(hello(extensions(SHARES=None)))),
    ("an empty key_share", "hello_retry_request", lambda: record(hello(extensions(SHARES=sized(b""))))),
    (
        "two key shares of one group",
        "illegal_parameter server_hello",
        lambda: record(hello(extensions(SHARES=sized(share() + share())))),
    ),
    (
        "a share of a group that is not offered",
        "illegal_parameter",
        lambda: record(hello(extensions(SHARES=sized(share(X448, bytes(56)))))),
    ),
    (
        "an X25519 share of 31 bytes",
        "illegal_parameter decode_error",
        lambda: record(hello(extensions(SHARES=sized(share(key=os.urandom(31)))))),
    ),
    (
        "an X25519 share of 33 bytes",
        "illegal_parameter decode_error",
        lambda: record(hello(extensions(SHARES=sized(share(key=os.urandom(33)))))),
    ),
    (
        "an empty X25519 share",
        "illegal_parameter decode_error",
        lambda: record(hello(extensions(SHARES=sized(share(key=b""))))),
    ),
    ("the X25519 point 0", "illegal_parameter", lambda: record(hello(extensions(SHARES=sized(share(key=bytes(32))))))),
    (
        "the X25519 point 1",
        "illegal_parameter",
        lambda: record(hello(extensions(SHARES=sized(share(key=b"\1" + bytes(31)))))),
    ),
    (
        "no signature_algorithms",
        "missing_extension handshake_failure",
        lambda: record(hello(extensions(SIGNATURES=None))),
    ),
    ("SHA-1 signatures alone", "handshake_failure", lambda: record(hello(extensions(SIGNATURES=sized(shorts(SHA1)))))),
    (
        "empty signature_algorithms",
        "decode_error handshake_failure",
        lambda: record(hello(extensions(SIGNATURES=sized(b"")))),
    ),
    ("an extension twice", "illegal_parameter decode_error", lambda: record(hello([*extensions(), extensions()[0]]))),
    (
        "fifty unknown extensions",
        "server_hello",
        lambda: record(hello([(0x5000 + n, b"?") for n in range(50)] + extensions())),
    ),
    ("extensions in the reverse order", "server_hello", lambda: record(hello(extensions()[::-1]))),
    ("bytes behind the extensions", "decode_error", lambda: record(hello(tail=b"\0\0"))),
    (
        "an extension longer than the message",
        "decode_error",
        lambda: record(hello(extensions(NAME=sized(b"\0" + shorts(500) + b"x")))),
    ),
    (
        "another protocol in ALPN",
        "server_hello no_application_protocol",
        lambda: record(hello(extensions(ALPN=sized(sized(b"h2", 1))))),
    ),
    (
        "early data and a ticket that nobody gave",
        "server_hello",
        lambda: record(
            hello(
                [
                    *extensions(PSK_MODES=sized(b"\1", 1)),
                    (EARLY, b""),
                    (PSK, sized(sized(os.urandom(32)) + bytes(4)) + sized(sized(os.urandom(32), 1))),
                ]
            )
        ),
    ),
    (
        "a ticket that is not the last extension",
        "illegal_parameter",
        lambda: record(
            hello(
                [
                    (PSK_MODES, sized(b"\1", 1)),
                    (PSK, sized(sized(os.urandom(32)) + bytes(4)) + sized(sized(os.urandom(32), 1))),
                    *extensions(),
                ]
            )
        ),
    ),
    (
        "application data first",
        "unexpected_message closed protocol_version",
        lambda: record(b"GET / HTTP/1.0\r\n\r\n", DATA),
    ),
    ("an unknown type of record", "unexpected_message protocol_version", lambda: record(b"\0", 99)),
    ("an empty handshake record", "unexpected_message", lambda: record(b"") + record(hello())),
    ("Finished first", "unexpected_message", lambda: record(b"\x14" + sized(bytes(32), 3))),
    ("a record of 2^14 + 1 plain bytes", "record_overflow", lambda: record(bytes(0x4001))),
    ("an HTTP request", "closed unexpected_message protocol_version decode_error", lambda: b"GET / HTTP/1.0\r\n\r\n"),
    (
        "an SSL 2 ClientHello",
        "closed protocol_version unexpected_message handshake_failure",
        lambda: bytes.fromhex("801c0100020003000000100700c0") + bytes(16),
    ),
]
"""Name, the answers that RFC 8446 allows, and what is sent."""


class Altered(TLSConnection):
    """A client that alters one kind of message that it sends."""

    kind: type = type(None)
    alter: Callable[[bytearray], bytearray] = staticmethod(bytearray)

    def _sendMsg(self, msg: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        if isinstance(msg, self.kind):
            msg = Message(msg.contentType, self.alter(bytearray(msg.write())))
        yield from super()._sendMsg(msg, *arguments, **options)


def flipped(message: bytearray) -> bytearray:
    message[-1] ^= 1
    return message


def handshake(
    port: int, files: tuple[str, str] | None, connection: Altered | None = None, *, alpn: bytes = PROTOCOL
) -> Altered:
    """Complete TLS as a client with these files."""
    tls = connection or Altered(socket.create_connection(("127.0.0.1", port), 10))
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = (3, 4)
    settings.keyShares, settings.eccCurves = ["x25519"], ["x25519"]
    settings.certificate_compression_send = settings.certificate_compression_receive = []
    options: dict[str, Any] = {"settings": settings, "serverName": "localhost", "alpn": [bytearray(alpn)]}
    chain, key = None, None
    if files is not None:
        chain = X509CertChain()
        chain.parsePemList(Path(files[0]).read_text())
        key = parsePEMKey(Path(files[1]).read_text(), private=True)
    tls.handshakeClientCert(chain, key, **options)
    return tls


def outcome(attempt: Callable[[], str]) -> str:
    try:
        return attempt()
    except TLSRemoteAlert as alert:
        return str(AlertDescription.toStr(alert.description))
    except ConnectionResetError:
        return "reset"
    except Exception as error:
        return "closed" if "Abrupt" in type(error).__name__ else f"{type(error).__name__}: {error}"[:100]


def heard(tls: Altered) -> str:
    """Return what the server says on an established connection; it must be an end, since we said no HELLO."""
    return "data" if tls.read(1, 1) else "closed"


def encrypted(port: int, good: tuple[str, str], other: tuple[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield name, what is allowed, and what came, of what needs a whole handshake."""

    def altered(kind: type, alter: Callable[[bytearray], bytearray]) -> Altered:
        tls = Altered(socket.create_connection(("127.0.0.1", port), 10))
        tls.kind, tls.alter = kind, alter
        return tls

    def case(files: tuple[str, str] | None, *sent: Any, raw: bytes = b"", alpn: bytes = PROTOCOL) -> Callable[[], str]:
        def attempt() -> str:
            tls = handshake(port, files, alpn=alpn)
            for message in sent:
                for _ in tls._sendMsg(message):
                    pass
            if raw:
                tls.sock.sendall(raw)
            return heard(tls)

        return attempt

    def changed(kind: type, alter: Callable[[bytearray], bytearray]) -> Callable[[], str]:
        return lambda: heard(handshake(port, good, altered(kind, alter)))

    def updated(count: int) -> str:
        tls = handshake(port, good)
        for _ in range(count):
            for _ in tls.send_keyupdate_request(1):
                pass
        tls.sock.settimeout(2)
        try:
            return heard(tls)
        except TimeoutError:
            return "goes on"

    def tickets() -> str:
        tls = handshake(port, good)
        tls.write(b"\0\0\0\1?")  # not a HELLO: the server ends the connection, and has sent all tickets by then
        said = outcome(lambda: heard(tls))
        return f"{len(tls.tickets)} tickets" if said in {"closed", "data", "close_notify"} else said

    def key_update(value: int) -> Message:
        return Message(HANDSHAKE, KeyUpdate().create(value).write())

    end = "closed close_notify data"
    for name, allowed, attempt in [
        ("a handshake with a certificate on the list", "goes on", lambda: updated(0)),
        ("no tickets are given", "0 tickets", tickets),
        ("no client certificate", "certificate_required", case(None)),
        ("a client certificate of another CA", "unknown_ca", case(other)),
        ("a flipped bit in CertificateVerify", "decrypt_error", changed(CertificateVerify, flipped)),
        ("CertificateVerify cut short", "decode_error decrypt_error", changed(CertificateVerify, lambda m: m[:-3])),
        ("a flipped bit in Finished", "decrypt_error", changed(Finished, flipped)),
        ("an empty Finished", "decode_error decrypt_error", changed(Finished, lambda m: bytearray(b"\x14\0\0\0"))),
        (
            "Finished one byte longer",
            "decode_error decrypt_error",
            changed(Finished, lambda m: bytearray([0x14, 0, 0, len(m) - 3]) + m[4:] + b"\0"),
        ),
        (
            "a certificate whose last byte is flipped",
            "decrypt_error bad_certificate decode_error unknown_ca",
            changed(Certificate, flipped),
        ),
        ("a client without the ALPN of Sealwire", end, case(good, alpn=b"h2")),
        ("KeyUpdate, which asks for one", "goes on", lambda: updated(1)),
        ("KeyUpdate with the value 2", "illegal_parameter", case(good, key_update(2))),
        ("KeyUpdate of two bytes", "decode_error illegal_parameter", case(good, Message(HANDSHAKE, b"\x18\0\0\2\0\0"))),
        ("ClientHello after the handshake", "unexpected_message", case(good, Message(HANDSHAKE, bytearray(hello())))),
        (
            "Finished after the handshake",
            "unexpected_message",
            case(good, Message(HANDSHAKE, bytearray(b"\x14" + sized(bytes(32), 3)))),
        ),
        ("change_cipher_spec after the handshake", "unexpected_message", case(good, raw=record(b"\1", CHANGE, 0x0303))),
        (
            "a plain alert after the handshake",
            "unexpected_message bad_record_mac decode_error",
            case(good, raw=record(b"\2\0", ALERT, 0x0303)),
        ),
        (
            "plain application data after the handshake",
            "bad_record_mac",
            case(good, raw=record(bytes(64), DATA, 0x0303)),
        ),
        (
            "a record that is too short for a tag",
            "bad_record_mac decode_error",
            case(good, raw=record(bytes(8), DATA, 0x0303)),
        ),
        (
            "an encrypted record of 2^14 + 257 bytes",
            "record_overflow",
            case(good, raw=record(bytes(0x4101), DATA, 0x0303)),
        ),
        (
            "an empty alert",
            "unexpected_message decode_error illegal_parameter",
            case(good, Message(ALERT, bytearray())),
        ),
        ("an empty message of the handshake", "unexpected_message", case(good, Message(HANDSHAKE, bytearray()))),
    ]:
        yield name, allowed, outcome(attempt)


def main() -> None:
    port, good, other = int(sys.argv[1]), (sys.argv[3], sys.argv[4]), (sys.argv[5], sys.argv[6])
    found = []
    for name, allowed, sent in PLAIN:
        wire = Wire(port)
        found.append((name, allowed, wire.exchange(sent())))
        wire.socket.close()
    found += encrypted(port, good, other)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
