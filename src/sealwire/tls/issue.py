"""A certificate authority of one's own: one root, and the leaf certificates that it signs directly.

Nothing here touches a file::

    ca = create_ca()
    server = ca.issue("localhost", "127.0.0.1", profile="server")
    client = ca.issue("dns:client.example", profile="client")
    server.cert_pem, server.key_pem, ca.cert_pem        # what the three files of an endpoint hold

The certificates follow RFC 5280 closely enough for ``ssl.VERIFY_X509_STRICT``, the default from Python 3.13 on, and
keep to the 90 days of Mozilla's "modern" server configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NoReturn, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sealwire.errors import ConfigurationError
from sealwire.tls.names import subject_alternative_names

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
Profile = Literal["server", "client", "peer"]
"""What a leaf is for: TLS servers, TLS clients, or both."""
KeyType = Literal["p256", "ed25519"]

MAX_LEAF_DAYS = 90
"""Days from notBefore to notAfter of a leaf at most: Mozilla's "modern" server configuration."""
MAX_CA_DAYS = 9132
"""The same of a CA, about 25 years: CA/Browser Forum Baseline Requirements, section 7.1.2.1.1."""
DEFAULT_CA_DAYS = 3650
BACKDATED = timedelta(minutes=5)
"""How long before now a certificate becomes valid, for peers whose clock is behind. Counts as part of its life."""

MIN_RSA_BITS = 2048
"""NIST SP 800-131A; we make none."""

USES: dict[str, list[x509.ObjectIdentifier]] = {
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "peer": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
}
_MAX_COMMON_NAME = 64  # RFC 5280, appendix A.1: ub-common-name


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key. The key is in no repr."""

    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False)

    @property
    def cert_pem(self) -> bytes:
        """The certificate alone, as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key as PKCS #8 PEM, not encrypted: a file of it needs mode 0600."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

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
        """Read a CA back. Of several certificates, as while a CA is being replaced, takes the one whose key this is.

        Raises ConfigurationError.
        """
        try:
            key = load_pem_private_key(key_pem, password=None)
        except TypeError:
            raise ConfigurationError("the CA's key is encrypted; decrypt it first (`openssl pkey`)") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigurationError("the CA's key is no private key in PEM form") from None
        if not isinstance(key, PrivateKey):
            raise ConfigurationError("the CA's key must be an elliptic-curve, Ed25519 or RSA key")
        check_strength(key.public_key(), "the CA's key")
        try:
            certificates = x509.load_pem_x509_certificates(cert_pem)
            certificate = next((each for each in certificates if each.public_key() == key.public_key()), None)
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigurationError("the CA's certificate is no certificate in PEM form") from None
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
        """A leaf certificate and its new key.

        names: subject alternative names, at least one, as :func:`~sealwire.tls.names.subject_alternative_names` takes
        them: ``localhost``, ``127.0.0.1``, ``spiffe://prod/billing/worker``, ``ops@client.example``. The first, if it
        has no more than 64 characters, is also the subject's common name, for people who read lists.
        profile: extended key usage, ``server``, ``client`` or ``peer`` (both). X509-SVID, section 4.4, wants ``peer``.
        days: from not_before to the end, 1 to 90 (default), less where the CA's own life ends first.
        key_type: ``p256`` (default: ECDSA on NIST P-256) or ``ed25519``.
        not_before: aware; default five minutes ago.

        Raises ConfigurationError.
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
        """A leaf certificate for a key that is somebody else's.

        names: subject alternative names. uses: extended key usage; none for a certificate without it. subject: by
        default the first name, as for :meth:`issue`, which has the rest as well. Raises ConfigurationError.
        """
        start, end = _validity(not_before, days, MAX_LEAF_DAYS)
        ca_end = self.certificate.not_valid_after_utc
        if ca_end <= (not_before or datetime.now(UTC)):
            raise ConfigurationError(f"the CA's certificate expired at {ca_end.isoformat()}; make a new CA")
        if subject is None:
            first = str(names[0].value)
            subject = _common_name(first) if len(first) <= _MAX_COMMON_NAME else x509.Name([])
        builder = (
            _builder(key, subject, self.certificate.subject, start, min(end, ca_end))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            # RFC 5280, section 4.2.1.6: critical where the subject is empty.
            .add_extension(x509.SubjectAlternativeName(names), critical=not subject.rdns)
            .add_extension(self.key_identifier, critical=False)
        )
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return builder.sign(self.private_key, digest(self.private_key))

    @property
    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """What is signed with the key says whose it is (RFC 5280, section 4.2.1.1)."""
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private_key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def create_ca(
    common_name: str | None = None,
    *,
    days: int = DEFAULT_CA_DAYS,
    key_type: KeyType = "p256",
    not_before: datetime | None = None,
) -> Issuer:
    """A new root CA that can issue leaves only (path length 0).

    common_name: printable, 1 to 64 bytes; default ``Sealwire CA`` and the beginning of its key identifier, so that
    no two CAs have one name. days: from not_before to the end, 1 to 9132 (default 3650). key_type, not_before: as for
    :meth:`Issuer.issue`.

    Raises ConfigurationError.
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
    """The names of a leaf, which must suit its profile. Raises ConfigurationError."""
    if profile not in USES:
        raise ConfigurationError(f"unknown profile {profile!r}; expected {', '.join(USES)}")
    alternatives = subject_alternative_names(names)
    if profile != "client" and all(isinstance(name, x509.RFC822Name) for name in alternatives):
        raise ConfigurationError(
            "a server's certificate needs a DNS name, an IP address or a URI that clients know it by"
        )
    return alternatives


def check_strength(key: object, whose: str) -> None:
    """Raise ConfigurationError for a key that TLS 1.3 peers refuse, or should."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise ConfigurationError(
            f"{whose}: RSA with {key.key_size} bits is too weak; at least {MIN_RSA_BITS} are wanted"
        )
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
    ):
        raise ConfigurationError(f"{whose}: TLS 1.3 has no signatures on the curve {key.curve.name}; take P-256")
    if not isinstance(key, PublicKey):
        raise ConfigurationError(f"{whose}: of a kind that is not supported; take P-256 or Ed25519")


def _check_ca(certificate: x509.Certificate) -> None:
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise ConfigurationError("the CA's certificate lacks basic constraints (RFC 5280, section 4.2.1.9)") from None
    if not is_ca:
        raise ConfigurationError("the CA's certificate is a leaf certificate, which can issue nothing")


def _validity(not_before: datetime | None, days: int, most: int) -> tuple[datetime, datetime]:
    if not isinstance(days, int) or not 1 <= days <= most:
        raise ConfigurationError(f"days must be a whole number from 1 to {most}, not {days!r}")
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


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def new_key(key_type: KeyType) -> PrivateKey:
    """A new private key. Raises ConfigurationError."""
    if key_type not in get_args(KeyType):
        raise ConfigurationError(f"unknown key type {key_type!r}; expected {', '.join(get_args(KeyType))}")
    return ec.generate_private_key(ec.SECP256R1()) if key_type == "p256" else ed25519.Ed25519PrivateKey.generate()


def digest(key: PrivateKey) -> hashes.SHA256 | None:
    """What to sign with: Ed25519 has its hash built in."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
