"""Names in certificates, requests and revocation lists: who a peer is, and what a file of a CA may say.

A file needs no signature to be read, and a CA that errs signs odd names. So nothing is signed here but requests, which
sign themselves.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from fuzz.harness import Source, refusal
from sealwire.errors import ConfigurationError, PeerNotAllowed
from sealwire.pki.authority import Issuer, create_ca
from sealwire.pki.crl import reissue
from sealwire.pki.csr import requested_names, sign
from sealwire.pki.extensions import alternative_names
from sealwire.pki.pem import read_certificates, read_crls
from sealwire.pki.subject_names import name_text, subject_alternative_names
from sealwire.trust.certificates import Certificates
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.peers import PeerPolicy
from sealwire.trust.revocation import Revocations
from support.certificates import make_ca, raw_names, tlv

RUNS = 3_000
P256 = ec.SECP256R1()
_ECDSA = tlv(0x30, bytes.fromhex("06082a8648ce3d040302"))
_TIMES = tlv(0x30, tlv(0x17, b"260101000000Z") + tlv(0x17, b"460101000000Z"))
_NAME = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403") + tlv(0x0C, b"somebody"))))
_SAN, _USES, _BASIC, _ISSUER, _NUMBER = (bytes.fromhex(f"0603551d{kind}") for kind in ("11", "25", "13", "23", "14"))
_CLIENT_AUTH = tlv(0x30, bytes.fromhex("06082b06010505070302"))


@cache
def key() -> ec.EllipticCurvePrivateKey:
    """The same key in each run, since coverage should be; it is no secret."""
    return ec.derive_private_key(7, P256)


@cache
def ca() -> Issuer:
    return create_ca()


@cache
def ca_with_rsa() -> Issuer:
    made = make_ca(key=rsa.generate_private_key(65537, 2048))
    return Issuer(made.certificate, made.key)


@cache
def revocations(issuer: Callable[[], Issuer]) -> Revocations:
    """Of a list with one certificate, number 7."""
    return Revocations([reissue(issuer(), None, serials=[7])], [issuer().certificate])


def spki() -> bytes:
    point = key().public_key().public_numbers()
    algorithm = tlv(0x30, bytes.fromhex("06072a8648ce3d0201") + bytes.fromhex("06082a8648ce3d030107"))
    return tlv(0x30, algorithm + tlv(0x03, b"\0\4" + point.x.to_bytes(32) + point.y.to_bytes(32)))


def extension(kind: bytes, value: bytes) -> bytes:
    return tlv(0x30, kind + tlv(0x04, value))


def certificate(*, serial: bytes = b"\7", subject: bytes = _NAME, extensions: bytes) -> bytes:
    """A certificate of these parts, each DER as it is; its signature is nobody's."""
    body = tlv(0xA0, b"\2\1\2") + tlv(0x02, serial) + _ECDSA + _NAME + _TIMES + subject + spki()
    return signed(body + tlv(0xA3, tlv(0x30, extensions)))


def signed(body: bytes, signature: bytes = b"\x30\6\2\1\1\2\1\1", algorithm: bytes = _ECDSA) -> bytes:
    return tlv(0x30, tlv(0x30, body) + algorithm + tlv(0x03, b"\0" + signature))


def pem(label: str, der: bytes) -> bytes:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def names_in(source: Source) -> bytes:
    """The content of a subjectAltName: bytes as they are, or well-formed names of any kind and content."""
    if source.number(1):
        return source.block(2000)
    return raw_names(
        *((source.choice(2, 6, 7, 1, 2, source.number(30)), source.block(80)) for _ in range(source.number(4)))
    )


def judge(peer: PeerIdentity) -> None:
    """Judge a peer like a server and a client, beside a plain reading of its names."""
    line = str(peer)
    assert line.isprintable()
    assert len(line) < 400
    assert peer.account
    assert PeerPolicy(["dns:client.example"]).allows(peer) is ("client.example" in peer.dns)
    pattern = re.compile(r"[a-z0-9_-]+\.client\.example", re.ASCII)
    assert not PeerPolicy(["dns:*.client.example"]).allows(peer) or any(map(pattern.fullmatch, peer.dns))
    if PeerPolicy(["spiffe://prod/*"]).allows(peer):
        assert any(re.fullmatch(r"spiffe://prod/[A-Za-z0-9._~/-]+", uri) for uri in peer.uri)
    if peer.is_named("client.example"):
        assert {"client.example", "*.example"} & set(peer.dns)
    if peer.is_named("192.0.2.7"):
        assert "192.0.2.7" in peer.ip
    for kind, names in (("dns", peer.dns), ("uri", peer.uri), ("ip", peer.ip), ("email", peer.email)):
        for name in names:
            # What a list of peers can say of a peer with that name, it means.
            with suppress(ConfigurationError):
                entry = f"{kind}:{name}"
                # A SPIFFE ID beside another URI counts for nothing (X509-SVID, section 2).
                counts = kind != "uri" or len(names) == 1 or not name.lower().startswith("spiffe:")
                assert "*" in name or PeerPolicy([entry]).allows(peer) is counts, entry


def a_leaf(source: Source) -> None:
    """The leaf certificate of a peer."""
    if source.number(1):
        der = source.rest()
    else:
        subject = source.choice(_NAME, tlv(0x30, b""), tlv(0x30, source.block(100)))
        serial = source.choice(b"\7", b"\7", source.block(30))
        der = certificate(serial=serial, subject=subject, extensions=extension(_SAN, names_in(source)) + source.rest())
    found: list[PeerIdentity] = []
    if refusal(PeerNotAllowed, of=lambda: found.append(PeerIdentity.from_der(der))) is None:
        judge(found[0])


def a_file(source: Source) -> None:
    """A file with trust anchors, or with a revocation list."""
    if source.number(1):
        subject = tlv(0x30, source.block(150)) if source.number(1) else _NAME
        extensions = extension(_BASIC, source.choice(b"\x30\3\1\1\xff", source.block())) + source.rest()
        contents = {"ca": pem("CERTIFICATE", certificate(subject=subject, extensions=extensions))}
        contents["ca"] += ca().cert_pem * source.number(1)
    else:
        issuer = ca().certificate.subject.public_bytes() if source.number(1) else tlv(0x30, source.block(150))
        entries, extensions = source.block(200), source.rest()
        body = b"\2\1\1" + _ECDSA + issuer + _TIMES[2:] + tlv(0x30, entries) * bool(entries)
        contents = {"ca": ca().cert_pem, "crl": pem("X509 CRL", signed(body + tlv(0xA0, tlv(0x30, extensions))))}
    paths = {"ca": "ca.pem", "crl": "crl.pem"}
    refusal(ConfigurationError, of=lambda: Certificates.parse(contents, paths, None))


def a_chain(source: Source) -> None:
    """Certificates above a peer's own, which are held against the revocation lists: an answer, whatever they are."""
    listing = source.choice(ca, ca_with_rsa)
    issuer = listing().certificate.subject.public_bytes() if source.number(1) else tlv(0x30, source.block(150))
    if source.number(1):
        der = source.rest()
    else:
        algorithm, version = (
            source.choice(_ECDSA, tlv(0x30, source.block(30))),
            source.choice(b"\2\1\2", source.block(4)),
        )
        body = tlv(0xA0, version) + tlv(0x02, b"\7") + algorithm + issuer + _TIMES + _NAME + spki()
        der = signed(body + tlv(0xA3, tlv(0x30, source.rest())), algorithm=algorithm)
    assert revocations(listing).include_any([der]) in (True, False)


def some_pem(source: Source) -> None:
    """Bytes in the place of PEM."""
    read: Any = source.choice(read_certificates, read_crls)
    data = source.rest()
    refusal(ConfigurationError, of=lambda: read(data, "a file"))


def a_request(source: Source) -> None:
    """A signing request: a certificate has exactly the names that it asks for, or there is none."""
    subject = source.choice(_NAME, tlv(0x30, source.block(100)))
    extensions = extension(_SAN, names_in(source)) + extension(_USES, source.choice(_CLIENT_AUTH, source.block(40)))
    extensions += source.rest()
    attribute = tlv(0x30, bytes.fromhex("06092a864886f70d01090e") + tlv(0x31, tlv(0x30, extensions)))
    body = b"\2\1\0" + subject + spki() + tlv(0xA0, attribute)
    der = signed(body, key().sign(tlv(0x30, body), ec.ECDSA(hashes.SHA256())))
    with suppress(ValueError):  # of the parser, which the command line calls, and of which it expects this
        request = x509.load_der_x509_csr(der)
        issued: list[x509.Certificate] = []
        if refusal(ConfigurationError, of=lambda: issued.append(sign(ca(), request))) is None:
            names = [name_text(name) for name in alternative_names(issued[0])]
            assert names == list(map(name_text, requested_names(request)))
            assert subject_alternative_names(names) == alternative_names(issued[0])
            judge(PeerIdentity.from_der(issued[0].public_bytes(Encoding.DER)))


def one(data: bytes) -> None:
    source = Source(data)
    source.choice(a_leaf, a_file, some_pem, a_request, a_chain)(source)


def SEEDS() -> list[bytes]:
    san = raw_names((2, b"client.example"), (2, b"*.client.example"), (6, b"spiffe://prod/billing"), (7, b"\xc0\0\2\7"))
    der = certificate(extensions=extension(_SAN, san) + extension(_USES, _CLIENT_AUTH))
    listed = bytes((len(san),)) + san
    named = b"\0\3" + b"\0\x0eclient.example" + b"\1\x15spiffe://prod/billing" + b"\2\4\xc0\0\2\7"
    issuer = extension(_ISSUER, tlv(0x30, tlv(0x80, bytes(20)))) + extension(_NUMBER, b"\2\1\5")
    entry = tlv(0x30, b"\2\1\7" + _TIMES[2:17])
    return [
        b"\0\1" + der,
        b"\0\0\0\0\1" + listed,
        b"\0\0\0\0" + named + extension(_USES, _CLIENT_AUTH),
        b"\0\0\0\0\0\0\0\1\0\0\3a\nb",
        b"\0\0\0\0\0\0\0\3\0\3\3m\ne\0\1\5urn:\n\0\2\4\xc0\0\2\7",
        b"\1\1\0\0" + extension(_BASIC, b"\x30\3\1\1\xff") + b"\1",
        b"\1\1\1" + bytes((len(_NAME) - 2,)) + _NAME[2:] + b"\1\2\x30\0",
        b"\1\0\1" + bytes((len(entry),)) + entry + issuer,
        b"\1\0\1\0" + issuer,
        b"\2\0" + pem("CERTIFICATE", der),
        b"\2\0" + der,
        b"\2\1" + pem("CERTIFICATE", b"\x30\0") + pem("X509 CRL", b"\x30\0"),
        b"\3\0\1" + listed + b"\0",
        b"\4\0\1\0\0\0" + extension(_SAN, san),
        b"\4\1\1\0\0\0" + extension(_ISSUER, tlv(0x30, tlv(0x80, bytes(20)))),
        b"\4\1\1\0\1\x0a\6\3\x2a\3\4\5\0\0\0\0\0",
        b"\4\0\0\x02\x31\0\1" + der,
        b"\3\0" + named + b"\0",
    ]
