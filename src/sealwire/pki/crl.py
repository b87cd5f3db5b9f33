"""Makes certificate revocation lists (RFC 5280, section 5)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from sealwire.errors import ConfigurationError
from sealwire.pki.authority import BACKDATED, Issuer, digest
from sealwire.pki.extensions import find_extension

DEFAULT_CRL_DAYS: Final = 7
MAX_CRL_DAYS: Final = 90
REASONS: Final = {
    reason.value: reason
    for reason in x509.ReasonFlags
    if reason not in (x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl)
}


def number_of(crl: x509.CertificateRevocationList) -> int:
    """Return the CRL number (RFC 5280, section 5.2.3), or 0 without one."""
    number = find_extension(crl, x509.CRLNumber)
    return 0 if number is None else number.crl_number


def newer(one: x509.CertificateRevocationList, two: x509.CertificateRevocationList) -> x509.CertificateRevocationList:
    """Return the list with the higher number or, without numbers, the later thisUpdate; of equals the longer one."""
    numbered = all(find_extension(each, x509.CRLNumber) is not None for each in (one, two))

    def age(crl: x509.CertificateRevocationList) -> tuple[int, datetime, int]:
        return number_of(crl) if numbered else 0, crl.last_update_utc, len(crl)

    return max(one, two, key=age)


def reissue(
    ca: Issuer,
    previous: x509.CertificateRevocationList | None,
    *,
    serials: Iterable[int] = (),
    reason: x509.ReasonFlags | None = None,
    days: int = DEFAULT_CRL_DAYS,
) -> x509.CertificateRevocationList:
    """Make the CA's next revocation list.

    Args:
        ca: The CA.
        previous: Its last list; entries keep their date and reason.
        serials: Serial numbers of further certificates to revoke.
        reason: The reason to give for them.
        days: Days until the next list is due, 1 to 90.

    Raises:
        ConfigurationError: ``days`` is out of range, or the CA did not sign the previous list.
    """
    if not 1 <= days <= MAX_CRL_DAYS:
        raise ConfigurationError(f"days must be a whole number from 1 to {MAX_CRL_DAYS}, not {days!r}")
    if previous is not None and not previous.is_signature_valid(ca.private_key.public_key()):
        raise ConfigurationError(
            "the present revocation list is not signed with this CA's key, so it cannot be continued; "
            "find out how it was changed, and move it away"
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
