"""How to replace certificates and revocation lists, as commands that fit the files that are there."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.pki.extensions import extended_key_usage
from sealwire.remedies import command


def renewal(cert: str, leaf: x509.Certificate | None) -> str:
    """Return how to renew the certificate in a file; ``leaf`` is the certificate, if it can be read."""
    path = Path(cert)
    if not path.with_suffix(".key").exists() or path.suffix not in (".pem", ".crt"):
        return "renew it with the tool that issued it"
    if path.with_name("ca.key").exists():
        return f"renew it: {command('sealwire', 'certs', 'renew', path, '--dir', path.parent)}"
    ask = command("sealwire", "certs", "request", _profile(leaf), "--as", path.stem, "--dir", path.parent)
    return f"request a new one, which says how to go on: {ask}"


def issuing(cert: str, profile: str) -> str:
    """Return how to issue another certificate beside one, which may be in use elsewhere."""
    directory = Path(cert).parent
    if (directory / "ca.key").exists():
        return command("sealwire", "certs", "issue", profile, "NAME", "--as", "STEM", *("--dir", directory))
    return f"{command('sealwire', 'certs', 'issue', profile, 'NAME', '--as', 'STEM')} where the CA is"


def _profile(leaf: x509.Certificate | None) -> str:
    try:
        uses = [] if leaf is None else extended_key_usage(leaf)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm):
        uses = []
    server, client = ExtendedKeyUsageOID.SERVER_AUTH in uses, ExtendedKeyUsageOID.CLIENT_AUTH in uses
    if not (server or client):
        return "PROFILE"
    return "peer" if server and client else "server" if server else "client"


def next_list(crl: str) -> str:
    """Return how to get the next revocation list for a file."""
    path = Path(crl)
    if path.with_name("ca.key").exists() and path.name == "crl.pem":
        return f"write the next one: {command('sealwire', 'certs', 'crl', '--dir', path.parent)}"
    return f"get the CA's current list, which `sealwire certs crl` writes there, as {crl}"
