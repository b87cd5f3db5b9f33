from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from sealwire.errors import ConfigurationError
from sealwire.pki.authority import Issuer, create_ca
from sealwire.pki.crl import reissue
from sealwire.pki.pem import private_key_pem, read_certificates, read_crls, read_private_key, to_pem

VERSION_3, VERSION_9 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x08"


@pytest.fixture(scope="module")
def ca() -> Issuer:
    return create_ca()


@pytest.fixture(scope="module")
def crl(ca: Issuer) -> x509.CertificateRevocationList:
    return reissue(ca, None, serials=[7])


def armor(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n".encode()


class TestCertificates:
    def test_all_in_their_order(self, ca: Issuer) -> None:
        leaf = ca.issue("localhost").certificate
        pem = to_pem([leaf, ca.certificate])
        assert read_certificates(b"a comment\n" + pem, "file") == [leaf, ca.certificate]

    def test_of_an_unknown_version(self, ca: Issuer) -> None:
        der = ca.certificate.public_bytes(Encoding.DER).replace(VERSION_3, VERSION_9, 1)
        with pytest.raises(ConfigurationError, match=r"^file: no certificate in PEM form"):
            read_certificates(armor("CERTIFICATE", der), "file")

    @pytest.mark.parametrize("which", [1, 2], ids=["issuer", "both"])
    def test_with_a_name_that_cannot_be_read(self, which: int) -> None:
        """The parser looks at names only when it is asked for them."""
        der = create_ca("a name").certificate.public_bytes(Encoding.DER).replace(b"a name", b"\xff name", which)
        with pytest.raises(ConfigurationError, match=r"^file: no certificate in PEM form"):
            read_certificates(armor("CERTIFICATE", der), "file")

    def test_that_a_later_parser_will_refuse(self, ca: Issuer) -> None:
        """Of which the present one warns, and warnings may be errors."""
        der = ca.certificate.public_bytes(Encoding.DER)
        serial = der.index(VERSION_3) + len(VERSION_3) + 2
        changed = der[:serial] + b"\x80" + der[serial + 1 :]  # below zero
        with pytest.raises(ConfigurationError, match=r"^file: no certificate in PEM form"):
            read_certificates(armor("CERTIFICATE", changed), "file")


class TestRevocationLists:
    def test_all_in_their_order(self, ca: Issuer, crl: x509.CertificateRevocationList) -> None:
        other = reissue(create_ca(), None)
        assert read_crls(to_pem([crl, other]), "file") == [crl, other]

    def test_certificates_between_them_are_skipped(self, ca: Issuer, crl: x509.CertificateRevocationList) -> None:
        pem = ca.cert_pem + to_pem([crl]) + ca.cert_pem
        assert read_crls(pem, "file") == [crl]

    def test_one_broken_list_spoils_the_file(self, crl: x509.CertificateRevocationList) -> None:
        broken = armor("X509 CRL", crl.public_bytes(Encoding.DER)[:-1])
        with pytest.raises(ConfigurationError, match=r"^file: no revocation list in PEM form"):
            read_crls(to_pem([crl]) + broken, "file")

    def test_of_a_name_that_cannot_be_read(self) -> None:
        der = reissue(create_ca("a name"), None).public_bytes(Encoding.DER).replace(b"a name", b"\xff name")
        with pytest.raises(ConfigurationError, match=r"^file: no revocation list in PEM form"):
            read_crls(armor("X509 CRL", der), "file")


class TestPrivateKeys:
    def test_read_back(self, ca: Issuer) -> None:
        assert read_private_key(ca.key_pem, "file").public_key() == ca.private_key.public_key()

    def test_encrypted(self, ca: Issuer) -> None:
        locked = ca.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        with pytest.raises(ConfigurationError, match=r"^file: encrypted; decrypt it with `openssl pkey -in file"):
            read_private_key(locked, "file")


@pytest.mark.parametrize("read", [read_certificates, read_crls, read_private_key])
@pytest.mark.parametrize(
    "content", [b"", b"s3cret", b"\0\xff", b"-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----\n"]
)
def test_garbage_is_refused_and_not_repeated(read: Callable[[bytes, str], Any], content: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"^file: no .* in PEM form") as caught:
        read(content, "file")
    assert "s3cret" not in str(caught.value)


def test_a_private_key_that_was_cut_short(ca: Issuer) -> None:
    pem = private_key_pem(ca.private_key)
    for size in (40, len(pem) - 40):
        with pytest.raises(ConfigurationError, match=r"^file: has a PEM block without an end; the file was cut short"):
            read_private_key(pem[:size], "file")


@pytest.mark.parametrize("read", [read_certificates, read_crls])
def test_cut_short_after_a_whole_block(read: Callable[[bytes, str], Any], ca: Issuer) -> None:
    pem = to_pem([ca.certificate, reissue(ca, None)])
    with pytest.raises(ConfigurationError, match=r"^file: has a PEM block without an end; the file was cut short"):
        read(pem + ca.cert_pem[:-40], "file")
