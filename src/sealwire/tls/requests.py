"""Certificate signing requests (PKCS #10, RFC 2986), so that a private key never leaves its host; and renewal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, cast, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sealwire.errors import ConfigurationError
from sealwire.tls.issue import (
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
    new_key,
)
from sealwire.tls.names import subject_alternative_names

_MAX_COMMON_NAME = 64
_KINDS: Final[dict[type, str]] = {
    x509.DNSName: "dns",
    x509.IPAddress: "ip",
    x509.UniformResourceIdentifier: "uri",
    x509.RFC822Name: "email",
}


@dataclass(frozen=True, slots=True)
class Requested:
    """A request and the private key that it is for. The key is in no repr."""

    request: x509.CertificateSigningRequest
    private_key: PrivateKey = field(repr=False)

    @property
    def request_pem(self) -> bytes:
        """The request, as PEM."""
        return self.request.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key as PKCS #8 PEM, not encrypted: a file of it needs mode 0600."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def request(*names: str, profile: Profile = "server", key_type: KeyType = "p256") -> Requested:
    """A new key, and a request for a certificate of it; arguments as for Issuer.issue. Raises ConfigurationError."""
    alternatives = leaf_names(names, profile)
    key = new_key(key_type)
    first = str(alternatives[0].value)
    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, first)] if len(first) <= _MAX_COMMON_NAME else []
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=not subject)
        .add_extension(x509.ExtendedKeyUsage(USES[profile]), critical=False)
    )
    return Requested(builder.sign(key, digest(key)), key)


def sign(
    ca: Issuer,
    asked: x509.CertificateSigningRequest,
    *,
    expected: Iterable[str] = (),
    profile: Profile | None = None,
    days: int = MAX_LEAF_DAYS,
) -> x509.Certificate:
    """The certificate that was asked for.

    Nothing but the names and the key is taken on the requester's word, and the profile where it is plainly one of ours.
    expected: the names that it may ask for, as the operator knows them; none: whatever names there are. profile: by
    default what it asks for. days: as for Issuer.issue.

    Raises ConfigurationError.
    """
    try:
        genuine = asked.is_signature_valid
        key = asked.public_key()
        asked.extensions  # noqa: B018 - to be able to say so here
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise ConfigurationError("the request has a key, a signature or extensions that cannot be read") from None
    if not genuine:
        raise ConfigurationError(
            "the request is not signed with the key that it is for, so whoever made it may not hold it"
        )
    check_strength(key, "the request's key")
    names = requested_names(asked)
    if expected:
        allowed = subject_alternative_names(expected)
        others = [name for name in names if name not in allowed]
        if others:
            raise ConfigurationError(f"the request asks for {str(others[0].value)!r} as well, which was not expected")
    uses = USES[profile or requested_profile(asked)]
    return ca.certify(key, names, uses=uses, days=days)  # type: ignore[arg-type]  # check_strength has seen its type


def requested_profile(asked: x509.CertificateSigningRequest) -> Profile:
    """What a request wants the certificate for, where it is one of ours. Raises ConfigurationError."""
    try:
        uses = set(asked.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        uses = set()
    for profile in get_args(Profile):
        if set(USES[profile]) == uses:
            return cast(Profile, profile)
    raise ConfigurationError("the request does not say whether it is for a server, a client or both; give --profile")


def requested_names(asked: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    """The names that a request is for, each of a form that we would issue. Raises ConfigurationError."""
    try:
        names = list(asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    except (ValueError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension):
        raise ConfigurationError("the request has names that cannot be read") from None
    if not names:
        raise ConfigurationError(
            "the request has no subject alternative names; make it with `sealwire certs request`, or with "
            "`openssl req -addext subjectAltName=…`"
        )
    if not all(type(name) in _KINDS for name in names):
        raise ConfigurationError("the request has names that are no DNS names, IP addresses, URIs or e-mail addresses")
    texts = [f"{_KINDS[type(name)]}:{name.value}" for name in names]
    return subject_alternative_names(texts)


def renew(
    ca: Issuer, old: x509.Certificate, *, key: PrivateKey | None = None, days: int = MAX_LEAF_DAYS
) -> x509.Certificate:
    """A certificate in the place of another: the same subject, names and uses. key: its private key.

    Raises ConfigurationError.
    """
    try:
        names = list(old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    if not names:
        raise ConfigurationError(
            "the certificate has no subject alternative names, and would be of no use; issue one with "
            "`sealwire certs issue`"
        )
    try:
        uses = list(old.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        uses = []
    if key is None:
        key = key_like(old.public_key())
    return ca.certify(key.public_key(), names, uses=uses, days=days, subject=old.subject)


def key_like(key: object) -> PrivateKey:
    """A new private key of the same kind, or P-256 where that is too weak."""
    if isinstance(key, rsa.RSAPublicKey):
        return rsa.generate_private_key(65537, max(key.key_size, MIN_RSA_BITS))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ed25519.Ed25519PrivateKey.generate()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1 | ec.SECP521R1):
        return ec.generate_private_key(key.curve)
    return ec.generate_private_key(ec.SECP256R1())
