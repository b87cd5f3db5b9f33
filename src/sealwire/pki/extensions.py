"""Reads extensions of certificates, requests and revocation lists (RFC 5280, section 4.2), which may be missing."""

from __future__ import annotations

from typing import TypeVar

from cryptography import x509

_Source = x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def find_extension(source: _Source, kind: type[_Extension]) -> _Extension | None:
    """Return an extension; None without it. Raises the errors of ``cryptography`` for a malformed one."""
    try:
        return source.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def alternative_names(source: _Source) -> list[x509.GeneralName]:
    """Return the subject alternative names, like :func:`find_extension`; empty without the extension."""
    return list(find_extension(source, x509.SubjectAlternativeName) or ())


def extended_key_usage(source: _Source) -> list[x509.ObjectIdentifier]:
    """Return the extended key usage, like :func:`find_extension`; empty without the extension."""
    return list(find_extension(source, x509.ExtendedKeyUsage) or ())
