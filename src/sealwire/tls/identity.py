"""Who the peer is: the names in its verified leaf certificate, and names compared."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwire.errors import ConfigurationError, PeerNotAllowed
from sealwire.wire.frames import escaped

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_ALWAYS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerIdentity:
    """The names and facts of a leaf certificate that was verified against the trust anchors; or on a Unix socket, where
    there is none, the process at the other end.

    dns, uri, ip, email: subject alternative names (RFC 5280, section 4.2.1.6), as the CA signed them, which can be odd:
    empty, with control characters, not ASCII. DNS names are in lower case, IP addresses text. subject: the
    distinguished name (RFC 4514). serial: the serial number. fingerprint, key_fingerprint: SHA-256 in hexadecimal of
    the certificate (DER) and of its public key (SubjectPublicKeyInfo). not_before, not_after: aware.

    uid, gid, pid: on a Unix socket, of the process that has connected or listens, as the kernel says; else None. All
    that is a certificate's is empty then, and valid for ever.
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
        """Read a leaf certificate. Raises PeerNotAllowed where it cannot be read."""
        try:
            certificate = x509.load_der_x509_certificate(der)
            try:
                names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            except x509.ExtensionNotFound:
                names = x509.SubjectAlternativeName([])
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
        # The parser has many errors, not all of them ValueErrors, and warnings that may be errors; whoever sends such a
        # certificate is refused.
        except Exception:
            raise PeerNotAllowed("the peer's certificate has names or extensions that cannot be read") from None

    @classmethod
    def of_process(cls, uid: int, gid: int, pid: int) -> PeerIdentity:
        """Of a process on this machine."""
        return cls(uid=uid, gid=gid, pid=pid)

    def __str__(self) -> str:
        """One line for a log: the first names, escaped, and the fingerprint's beginning; or the process."""
        if self.uid is not None:
            return f"uid:{self.uid} gid:{self.gid} (process {self.pid})"
        kinds = (("dns", self.dns), ("uri", self.uri), ("ip", self.ip), ("email", self.email))
        names = [f"{kind}:{escaped(value)[:80]}" for kind, values in kinds for value in values][:3]
        return f"{', '.join(names) or 'a certificate without names'} (sha256:{self.fingerprint[:16]}…)"

    def is_named(self, host: str) -> bool:
        """Whether ``host`` (canonical) is among the DNS names or IP addresses (RFC 9525, section 6.3).

        A wildcard stands for one whole left-most label.
        """
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return is_dns_name(host) and any(host == name or _under_wildcard(host, name) for name in self.dns)
        return any(address == ipaddress.ip_address(own) for own in self.ip if "/" not in own)


def canonical_host(host: str) -> str:
    """``host`` as it is compared: a lower-case A-label name without final dot, or an IP address as RFC 5952 writes it.

    Raises ConfigurationError for what is neither.
    """
    if not isinstance(host, str) or not host:
        raise ConfigurationError("the host must be a name or an IP address, as a str")
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        name = host.removesuffix(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    # What ends in a number is an odd way to write an IPv4 address, as 127.1, for those who resolve it.
    if not is_dns_name(name) or name.rpartition(".")[2].isdigit():
        raise ConfigurationError(f"{host!r} is neither a DNS name nor an IP address")
    return name


def is_dns_name(name: str) -> bool:
    """Whether ``name`` is a lower-case DNS name of letters, digits, hyphens and underscores, without wildcard."""
    return len(name) <= 253 and _DNS_NAME.fullmatch(name) is not None


def _lower(name: str) -> str:
    # Outside ASCII there are characters whose lower case is an ASCII letter: the Kelvin sign becomes a k.
    return name.lower() if name.isascii() else name


def _under_wildcard(host: str, name: str) -> bool:
    label, _, parent = host.partition(".")
    return bool(label) and bool(parent) and name == f"*.{parent}"


def _sha256(data: bytes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize().hex()
