from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.errors import ConfigurationError
from sealwire.pki.authority import USES, Issuer, PrivateKey, Profile, create_ca
from sealwire.pki.csr import key_like, renew, request, requested_names, requested_profile, sign
from sealwire.pki.subject_names import name_text


@pytest.fixture(scope="module")
def ca() -> Issuer:
    return create_ca()


def names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [name_text(name) for name in found]


def uses(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def custom(*extensions: x509.ExtensionType, key: Any = None) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())


class TestSigning:
    @pytest.mark.parametrize("profile", ["server", "client", "peer"])
    def test_names_key_and_profile_are_those_of_the_request(self, ca: Issuer, profile: Profile) -> None:
        asked = request("a.example", "spiffe://prod/a", profile=profile, key_type="ed25519")
        made = sign(ca, asked.request, days=9)
        made.verify_directly_issued_by(ca.certificate)
        assert made.public_key() == asked.private_key.public_key()
        assert (names(made), uses(made)) == (["dns:a.example", "spiffe://prod/a"], USES[profile])
        assert (made.not_valid_after_utc - made.not_valid_before_utc).days == 8  # and all but a second

    def test_nothing_else_of_it_is(self, ca: Issuer) -> None:
        asked = custom(
            x509.SubjectAlternativeName([x509.DNSName("a.example")]),
            x509.BasicConstraints(ca=True, path_length=None),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),
        )
        made = sign(ca, asked, profile="client")
        assert uses(made) == USES["client"]
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    def test_other_names_than_expected(self, ca: Issuer) -> None:
        asked = request("a.example", "b.example").request
        assert sign(ca, asked, expected=["b.example", "a.example", "c.example"])
        with pytest.raises(ConfigurationError, match=r"also asks for 'b\.example'"):
            sign(ca, asked, expected=["a.example"])

    def test_a_weak_key(self, ca: Issuer) -> None:
        weak = rsa.generate_private_key(65537, 1024)
        asked = custom(x509.SubjectAlternativeName([x509.DNSName("a.example")]), key=weak)
        with pytest.raises(ConfigurationError, match=r"^the request's key: RSA with 1024 bits is too weak"):
            sign(ca, asked, profile="client")

    def test_a_private_key_is_in_no_repr(self) -> None:
        asked = request("a.example")
        assert "private_key" not in repr(asked)
        assert asked.request_pem.startswith(b"-----BEGIN CERTIFICATE REQUEST-----")
        assert b"PRIVATE KEY" in asked.key_pem.splitlines()[0]


class TestContent:
    def test_no_names(self) -> None:
        with pytest.raises(ConfigurationError, match="no subject alternative names"):
            requested_names(custom())

    def test_a_kind_of_name_that_is_not_issued(self) -> None:
        directory = x509.DirectoryName(x509.Name([]))
        with pytest.raises(ConfigurationError, match="names other than DNS names, IP addresses"):
            requested_names(custom(x509.SubjectAlternativeName([x509.DNSName("a.example"), directory])))

    @pytest.mark.parametrize("name", [x509.DNSName("spiffe://prod/a"), x509.RFC822Name("spiffe://prod/a")])
    def test_a_name_keeps_its_kind(self, name: x509.GeneralName) -> None:
        with pytest.raises(ConfigurationError, match="not a"):
            requested_names(custom(x509.SubjectAlternativeName([name])))

    @pytest.mark.parametrize("wanted", [[], [ExtendedKeyUsageOID.CODE_SIGNING]])
    def test_no_profile_of_ours(self, wanted: list[x509.ObjectIdentifier]) -> None:
        with pytest.raises(ConfigurationError, match="give --profile"):
            requested_profile(custom(*([x509.ExtendedKeyUsage(wanted)] if wanted else [])))


class TestRenewing:
    def test_subject_names_and_uses_stay_and_the_key_is_new(self, ca: Issuer) -> None:
        old = ca.issue("a.example", "192.0.2.7", profile="peer").certificate
        new = renew(ca, old, days=3)
        assert (new.subject, names(new), uses(new)) == (old.subject, names(old), uses(old))
        assert new.public_key() != old.public_key()
        assert new.serial_number != old.serial_number

    def test_with_a_given_key(self, ca: Issuer) -> None:
        old = ca.issue("a.example")
        assert renew(ca, old.certificate, key=old.private_key).public_key() == old.private_key.public_key()

    def test_without_names(self, ca: Issuer) -> None:
        with pytest.raises(ConfigurationError, match="no subject alternative names"):
            renew(ca, ca.certificate)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey),
        (ec.generate_private_key(ec.SECP384R1()), "secp384r1"),
        (ec.generate_private_key(ec.SECP256R1()), "secp256r1"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256r1"),
        (rsa.generate_private_key(65537, 1024), 2048),
    ],
)
def test_a_key_of_the_same_type_unless_it_is_weak(old: PrivateKey, new: Any) -> None:
    made = key_like(old.public_key())
    if isinstance(made, ec.EllipticCurvePrivateKey):
        assert made.curve.name == new
    elif isinstance(made, rsa.RSAPrivateKey):
        assert made.key_size == new
    else:
        assert isinstance(made, new)
