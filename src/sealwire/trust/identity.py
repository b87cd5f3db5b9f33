"""A peer's identity: the names in its verified leaf certificate, and how host names are compared."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwire.errors import ConfigurationError, PeerNotAllowed
from sealwire.pki.extensions import find_extension
from sealwire.pki.subject_names import is_dns_name
from sealwire.wire.frames import escaped

_LETTERS = re.compile(r"[a-z0-9-]+")
_WILDCARD = re.compile(r"\*(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?){2,}")
_ALWAYS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerIdentity:
    """The names and facts of a leaf certificate that was verified against the trust anchors.

    On a Unix socket, which has no certificates, it is the process at the other end: then the certificate's attributes
    are empty and its validity has no bounds.

    Names are subject alternative names (RFC 5280, section 4.2.1.6) as the CA signed them. They can be odd: empty, not
    ASCII, or with control characters.

    Attributes:
        dns: DNS names, in lower case.
        uri: URIs.
        ip: IP addresses as text.
        email: E-mail addresses.
        subject: The distinguished name (RFC 4514).
        serial: The serial number.
        fingerprint: SHA-256 of the certificate (DER) in hexadecimal.
        key_fingerprint: SHA-256 of its public key (SubjectPublicKeyInfo) in hexadecimal.
        not_before: Start of validity (aware).
        not_after: End of validity (aware).
        uid: User id of the peer's process, from the kernel; None except on a Unix socket.
        gid: Its group id.
        pid: Its process id.
    """

    dns: tuple[str, ...] = ()
    uri: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    subject: str = ""
    serial: int = 0
    fingerprint: str = ""
    key_fingerprint: str = ""
    not_before: datetime = _ALWAYS[0]
    not_after: datetime = _ALWAYS[1]
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None

    @classmethod
    def from_der(cls, der: bytes) -> PeerIdentity:
        """Read a leaf certificate (DER). Raises PeerNotAllowed if it cannot be parsed."""
        try:
            certificate = x509.load_der_x509_certificate(der)
            if certificate.serial_number <= 0:  # RFC 5280, section 4.1.2.2
                raise ValueError  # like those of the parser, which says so in some versions only
            names = find_extension(certificate, x509.SubjectAlternativeName) or x509.SubjectAlternativeName([])
            return cls(
                dns=tuple(_lower(name) for name in names.get_values_for_type(x509.DNSName)),
                uri=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
                ip=tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)),
                email=tuple(names.get_values_for_type(x509.RFC822Name)),
                subject=certificate.subject.rfc4514_string(),
                serial=certificate.serial_number,
                fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
                key_fingerprint=_sha256(
                    certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                ),
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
            )
        # The parser raises many errors besides ValueError, and warnings may be errors. All mean: refuse the peer.
        except Exception:
            raise PeerNotAllowed("the peer's certificate has names or extensions that cannot be read") from None

    @classmethod
    def of_process(cls, uid: int, gid: int, pid: int) -> PeerIdentity:
        """Return the identity of a process on this machine."""
        return cls(uid=uid, gid=gid, pid=pid)

    def __str__(self) -> str:
        """Return one line for a log: the first names, escaped, and part of the fingerprint; or the process."""
        if self.uid is not None:
            return f"uid:{self.uid} gid:{self.gid} (process {self.pid})"
        kinds = (("dns", self.dns), ("uri", self.uri), ("ip", self.ip), ("email", self.email))
        names = [f"{kind}:{escaped(value)[:80]}" for kind, values in kinds for value in values][:3]
        return f"{', '.join(names) or 'a certificate without names'} (sha256:{self.fingerprint[:16]}…)"

    @property
    def account(self) -> str:
        """The part of the identity that stays the same when the certificate is renewed, for counting per peer."""
        if self.uid is not None:
            return f"process {self.pid} of uid:{self.uid}"
        names = [f"{kind}:{name}" for kind in ("dns", "uri", "ip", "email") for name in getattr(self, kind)]
        return "\n".join(names) or self.fingerprint

    def is_named(self, host: str) -> bool:
        """Return True if ``host`` (canonical) is among the DNS names or IP addresses (RFC 9525, section 6.3).

        The rule is OpenSSL's, as the ssl module sets it: a wildcard matches one whole left-most label, and has two more
        labels after it.
        """
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return is_dns_name(host) and any(host == name or _under_wildcard(host, name) for name in self.dns)
        return any(address == ipaddress.ip_address(own) for own in self.ip if "/" not in own)


def canonical_host(host: str) -> str:
    """Normalize a host for comparison.

    Returns:
        A DNS name of A-labels in lower case without final dot, or an IP address in the form of RFC 5952.

    Raises:
        ConfigurationError: ``host`` is neither.
    """
    if not isinstance(host, str) or not host:
        raise ConfigurationError("the host must be a name or an IP address, as a str")
    return _canonical(host)


@lru_cache(maxsize=128)  # asked three times for each connection
def _canonical(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        name = host.removesuffix(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    # Resolvers take a name that ends in a number, such as 127.1, for an IPv4 address.
    if not is_dns_name(name) or name.rpartition(".")[2].isdigit():
        raise ConfigurationError(f"{host!r} is neither a DNS name nor an IP address")
    return name


def _lower(name: str) -> str:
    # Some characters outside ASCII have an ASCII letter as lower case: the Kelvin sign becomes a k.
    return name.lower() if name.isascii() else name


def _under_wildcard(host: str, name: str) -> bool:
    label, _, parent = host.partition(".")
    return _LETTERS.fullmatch(label) is not None and name == f"*.{parent}" and _WILDCARD.fullmatch(name) is not None


def _sha256(data: bytes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize().hex()
