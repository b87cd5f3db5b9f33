"""Recognises what stands in a file in the place of the PEM that was expected, and tells how to convert it."""

from __future__ import annotations

import re
from typing import Final

_LABEL: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
# DER of object identifiers (RFC 2315, section 14), and of the version of a PKCS #12 file (RFC 7292, section 4).
_PKCS7_SIGNED: Final = bytes.fromhex("06092a864886f70d010702")
_PKCS12_VERSION: Final = bytes.fromhex("020103")
_JAVA_KEYSTORE: Final = bytes.fromhex("feedfeed")
_PUTTY: Final = b"PuTTY-User-Key-File-"
_OPENSSH_PUBLIC: Final = (b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-")
_COMMANDS: Final = {
    "certificate": "openssl x509 -inform der -in {name} -out {name}.pem",
    "revocation list": "openssl crl -inform der -in {name} -out {name}.pem",
    "private key": "openssl pkey -inform der -in {name} -out {name}.pem",
}
_PKCS7: Final = (
    "a PKCS #7 file; write the certificates out with `openssl pkcs7 {form}-print_certs -in {name} -out {name}.pem`"
)
_LABELS: Final = {
    "CERTIFICATE REQUEST": "a certificate signing request; have the CA sign it (`sealwire certs sign`)",
    "NEW CERTIFICATE REQUEST": "a certificate signing request; have the CA sign it (`sealwire certs sign`)",
    "TRUSTED CERTIFICATE": "in OpenSSL's own form; convert it with `openssl x509 -in {name} -out {name}.pem`",
    "OPENSSH PRIVATE KEY": "a key in OpenSSH's form; convert a copy with `ssh-keygen -p -m PKCS8 -N '' -f COPY`",
    "PUBLIC KEY": "a public key",
    "RSA PUBLIC KEY": "a public key",
    "SSH2 PUBLIC KEY": "a key for SSH",
}


def found_instead(data: bytes, kind: str, name: str) -> str:
    """Return the end of an error message: the form of the file, and what to do about it; empty if it is not known.

    Args:
        data: The content of the file.
        kind: The kind that was looked for: ``certificate``, ``revocation list`` or ``private key``.
        name: The file's name.
    """
    hint = _binary(data, kind) if _LABEL.search(data) is None else _text(data, kind)
    return "" if hint is None else f"; it is {hint.format(name=name)}"


def _text(data: bytes, kind: str) -> str | None:
    labels = [label.decode() for label in _LABEL.findall(data)]
    known = next((_LABELS[label] for label in labels if label in _LABELS), None)
    if known is not None:
        return known
    if any(label in ("PKCS7", "CMS") for label in labels):
        return _PKCS7.replace("{form}", "")
    if kind != "private key" and any(label.endswith("PRIVATE KEY") for label in labels):
        return "a private key; are cert and key swapped?"
    if kind != "certificate" and "CERTIFICATE" in labels:
        swapped = "; are cert and key swapped?" if kind == "private key" else ""
        return f"a certificate{swapped}"
    return "a revocation list" if kind != "revocation list" and "X509 CRL" in labels else None


def _binary(data: bytes, kind: str) -> str | None:
    if not data.strip():
        return "empty; write the file again, or find out what wrote it"
    if data.startswith(_PUTTY):
        return (
            "a PuTTY key; write a copy out with `puttygen {name} -O private-openssh -o COPY`, and convert that with "
            "`ssh-keygen -p -m PKCS8 -N '' -f COPY`"
        )
    if data.startswith(_OPENSSH_PUBLIC):
        return "a key or certificate for SSH, which TLS cannot use"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text in UTF-16; save it as ASCII"
    if data.startswith(_JAVA_KEYSTORE):
        return "a Java keystore; export PKCS #12 with keytool, and convert that with `openssl pkcs12 -nodes`"
    if not data.startswith(b"\x30"):
        return None
    start = data[:32]
    if _PKCS7_SIGNED in start:
        return _PKCS7.replace("{form}", "-inform der ")
    if start[_header(data) :].startswith(_PKCS12_VERSION):
        return (
            "a PKCS #12 file; write the parts out with `openssl pkcs12 -in {name} -clcerts -nokeys`, `-cacerts "
            "-nokeys` and `-nocerts -nodes`"
        )
    return f"in DER form; convert it with `{_COMMANDS[kind]}`"


def _header(data: bytes) -> int:
    """Return the length of the header of a DER value."""
    return 2 + (data[1] & 0x7F if len(data) > 1 and data[1] & 0x80 else 0)
