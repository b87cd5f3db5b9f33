"""Certificates of any shape, the odd ones too that no library issues, and TLS handshakes in memory."""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from sealwire.errors import ConfigurationError
from sealwire.trust.certificates import Certificates
from sealwire.trust.credentials import Credentials

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
HOST = "server.example"
DAY = timedelta(days=1)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey
_VERSION_3 = b"\xa0\x03\x02\x01\x02"


def tlv(tag: int, body: bytes) -> bytes:
    """One DER value."""
    size = len(body)
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x80 | len(length)]) + length) + body


def raw_names(*names: tuple[int, bytes]) -> bytes:
    """The content of a subjectAltName extension; each name with its context tag: 1 e-mail, 2 DNS, 6 URI, 7 IP."""
    return tlv(0x30, b"".join(tlv(0x80 | tag, body) for tag, body in names))


@dataclass(frozen=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make(
    *names: str,
    issuer: Made | None = None,
    ca: bool = False,
    uses: Sequence[x509.ObjectIdentifier] = (SERVER, CLIENT),
    raw_san: bytes | None = None,
    common_name: str = "somebody",
    start: timedelta = -DAY,
    end: timedelta = DAY,
    serial: int | None = None,
    key: PrivateKey | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    identified: bool = True,
) -> Made:
    """A certificate, by default a leaf for both uses; ``start`` and ``end`` are counted from now.

    identified: with the identifiers of its key and of its issuer's.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    above = Made(issuer.certificate, issuer.key) if issuer is not None else None
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if above is None else above.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    signing = key if above is None else above.key
    if identified:
        own, issuing = key.public_key(), signing.public_key()
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing), critical=False)
    if names:
        alternatives = [x509.UniformResourceIdentifier(n) if ":" in n else x509.DNSName(n) for n in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if raw_san is not None:
        unparsed = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, raw_san)
        builder = builder.add_extension(unparsed, critical=False)
    if uses and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return Made(builder.sign(signing, _hash(signing)), key)


def _hash(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def make_ca(common_name: str = "CA", **options: object) -> Made:
    """A CA, its own root unless it has an ``issuer``."""
    return make(common_name=common_name, ca=True, **options)


def version_1(issuer: Made) -> Made:
    """A certificate of X.509 version 1: without version field and extensions, and rightly signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC).replace(microsecond=0)
    plain = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .sign(issuer.key, hashes.SHA256())
    )
    signed = plain.tbs_certificate_bytes
    body = signed[signed.index(_VERSION_3) + len(_VERSION_3) :]
    tbs = tlv(0x30, body)
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    algorithm = tlv(0x30, bytes.fromhex("06082a8648ce3d040302"))  # ecdsa-with-SHA256
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    der = tlv(0x30, tbs + algorithm + tlv(0x03, b"\0" + signature))
    return Made(x509.load_der_x509_certificate(der), key)


def make_crl(
    issuer: Made,
    *revoked: Made,
    start: timedelta = -DAY,
    end: timedelta = DAY,
    number: int | None = None,
    name: x509.Name | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    entry_extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    identified: bool = True,
) -> bytes:
    """The PEM of a revocation list.

    name: other than the issuer's. extensions: each with whether it is critical. identified: with that of the key.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name or issuer.certificate.subject)
        .last_update(now + start)
        .next_update(now + end)
    )
    if identified and not any(isinstance(extension, x509.AuthorityKeyIdentifier) for extension, _ in extensions):
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number).revocation_date(now)
        for extension, critical in entry_extensions:
            entry = entry.add_extension(extension, critical)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, _hash(issuer.key)).public_bytes(Encoding.PEM)


class Files:
    """Writes certificates to files, as Credentials wants them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._count = 0

    def write(self, content: bytes) -> Path:
        self._count += 1
        path = self.directory / f"{self._count}.pem"
        path.write_bytes(content)
        return path

    def credentials(
        self, own: Made | None, *anchors: Made, chain: Sequence[Made] = (), crl: bytes | None = None
    ) -> Credentials:
        return Credentials.from_files(
            cert=None if own is None else self.write(own.pem + b"".join(each.pem for each in chain)),
            key=None if own is None else self.write(own.key_pem),
            ca=self.write(b"".join(anchor.pem for anchor in anchors)),
            crl=None if crl is None else self.write(crl),
        )

    def loaded(
        self, own: Made | None, *anchors: Made, chain: Sequence[Made] = (), crl: bytes | None = None
    ) -> Certificates:
        """The generation of such credentials."""
        return self.credentials(own, *anchors, chain=chain, crl=crl).current


class Handshake:
    """Two ends of TLS in memory, run until both are done or failed.

    client, server: the ends. failures: by side, what it raised.
    """

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        *,
        host: str = HOST,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.to_server, self.to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.to_client, self.to_server, server_hostname=host, session=session)
        self.server = server.wrap_bio(self.to_server, self.to_client, server_side=True)
        self.failures: dict[str, ssl.SSLError] = {}
        waiting = {"client": self.client, "server": self.server}
        for _ in range(10):
            for side, end in list(waiting.items()):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLError as error:
                    self.failures[side] = error
                del waiting[side]
        if not self.failures:
            # In TLS 1.3 a client learns with its first read what the server says of its certificate, and gets tickets.
            assert not waiting
            assert self.client.write(b"ping") == 4
            assert self.server.read(4) == b"ping"
            assert self.server.write(b"pong") == 4
            assert self.client.read(4) == b"pong"

    def problem(self, side: str) -> str:
        """Return the problem that this side found with the other's certificate, or with the handshake."""
        error = self.failures[side]
        return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error.reason)


def refusal(**paths: Any) -> str:
    """What is said of files that credentials cannot be made of."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials.from_files(**paths)
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value.__context__)
    assert "PRIVATE KEY" not in shown
    return str(caught.value)
