"""A certificate authority: one root, and the leaf certificates that it signs directly.

Nothing here reads or writes files::

    ca = create_ca()
    server = ca.issue("localhost", "127.0.0.1", profile="server")
    client = ca.issue("dns:client.example", profile="client")
    server.cert_pem, server.key_pem, ca.cert_pem        # the content of an endpoint's three files

The certificates follow RFC 5280 closely enough for ``ssl.VERIFY_X509_STRICT``, the default from Python 3.13 on, and
keep to the 90 days of Mozilla's "modern" server configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NoReturn, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sealwire.errors import ConfigurationError
from sealwire.moments import moment_text
from sealwire.pki.extensions import find_extension
from sealwire.pki.pem import private_key_pem, read_certificates, read_private_key
from sealwire.pki.subject_names import subject_alternative_names

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
Profile = Literal["server", "client", "peer"]
"""Use of a leaf: by TLS servers, by TLS clients, or by both."""
KeyType = Literal["p256", "ed25519"]

MAX_LEAF_DAYS = 90
"""Longest validity of a leaf, in days: Mozilla's "modern" server configuration."""
MAX_CA_DAYS = 9132
"""Longest validity of a CA, about 25 years: CA/Browser Forum Baseline Requirements, section 7.1.2.1.1."""
DEFAULT_CA_DAYS = 3650
BACKDATED = timedelta(minutes=5)
"""The time by which a certificate's validity begins in the past, for peers with a slow clock; a part of it."""

MIN_RSA_BITS = 2048
"""Smallest RSA key accepted (NIST SP 800-131A); none are made here."""

USES: dict[str, list[x509.ObjectIdentifier]] = {
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "peer": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
}
_MAX_COMMON_NAME = 64  # RFC 5280, appendix A.1: ub-common-name


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, which repr leaves out."""

    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False)

    @property
    def cert_pem(self) -> bytes:
        """The certificate alone (PEM)."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key (PKCS #8, PEM), not encrypted: its file needs mode 0600."""
        return private_key_pem(self.private_key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate (DER) in hexadecimal, as in the peer list entry ``sha256:…``."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key cannot be pickled; write key_pem to a file of mode 0600")


@dataclass(frozen=True, slots=True)
class Issuer(Issued):
    """A CA: its certificate is the trust anchor (``ca=``), its key signs leaves and belongs on no server or client."""

    @classmethod
    def from_pem(cls, cert_pem: bytes, key_pem: bytes) -> Issuer:
        """Read a CA back.

        Args:
            cert_pem: Its certificate. Of several, as during replacement of a CA, the one that the key belongs to.
            key_pem: Its private key, not encrypted.

        Raises:
            ConfigurationError: A part cannot be read, they do not belong together, or the certificate is not a CA's.
        """
        key = read_private_key(key_pem, "the CA's key")
        if not isinstance(key, PrivateKey):
            raise ConfigurationError("the CA's key must be an elliptic-curve, Ed25519 or RSA key")
        check_strength(key.public_key(), "the CA's key")
        certificates = read_certificates(cert_pem, "the CA's certificate")
        try:
            certificate = next((each for each in certificates if each.public_key() == key.public_key()), None)
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigurationError("the CA's certificate has a public key that cannot be read") from None
        if certificate is None:
            raise ConfigurationError("the CA's key is not the key of the CA's certificate")
        _check_ca(certificate)
        return cls(certificate, key)

    def issue(
        self,
        *names: str,
        profile: Profile = "server",
        days: int = MAX_LEAF_DAYS,
        key_type: KeyType = "p256",
        not_before: datetime | None = None,
    ) -> Issued:
        """Issue a leaf certificate with a new key.

        Args:
            names: Subject alternative names, at least one, in the forms of
                :func:`~sealwire.pki.subject_names.subject_alternative_names`: ``localhost``, ``127.0.0.1``,
                ``spiffe://prod/billing/worker``, ``ops@client.example``. The first becomes the subject's common name
                too, if it has at most 64 characters, as a label for human readers.
            profile: Extended key usage: ``server``, ``client`` or ``peer`` (both, as X509-SVID, section 4.4, asks).
            days: Validity from ``not_before`` on, 1 to 90; it never exceeds the CA's own.
            key_type: ``p256`` (ECDSA on NIST P-256) or ``ed25519``.
            not_before: Start of validity (aware); five minutes ago by default.

        Raises:
            ConfigurationError: An argument is out of range, or the CA has expired.
        """
        alternatives = leaf_names(names, profile)
        key = new_key(key_type)
        certificate = self.certify(key.public_key(), alternatives, uses=USES[profile], days=days, not_before=not_before)
        return Issued(certificate, key)

    def certify(
        self,
        key: PublicKey,
        names: Sequence[x509.GeneralName],
        *,
        uses: Sequence[x509.ObjectIdentifier],
        days: int = MAX_LEAF_DAYS,
        not_before: datetime | None = None,
        subject: x509.Name | None = None,
    ) -> x509.Certificate:
        """Issue a leaf certificate for a given public key.

        Args:
            key: The public key.
            names: Subject alternative names.
            uses: Extended key usage; empty to leave it out.
            days: As for :meth:`issue`.
            not_before: As for :meth:`issue`.
            subject: The distinguished name; by default the first name, as for :meth:`issue`.

        Raises:
            ConfigurationError: An argument is out of range, or the CA has expired.
        """
        start, end = _validity(not_before, days, MAX_LEAF_DAYS)
        ca_end = self.certificate.not_valid_after_utc
        if ca_end <= (not_before or datetime.now(UTC)):
            raise ConfigurationError(f"the CA's certificate expired at {moment_text(ca_end)}; make a new CA")
        if subject is None:
            subject = leaf_subject(names)
        builder = (
            _builder(key, subject, self.certificate.subject, start, min(end, ca_end))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            # RFC 5280, section 4.2.1.6: critical if the subject is empty.
            .add_extension(x509.SubjectAlternativeName(names), critical=not subject.rdns)
            .add_extension(self.key_identifier, critical=False)
        )
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return builder.sign(self.private_key, digest(self.private_key))

    @property
    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """Identifies this CA's key in certificates and lists that it signs (RFC 5280, section 4.2.1.1)."""
        own = find_extension(self.certificate, x509.SubjectKeyIdentifier)
        if own is None:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private_key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def create_ca(
    common_name: str | None = None,
    *,
    days: int = DEFAULT_CA_DAYS,
    key_type: KeyType = "p256",
    not_before: datetime | None = None,
) -> Issuer:
    """Create a root CA that can issue leaves only (path length 0).

    Args:
        common_name: Printable text of 1 to 64 bytes. The default is ``Sealwire CA`` and the start of the key
            identifier, so that names of CAs differ.
        days: Validity from ``not_before`` on, 1 to 9132.
        key_type: As for :meth:`Issuer.issue`.
        not_before: As for :meth:`Issuer.issue`.

    Raises:
        ConfigurationError: An argument is out of range.
    """
    start, end = _validity(not_before, days, MAX_CA_DAYS)
    key = new_key(key_type)
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    if common_name is None:
        common_name = f"Sealwire CA {own_id.digest[:4].hex()}"
    if not common_name.strip() or not common_name.isprintable() or len(common_name.encode()) > _MAX_COMMON_NAME:
        raise ConfigurationError(f"the CA's name must be 1 to {_MAX_COMMON_NAME} bytes of printable text")
    subject = _common_name(common_name)
    builder = (
        _builder(key.public_key(), subject, subject, start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return Issuer(builder.sign(key, digest(key)), key)


def leaf_names(names: Iterable[str], profile: str) -> list[x509.GeneralName]:
    """Parse the names of a leaf, and check that they suit its profile. Raises ConfigurationError."""
    if profile not in USES:
        raise ConfigurationError(f"unknown profile {profile!r}; expected {', '.join(USES)}")
    alternatives = subject_alternative_names(names)
    if profile != "client" and all(isinstance(name, x509.RFC822Name) for name in alternatives):
        raise ConfigurationError(
            "a server's certificate needs a DNS name, an IP address or a URI for its clients to verify"
        )
    return alternatives


def check_strength(key: object, name: str) -> PublicKey:
    """Return a public key, unless TLS 1.3 peers refuse it, or should. Raises ConfigurationError with its ``name``."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise ConfigurationError(f"{name}: RSA with {key.key_size} bits is too weak; it needs at least {MIN_RSA_BITS}")
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
    ):
        raise ConfigurationError(f"{name}: TLS 1.3 has no signatures on the curve {key.curve.name}; take P-256")
    if not isinstance(key, PublicKey):
        raise ConfigurationError(f"{name}: unsupported type of key; take P-256 or Ed25519")
    return key


def _check_ca(certificate: x509.Certificate) -> None:
    constraints = None
    with suppress(x509.DuplicateExtension, ValueError):
        constraints = find_extension(certificate, x509.BasicConstraints)
    if constraints is None:
        raise ConfigurationError("the CA's certificate lacks basic constraints (RFC 5280, section 4.2.1.9)")
    if not constraints.ca:
        raise ConfigurationError("the CA's certificate is a leaf certificate, which cannot issue others")


def _validity(not_before: datetime | None, days: int, max_days: int) -> tuple[datetime, datetime]:
    if not isinstance(days, int) or not 1 <= days <= max_days:
        raise ConfigurationError(f"days must be a whole number from 1 to {max_days}, not {days!r}")
    if not_before is not None and not_before.utcoffset() is None:
        raise ConfigurationError("not_before must be a datetime with a UTC offset")
    start = (datetime.now(UTC) - BACKDATED if not_before is None else not_before).replace(microsecond=0)
    # RFC 5280, section 4.1.2.5: both ends are inclusive.
    return start, start + timedelta(days=days) - timedelta(seconds=1)


def _builder(
    public: PublicKey, subject: x509.Name, issuer: x509.Name, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def leaf_subject(names: Sequence[x509.GeneralName]) -> x509.Name:
    """Return the subject of a leaf: its first name, unless that is too long for a common name."""
    first = str(names[0].value)
    return _common_name(first) if len(first) <= _MAX_COMMON_NAME else x509.Name([])


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def new_key(key_type: KeyType) -> PrivateKey:
    """Generate a private key. Raises ConfigurationError."""
    if key_type not in get_args(KeyType):
        raise ConfigurationError(f"unknown key type {key_type!r}; expected {', '.join(get_args(KeyType))}")
    return ec.generate_private_key(ec.SECP256R1()) if key_type == "p256" else ed25519.Ed25519PrivateKey.generate()


def digest(key: PrivateKey) -> hashes.SHA256 | None:
    """Return the hash to sign with; None for Ed25519, which has its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
