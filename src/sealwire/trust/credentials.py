"""Credentials: certificate, private key, trust anchors and revocation lists, reloaded when their files change."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from cryptography import x509

from sealwire.errors import ConfigurationError
from sealwire.limits import Limits
from sealwire.trust.certificates import Certificates
from sealwire.trust.file_permissions import in_private_directory, open_to_others, remedy
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.own_certificate import check_certificate
from sealwire.trust.reading import FileContent, StrPath, TooLarge, read_file
from sealwire.trust.reloading import STATUS_INTERVAL, FileContents, Reloadable, Status
from sealwire.trust.selftest import chain_problem, is_complete, is_revoked, validate

_MAX_FILE = 4 << 20
_MAX_CRL = Limits().max_crl


@dataclass(frozen=True, kw_only=True)
class CredentialsStatus(Status):
    """The credentials in service, and beside them the :class:`Status` of their files: cert, key, ca and crl.

    Attributes:
        identity: Identity of the endpoint's leaf certificate; None without one.
        authorities: The trust anchors.
        lists: The revocation lists.
        chain_problem: Why the leaf does not build to the trust anchors; None if it does. No fault if the peers' CA is
            another one.
        chain_complete: False if the chain builds only with intermediate certificates that are among the trust anchors.
        revoked: True if the leaf, or a certificate between it and the root, is on a revocation list.
    """

    identity: PeerIdentity | None
    authorities: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]
    chain_problem: str | None
    chain_complete: bool
    revoked: bool


class Credentials(Reloadable[Certificates]):
    """Certificate, private key, trust anchors and revocation lists of an endpoint. Made by :meth:`from_files`.

    The files may be replaced at any time, in any order and in any way. ``current`` is the generation in service: it is
    immutable, and replaced as a whole once the files hold another one that passes validation.
    """

    __slots__ = ("_allow_readable_key", "_checked", "_keyring_group", "_max_crl")

    _allow_readable_key: bool
    _checked: set[str]
    _keyring_group: bool
    _max_crl: int

    _log_name = "credentials"

    def __init__(self, *_: object, **__: object) -> None:
        """Refuse: :meth:`from_files` makes credentials. Raises ConfigurationError."""
        raise ConfigurationError("credentials are made by Credentials.from_files(cert=…, key=…, ca=…)")

    @classmethod
    def from_files(
        cls,
        *,
        cert: StrPath | None = None,
        key: StrPath | None = None,
        ca: StrPath | None = None,
        crl: StrPath | None = None,
        allow_readable_key: bool = False,
        keyring_group: bool = False,
        max_crl: int = _MAX_CRL,
    ) -> Credentials:
        """Read PEM files, and check that they work together now.

        Args:
            cert: The leaf certificate, followed by any intermediates. Only a client of a server that accepts anonymous
                peers can do without ``cert`` and ``key``.
            key: Its private key, not encrypted, in a file that only its owner can read.
            ca: One or more trust anchors for the *peer's* certificate. Only on Unix sockets, where there are no
                certificates, can both ends do without any of the files.
            crl: Revocation lists of the CAs that issue the peers' leaves.
            allow_readable_key: Accept a private key that other users can read.
            keyring_group: Accept a private key of root's that a group of this process may read, not write (0640), also
                if the process is root's. Default: only if it is another user's.
            max_crl: Most bytes of ``crl``: Limits.max_crl. Default: 32 MiB.

        Raises:
            ConfigurationError: A file cannot be used; the error names it and the remedy.
        """
        if (cert is None) is not (key is None):
            raise ConfigurationError(
                "cert and key belong together: give both, or neither for a client without a certificate"
            )
        given = {
            part: path for part, path in (("cert", cert), ("key", key), ("ca", ca), ("crl", crl)) if path is not None
        }
        if given and ca is None:
            raise ConfigurationError(
                f"ca: name the file with the certificates of the CA that issues the peers' certificates, or leave out "
                f"{' and '.join(given)} on a Unix socket, where there are no certificates"
            )
        made = cls.__new__(cls)
        made._allow_readable_key = allow_readable_key
        made._keyring_group = keyring_group
        made._max_crl = max_crl
        made._checked = set()
        if given:
            Reloadable.__init__(made, given)
        else:
            made._set_fixed(Certificates(paths={}, authorities=(), lists=()))
        return made

    def is_made_of(
        self, files: Mapping[str, StrPath], *, allow_readable_key: bool, keyring_group: bool, max_crl: int
    ) -> bool:
        """Return True if :meth:`from_files` with these arguments would follow the same files in the same way."""
        wanted = allow_readable_key, keyring_group, max_crl
        return self.follows(files) and wanted == (self._allow_readable_key, self._keyring_group, self._max_crl)

    @property
    def leaf(self) -> bytes | None:
        """The leaf certificate in service (DER); None for a client without one."""
        return self.current.leaf

    @property
    def identity(self) -> PeerIdentity | None:
        """The identity that peers read in the leaf certificate in service."""
        return self.current.identity

    def check_role(self, role: str) -> None:
        """Refuse what no server, or client, could connect with. Raises ConfigurationError.

        A certificate that was accepted remains so; a later one is compared with it before it comes into service.

        Args:
            role: ``server`` or ``client``.
        """
        if role not in self._checked:
            check_certificate(self.current, role)
            self._checked.add(role)

    def status(self) -> CredentialsStatus:
        """Return the credentials in service, and any problem with the present content of the files.

        The files are checked first if the last check is too old (1 s, if none was made for a server or client).
        """
        self.refresh(STATUS_INTERVAL)
        certificates, status = self._loaded
        return CredentialsStatus(
            **self._status_fields(status),
            identity=certificates.identity,
            authorities=certificates.authorities,
            lists=certificates.lists,
            chain_problem=chain_problem(certificates),
            chain_complete=is_complete(certificates),
            revoked=is_revoked(certificates),
        )

    def _read(self, path: StrPath, part: str) -> FileContent:
        opened: list[os.stat_result] = []
        limit = self._max_crl if part == "crl" else _MAX_FILE
        try:
            content = read_file(path, max_bytes=limit, check=lambda status, _: opened.append(status))
        except TooLarge as error:
            remedy = "raise the limit max_crl if the list is right" if part == "crl" else "give the right file"
            raise ConfigurationError(f"{error}; {remedy}") from None
        # Only if there is one: what is wrong with a certificate in its place is not the mode.
        if part == "key" and not self._allow_readable_key and b"PRIVATE KEY-----" in content.data:
            _check_private(opened[0], os.fspath(path), keyring_group=self._keyring_group)
        return content

    def _validate(self, contents: FileContents, previous: Certificates | None) -> Certificates:
        made = Certificates.parse(contents, self._paths, previous)
        validate(made, previous)
        if previous is not None:
            made.prepare_like(previous)
        return made

    def __repr__(self) -> str:
        return f"<Credentials of {self.identity or 'an anonymous client'}, key redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials hold a private key and cannot be pickled")


def _check_private(status: os.stat_result, name: str, *, keyring_group: bool) -> None:
    is_open = stat.S_ISREG(status.st_mode) and open_to_others(name, status, keyring_group=keyring_group)
    if is_open and not in_private_directory(name):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigurationError(
            f"{name}: mode {mode:04o} lets other users read the private key; {remedy(name, status)}, and replace the "
            "key if another user could have read it (or accept it with the option allow_readable_key)"
        )
