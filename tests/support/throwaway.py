"""Securities of a throwaway deployment, with keys that are given."""

from __future__ import annotations

from typing import Any

from sealwire.security import Security
from sealwire.testing import Throwaway
from sealwire.trust.credentials import Credentials
from sealwire.trust.keyring import Keyring
from sealwire.trust.peers import PeerPolicy
from sealwire.wire.keys import Key

ANYBODY = PeerPolicy.any_signed_by_ca()
SECRETS = {name: bytes([number]) * 32 for number, name in enumerate(("k1", "k2", "k3"))}


def credentials(place: Throwaway, name: str | None) -> Credentials:
    """``name``: the stem of the certificate's files; None for a client without one."""
    if name is None:
        return Credentials.from_files(ca=place.ca)
    return Credentials.from_files(
        cert=place.directory / f"{name}.pem", key=place.directory / f"{name}.key", ca=place.ca
    )


def security(place: Throwaway, name: str | None, *keys: Key, **options: Any) -> Security:
    return Security(credentials=credentials(place, name), keys=Keyring(keys or [Key("k1", SECRETS["k1"])]), **options)
