"""The certificates and revocation lists in a directory, and the state of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.cli.lifetimes import Lifetime, days_left, iso
from sealwire.cli.pem_files import CERTIFICATE, CRL, UNREADABLE, problem_of, read_certificates, read_crls, read_pem
from sealwire.errors import ConfigurationError
from sealwire.pki.crl import number_of
from sealwire.pki.extensions import alternative_names, extended_key_usage, find_extension
from sealwire.pki.pem import private_key_of
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
    """``ok``, ``missing``, or the problem of the private key beside it; empty for a CA behind the first certificate."""
    state: str
    """``ok``, or the problem."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields for scripts."""
        return asdict(self) | {"not_before": iso(self.not_before), "not_after": iso(self.not_after)}

    @property
    def lifetime(self) -> Lifetime:
        """The time when it ends."""
        if not self.kind:
            return Lifetime(self.file, self.state, None, None, readable=False)
        return Lifetime(self.file, f"{self.kind} {', '.join(self.names)}", self.not_before, self.not_after)


def inventory(directory: Path) -> list[Row]:
    """Read the ``.pem`` and ``.crt`` files of a directory, the CA's first; files of a key alone are not among the rows.

    The names may be another tool's: certificates are of the CA in ``ca.pem`` or, without that, of any that is there,
    and a key is known by its content. Raises OSError.
    """
    paths = [path for path in directory.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith(".")]
    paths.sort(key=lambda path: (path.name != "ca.pem", path.name))
    keys = [path for path in paths if _is_key(path)]
    paths = [path for path in paths if path not in keys]
    named = directory / "ca.pem"
    anchors = [each for path in ([named] if named in paths else paths) for each in _authorities(path)]
    lists = [crl for path in paths for crl in _revocation_lists(path)]
    return [row for path in paths for row in _rows(path, path.name, anchors, keys, lists)]


def rows_of(path: Path) -> list[Row]:
    """Read one file; the issuers are not verified."""
    return _rows(path, str(path), [], [], [])


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


def _is_key(path: Path) -> bool:
    """Return True for a file with a private key and no certificate."""
    try:
        data = read_pem(path)
    except ConfigurationError:
        return False
    return b"PRIVATE KEY-----" in data and CERTIFICATE not in data


def _authorities(path: Path) -> list[x509.Certificate]:
    try:
        found = read_certificates(path)
    except ConfigurationError:
        return []
    return found if path.name == "ca.pem" else [each for each in found if kind_of(each) == "CA"]


def _revocation_lists(path: Path) -> list[x509.CertificateRevocationList]:
    try:
        return read_crls(path) if CRL in read_pem(path) else []
    except ConfigurationError:
        return []


def _rows(
    path: Path,
    file: str,
    anchors: list[x509.Certificate],
    keys: list[Path],
    lists: list[x509.CertificateRevocationList],
) -> list[Row]:
    try:
        if CRL in read_pem(path):
            return [_crl_row(file, crl, anchors) for crl in read_crls(path)]
        leaf, *above = read_certificates(path)
        first = _row(file, leaf, anchors, _key_state(path, leaf, keys))
        rows = [first, *(_row(file, certificate, anchors, "") for certificate in above)]
        return [
            replace(row, state="revoked") if row.state == "ok" and _is_listed(each, lists) else row
            for row, each in zip(rows, [leaf, *above], strict=True)
        ]
    except ConfigurationError as error:
        return [Row(file=file, state=problem_of(error, path))]
    except UNREADABLE:
        return [Row(file=file, state="has names or extensions that cannot be read")]


def _row(file: str, certificate: x509.Certificate, anchors: list[x509.Certificate], key: str) -> Row:
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
        key=key,
        state=_state(certificate.not_valid_before_utc, certificate.not_valid_after_utc, trusted=trusted),
    )


def _is_listed(certificate: x509.Certificate, lists: list[x509.CertificateRevocationList]) -> bool:
    issuer, serial = canonical_name(certificate.issuer), certificate.serial_number
    return any(
        canonical_name(crl.issuer) == issuer and crl.get_revoked_certificate_by_serial_number(serial) is not None
        for crl in lists
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
    return "ok" if trusted else "not from a CA that is here"


def is_issued_by(certificate: x509.Certificate, anchor: x509.Certificate) -> bool:
    """Return True if a certificate names a CA as its issuer and is signed with its key."""
    try:
        certificate.verify_directly_issued_by(anchor)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _key_state(path: Path, certificate: x509.Certificate, others: list[Path]) -> str:
    beside = path.with_suffix(".key")
    problem = "missing"
    for each in [beside] if beside.exists() else others:
        try:
            if private_key_of(read_pem(each, private=True), str(each), certificate.public_key()):
                return "ok"
            found = "of another certificate"
        except ConfigurationError as error:
            found = problem_of(error, each)
        if each == beside:
            problem = found
    return problem
