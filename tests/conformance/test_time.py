"""Each client says in time that there is no connection, and that nothing was sent. See also test_lateness."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.combinations import CLIENTS, NATS, UDP, UNIX, Client
from sealwire import DeadlineExceeded
from support.service import Deployment


@pytest.fixture(params=CLIENTS, ids=str)
def mute(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Client, Any]]:
    """A client, and the address of a server that takes connections and says nothing."""
    client: Client = request.param
    family = socket.AF_UNIX if client.transport is UNIX else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if client.transport is UDP else socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "mute") if client.transport is UNIX else ("127.0.0.1", 0))
        if client.transport is not UDP:
            server.listen()
        address = server.getsockname()
        yield client, f"nats://127.0.0.1:{address[1]}/orders" if client.transport is NATS else address


def test_a_server_that_says_nothing(mute: tuple[Client, Any], deployment: Deployment) -> None:
    client, address = mute
    security = deployment.security("client", peers=["dns:localhost", f"uid:{os.getuid()}"], service="orders")
    caller = client.make(address, security, timeout=0.2, wait=60)
    with pytest.raises(DeadlineExceeded) as late:
        caller.request("x")
    assert not late.value.sent
    caller.close()
