"""The endpoint of a program's own server, on every carrier."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import sealwire
from sealwire import ConfigurationError, dtls
from sealwire.admin import AdminEndpoint
from sealwire.report import Board
from sealwire.security import Security
from support.aio import serving
from support.service import Deployment, eventually, running


def respond(message: Any) -> Any:
    return message


def local(deployment: Deployment, side: str) -> Security:
    security: Security = deployment.security(side, peers=[f"uid:{os.getuid()}"], service="orders")
    return security


@pytest.mark.parametrize("carrier", ["tcp", "unix", "udp", "asyncio"])
def test_counts_of_every_carrier(deployment: Deployment, tmp_path: Path, carrier: str) -> None:
    def ask(client: Any, server: Any, name: str) -> None:
        with AdminEndpoint(server, "127.0.0.1:0") as admin, client:
            eventually(lambda: admin.report()["state"] == "serving")
            assert client.send_request(1) == 1
            assert client.send_request(2) == 2
            eventually(lambda: admin.report()["requests"] == 2)
            report = admin.report()
            assert report["connections"]["established"] == 1
            assert any(name in peer for peer in report["connections"]["by_peer"])
            assert report["problems"] == []

    server_security, security = deployment.server_security(), deployment.security("client")
    if carrier == "asyncio":
        with serving(lambda: sealwire.AsyncTCPServer(("127.0.0.1", 0), respond, server_security)) as one:
            client: Any = sealwire.SynchronousTCPClient("127.0.0.1", one.server.server_address[1], security=security)
            ask(client, one.server, "client.example")
    elif carrier == "unix":
        path = str(tmp_path / "socket")
        server: Any = sealwire.ThreadingUnixStreamServer(path, respond, local(deployment, "server"))
        with running(server):
            client = sealwire.SynchronousUnixClient(path, security=local(deployment, "client"))
            ask(client, server, f"uid:{os.getuid()}")
    else:
        package, prefix = (dtls, "UDP") if carrier == "udp" else (sealwire, "TCP")
        server = getattr(package, f"Threading{prefix}Server")(("127.0.0.1", 0), respond, server_security)
        with running(server):
            client = getattr(package, f"Synchronous{prefix}Client")(
                "127.0.0.1", server.server_address[1], security=security
            )
            ask(client, server, "client.example")


def test_a_bad_address_leaves_nothing_open(deployment: Deployment) -> None:
    with (
        sealwire.ThreadingTCPServer(("127.0.0.1", 0), respond, deployment.server_security()) as server,
        pytest.raises(ConfigurationError, match="this machine alone"),
    ):
        AdminEndpoint(server, "192.0.2.1:80")


def test_a_report_that_is_being_written_is_not_read() -> None:
    board = Board(2)
    assert board.read(0) is None
    board.write(0, {"pid": 1, "connections": {"by_peer": {"x" * 100: 1}}})
    assert board.read(0) == {"pid": 1, "connections": {"by_peer": {"x" * 100: 1}}}
    board._places[0][20] ^= 1
    assert board.read(0) is None
    board.write(0, {"pid": 1, "connections": {"by_peer": {"x" * (1 << 17): 1}}})
    assert board.read(0) == {"pid": 1, "connections": {"by_peer": {}}}
