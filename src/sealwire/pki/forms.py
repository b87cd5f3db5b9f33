"""Recognises the form of a file that should have been PEM, and tells how to convert it."""

from __future__ import annotations

import re
from typing import Final

from sealwire.remedies import command, line

_LABEL: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
# DER of object identifiers (RFC 2315, section 14), and of the version of a PKCS #12 file (RFC 7292, section 4).
_PKCS7_SIGNED: Final = bytes.fromhex("06092a864886f70d010702")
_PKCS12_VERSION: Final = bytes.fromhex("020103")
_JAVA_KEYSTORE: Final = bytes.fromhex("feedfeed")
_PUTTY: Final = b"PuTTY-User-Key-File-"
_OPENSSH_PUBLIC: Final = (b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-")
_KINDS: Final = {"certificate": "x509", "revocation list": "crl", "private key": "pkey"}
"""The command of openssl for each kind."""
_LABELS: Final = {
    "PUBLIC KEY": "a public key",
    "RSA PUBLIC KEY": "a public key",
    "SSH2 PUBLIC KEY": "a key for SSH",
}


def found_instead(data: bytes, kind: str, name: str) -> str:
    """Return the end of an error message: the form of the file, and the remedy; empty if it is not known.

    Args:
        data: The content of the file.
        kind: The kind that was looked for: ``certificate``, ``revocation list`` or ``private key``.
        name: The file's name.
    """
    hint = _binary(data, kind, name) if _LABEL.search(data) is None else _text(data, kind, name)
    return "" if hint is None else f"; it is {hint}"


def _text(data: bytes, kind: str, name: str) -> str | None:
    labels = [label.decode() for label in _LABEL.findall(data)]
    convertible = _convertible(labels, name)
    if convertible is not None:
        return convertible
    if kind != "private key" and any(label.endswith("PRIVATE KEY") for label in labels):
        return "a private key; are two files swapped?"
    if kind != "certificate" and "CERTIFICATE" in labels:
        swapped = "; are two files swapped?" if kind == "private key" else ""
        return f"a certificate{swapped}"
    if kind != "revocation list" and "X509 CRL" in labels:
        return "a revocation list"
    return next((_LABELS[label] for label in labels if label in _LABELS), None)


def _convertible(labels: list[str], name: str) -> str | None:
    """Return the form of a file with these labels, and the command that converts it to the expected one."""
    out = f"{name}.pem"
    if "CERTIFICATE REQUEST" in labels or "NEW CERTIFICATE REQUEST" in labels:
        sign = command("sealwire", "certs", "sign", name, "--as", "STEM")
        return f"a certificate signing request; have the CA sign it ({sign})"
    if "TRUSTED CERTIFICATE" in labels:
        return f"in OpenSSL's own form; convert it with {command('openssl', 'x509', '-in', name, '-out', out)}"
    if "OPENSSH PRIVATE KEY" in labels:
        copy = line("cp", "-p", name, out)
        return f"a key in OpenSSH's form; convert a copy with `{copy} && {_pkcs8(out)}`"
    if "PKCS7" in labels or "CMS" in labels:
        convert = command("openssl", "pkcs7", "-print_certs", "-in", name, "-out", out)
        return f"a PKCS #7 file; write the certificates out with {convert}"
    return None


def _pkcs8(name: str) -> str:
    return line("ssh-keygen", "-p", "-m", "PKCS8", "-N", "", "-f", name)


def _binary(data: bytes, kind: str, name: str) -> str | None:
    out = f"{name}.pem"
    if not data.strip():
        return "empty; write the file again, or find out what wrote it"
    if data.startswith(_PUTTY):
        write = line("puttygen", name, "-O", "private-openssh", "-o", out)
        return f"a PuTTY key; convert a copy with `{write} && {_pkcs8(out)}`"
    if data.startswith(_OPENSSH_PUBLIC):
        return "a key or certificate for SSH, which TLS cannot use"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text in UTF-16; save it as ASCII"
    if data.startswith(_JAVA_KEYSTORE):
        export = command(
            "keytool",
            "-importkeystore",
            "-srckeystore",
            name,
            "-destkeystore",
            f"{name}.p12",
            "-deststoretype",
            "PKCS12",
        )
        return f"a Java keystore; write it as PKCS #12 with {export}, and then its {_parts(f'{name}.p12')}"
    if not data.startswith(b"\x30"):
        return None
    start = data[:32]
    if _PKCS7_SIGNED in start:
        convert = command("openssl", "pkcs7", "-inform", "der", "-print_certs", "-in", name, "-out", out)
        return f"a PKCS #7 file; write the certificates out with {convert}"
    if start[_header(data) :].startswith(_PKCS12_VERSION):
        return f"a PKCS #12 file; write out its {_parts(name)}"
    return (
        f"in DER form; convert it with {command('openssl', _KINDS[kind], '-inform', 'der', '-in', name, '-out', out)}"
    )


def _parts(name: str) -> str:
    """Return the commands for the parts of a PKCS #12 file."""
    cert = command("openssl", "pkcs12", "-in", name, "-clcerts", "-nokeys", "-out", f"{name}.cert.pem")
    authorities = command("openssl", "pkcs12", "-in", name, "-cacerts", "-nokeys", "-out", f"{name}.ca.pem")
    key = command("openssl", "pkcs12", "-in", name, "-nocerts", "-nodes", "-out", f"{name}.key.pem")
    return f"certificate with {cert}, its CAs with {authorities}, and its key with {key}"


def _header(data: bytes) -> int:
    """Return the length of the header of a DER value."""
    return 2 + (data[1] & 0x7F if len(data) > 1 and data[1] & 0x80 else 0)
