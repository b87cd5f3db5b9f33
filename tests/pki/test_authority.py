from __future__ import annotations

import copy
import pickle
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.errors import ConfigurationError
from sealwire.pki.authority import BACKDATED, Issued, Issuer, KeyType, Profile, create_ca

SERVER_AUTH, CLIENT_AUTH = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@pytest.fixture(scope="module")
def ca() -> Issuer:
    return create_ca()


Extension = TypeVar("Extension", bound=x509.ExtensionType)


def extension(certificate: x509.Certificate, kind: type[Extension]) -> tuple[Extension, bool]:
    found = certificate.extensions.get_extension_for_class(kind)
    return found.value, found.critical


def key_usages(certificate: x509.Certificate) -> set[str]:
    usage, critical = extension(certificate, x509.KeyUsage)
    assert critical
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return {name for name in (*names, "key_cert_sign", "crl_sign") if getattr(usage, name)}


class TestCA:
    def test_is_a_root_for_leaves_only(self, ca: Issuer) -> None:
        certificate = ca.certificate
        assert certificate.subject == certificate.issuer
        assert extension(certificate, x509.BasicConstraints) == (x509.BasicConstraints(ca=True, path_length=0), True)
        assert key_usages(certificate) == {"key_cert_sign", "crl_sign"}
        own_id, critical = extension(certificate, x509.SubjectKeyIdentifier)
        assert own_id == x509.SubjectKeyIdentifier.from_public_key(ca.private_key.public_key())
        assert not critical
        assert certificate.version is x509.Version.v3
        certificate.verify_directly_issued_by(certificate)

    def test_ten_years_by_default(self, ca: Issuer) -> None:
        start, end = ca.certificate.not_valid_before_utc, ca.certificate.not_valid_after_utc
        assert end - start == timedelta(days=3650) - timedelta(seconds=1)
        assert abs(datetime.now(UTC) - BACKDATED - start) < timedelta(minutes=2)

    def test_no_two_have_one_name(self, ca: Issuer) -> None:
        assert create_ca().certificate.subject != ca.certificate.subject

    def test_can_be_named(self) -> None:
        assert create_ca("Übung", days=1).certificate.subject.rfc4514_string() == "CN=Übung"

    @pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65, "ü" * 33, "\udcff"])
    def test_refuses_names_that_no_certificate_takes(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="name"):
            create_ca(name)

    @pytest.mark.parametrize("days", [0, -1, 9133, 1.5])
    def test_refuses_days(self, days: int) -> None:
        with pytest.raises(ConfigurationError, match="1 to 9132"):
            create_ca(days=days)

    def test_refuses_a_naive_beginning(self) -> None:
        with pytest.raises(ConfigurationError, match="UTC offset"):
            create_ca(not_before=datetime(2026, 1, 1))

    def test_refuses_other_key_types(self) -> None:
        with pytest.raises(ConfigurationError, match="p256, ed25519"):
            create_ca(key_type="rsa")


class TestLeaf:
    def test_can_sign_handshakes_and_nothing_else(self, ca: Issuer) -> None:
        certificate = ca.issue("localhost").certificate
        assert extension(certificate, x509.BasicConstraints) == (
            x509.BasicConstraints(ca=False, path_length=None),
            True,
        )
        assert key_usages(certificate) == {"digital_signature"}

    @pytest.mark.parametrize(
        ("profile", "uses"),
        [("server", {SERVER_AUTH}), ("client", {CLIENT_AUTH}), ("peer", {SERVER_AUTH, CLIENT_AUTH})],
    )
    def test_profile_is_the_extended_key_usage(
        self, ca: Issuer, profile: Profile, uses: set[x509.ObjectIdentifier]
    ) -> None:
        leaf = ca.issue("localhost", profile=profile)
        assert set(extension(leaf.certificate, x509.ExtendedKeyUsage)[0]) == uses

    def test_points_at_its_issuer(self, ca: Issuer) -> None:
        leaf = ca.issue("localhost")
        leaf.certificate.verify_directly_issued_by(ca.certificate)
        above = extension(leaf.certificate, x509.AuthorityKeyIdentifier)[0]
        assert above.key_identifier == extension(ca.certificate, x509.SubjectKeyIdentifier)[0].digest
        own = extension(leaf.certificate, x509.SubjectKeyIdentifier)[0]
        assert own == x509.SubjectKeyIdentifier.from_public_key(leaf.private_key.public_key())

    def test_key_is_its_own_and_new(self, ca: Issuer) -> None:
        one, two = ca.issue("localhost"), ca.issue("localhost")
        assert one.certificate.public_key() == one.private_key.public_key()
        assert one.private_key.public_key() != two.private_key.public_key()

    def test_serials_are_random_and_fit_twenty_octets(self, ca: Issuer) -> None:
        serials = {ca.issue("localhost").certificate.serial_number for _ in range(8)}
        assert len(serials) == 8
        assert all(0 < serial.bit_length() <= 159 for serial in serials)
        assert max(serials).bit_length() > 120

    def test_names(self, ca: Issuer) -> None:
        leaf = ca.issue("LocalHost", "127.0.0.1", "spiffe://prod/billing/worker")
        names, critical = extension(leaf.certificate, x509.SubjectAlternativeName)
        assert [str(name.value) for name in names] == ["localhost", "127.0.0.1", "spiffe://prod/billing/worker"]
        assert not critical
        assert leaf.certificate.subject.rfc4514_string() == "CN=localhost"

    def test_first_name_too_long_for_a_subject(self, ca: Issuer) -> None:
        leaf = ca.issue(f"spiffe://prod/{'x' * 60}", profile="client")
        assert not leaf.certificate.subject.rdns
        assert extension(leaf.certificate, x509.SubjectAlternativeName)[1], "RFC 5280, section 4.2.1.6"

    def test_ninety_days_with_the_backdating(self, ca: Issuer) -> None:
        certificate = ca.issue("localhost").certificate
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        assert start < datetime.now(UTC) - timedelta(minutes=4)
        assert end - start + timedelta(seconds=1) == timedelta(days=90), "both ends are inclusive"

    @pytest.mark.parametrize("days", [0, 91, True + 90])
    def test_refuses_days(self, ca: Issuer, days: int) -> None:
        with pytest.raises(ConfigurationError, match="1 to 90"):
            ca.issue("localhost", days=days)

    def test_never_outlives_its_ca(self) -> None:
        short = create_ca(days=10)
        assert short.issue("localhost").certificate.not_valid_after_utc == short.certificate.not_valid_after_utc

    def test_an_expired_ca_issues_nothing(self) -> None:
        long_ago = create_ca(days=5, not_before=datetime.now(UTC) - timedelta(days=6))
        with pytest.raises(ConfigurationError, match="expired"):
            long_ago.issue("localhost")
        with pytest.raises(ConfigurationError, match="expired"):
            long_ago.issue("localhost", not_before=long_ago.certificate.not_valid_after_utc)

    def test_can_be_expired_for_the_tests_of_others(self, ca: Issuer) -> None:
        leaf = ca.issue("localhost", days=1, not_before=datetime.now(UTC) - timedelta(days=2))
        assert leaf.certificate.not_valid_after_utc < datetime.now(UTC)

    def test_refuses_to_be_nameless(self, ca: Issuer) -> None:
        with pytest.raises(ConfigurationError, match="at least one name"):
            ca.issue(profile="client")

    def test_a_server_is_not_found_by_an_email_address(self, ca: Issuer) -> None:
        ca.issue("ops@client.example", profile="client")
        profiles: tuple[Profile, ...] = ("server", "peer")
        for profile in profiles:
            with pytest.raises(ConfigurationError, match="DNS name"):
                ca.issue("ops@client.example", profile=profile)

    def test_refuses_other_profiles(self, ca: Issuer) -> None:
        with pytest.raises(ConfigurationError, match="server, client, peer"):
            ca.issue("localhost", profile="ca")

    def test_key_types(self, ca: Issuer) -> None:
        usual, other = ca.issue("localhost").private_key, ca.issue("localhost", key_type="ed25519").private_key
        assert isinstance(usual, ec.EllipticCurvePrivateKey)
        assert isinstance(usual.curve, ec.SECP256R1)
        assert isinstance(other, ed25519.Ed25519PrivateKey)


class TestKeepingSecrets:
    def test_repr_has_no_key(self, ca: Issuer) -> None:
        for issued in (ca, ca.issue("localhost")):
            assert "rivate" not in repr(issued)
            assert "certificate=" in repr(issued)

    def test_is_not_pickled_or_copied(self, ca: Issuer) -> None:
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="private key"):
                take(ca)


class TestReadingBack:
    @pytest.mark.parametrize("key_type", ["p256", "ed25519"])
    def test_round_trip(self, key_type: KeyType) -> None:
        ca = create_ca(key_type=key_type)
        again = Issuer.from_pem(ca.cert_pem, ca.key_pem)
        assert again.certificate == ca.certificate
        again.issue("localhost").certificate.verify_directly_issued_by(ca.certificate)

    def test_takes_its_own_certificate_from_a_bundle(self, ca: Issuer) -> None:
        bundle = create_ca().cert_pem + ca.cert_pem
        assert Issuer.from_pem(bundle, ca.key_pem).certificate == ca.certificate

    def test_refuses_what_is_not_a_ca(self, ca: Issuer) -> None:
        leaf = ca.issue("localhost")
        with pytest.raises(ConfigurationError, match="leaf certificate"):
            Issuer.from_pem(leaf.cert_pem, leaf.key_pem)

    def test_refuses_a_certificate_without_extensions(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([])
        start = datetime(2026, 1, 1, tzinfo=UTC)
        bare = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=365))
        certificate = bare.sign(key, hashes.SHA256())
        with pytest.raises(ConfigurationError, match="lacks basic constraints"):
            Issuer.from_pem(*pem_of(Issued(certificate, key)))

    def test_refuses_the_key_of_another(self, ca: Issuer) -> None:
        with pytest.raises(ConfigurationError, match="not the key of"):
            Issuer.from_pem(ca.cert_pem, create_ca().key_pem)

    def test_refuses_an_encrypted_key(self, ca: Issuer) -> None:
        locked = ca.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        with pytest.raises(ConfigurationError, match="encrypted"):
            Issuer.from_pem(ca.cert_pem, locked)

    @pytest.mark.parametrize(
        ("key", "why"),
        [
            (rsa.generate_private_key(65537, 1024), "too weak"),
            (ec.generate_private_key(ec.SECP256K1()), "no signatures on the curve"),
            (ed448.Ed448PrivateKey.generate(), "must be an elliptic-curve, Ed25519 or RSA key"),
        ],
    )
    def test_refuses_keys_that_are_of_no_use(self, ca: Issuer, key: Any, why: str) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(ConfigurationError, match=why):
            Issuer.from_pem(ca.cert_pem, pem)

    def test_refuses_garbage_and_does_not_repeat_it(self, ca: Issuer) -> None:
        for pems in ((b"s3cret", ca.key_pem), (ca.cert_pem, b"s3cret"), (ca.cert_pem, b"")):
            with pytest.raises(ConfigurationError, match="PEM") as caught:
                Issuer.from_pem(*pems)
            assert "s3cret" not in str(caught.value)


def pem_of(issued: Issued) -> tuple[bytes, bytes]:
    return issued.cert_pem, issued.key_pem


@pytest.mark.parametrize("key_type", ["p256", "ed25519"])
def test_openssl_verifies(tmp_path: Path, key_type: KeyType) -> None:
    ca = create_ca(key_type=key_type)
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem)
    long_name = f"spiffe://prod/{'x' * 60}"
    leaves = {
        "server": ca.issue("localhost", "127.0.0.1", key_type=key_type),
        "client": ca.issue(long_name, profile="client"),
        "peer": ca.issue("a.example", profile="peer"),
    }
    accepted = set()
    for name, leaf in leaves.items():
        (tmp_path / f"{name}.pem").write_bytes(leaf.cert_pem)
        for purpose in ("sslserver", "sslclient"):
            command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", "ca.pem", "-purpose", purpose]
            done = subprocess.run([*command, f"{name}.pem"], cwd=tmp_path, capture_output=True, check=False)
            if done.returncode == 0:
                accepted.add((name, purpose))
    assert accepted == {
        ("server", "sslserver"),
        ("client", "sslclient"),
        ("peer", "sslserver"),
        ("peer", "sslclient"),
    }


class TestHandshake:
    """TLS 1.3 in memory, both sides with VERIFY_X509_STRICT."""

    @pytest.mark.parametrize("key_type", ["p256", "ed25519"])
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "a.wild.example"])
    def test_succeeds(self, tmp_path: Path, key_type: KeyType, host: str) -> None:
        ca = create_ca(key_type=key_type)
        server = ca.issue("localhost", "127.0.0.1", "::1", "*.wild.example", key_type=key_type)
        client = ca.issue("spiffe://prod/billing/worker", profile="client")
        version, peer = handshake(tmp_path, ca, server, client, host)
        assert version == "TLSv1.3"
        assert peer == client.certificate.public_bytes(Encoding.DER)

    def test_with_an_empty_subject(self, tmp_path: Path, ca: Issuer) -> None:
        client = ca.issue(f"spiffe://prod/{'x' * 60}", profile="client")
        assert handshake(tmp_path, ca, ca.issue("localhost"), client, "localhost")[0] == "TLSv1.3"

    def test_the_ca_was_replaced_and_both_anchors_are_trusted(self, tmp_path: Path, ca: Issuer) -> None:
        old = create_ca("one name")
        new = create_ca("one name")
        both = old.cert_pem + new.cert_pem
        server, client = new.issue("localhost"), old.issue("c.example", profile="client")
        assert handshake(tmp_path, both, server, client, "localhost")[0] == "TLSv1.3"

    def test_fails_for_another_host(self, tmp_path: Path, ca: Issuer) -> None:
        client = ca.issue("c.example", profile="client")
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            handshake(tmp_path, ca, ca.issue("localhost"), client, "other.example")

    def test_a_client_certificate_does_not_serve(self, tmp_path: Path, ca: Issuer) -> None:
        leaf = ca.issue("localhost", profile="client")
        with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
            handshake(tmp_path, ca, leaf, leaf, "localhost")

    def test_a_server_certificate_is_not_a_client(self, tmp_path: Path, ca: Issuer) -> None:
        leaf = ca.issue("localhost")
        with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
            handshake(tmp_path, ca, leaf, leaf, "localhost")

    def test_another_ca_counts_for_nothing(self, tmp_path: Path, ca: Issuer) -> None:
        other = create_ca(ca.certificate.subject.rfc4514_string().removeprefix("CN="))
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(tmp_path, ca, ca.issue("localhost"), other.issue("c.example", profile="client"), "localhost")


def handshake(
    directory: Path, anchors: Issuer | bytes, server: Issued, client: Issued, host: str
) -> tuple[str | None, bytes | None]:
    """The TLS version, and the client's certificate as the server saw it."""
    pem = anchors.cert_pem if isinstance(anchors, Issuer) else anchors
    contexts = []
    for purpose, leaf in ((ssl.PROTOCOL_TLS_SERVER, server), (ssl.PROTOCOL_TLS_CLIENT, client)):
        context = ssl.SSLContext(purpose)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=pem.decode())
        (directory / "leaf.pem").write_bytes(leaf.cert_pem + leaf.key_pem)
        context.load_cert_chain(directory / "leaf.pem")
        contexts.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = contexts[0].wrap_bio(to_server, to_client, server_side=True)
    client_end = contexts[1].wrap_bio(to_client, to_server, server_hostname=host)
    # In TLS 1.3 the client has done when it has sent its certificate, the server when it has judged it.
    for end in (client_end, server_end, client_end, server_end):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return server_end.version(), server_end.getpeercert(binary_form=True)
