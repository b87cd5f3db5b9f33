"""A throwaway deployment with its own certificate authority, for tests, demonstrations and benchmarks.

Two endpoints that trust each other::

    with Throwaway() as place:
        server = place.security("server", "localhost", "127.0.0.1", peers=["dns:client.example"])
        client = place.security("client", "client.example")
        with ThreadingTCPServer(("127.0.0.1", 0), handler, server) as running:
            ...

The directory is removed at the end of the block.
"""

from __future__ import annotations

import base64
import secrets
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sealwire.pki.authority import Profile, create_ca
from sealwire.pki.files import PRIVATE, PUBLIC, NewFile, write_files
from sealwire.security import Security


class Throwaway:
    """A directory with a CA, a keyring of one key, and leaf certificates as needed.

    Args:
        directory: Directory for the files; by default a temporary one, removed at the end of the ``with`` block.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="sealwire-") if directory is None else None
        self.directory = Path(self._temporary.name) if self._temporary is not None else Path(directory or "")
        self.authority = create_ca("Sealwire throwaway CA")
        self.ca = self.directory / "ca.pem"
        write_files([NewFile(self.ca, self.authority.cert_pem, PUBLIC)])
        self.keyring = self.new_keyring("keyring")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    def new_keyring(self, name: str, *, key_id: str = "throwaway") -> Path:
        """Write a keyring file with one new key. Return its path."""
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        path = self.directory / f"{name}.toml"
        write_files([NewFile(path, f'[[key]]\nid = "{key_id}"\nsecret = "{secret}"\n'.encode(), PRIVATE)])
        return path

    def leaf(self, name: str, *names: str, profile: Profile = "peer", days: int = 1) -> tuple[Path, Path]:
        """Issue a leaf certificate.

        Args:
            name: Stem of the files: ``name.pem`` and ``name.key``.
            names: Subject alternative names.
            profile: Extended key usage: ``server``, ``client`` or ``peer`` (both).
            days: Validity in days.

        Returns:
            The paths of certificate and private key.
        """
        issued = self.authority.issue(*names, profile=profile, days=days)
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        write_files([NewFile(key, issued.key_pem, PRIVATE), NewFile(cert, issued.cert_pem, PUBLIC)], replace=True)
        return cert, key

    def security(self, name: str, *names: str, **options: Any) -> Security:
        """Make a Security with a new leaf certificate.

        Args:
            name: Stem of the certificate's files.
            names: Subject alternative names.
            options: Arguments of Security.from_files, in place of the deployment's.
        """
        cert, key = self.leaf(name, *names)
        return Security.from_files(**{"cert": cert, "key": key, "ca": self.ca, "keyring": self.keyring} | options)
