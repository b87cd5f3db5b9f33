"""Both sides of the reference implementation, for its own tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trustme

from reference.peer import RefClient, RefServer

PSK = b"k" * 32


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """PEM files of a CA and one certificate for each side, as keyword arguments of RefClient and RefServer."""
    directory = tmp_path_factory.mktemp("certificates")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))

    def issue(name: str, *identities: str) -> dict[str, Any]:
        issued = ca.issue_cert(*identities)
        cert, key = directory / f"{name}.pem", directory / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        return {"cert": str(cert), "key": str(key), "ca": str(directory / "ca.pem")}

    return {"server": issue("server", "localhost", "127.0.0.1"), "client": issue("client", "client.example")}


@pytest.fixture
def serve(files: dict[str, Any]) -> Callable[..., RefServer]:
    return lambda **options: RefServer(**({"keys": {"client-1": PSK}} | files["server"] | options))


@pytest.fixture
def connect(files: dict[str, Any]) -> Callable[..., RefClient]:
    return lambda server, **options: RefClient("127.0.0.1", server.port, **({"psk": PSK} | files["client"] | options))
