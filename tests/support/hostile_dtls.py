"""A client of DTLS 1.2 that seals records of its own: of any type, number and content (RFC 5246, 5288 and 6347)."""

from __future__ import annotations

import hmac
from contextlib import suppress
from struct import pack
from typing import Any, cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from sealwire.dtls.records import MTU, datagrams
from sealwire.security import Security
from support.datagrams import Network

HANDSHAKE, ALERT, CHANGE_CIPHER_SPEC, APPLICATION = 22, 21, 20, 23
VERSION = 0xFEFD


class HostileClient:
    """A client with a good certificate, after the DTLS handshake with the server of a network."""

    def __init__(self, network: Network, security: Security, address: Any) -> None:
        self.network, self.address = network, address
        own = security.credentials.current
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_cipher_list(b"ECDHE+AESGCM+AES256")
        context.set_options(SSL.OP_NO_QUERY_MTU)
        context.set_alpn_protos([b"sealwire/1"])
        context.use_certificate(own.certificates[0])
        assert own.key is not None
        context.use_privatekey(cast(Any, load_pem_private_key(own.key, None)))
        self.dtls = SSL.Connection(context, None)
        self.dtls.set_ciphertext_mtu(MTU)
        self.dtls.set_connect_state()
        done = False
        while not done:
            with suppress(SSL.WantReadError):
                self.dtls.do_handshake()
                done = True
            with suppress(SSL.WantReadError):
                for datagram in datagrams(self.dtls.bio_read(65536)):
                    self.send(datagram)
            self.take_answers()
        self.sequence = 1  # after Finished
        secret, seed = self.dtls.master_key(), self.dtls.server_random() + self.dtls.client_random()
        assert secret is not None
        block = expand(secret, b"key expansion" + seed, 72)
        self._cipher, self._salt = AESGCM(block[:32]), block[64:68]

    def take_answers(self) -> None:
        """Pass what the server has sent to DTLS."""
        for datagram, address in self.network.sent:
            if address == self.address:
                self.dtls.bio_write(datagram)
        self.network.sent.clear()

    def send(self, datagram: bytes) -> None:
        self.network.server.datagram_received(datagram, self.address, self.network.now)

    def sealed(self, content: bytes, kind: int = APPLICATION, sequence: int | None = None, epoch: int = 1) -> bytes:
        """A record with a number of its own, by default the next one."""
        if sequence is None:
            sequence = self.sequence
            self.sequence += 1
        number = pack(">Q", epoch << 48 | sequence)
        data = number + pack(">BHH", kind, VERSION, len(content))
        sealed = self._cipher.encrypt(self._salt + number, content, data)
        return pack(">BH", kind, VERSION) + number + pack(">H", 8 + len(sealed)) + number + sealed


def expand(secret: bytes, seed: bytes, size: int) -> bytes:
    """The PRF of TLS 1.2 with SHA-384."""
    made, block = b"", seed
    while len(made) < size:
        block = hmac.digest(secret, block, "sha384")
        made += hmac.digest(secret, block + seed, "sha384")
    return made[:size]


def record(kind: int, epoch: int, sequence: int, body: bytes, version: int = VERSION) -> bytes:
    """A record as it is, sealed or not."""
    return pack(">BHQH", kind, version, epoch << 48 | sequence, len(body)) + body


def message_part(number: int, size: int, offset: int, part: bytes, kind: int = 11) -> bytes:
    """A part of a handshake message; by default of Certificate."""
    lengths = [each.to_bytes(3, "big") for each in (size, offset, len(part))]
    return bytes([kind]) + lengths[0] + pack(">H", number) + lengths[1] + lengths[2] + part
