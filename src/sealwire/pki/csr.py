"""Makes and signs certificate signing requests (PKCS #10, RFC 2986), and renews certificates.

With a request a private key never leaves its host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire.errors import ConfigurationError
from sealwire.pki.authority import (
    MAX_LEAF_DAYS,
    MIN_RSA_BITS,
    USES,
    Issuer,
    KeyType,
    PrivateKey,
    Profile,
    check_strength,
    digest,
    leaf_names,
    leaf_subject,
    new_key,
)
from sealwire.pki.extensions import alternative_names, extended_key_usage
from sealwire.pki.pem import private_key_pem
from sealwire.pki.subject_names import NAME_KINDS, name_text, subject_alternative_names


@dataclass(frozen=True, slots=True)
class Requested:
    """A request and its private key, which repr leaves out."""

    request: x509.CertificateSigningRequest
    private_key: PrivateKey = field(repr=False)

    @property
    def request_pem(self) -> bytes:
        """The request (PEM)."""
        return self.request.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key (PKCS #8, PEM), not encrypted: its file needs mode 0600."""
        return private_key_pem(self.private_key)


def request(*names: str, profile: Profile = "server", key_type: KeyType = "p256") -> Requested:
    """Make a key, and a request for its certificate. Arguments and errors as for :meth:`Issuer.issue`."""
    alternatives = leaf_names(names, profile)
    key = new_key(key_type)
    subject = leaf_subject(alternatives)
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=not subject.rdns)
        .add_extension(x509.ExtendedKeyUsage(USES[profile]), critical=False)
    )
    return Requested(builder.sign(key, digest(key)), key)


def sign(
    ca: Issuer,
    csr: x509.CertificateSigningRequest,
    *,
    expected: Iterable[str] = (),
    profile: Profile | None = None,
    days: int = MAX_LEAF_DAYS,
) -> x509.Certificate:
    """Issue the certificate of a request. Only its key, its names and a known profile are taken from it.

    Args:
        ca: The CA.
        csr: The request.
        expected: The names that it may ask for, as the operator knows them; empty to allow any.
        profile: Extended key usage; by default the one of the request.
        days: As for :meth:`Issuer.issue`.

    Raises:
        ConfigurationError: The request is broken, not signed with its own key, or asks for other names.
    """
    try:
        genuine = csr.is_signature_valid
        key = csr.public_key()
        _ = csr.extensions  # parsed when first read, which can fail
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise ConfigurationError("the request has a key, a signature or extensions that cannot be read") from None
    if not genuine:
        raise ConfigurationError(
            "the request is not signed with its own key, so the requester may not hold it; ask for a new request"
        )
    strong = check_strength(key, "the request's key")
    names = requested_names(csr)
    if expected:
        allowed = subject_alternative_names(expected)
        others = [name for name in names if name not in allowed]
        if others:
            raise ConfigurationError(f"the request also asks for {str(others[0].value)!r}, which was not expected")
    uses = USES[profile or requested_profile(csr)]
    return ca.certify(strong, names, uses=uses, days=days)


def requested_profile(csr: x509.CertificateSigningRequest) -> Profile:
    """Return the profile of a request. Raises ConfigurationError if it is none of ours."""
    uses = set(extended_key_usage(csr))
    for profile in get_args(Profile):
        if set(USES[profile]) == uses:
            return cast(Profile, profile)
    raise ConfigurationError("the request does not say whether it is for a server, a client or both; give --profile")


def requested_names(csr: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    """Return the names of a request. Raises ConfigurationError for a form that we would not issue."""
    try:
        names = alternative_names(csr)
    except (ValueError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension):
        raise ConfigurationError("the request has names that cannot be read") from None
    if not names:
        raise ConfigurationError(
            "the request has no subject alternative names; make it with `sealwire certs request PROFILE NAME`, or "
            "with the option `-addext subjectAltName=…` of openssl req"
        )
    if not all(type(name) in NAME_KINDS for name in names):
        raise ConfigurationError("the request has names other than DNS names, IP addresses, URIs and e-mail addresses")
    return subject_alternative_names(map(name_text, names))


def renew(
    ca: Issuer, old: x509.Certificate, *, key: PrivateKey | None = None, days: int = MAX_LEAF_DAYS
) -> x509.Certificate:
    """Issue a certificate with the subject, names and uses of another.

    Args:
        ca: The CA.
        old: The certificate to replace.
        key: The private key of the new one; by default a new key of the same type.
        days: As for :meth:`Issuer.issue`.

    Raises:
        ConfigurationError: The old certificate has no names, or the CA has expired.
    """
    names = alternative_names(old)
    if not names:
        raise ConfigurationError(
            "the certificate has no subject alternative names, so a renewed one would be useless; issue one with "
            "`sealwire certs issue PROFILE NAME --as STEM`"
        )
    if key is None:
        key = key_like(old.public_key())
    return ca.certify(key.public_key(), names, uses=extended_key_usage(old), days=days, subject=old.subject)


def key_like(key: object) -> PrivateKey:
    """Generate a private key of the same type, or P-256 if that is too weak."""
    if isinstance(key, rsa.RSAPublicKey):
        return rsa.generate_private_key(65537, max(key.key_size, MIN_RSA_BITS))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ed25519.Ed25519PrivateKey.generate()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1 | ec.SECP521R1):
        return ec.generate_private_key(key.curve)
    return ec.generate_private_key(ec.SECP256R1())
