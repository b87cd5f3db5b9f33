from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from sealwire.errors import ConfigurationError
from sealwire.pki.authority import BACKDATED, Issuer, KeyType, create_ca
from sealwire.pki.crl import REASONS, number_of, reissue
from support.certificates import Made, make_crl


@pytest.fixture(scope="module")
def ca() -> Issuer:
    return create_ca()


def reasons(crl: x509.CertificateRevocationList) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    for entry in crl:
        try:
            found[entry.serial_number] = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        except x509.ExtensionNotFound:
            found[entry.serial_number] = None
    return found


@pytest.mark.parametrize("key_type", ["p256", "ed25519"])
def test_first_list(key_type: KeyType) -> None:
    ca = create_ca(key_type=key_type)
    crl = reissue(ca, None, days=3)
    now = datetime.now(UTC)
    assert crl.is_signature_valid(ca.private_key.public_key())
    assert (list(crl), number_of(crl), crl.issuer) == ([], 1, ca.certificate.subject)
    assert crl.next_update_utc is not None
    assert abs(now - BACKDATED - crl.last_update_utc) < timedelta(minutes=2)
    assert abs(now + timedelta(days=3) - crl.next_update_utc) < timedelta(minutes=2)
    assert crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value == ca.key_identifier


def test_entries_keep_their_date_and_reason(ca: Issuer) -> None:
    first = reissue(ca, None, serials=[7, 8, 7], reason=REASONS["keyCompromise"])
    second = reissue(ca, first, serials=[8, 9])
    assert reasons(second) == {7: "keyCompromise", 8: "keyCompromise", 9: None}
    assert number_of(second) == 2
    dates = {entry.serial_number: entry.revocation_date_utc for entry in first}
    assert dates.items() <= {entry.serial_number: entry.revocation_date_utc for entry in second}.items()


def test_a_list_without_number_counts_as_0(ca: Issuer) -> None:
    crl = x509.load_pem_x509_crl(make_crl(Made(ca.certificate, ca.private_key)))
    assert number_of(crl) == 0
    assert number_of(reissue(ca, crl)) == 1


def test_a_list_of_another_ca_is_not_continued(ca: Issuer) -> None:
    with pytest.raises(ConfigurationError, match="not signed with this CA's key"):
        reissue(ca, reissue(create_ca(), None))


@pytest.mark.parametrize("days", [0, -1, 91])
def test_days(ca: Issuer, days: int) -> None:
    with pytest.raises(ConfigurationError, match="from 1 to 90"):
        reissue(ca, None, days=days)
