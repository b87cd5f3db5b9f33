"""Credentials: the files with certificate, key, trust anchors and revocation lists, and what of them is in service."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, NoReturn

from cryptography import x509

from sealwire.errors import ConfigurationError
from sealwire.rotation import Content, Contents, Path, Refusal, Watched, read_file
from sealwire.tls.credential_set import CredentialSet
from sealwire.tls.identity import PeerIdentity
from sealwire.tls.proof import chain_problem, prove

_MAX_FILE = 4 << 20
_WHAT = "credentials"


@dataclass(frozen=True, kw_only=True, slots=True)
class CredentialsStatus:
    """What is in service.

    generation: its number, from 1. digest: SHA-256 of the files' content, in hexadecimal, the same in every process
    that has loaded the same. loaded_at: aware. files: path by part (cert, key, ca, crl). identity: of the own leaf
    certificate, None without one. authorities: the trust anchors. lists: the revocation lists. chain_problem: why the
    leaf does not build to the trust anchors, None where it does; no fault where another CA is for the peers. revoked:
    whether the leaf is on a revocation list itself. refusal: why the files' present content is not in service; None
    where it is. refusals: how many there were.
    """

    generation: int
    digest: str
    loaded_at: datetime
    files: dict[str, str]
    identity: PeerIdentity | None
    authorities: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]
    chain_problem: str | None
    revoked: bool
    refusal: Refusal | None
    refusals: int


class Credentials:
    """What an endpoint shows to its peers, and by what it judges theirs. Made by :meth:`from_files`.

    The files may be replaced at any time, in any order and in any way. ``current`` is the generation in service: never
    changed, replaced as one when the files hold another one that is proved.
    """

    __slots__ = ("_watched",)

    def __init__(self, watched: Watched[CredentialSet]) -> None:
        self._watched: Final = watched

    @classmethod
    def from_files(
        cls, *, cert: Path | None = None, key: Path | None = None, ca: Path, crl: Path | None = None
    ) -> Credentials:
        """Read PEM files and prove that they work together now.

        cert: the leaf certificate, then any intermediates. key: its private key, not encrypted. ca: one or more
        trust anchors for the *peer's* certificate. crl: revocation lists of the CAs that issued the peers' leaves.
        A client of a server that takes anonymous peers may leave out cert and key.

        Raises ConfigurationError, naming the file and the remedy.
        """
        if (cert is None) is not (key is None):
            raise ConfigurationError(
                "cert and key belong together: give both, or neither for a client without a certificate"
            )
        given = {"cert": cert, "key": key, "ca": ca, "crl": crl}
        files = {part: path for part, path in given.items() if path is not None}
        return cls(Watched(_WHAT, files, read=_read, prove=partial(_proved, files)))

    @property
    def current(self) -> CredentialSet:
        """The generation in service."""
        return self._watched.generation.value

    @property
    def leaf(self) -> bytes | None:
        """The leaf certificate in service, DER; None for a client without one."""
        return self.current.leaf

    @property
    def identity(self) -> PeerIdentity | None:
        """What a peer reads in the leaf certificate in service."""
        return self.current.identity

    def refresh(self, interval: float) -> CredentialSet:
        """The generation in service, after a look at the files if the last one is ``interval`` seconds ago."""
        return self._watched.refresh(interval)

    def reload(self) -> bool:
        """Look at the files now. Whether what they hold is in service; if not, the log and :meth:`status` say why."""
        return self._watched.reload()

    def status(self) -> CredentialsStatus:
        """What is in service, and what is wrong with the files if they hold something else."""
        generation = self._watched.generation
        current = generation.value
        return CredentialsStatus(
            generation=generation.number,
            digest=generation.digest,
            loaded_at=generation.loaded_at,
            files=dict(self._watched.files),
            identity=current.identity,
            authorities=current.authorities,
            lists=current.lists,
            chain_problem=chain_problem(current),
            revoked=current.revokes_itself,
            refusal=self._watched.refusal,
            refusals=self._watched.refusals,
        )

    def __repr__(self) -> str:
        return f"<Credentials of {self.identity or 'nobody'}, key redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials hold a private key and cannot be pickled")


def _read(_: str, path: Path) -> Content:
    return read_file(path, most=_MAX_FILE)


def _proved(files: dict[str, Path], contents: Contents, previous: CredentialSet | None) -> CredentialSet:
    made = CredentialSet.parse(contents, files, previous)
    prove(made, previous)
    return made
