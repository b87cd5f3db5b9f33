"""What a server of the suite is started with, for this process and for those that it starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sealwire
from conformance.handlers import Order
from sealwire import Limits, Security
from support.constants import QUICK

Address = Any
SERVICE: Final = "orders"


@dataclass(frozen=True)
class Given:
    """What a server is started with. directory: its Side's. limits: beside the quick ones."""

    directory: Path
    address: Address
    handler: str = "respond"
    limits: dict[str, Any] | None = None
    crl: bool = False
    raw: bool = False

    def security(self) -> Security:
        path = self.directory.joinpath
        limits = Limits(**(QUICK | {"reload_interval": 0.05} | (self.limits or {})))
        return Security(
            credentials=sealwire.Credentials.from_files(
                cert=path("cert"), key=path("key"), ca=path("ca"), crl=path("crl") if self.crl else None
            ),
            keys=sealwire.Keyring.from_file(path("keyring")),
            peers=["dns:client.example", f"uid:{os.getuid()}"],
            service=SERVICE,
            codec=sealwire.codec.RawCodec() if self.raw else sealwire.Codec(sealwire.Allowlist(Order), limits=limits),
            limits=limits,
        )
