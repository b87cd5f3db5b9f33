"""An immutable snapshot of certificate, private key, trust anchors and revocation lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, NoReturn, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwire.errors import ConfigurationError, PeerNotAllowed
from sealwire.moments import moment_text
from sealwire.pki.extensions import find_extension
from sealwire.pki.pem import private_key_of, read_certificates, read_crls, to_pem
from sealwire.pki.renewal import renewal
from sealwire.trust.identity import PeerIdentity, canonical_host
from sealwire.trust.reading import StrPath
from sealwire.trust.reloading import FileContents
from sealwire.trust.revocation import (
    Revocations,
    canonical_name,
    deciding_lists,
    key_identifier,
    read_extension,
)
from sealwire.wire.frames import escaped

T = TypeVar("T")
_MAX_SHOWN: Final = 200
_ROLES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Certificates:
    """The certificates that an endpoint shows to its peers, and those that it verifies theirs with.

    Attributes:
        paths: The file of each part: cert, key, ca, crl.
        certificates: The leaf and the intermediates above it; empty for a client without a certificate.
        key: PEM of the leaf's private key.
        identity: The identity that a peer reads in the leaf.
        roles: Allowed uses of the leaf: ``server``, ``client`` or both.
        authorities: The trust anchors.
        lists: The newest revocation list of each CA.
        revocations: The same lists, to ask whether a peer's certificate is on one.
    """

    paths: Mapping[str, str]
    certificates: tuple[x509.Certificate, ...] = ()
    key: bytes | None = None
    identity: PeerIdentity | None = None
    roles: frozenset[str] = frozenset(("client",))
    authorities: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]
    revocations: Revocations = field(init=False)

    def __post_init__(self) -> None:
        # Now and not at the first question, which an event loop may ask: reading a long list takes a while.
        object.__setattr__(self, "revocations", Revocations(self.lists, self.known_authorities))

    @classmethod
    def parse(cls, contents: FileContents, paths: Mapping[str, StrPath], previous: Certificates | None) -> Certificates:
        """Parse PEM, and check that the parts fit together and are valid now.

        A part that is no longer valid, but already in service, is accepted: to refuse it would only keep out the other
        changes.

        Args:
            contents: PEM by part: cert, key, ca, crl.
            paths: The file of each part, for errors.
            previous: The certificates in service; None at first.

        Raises:
            ConfigurationError: A part cannot be used; the error names the file and the remedy.
        """
        names = {part: os.fspath(path) for part, path in paths.items()}
        authorities = tuple(read_certificates(contents["ca"], names["ca"]))
        if previous is None or previous.authorities != authorities:
            _check_authorities(authorities, names["ca"])
        certificates = tuple(read_certificates(contents["cert"], names["cert"])) if "cert" in contents else ()
        lists: tuple[x509.CertificateRevocationList, ...] = ()
        if "crl" in contents:
            found = read_crls(contents["crl"], names["crl"])
            in_service = () if previous is None else previous.lists
            lists = deciding_lists(found, (*authorities, *certificates[1:]), names["crl"], in_service=in_service)
        if not certificates:
            return cls(paths=names, authorities=authorities, lists=lists)
        leaf = certificates[0]
        try:
            identity = PeerIdentity.from_der(_der(leaf))
            roles = _roles(leaf)
        except (PeerNotAllowed, ValueError):
            raise ConfigurationError(
                f"{names['cert']}: the first certificate has names, extensions or a public key that cannot be read"
            ) from None
        if not roles:
            raise ConfigurationError(
                f"{names['cert']}: the certificate is neither for TLS servers nor for TLS clients, so every peer would "
                "refuse it; issue it with serverAuth or clientAuth, or both, as its extended key usage "
                "(anyExtendedKeyUsage is not enough)"
            )
        key = _key_of(leaf, contents["key"], names["key"], names["cert"])
        if previous is None or previous.leaf != _der(leaf):
            _check_dates(leaf, names["cert"])
        return cls(
            paths=names,
            certificates=certificates,
            key=key,
            identity=identity,
            roles=roles,
            authorities=authorities,
            lists=lists,
        )

    # All PEM but the key's is generated from the parsed objects, so that nothing else in the files reaches OpenSSL. It
    # would, for one, trust every certificate in a file of revocation lists.

    @cached_property
    def leaf(self) -> bytes | None:
        """The leaf certificate, DER."""
        return _der(self.certificates[0]) if self.certificates else None

    @cached_property
    def host_names(self) -> frozenset[str]:
        """The names and addresses in the leaf that are host names in canonical form, without those of wildcards."""
        own = self.identity
        if own is None:
            return frozenset()
        # An address among the DNS names names nobody. is_named would look at all names for each.
        names = (name for name in own.dns if ":" not in name and not name.rpartition(".")[2].isdigit())
        return frozenset(name for name in (*names, *own.ip) if _is_canonical(name))

    @cached_property
    def chain(self) -> bytes | None:
        """The leaf and the intermediates, PEM. No root: a peer must have it, and would get it with each handshake."""
        shown = [each for each in self.certificates if each is self.certificates[0] or not is_root(each)]
        return to_pem(shown) if shown else None

    @cached_property
    def anchors(self) -> bytes:
        """The trust anchors, PEM. Raises ConfigurationError if there are none."""
        self.check_anchors()
        return to_pem(self.authorities)

    @cached_property
    def crl(self) -> bytes | None:
        """The revocation lists, PEM."""
        return to_pem(self.lists) if self.lists else None

    def check_anchors(self) -> None:
        """Raise ConfigurationError if there are no trust anchors, which only a Unix socket does without."""
        if not self.authorities:
            raise ConfigurationError(
                "ca is missing; name the file with the certificates of the CA that issues the peers' certificates "
                "(only a Unix socket, which has none, does without)"
            )

    @property
    def known_authorities(self) -> tuple[x509.Certificate, ...]:
        """The CAs with certificates here: the trust anchors, and those above the own leaf."""
        return (*self.authorities, *self.certificates[1:])

    @property
    def revokes_itself(self) -> bool:
        """True if the leaf is itself on a revocation list."""
        return any(self.revocations.include(leaf) for leaf in self.certificates[:1])

    def once(self, name: Hashable, make: Callable[[Certificates], T]) -> T:
        """Return the result of ``make`` from the first call with that name: a TLS context, shared by connections."""
        found = self._made.get(name)
        made: T = self._made.setdefault(name, (make, make(self)))[1] if found is None else found[1]
        return made

    def prepare_like(self, previous: Certificates) -> None:
        """Make all that was made once for others, so that no connection has to wait for it.

        A TLS context with a long revocation list takes a while. What cannot be made is made, and fails, when needed.
        """
        for name, (make, _) in list(previous._made.items()):
            with suppress(ConfigurationError):
                self.once(name, make)

    @cached_property
    def _made(self) -> dict[Hashable, tuple[Callable[[Certificates], Any], Any]]:
        return {}

    def __repr__(self) -> str:
        return f"<Certificates of {self}, key redacted>"

    def __str__(self) -> str:
        """Return one line for a log."""
        until = "" if self.identity is None else f", valid until {moment_text(self.identity.not_after)}"
        lists = "" if not self.lists else f", {_counted(len(self.lists), 'revocation list')}"
        return f"{self.identity or 'no certificate'}{until}; {_counted(len(self.authorities), 'trust anchor')}{lists}"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials hold a private key and cannot be pickled")


def _is_canonical(name: str) -> bool:
    with suppress(ConfigurationError):
        return canonical_host(name) == name
    return False


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _roles(leaf: x509.Certificate) -> frozenset[str]:
    """Return the roles that extended key usage allows (RFC 5280, section 4.2.1.12): all without it."""
    uses = find_extension(leaf, x509.ExtendedKeyUsage)
    # OpenSSL does not take anyExtendedKeyUsage for either.
    return frozenset(role for use, role in _ROLES.items() if uses is None or use in uses)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def is_root(certificate: x509.Certificate) -> bool:
    """Return True for a certificate that names itself as its issuer, where a chain can end."""
    if canonical_name(certificate.subject) != canonical_name(certificate.issuer):
        return False
    own, issuer = read_extension(certificate, x509.SubjectKeyIdentifier), key_identifier(certificate)
    return own is None or issuer is None or own.digest == issuer


def _check_authorities(authorities: Sequence[x509.Certificate], name: str) -> None:
    roots = [each for each in authorities if is_root(each)]
    if not roots:
        issuer = escaped(authorities[-1].issuer.rfc4514_string())[:_MAX_SHOWN]
        raise ConfigurationError(
            f"{name}: has no root CA, only certificates that another CA issued, so every peer would be refused; add "
            f"the self-signed certificate of the CA at the top ({issuer}, or one above it)"
        )
    now = datetime.now(UTC)
    end = max(each.not_valid_after_utc for each in roots)
    if end < now:
        raise ConfigurationError(
            f"{name}: every trust anchor has expired, the last one at {moment_text(end)}, so every peer would be "
            "refused; get the CA's current certificate"
        )
    start = min(each.not_valid_before_utc for each in roots if each.not_valid_after_utc >= now)
    if start > now:
        raise ConfigurationError(
            f"{name}: no trust anchor is valid before {moment_text(start)}, so every peer would be refused; keep the "
            "present one beside it until then, or check this machine's clock"
        )


def _key_of(leaf: x509.Certificate, pem: bytes, name: str, cert: str) -> bytes:
    found = private_key_of(pem, name, leaf.public_key())
    if found is None:
        raise ConfigurationError(
            f"{name}: this is not the private key of the first certificate in {cert}; "
            "the leaf certificate must come first"
        )
    return found


def _check_dates(leaf: x509.Certificate, name: str) -> None:
    now = datetime.now(UTC)
    if leaf.not_valid_after_utc < now:
        raise ConfigurationError(
            f"{name}: expired at {moment_text(leaf.not_valid_after_utc)}, so every peer would refuse it; "
            f"{renewal(name, leaf)}"
        )
    if leaf.not_valid_before_utc > now:
        raise ConfigurationError(
            f"{name}: not valid before {moment_text(leaf.not_valid_before_utc)}; check this machine's clock"
        )
