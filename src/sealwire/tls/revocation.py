"""Revocation lists (RFC 5280, section 5) of a CA of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire.errors import ConfigurationError
from sealwire.tls.issue import BACKDATED, Issuer, digest

DEFAULT_CRL_DAYS: Final = 7
MAX_CRL_DAYS: Final = 90
REASONS: Final = {
    reason.value: reason
    for reason in x509.ReasonFlags
    if reason not in (x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl)
}
_END: Final = b"-----END X509 CRL-----"


def read_lists(pem: bytes) -> list[x509.CertificateRevocationList]:
    """All revocation lists in PEM. Raises ValueError."""
    return [x509.load_pem_x509_crl(block + _END + b"\n") for block in pem.split(_END)[:-1]]


def pem_of(lists: Iterable[x509.CertificateRevocationList]) -> bytes:
    """The lists as PEM."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in lists)


def number_of(crl: x509.CertificateRevocationList) -> int:
    """The CRL number (RFC 5280, section 5.2.3); 0 where there is none."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def reissue(
    ca: Issuer,
    previous: x509.CertificateRevocationList | None,
    *,
    serials: Iterable[int] = (),
    reason: x509.ReasonFlags | None = None,
    days: int = DEFAULT_CRL_DAYS,
) -> x509.CertificateRevocationList:
    """The CA's next list: what the previous one has, which the CA must have signed, and these serial numbers.

    A certificate that is on it already keeps its date and reason. days: until the next one has to be there.

    Raises ConfigurationError.
    """
    if not 1 <= days <= MAX_CRL_DAYS:
        raise ConfigurationError(f"days must be a whole number from 1 to {MAX_CRL_DAYS}, not {days!r}")
    if previous is not None and not previous.is_signature_valid(ca.private_key.public_key()):
        raise ConfigurationError(
            "the present revocation list is not signed with this CA's key, so nothing is built upon it; "
            "see who has changed it, and move it away"
        )
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(1 if previous is None else number_of(previous) + 1), critical=False)
        .add_extension(ca.key_identifier, critical=False)
    )
    known = {entry.serial_number for entry in previous or ()}
    for entry in previous or ():
        builder = builder.add_revoked_certificate(entry)
    for serial in dict.fromkeys(serials):
        if serial not in known:
            made = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            if reason is not None:
                made = made.add_extension(x509.CRLReason(reason), critical=False)
            builder = builder.add_revoked_certificate(made.build())
    return builder.sign(ca.private_key, digest(ca.private_key))
