"""For tests, demonstrations and benchmarks: a deployment with a certificate authority of its own, thrown away later.

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

from sealwire.security import Security
from sealwire.tls.files import PRIVATE, PUBLIC, NewFile, write_files
from sealwire.tls.issue import Profile, create_ca


class Throwaway:
    """A directory with a CA, a keyring of one key, and the leaf certificates that are asked for.

    directory: where; by default a temporary one, which the end of the ``with`` block removes.
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
        """A keyring file with one fresh key; returns its path."""
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        path = self.directory / f"{name}.toml"
        write_files([NewFile(path, f'[[key]]\nid = "{key_id}"\nsecret = "{secret}"\n'.encode(), PRIVATE)])
        return path

    def leaf(self, name: str, *names: str, profile: Profile = "peer", days: int = 1) -> tuple[Path, Path]:
        """Issue a leaf certificate; returns the paths of certificate and private key, ``name``.pem and ``name``.key."""
        issued = self.authority.issue(*names, profile=profile, days=days)
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        write_files([NewFile(key, issued.key_pem, PRIVATE), NewFile(cert, issued.cert_pem, PUBLIC)], replace=True)
        return cert, key

    def security(self, name: str, *names: str, **options: Any) -> Security:
        """A Security with a leaf certificate for those names; ``options`` are those of Security.from_files."""
        cert, key = self.leaf(name, *names)
        return Security.from_files(**{"cert": cert, "key": key, "ca": self.ca, "keyring": self.keyring} | options)
