"""The certificates and revocation lists in a directory, and the state of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.cli.lifetimes import Lifetime, days_left, iso
from sealwire.cli.pem_files import CRL, UNREADABLE, problem_of, read_certificates, read_crls, read_pem, read_private_key
from sealwire.errors import ConfigurationError
from sealwire.pki.crl import number_of
from sealwire.pki.extensions import alternative_names, extended_key_usage, find_extension
from sealwire.pki.subject_names import name_text
from sealwire.trust.revocation import canonical_name

_SUFFIXES: Final = {".pem", ".crt"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A certificate or revocation list in a file; or a file that holds none, with only ``file`` and ``state``."""

    file: str
    kind: str = ""
    """``CA``, ``server``, ``client``, ``peer`` (both), ``other`` or ``revocation list``."""
    names: tuple[str, ...] = ()
    """Names as in a list of peers; the subject of a CA; the issuer of a revocation list."""
    serial: str = ""
    """Serial number in hexadecimal; the number of a revocation list."""
    sha256: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    days_left: int | None = None
    key: str = ""
    """``ok``, ``missing``, or the problem of the private key beside it."""
    state: str
    """``ok``, or the problem."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields for scripts."""
        return asdict(self) | {"not_before": iso(self.not_before), "not_after": iso(self.not_after)}

    @property
    def lifetime(self) -> Lifetime:
        """The time when it ends."""
        if not self.kind:
            return Lifetime(self.file, self.state, None, readable=False)
        return Lifetime(self.file, f"{self.kind} {', '.join(self.names)}", self.not_after)


def inventory(directory: Path) -> list[Row]:
    """Read the ``.pem`` and ``.crt`` files of a directory, the CA's first. Raises OSError."""
    paths = [path for path in directory.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith(".")]
    paths.sort(key=lambda path: (path.name != "ca.pem", path.name))
    try:
        anchors = read_certificates(directory / "ca.pem")
    except ConfigurationError:
        anchors = []
    return [row for path in paths for row in _rows(path, path.name, anchors)]


def rows_of(path: Path) -> list[Row]:
    """Read one file; the issuers are not verified."""
    return _rows(path, str(path), [])


def names_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> tuple[str, ...]:
    """Return the subject alternative names as in a list of peers. Raises ValueError for a broken extension."""
    return tuple(map(name_text, alternative_names(certificate)))


def kind_of(certificate: x509.Certificate) -> str:
    """Return ``CA``, ``server``, ``client``, ``peer`` (both) or ``other``, as the extensions say."""
    try:
        constraints = find_extension(certificate, x509.BasicConstraints)
        uses = extended_key_usage(certificate)
    except UNREADABLE:
        return "other"
    if constraints is not None and constraints.ca:
        return "CA"
    server, client = ExtendedKeyUsageOID.SERVER_AUTH in uses, ExtendedKeyUsageOID.CLIENT_AUTH in uses
    if server and client:
        return "peer"
    return "server" if server else "client" if client else "other"


def _rows(path: Path, file: str, anchors: list[x509.Certificate]) -> list[Row]:
    try:
        if CRL in read_pem(path):
            return [_crl_row(file, crl, anchors) for crl in read_crls(path)]
        return [_row(path, file, certificate, anchors) for certificate in read_certificates(path)]
    except ConfigurationError as error:
        return [Row(file=file, state=problem_of(error, path))]
    except UNREADABLE:
        return [Row(file=file, state="has names or extensions that cannot be read")]


def _row(path: Path, file: str, certificate: x509.Certificate, anchors: list[x509.Certificate]) -> Row:
    trusted = any(is_issued_by(certificate, anchor) for anchor in anchors)
    return Row(
        file=file,
        kind=kind_of(certificate),
        names=names_of(certificate) or (certificate.subject.rfc4514_string(),),
        serial=f"{certificate.serial_number:x}",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        days_left=days_left(certificate.not_valid_after_utc),
        key=_key_state(path.with_suffix(".key"), certificate),
        state=_state(certificate.not_valid_before_utc, certificate.not_valid_after_utc, trusted=trusted),
    )


def _crl_row(file: str, crl: x509.CertificateRevocationList, anchors: list[x509.Certificate]) -> Row:
    trusted = any(canonical_name(anchor.subject) == canonical_name(crl.issuer) for anchor in anchors)
    return Row(
        file=file,
        kind="revocation list",
        names=(crl.issuer.rfc4514_string(),),
        serial=str(number_of(crl)),
        sha256=crl.fingerprint(hashes.SHA256()).hex(),
        not_before=crl.last_update_utc,
        not_after=crl.next_update_utc,
        days_left=days_left(crl.next_update_utc),
        state=_state(crl.last_update_utc, crl.next_update_utc, trusted=trusted),
    )


def _state(start: datetime, end: datetime | None, *, trusted: bool) -> str:
    now = datetime.now(UTC)
    if end is not None and now > end:
        return "expired"
    if now < start:
        return "not yet valid"
    return "ok" if trusted else "not from the CA in ca.pem"


def is_issued_by(certificate: x509.Certificate, anchor: x509.Certificate) -> bool:
    """Return whether a certificate names a CA as its issuer and is signed with its key."""
    try:
        certificate.verify_directly_issued_by(anchor)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _key_state(path: Path, certificate: x509.Certificate) -> str:
    if not path.exists():
        return "missing"
    try:
        key = read_private_key(path)
    except ConfigurationError as error:
        return problem_of(error, path)
    return "ok" if key.public_key() == certificate.public_key() else "of another certificate"
