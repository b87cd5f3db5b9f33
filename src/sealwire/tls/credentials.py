"""Certificate, private key, trust anchors and revocation lists: read together, proved, never changed afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from sealwire.errors import ConfigurationError, PeerNotAllowed
from sealwire.tls.identity import PeerIdentity

_MAX_FILE = 4 << 20
Path = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Credentials:
    """What an endpoint shows to its peers, and by what it judges theirs. Made by :meth:`from_files`.

    chain: PEM of the leaf certificate and the intermediates above it; None for a client without a certificate.
    key: PEM of its private key. anchors: PEM of the trust anchors. crl: PEM of the revocation lists, or None. But for
    the key, each is written anew from what was read, and holds nothing else.
    leaf: the leaf certificate's DER. identity: what a peer reads in it.
    """

    chain: bytes | None
    key: bytes | None
    anchors: bytes
    crl: bytes | None
    leaf: bytes | None
    identity: PeerIdentity | None

    @classmethod
    def from_files(
        cls, *, cert: Path | None = None, key: Path | None = None, ca: Path, crl: Path | None = None
    ) -> Credentials:
        """Read PEM files and prove that they fit together now.

        cert: the leaf certificate, then any intermediates. key: its private key, not encrypted. ca: one or more
        trust anchors for the *peer's* certificate. crl: revocation lists of the CAs that issued the peers' leaves.
        A client of a server that takes anonymous peers may leave out cert and key.

        Raises ConfigurationError, naming the file and the remedy.
        """
        if (cert is None) is not (key is None):
            raise ConfigurationError(
                "cert and key belong together: give both, or neither for a client without a certificate"
            )
        anchors = _pem(_certificates(_read(ca), ca))
        # OpenSSL takes every certificate in a file of revocation lists for a trust anchor.
        revoked = None if crl is None else _pem(_crls(_read(crl), crl))
        if cert is None or key is None:
            return cls(chain=None, key=None, anchors=anchors, crl=revoked, leaf=None, identity=None)
        chain, private = _certificates(_read(cert), cert), _read(key)
        leaf = chain[0]
        der = leaf.public_bytes(Encoding.DER)
        try:
            identity = PeerIdentity.from_der(der)
        except PeerNotAllowed:
            raise ConfigurationError(
                f"{os.fspath(cert)}: the first certificate has names, extensions or a public key that cannot be read"
            ) from None
        _check_key(private, key, leaf, cert)
        _check_dates(leaf, cert)
        return cls(chain=_pem(chain), key=private, anchors=anchors, crl=revoked, leaf=der, identity=identity)

    def __repr__(self) -> str:
        return f"<Credentials of {self.identity or 'nobody'}, key redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials hold a private key and cannot be pickled")


def _read(path: Path) -> bytes:
    try:
        # O_NONBLOCK, so that a FIFO in the file's place cannot stop us.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            content = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigurationError(f"{os.fspath(path)}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise ConfigurationError(f"{os.fspath(path)!r}: cannot be read (no path has such characters)") from None
    if len(content or b"") > _MAX_FILE:
        raise ConfigurationError(f"{os.fspath(path)}: larger than {_MAX_FILE} bytes")
    return content or b""


def _certificates(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ConfigurationError(
            f"{os.fspath(path)}: no certificate in PEM form (-----BEGIN CERTIFICATE-----) could be read"
        ) from None


def _pem(items: Iterable[x509.Certificate | x509.CertificateRevocationList]) -> bytes:
    return b"".join(item.public_bytes(Encoding.PEM) for item in items)


def _crls(pem: bytes, path: Path) -> list[x509.CertificateRevocationList]:
    name = os.fspath(path)
    end = b"-----END X509 CRL-----"
    blocks = [block + end for block in pem.split(end)[:-1]]
    try:
        lists = [x509.load_pem_x509_crl(block) for block in blocks]
    except ValueError:
        lists = []
    if not lists:
        raise ConfigurationError(f"{name}: no revocation list in PEM form (-----BEGIN X509 CRL-----) could be read")
    now = datetime.now(UTC)
    for crl in lists:
        if crl.next_update_utc is not None and crl.next_update_utc < now:
            raise ConfigurationError(
                f"{name}: the revocation list expired at {crl.next_update_utc.isoformat()}, "
                "and with it every peer would be refused; get the CA's present one"
            )
        if crl.last_update_utc > now:
            raise ConfigurationError(
                f"{name}: the revocation list is not valid before {crl.last_update_utc.isoformat()}, "
                "and with it every peer would be refused; check this machine's clock"
            )
    return lists


def _check_key(pem: bytes, path: Path, leaf: x509.Certificate, cert: Path) -> None:
    name = os.fspath(path)
    try:
        private = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigurationError(f"{name}: the private key is encrypted; store it unencrypted with mode 0600") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{name}: no private key in PEM form could be read") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise ConfigurationError(
            f"{name}: this is not the private key of the first certificate in {os.fspath(cert)}; "
            "the leaf certificate must come first"
        )


def _check_dates(leaf: x509.Certificate, cert: Path) -> None:
    now = datetime.now(UTC)
    name = os.fspath(cert)
    if leaf.not_valid_after_utc < now:
        raise ConfigurationError(f"{name}: expired at {leaf.not_valid_after_utc.isoformat()}; issue a new certificate")
    if leaf.not_valid_before_utc > now:
        raise ConfigurationError(
            f"{name}: not valid before {leaf.not_valid_before_utc.isoformat()}; check this machine's clock"
        )
