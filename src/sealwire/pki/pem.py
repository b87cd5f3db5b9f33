"""Reads and writes PEM (RFC 7468). Each error names the file that the text came from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sealwire.errors import ConfigurationError
from sealwire.pki.forms import found_instead
from sealwire.remedies import command

_KEY: Final = re.compile(rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.*?-----END [A-Z ]{0,20}PRIVATE KEY-----", re.DOTALL)
_Item = TypeVar("_Item", x509.Certificate, x509.CertificateRevocationList)
_CRL_END: Final = b"-----END X509 CRL-----"
# Warnings, which may be errors, are about what a later parser will refuse.
_MALFORMED: Final = (ValueError, x509.InvalidVersion, UnsupportedAlgorithm, Warning)


def read_certificates(pem: bytes, name: str) -> list[x509.Certificate]:
    """Parse one or more certificates.

    Args:
        pem: The content of a file.
        name: Its name, for errors.

    Raises:
        ConfigurationError: There is no certificate, one cannot be parsed, or the file was cut short.
    """
    _check_whole(pem, name)
    try:
        return [_read(each) for each in x509.load_pem_x509_certificates(pem)]
    except _MALFORMED:
        raise _unreadable(pem, "certificate", name) from None


def read_crls(pem: bytes, name: str) -> list[x509.CertificateRevocationList]:
    """Parse one or more revocation lists, skipping anything else. Arguments and errors as :func:`read_certificates`."""
    _check_whole(pem, name)
    blocks = [block + _CRL_END for block in pem.split(_CRL_END)[:-1]]
    try:
        lists = [_read(x509.load_pem_x509_crl(block)) for block in blocks]
    except _MALFORMED:
        lists = []
    if not lists:
        raise _unreadable(pem, "revocation list", name)
    return lists


def read_private_key(pem: bytes, name: str) -> PrivateKeyTypes:
    """Parse a private key that is not encrypted. Arguments and errors as :func:`read_certificates`."""
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigurationError(
            f"{name}: encrypted; decrypt it with {command('openssl', 'pkey', '-in', name, '-out', f'{name}.pem')}"
        ) from None
    except _MALFORMED:
        _check_whole(pem, name)
        raise _unreadable(pem, "private key", name) from None


def private_key_of(pem: bytes, name: str, public: CertificatePublicKeyTypes) -> bytes | None:
    """Return the private key (PEM) of a public one in a file that may have several, as while a pair is replaced.

    Args:
        pem: The content of a file.
        name: Its name, for errors.
        public: The public key.

    Returns:
        The block of the key; None if it is not there.

    Raises:
        ConfigurationError: There is no key, or one cannot be parsed.
    """
    wanted = _spki(public)
    blocks: list[bytes] = _KEY.findall(pem)
    for block in blocks or [pem]:
        if _spki(read_private_key(block, name).public_key()) == wanted:
            return block + b"\n"
    return None


def _read(item: _Item) -> _Item:
    """Return a certificate or revocation list if its names can be read: ``cryptography`` parses them when asked."""
    _ = item.issuer
    if isinstance(item, x509.Certificate):
        _ = item.subject
    return item


def _spki(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def to_pem(items: Iterable[x509.Certificate | x509.CertificateRevocationList]) -> bytes:
    """Return certificates or revocation lists as PEM, one after the other."""
    return b"".join(item.public_bytes(Encoding.PEM) for item in items)


def private_key_pem(key: PrivateKeyTypes) -> bytes:
    """Return a private key as PEM (PKCS #8), not encrypted: its file needs mode 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _unreadable(data: bytes, kind: str, name: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: no {kind} in PEM form could be read{found_instead(data, kind, name)}")


def _check_whole(pem: bytes, name: str) -> None:
    if pem.count(b"-----BEGIN ") > pem.count(b"-----END "):
        raise ConfigurationError(f"{name}: has a PEM block without an end; the file was cut short")
