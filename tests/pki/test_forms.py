from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)

from sealwire.errors import ConfigurationError
from sealwire.pki.pem import read_certificates, read_crls, read_private_key
from support.certificates import make, make_ca, make_crl

CA = make_ca()
OWN = make("a.example", issuer=CA)
CRL = x509.load_pem_x509_crl(make_crl(CA))
KEY = OWN.key
PKCS12 = pkcs12.serialize_key_and_certificates(b"a", KEY, OWN.certificate, [CA.certificate], NoEncryption())
OPENSSH = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
SSH = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
REQUEST = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(KEY, hashes.SHA256())


def pkcs7_of(encoding: Encoding) -> bytes:
    return pkcs7.serialize_certificates([OWN.certificate], encoding)


@pytest.mark.parametrize(
    ("read", "content", "told"),
    [
        (read_certificates, OWN.der, "it is in DER form; convert it with `openssl x509 -inform der -in f"),
        (read_crls, CRL.public_bytes(Encoding.DER), "it is in DER form; convert it with `openssl crl -inform der"),
        (
            read_private_key,
            KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            "it is in DER form; convert it with `openssl pkey -inform der -in f -out f.pem`",
        ),
        (read_certificates, PKCS12, "it is a PKCS #12 file; write out its certificate with `openssl pkcs12 -in f"),
        (read_private_key, PKCS12, "it is a PKCS #12 file"),
        (read_certificates, pkcs7_of(Encoding.DER), "PKCS #7 file; .*`openssl pkcs7 -inform der -print_certs -in f"),
        (read_certificates, pkcs7_of(Encoding.PEM), "PKCS #7 file; .*`openssl pkcs7 -print_certs -in f"),
        (
            read_private_key,
            OPENSSH,
            "a key in OpenSSH's form; convert a copy with `cp -p f f.pem && ssh-keygen -p",
        ),
        (read_private_key, SSH, "it is a key or certificate for SSH"),
        (read_certificates, SSH, "it is a key or certificate for SSH"),
        (read_certificates, OWN.key_pem, r"it is a private key; are two files swapped\?"),
        (read_private_key, OWN.pem, r"it is a certificate; are two files swapped\?"),
        (read_crls, OWN.pem, "it is a certificate$"),
        (read_certificates, make_crl(CA), "it is a revocation list$"),
        (read_private_key, PUBLIC, "it is a public key$"),
        (read_certificates, REQUEST.public_bytes(Encoding.PEM), "it is a certificate signing request; have the CA"),
        (read_certificates, OWN.pem.decode().encode("utf-16"), "it is text in UTF-16; save it as ASCII"),
        (read_certificates, bytes.fromhex("feedfeed00000002"), "it is a Java keystore"),
        (read_certificates, b"", "it is empty; write the file again"),
        (read_private_key, b" \r\n", "it is empty"),
        (read_crls, b"\n", "it is empty"),
        (
            read_private_key,
            b"PuTTY-User-Key-File-3: ecdsa-sha2-nistp256\r\n",
            "PuTTY key; .*`puttygen f -O private-openssh",
        ),
        (read_certificates, b"PuTTY-User-Key-File-2: ssh-rsa\r\n", "it is a PuTTY key"),
        (read_certificates, b"0", "in DER form"),
        (read_certificates, b"hello", "could be read$"),
    ],
)
def test_what_to_do(read: object, content: bytes, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^f: no .* in PEM form (?=could be read).*{told}"):
        read(content, "f")
