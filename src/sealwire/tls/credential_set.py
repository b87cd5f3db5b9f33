"""One generation of certificate, private key, trust anchors and revocation lists; never changed once it is made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.errors import ConfigurationError, PeerNotAllowed
from sealwire.rotation import Contents, Path
from sealwire.tls.identity import PeerIdentity

_ROLES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CredentialSet:
    """What an endpoint shows to its peers, and by what it judges theirs.

    paths: where each part (cert, key, ca, crl) was read. certificates: the leaf and the intermediates above it; empty
    for a client without a certificate. key: PEM of its private key. identity: what a peer reads in the leaf. roles:
    what the leaf may be used for, of server and client. authorities: the trust anchors. lists: the revocation lists.
    """

    paths: Mapping[str, str]
    certificates: tuple[x509.Certificate, ...] = ()
    key: bytes | None = None
    identity: PeerIdentity | None = None
    roles: frozenset[str] = frozenset(("client",))
    authorities: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]

    @classmethod
    def parse(cls, contents: Contents, paths: Mapping[str, Path], previous: CredentialSet | None) -> CredentialSet:
        """Read PEM, and see that the parts fit together and are valid now.

        What is not valid now but in service already, in ``previous``, makes nothing worse and is no reason to refuse
        what else has changed. Raises ConfigurationError, naming the file and the remedy.
        """
        names = {part: os.fspath(path) for part, path in paths.items()}
        authorities = tuple(_certificates(contents["ca"], names["ca"]))
        if previous is None or previous.authorities != authorities:
            _check_authorities(authorities, names["ca"])
        lists = tuple(_crls(contents["crl"], names["crl"])) if "crl" in contents else ()
        for each in lists:
            _check_list(each, authorities, names["crl"], known=previous is not None and each in previous.lists)
        if "cert" not in contents:
            return cls(paths=names, authorities=authorities, lists=lists)
        certificates = tuple(_certificates(contents["cert"], names["cert"]))
        leaf = certificates[0]
        try:
            identity = PeerIdentity.from_der(_der(leaf))
            roles = _roles(leaf)
        except (PeerNotAllowed, ValueError):
            raise ConfigurationError(
                f"{names['cert']}: the first certificate has names, extensions or a public key that cannot be read"
            ) from None
        _check_key(contents["key"], names["key"], leaf, names["cert"])
        if previous is None or previous.leaf != _der(leaf):
            _check_dates(leaf, names["cert"])
        return cls(
            paths=names,
            certificates=certificates,
            key=contents["key"],
            identity=identity,
            roles=roles,
            authorities=authorities,
            lists=lists,
        )

    # But for the key, PEM is written anew from what was read, and holds nothing else: OpenSSL, for one, takes every
    # certificate in a file of revocation lists for a trust anchor.

    @cached_property
    def leaf(self) -> bytes | None:
        """The leaf certificate, DER."""
        return _der(self.certificates[0]) if self.certificates else None

    @cached_property
    def chain(self) -> bytes | None:
        """The leaf and the intermediates, PEM."""
        return _pem(self.certificates) if self.certificates else None

    @cached_property
    def anchors(self) -> bytes:
        """The trust anchors, PEM."""
        return _pem(self.authorities)

    @cached_property
    def crl(self) -> bytes | None:
        """The revocation lists, PEM."""
        return _pem(self.lists) if self.lists else None

    @cached_property
    def revoked(self) -> Mapping[bytes, frozenset[int]]:
        """The serial numbers of revoked certificates, by their issuer's name (DER)."""
        found: dict[bytes, frozenset[int]] = {}
        for each in self.lists:
            issuer = each.issuer.public_bytes()
            found[issuer] = found.get(issuer, frozenset()).union(entry.serial_number for entry in each)
        return found

    @property
    def revokes_itself(self) -> bool:
        """Whether the own leaf certificate is on the revocation list."""
        return any(
            leaf.serial_number in self.revoked.get(leaf.issuer.public_bytes(), ()) for leaf in self.certificates[:1]
        )

    def __repr__(self) -> str:
        return f"<CredentialSet of {self}, key redacted>"

    def __str__(self) -> str:
        """One line for a log."""
        until = "" if self.identity is None else f", valid until {self.identity.not_after:%Y-%m-%d %H:%M} UTC"
        lists = "" if not self.lists else f", {_number(len(self.lists), 'revocation list')}"
        return f"{self.identity or 'nobody'}{until}; {_number(len(self.authorities), 'trust anchor')}{lists}"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials hold a private key and cannot be pickled")


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _roles(leaf: x509.Certificate) -> frozenset[str]:
    """RFC 5280, section 4.2.1.12: without the extension, or with anyExtendedKeyUsage, for everything."""
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return frozenset(_ROLES.values())
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in uses:
        return frozenset(_ROLES.values())
    return frozenset(role for use, role in _ROLES.items() if use in uses)


def _check_whole(pem: bytes, name: str) -> None:
    if pem.count(b"-----BEGIN ") > pem.count(b"-----END "):
        raise ConfigurationError(f"{name}: begins something in PEM form that it does not end; the file was cut short")


def _certificates(pem: bytes, name: str) -> list[x509.Certificate]:
    _check_whole(pem, name)
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ConfigurationError(
            f"{name}: no certificate in PEM form (-----BEGIN CERTIFICATE-----) could be read"
        ) from None


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _pem(items: Iterable[x509.Certificate | x509.CertificateRevocationList]) -> bytes:
    return b"".join(item.public_bytes(Encoding.PEM) for item in items)


def _check_authorities(authorities: Iterable[x509.Certificate], name: str) -> None:
    ends = [each.not_valid_after_utc for each in authorities]
    if max(ends) < datetime.now(UTC):
        raise ConfigurationError(
            f"{name}: every trust anchor has expired, the last one at {max(ends).isoformat()}, and with them every "
            "peer would be refused; get the CA's present one"
        )


def _crls(pem: bytes, name: str) -> list[x509.CertificateRevocationList]:
    _check_whole(pem, name)
    end = b"-----END X509 CRL-----"
    blocks = [block + end for block in pem.split(end)[:-1]]
    try:
        lists = [x509.load_pem_x509_crl(block) for block in blocks]
    except ValueError:
        lists = []
    if not lists:
        raise ConfigurationError(f"{name}: no revocation list in PEM form (-----BEGIN X509 CRL-----) could be read")
    return lists


def _check_list(
    crl: x509.CertificateRevocationList, authorities: Iterable[x509.Certificate], name: str, *, known: bool
) -> None:
    now = datetime.now(UTC)
    if crl.next_update_utc is not None and crl.next_update_utc < now and not known:
        raise ConfigurationError(
            f"{name}: the revocation list expired at {crl.next_update_utc.isoformat()}, "
            "and with it every peer would be refused; get the CA's present one"
        )
    if crl.last_update_utc > now and not known:
        raise ConfigurationError(
            f"{name}: the revocation list is not valid before {crl.last_update_utc.isoformat()}, "
            "and with it every peer would be refused; check this machine's clock"
        )
    issuers = [each for each in authorities if each.subject == crl.issuer]
    if issuers and not any(_signed(crl, each) for each in issuers):
        raise ConfigurationError(
            f"{name}: the revocation list of {crl.issuer.rfc4514_string()} is not signed with that CA's key, and with "
            "it every peer would be refused; get the CA's own list"
        )


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # of other keys it raises TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _check_key(pem: bytes, name: str, leaf: x509.Certificate, cert: str) -> None:
    try:
        private = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigurationError(f"{name}: the private key is encrypted; store it unencrypted with mode 0600") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{name}: no private key in PEM form could be read") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise ConfigurationError(
            f"{name}: this is not the private key of the first certificate in {cert}; "
            "the leaf certificate must come first"
        )


def _check_dates(leaf: x509.Certificate, name: str) -> None:
    now = datetime.now(UTC)
    if leaf.not_valid_after_utc < now:
        raise ConfigurationError(f"{name}: expired at {leaf.not_valid_after_utc.isoformat()}; issue a new certificate")
    if leaf.not_valid_before_utc > now:
        raise ConfigurationError(
            f"{name}: not valid before {leaf.not_valid_before_utc.isoformat()}; check this machine's clock"
        )
