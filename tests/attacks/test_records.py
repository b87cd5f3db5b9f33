"""Records of TLS that carry nothing, or come before anything was agreed on: no handler sees them, others are served."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from support.aio import KINDS, served_by
from support.hostile_tls import HostileTls
from support.service import Deployment, eventually

pytestmark = pytest.mark.usefixtures("clean")

OPENSSL = shutil.which("openssl")


@pytest.mark.parametrize("kind", KINDS)
def test_empty_records(deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """A client that sends nothing else, before HELLO, is ended in the time for the handshake."""
    security = deployment.server_security(raw=True, limits={"handshake_timeout": 2.0})
    context = ssl.create_default_context(cafile=deployment.ca)
    context.set_alpn_protocols(["sealwire/1"])
    context.load_cert_chain(*deployment.files["client"])
    with served_by(kind, lambda message: message, security) as port:
        sock = socket.create_connection(("127.0.0.1", port), 10)
        with HostileTls(sock, context, tmp_path / "keys") as hostile, suppress(ConnectionError):
            while True:
                hostile.sock.sendall(b"".join(hostile.sealed(b"") for _ in range(100)))
        with deployment.client(port, raw=True) as client:
            assert client.send_request(b"good") == b"good"
    assert "bad record mac" not in caplog.text  # or they were not what they should be


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_that_tls_refuses_is_answered_with_an_alert(deployment: Deployment, kind: str) -> None:
    context = ssl.create_default_context(cafile=deployment.ca)
    context.set_alpn_protocols(["sealwire/1"])
    context.load_cert_chain(*deployment.files["client"])
    with (
        served_by(kind, lambda message: message, deployment.server_security(raw=True)) as port,
        socket.create_connection(("127.0.0.1", port), 10) as sock,
        context.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False) as hostile,
    ):
        hostile.do_handshake()
        os.write(hostile.fileno(), b"\x17\x03\x03\x00\x40" + bytes(64))
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.bad.record.mac"):
            hostile.read(1)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_early_data(deployment: Deployment, tmp_path: Path, kind: str) -> None:
    """Early data could be replayed. A client with another server's ticket sends it; it is dropped."""
    seen: list[bytes] = []

    def respond(message: bytes) -> bytes:
        seen.append(message)
        return message

    ticket, early = tmp_path / "ticket", tmp_path / "early"
    early.write_bytes(b"early" * 100)
    cert, key = map(str, deployment.files["server"])
    options = ["-cert", cert, "-key", key, "-alpn", "sealwire/1", "-early_data", "-accept", "127.0.0.1:0"]
    with openssl("s_server", *options) as server:
        assert server.stdout is not None
        port = next(line for line in server.stdout if line.startswith("ACCEPT")).rpartition(":")[2].strip()
        with client_of_openssl(port, "-sess_out", str(ticket)):
            eventually(lambda: ticket.exists() and ticket.read_bytes())
        server.kill()
    cert, key = map(str, deployment.files["client"])
    options = ["-cert", cert, "-key", key, "-sess_in", str(ticket), "-early_data", str(early)]
    with served_by(kind, respond, deployment.server_security(raw=True)) as port:
        with client_of_openssl(str(port), *options) as client:
            assert client.stdout is not None
            assert any("Early data was rejected" in line for line in client.stdout)
        with deployment.client(port, raw=True) as good:
            assert good.send_request(b"good") == b"good"
    assert seen == [b"good"]


def openssl(*arguments: str) -> subprocess.Popen[str]:
    assert OPENSSL is not None
    return subprocess.Popen(
        [OPENSSL, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )


def client_of_openssl(port: str, *arguments: str) -> subprocess.Popen[str]:
    return openssl("s_client", "-connect", f"127.0.0.1:{port}", "-alpn", "sealwire/1", *arguments)
