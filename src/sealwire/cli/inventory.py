"""What certificates a directory holds, and what is wrong with them."""

from __future__ import annotations

import stat
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

_ENDINGS = {".pem", ".crt"}
_MAX_FILE = 4 << 20
_PREFIXES: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "dns:",
    x509.IPAddress: "ip:",
    x509.UniformResourceIdentifier: "uri:",
    x509.RFC822Name: "email:",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One certificate of a file, or one file that holds none (then ``state`` says why, and only ``file`` is set)."""

    file: str
    kind: str = ""
    """``CA``, ``server``, ``client``, ``peer`` (both) or ``other``."""
    names: tuple[str, ...] = ()
    """As entries of a peer list; of a CA its subject."""
    serial: str = ""
    sha256: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    days_left: int | None = None
    key: str = ""
    """``ok``, ``missing``, or what is wrong with the private key beside it."""
    state: str
    """``ok``, or what is wrong with the certificate."""

    def as_json(self) -> dict[str, Any]:
        """Times as ISO 8601, all else as it is."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(self).items()
        }


def inventory(directory: Path) -> list[Row]:
    """Every certificate in the ``.pem`` and ``.crt`` files of the directory, the CA's first. Raises OSError."""
    paths = [path for path in directory.iterdir() if path.suffix in _ENDINGS and not path.name.startswith(".")]
    paths.sort(key=lambda path: (path.name != "ca.pem", path.name))
    try:
        anchors = _read(directory / "ca.pem")
    except (OSError, ValueError):
        anchors = []
    return [row for path in paths for row in _rows(path, anchors)]


def rows_of(path: Path) -> list[Row]:
    """Those of one file, whoever issued them. Raises OSError."""
    return _rows(path, [])


def names_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> tuple[str, ...]:
    """The subject alternative names as entries of a peer list. Raises ValueError for a broken extension."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(_entry(name) for name in names)


def _entry(name: x509.GeneralName) -> str:
    text = str(name.value)
    return text if text.startswith("spiffe://") else _PREFIXES.get(type(name), "other:") + text


def _rows(path: Path, anchors: list[x509.Certificate]) -> list[Row]:
    try:
        return [_row(path, certificate, anchors) for certificate in _read(path)]
    except OSError as error:
        return [Row(file=path.name, state=f"cannot be read: {error.strerror}")]
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm):
        return [Row(file=path.name, state="broken: no certificate in PEM form")]


def _read(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(_content(path))


def _content(path: Path) -> bytes:
    if not path.is_file():  # or reading from a FIFO would never end
        raise OSError(0, "not a regular file")
    with path.open("rb") as file:
        return file.read(_MAX_FILE)


def _row(path: Path, certificate: x509.Certificate, anchors: list[x509.Certificate]) -> Row:
    kind = kind_of(certificate)
    return Row(
        file=path.name,
        kind=kind,
        names=names_of(certificate) or (certificate.subject.rfc4514_string(),),
        serial=f"{certificate.serial_number:x}",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        days_left=(certificate.not_valid_after_utc - datetime.now(UTC)).days,
        key=_key_state(path.with_suffix(".key"), certificate),
        state=_state(certificate, anchors),
    )


def kind_of(certificate: x509.Certificate) -> str:
    """``CA``, ``server``, ``client``, ``peer`` (both) or ``other``."""
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "CA"
    except x509.ExtensionNotFound:
        pass
    try:
        uses = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return "other"
    server, client = ExtendedKeyUsageOID.SERVER_AUTH in uses, ExtendedKeyUsageOID.CLIENT_AUTH in uses
    if server and client:
        return "peer"
    return "server" if server else "client" if client else "other"


def _state(certificate: x509.Certificate, anchors: list[x509.Certificate]) -> str:
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        return "expired"
    if now < certificate.not_valid_before_utc:
        return "not yet valid"
    if not any(_issued_by(certificate, anchor) for anchor in anchors):
        return "not from the CA in ca.pem"
    return "ok"


def _issued_by(certificate: x509.Certificate, anchor: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(anchor)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _key_state(path: Path, certificate: x509.Certificate) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            return f"mode {mode:04o}, needs 0600"
        key = load_pem_private_key(_content(path), password=None)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except TypeError:
        return "encrypted"
    except (ValueError, UnsupportedAlgorithm):
        return "broken"
    return "ok" if key.public_key() == certificate.public_key() else "of another certificate"
