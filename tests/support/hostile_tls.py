"""A client of TLS 1.3 that seals records of its own (RFC 8446, sections 5.2 and 7.3)."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path
from struct import pack
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

APPLICATION = 23


class HostileTls:
    """A client after the TLS handshake on a socket, with the certificate of a context."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, keylog: Path, host: str = "localhost") -> None:
        self.sock = sock
        context.keylog_filename = str(keylog)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = context.wrap_bio(incoming, outgoing, server_hostname=host)
        done = False
        while not done:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
                done = True
            sock.sendall(outgoing.read())
            if not done:
                incoming.write(sock.recv(65536))
        cipher = end.cipher()
        assert cipher is not None
        assert cipher[0] == "TLS_AES_256_GCM_SHA384"
        lines = (line.split() for line in keylog.read_text().splitlines())
        secret = next(bytes.fromhex(line[2]) for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0")
        self._cipher, self._iv = AESGCM(expand(secret, b"key", 32)), expand(secret, b"iv", 12)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def sealed(self, content: bytes, kind: int = APPLICATION) -> bytes:
        """The next record."""
        nonce = bytes(a ^ b for a, b in zip(self._iv, self._sequence.to_bytes(12, "big"), strict=True))
        self._sequence += 1
        inner = content + bytes([kind])
        header = pack(">BHH", APPLICATION, 0x0303, len(inner) + 16)
        return header + self._cipher.encrypt(nonce, inner, header)


def expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label with SHA-384 and no context."""
    name = b"tls13 " + label
    return HKDFExpand(hashes.SHA384(), size, pack(">HB", size, len(name)) + name + b"\0").derive(secret)
