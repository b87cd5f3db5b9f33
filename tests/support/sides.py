"""The files of one end of a deployment, and the ways in which they are replaced."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sealwire import Limits, Security
from sealwire.pki.authority import Issuer
from sealwire.pki.files import PRIVATE, PUBLIC, NewFile, write_files
from support.certificates import Made, make_crl
from support.service import QUICK

SECRETS = {f"k{number}": bytes([number]) * 32 for number in range(1, 5)}


class Side:
    """The files of one end, in a directory of its own, and ways to replace them."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.directory = directory
        self.names = names
        directory.mkdir()

    def path(self, name: str) -> Path:
        return self.directory / name

    def write(self, **files: bytes) -> None:
        """By renaming, as everybody should."""
        for name, content in files.items():
            mode = PRIVATE if name in ("key", "keyring") else PUBLIC
            path = self.path(name)
            write_files([NewFile(path, content, mode)], replace=path.exists())
            # Long ago, so that what was written just now need not settle.
            os.utime(path, (1_600_000_000, 1_600_000_000))

    def leaf(self, ca: Issuer, *names: str, **options: Any) -> str:
        """A new leaf certificate; its fingerprint."""
        issued = ca.issue(*(names or self.names), profile="peer", **options)
        self.write(key=issued.key_pem, cert=issued.cert_pem)
        return issued.fingerprint

    def trust(self, *cas: Issuer) -> None:
        self.write(ca=b"".join(each.cert_pem for each in cas))

    def revoke(self, ca: Issuer, *serials: int, **options: Any) -> None:
        """A revocation list with those."""
        self.write(crl=revocation_list(ca, *serials, **options))

    def keys(self, *ids: str, **times: tuple[timedelta, timedelta]) -> None:
        """``times``: by id, from when until when, from now."""
        text = ""
        now = datetime.now(UTC)
        for key_id in ids:
            secret = base64.b64encode(SECRETS[key_id]).decode()
            text += f'[[key]]\nid = "{key_id}"\nsecret = "{secret}"\n'
            if key_id in times:
                start, end = (f"{now + each:%Y-%m-%dT%H:%M:%S.%f}Z" for each in times[key_id])
                text += f"not_before = {start}\nnot_after = {end}\n"
        self.write(keyring=text.encode())

    def configure(self, text: str = "", **lists: list[str]) -> None:
        """A configuration file that is watched, with all files of the side but the revocation list."""
        lines = [f"{name} = {json.dumps(entries)}" for name, entries in lists.items()]
        lines += [f'{part} = "{part}"' for part in ("cert", "key", "ca", "keyring")]
        limits = "\n".join(f"{name} = {value}" for name, value in (QUICK | {"reload_interval": 0.05}).items())
        whole = "\n".join([*lines, "reload_config = true", text, "[limits]", limits])
        self.write(**{"sealwire.toml": whole.encode()})

    def security(self, *, crl: bool = False, bare: bool = False, **options: Any) -> Security:
        """``bare``: without certificates and a CA."""
        limits = Limits(**(QUICK | {"reload_interval": 0.05} | options.pop("limits", {})))
        return Security.from_files(
            **{} if bare else {part: self.path(part) for part in ("cert", "key", "ca")},
            keyring=self.path("keyring"),
            crl=self.path("crl") if crl else None,
            limits=limits,
            **options,
        )


def revocation_list(ca: Issuer, *serials: int, **options: Any) -> bytes:
    class Serial:
        def __init__(self, serial_number: int) -> None:
            self.certificate = self
            self.serial_number = serial_number

    return make_crl(Made(ca.certificate, ca.private_key), *map(Serial, serials), **options)
