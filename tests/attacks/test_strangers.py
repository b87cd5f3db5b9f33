"""A client without TLS or without the right certificate ends its own connection, with one line in the log."""

from __future__ import annotations

import logging
import random
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reference.peer import Ended, RefClient
from sealwire.server_events import LINES
from support.aio import KINDS, served_by
from support.events import logged
from support.service import Deployment, eventually

pytestmark = pytest.mark.usefixtures("clean")

MARK = b"Marked4TheLog"


class ReloadableFiles:
    """A server whose log is counted, and whose handler should see no client but ours."""

    def __init__(self, deployment: Deployment, port: int, log: pytest.LogCaptureFixture, seen: list[bytes]) -> None:
        self.deployment, self.port, self.log, self.seen = deployment, port, log, seen

    def lines(self) -> list[logging.LogRecord]:
        opened = "connection.opened"
        return [record for record in logged(self.log) if record.__dict__["audit"]["event"] != opened]

    def one_line(self, level: int = logging.WARNING) -> str:
        """The only line that the stranger's connection left."""
        first = eventually(self.lines)[0]
        with self.deployment.client(self.port, raw=True) as client:
            assert client.send_request(b"honest") == b"honest"
        assert self.seen == [b"honest"]
        # On a machine that is busy, an honest client may leave a line as well, and connect again.
        address = first.getMessage().partition(": ")[0]
        assert [record for record in self.lines() if record.getMessage().startswith(address)] == [first]
        assert MARK.decode() not in repr(first.__dict__)
        assert first.levelno == level
        return first.getMessage()


@pytest.fixture(params=KINDS)
def watched(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> Iterator[ReloadableFiles]:
    seen: list[bytes] = []

    def respond(message: bytes) -> bytes:
        seen.append(message)
        return message

    caplog.set_level(logging.DEBUG, "sealwire")
    security = deployment.server_security(raw=True, limits={"handshake_timeout": 0.5})
    with served_by(request.param, respond, security) as port:
        yield ReloadableFiles(deployment, port, caplog, seen)


def exchange(port: int, data: bytes, *, end: bool) -> bytes:
    """Send bytes over plain TCP; what came back until the end."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)
        came = b""
        try:
            while piece := sock.recv(4096):
                came += piece
        except ConnectionResetError:
            pass
        return came


@pytest.mark.parametrize("end", [True, False], ids=["and FIN", "and waits"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        MARK,
        b"GET /" + MARK + b" HTTP/1.1\r\nHost: " + MARK + b"\r\n\r\n",
        b"SSH-2.0-" + MARK + b"\r\n",
        # The article's own client: a length and a pickle.
        (64).to_bytes(4, "big") + b"\x80\x04c" + MARK * 5,
        b"\x16\x03\x01\x00\xff" + MARK,
        MARK * 5000,
        *(random.Random(seed).randbytes(600) for seed in range(6)),
    ],
    ids=["nothing", "text", "HTTP", "SSH", "article", "half a ClientHello", "much", *(f"random {n}" for n in range(6))],
)
def test_plain_tcp(watched: ReloadableFiles, data: bytes, end: bool) -> None:
    came = exchange(watched.port, data, end=end)
    # At most an alert: nothing of ours is ever sent before TLS.
    assert len(came) <= 7
    assert b"HTTP" not in came
    # One that ends before its first byte is a load balancer's probe.
    assert watched.one_line(logging.WARNING if data or not end else logging.DEBUG).startswith("127.0.0.1:")


def test_reset_at_once(watched: ReloadableFiles) -> None:
    sock = socket.create_connection(("127.0.0.1", watched.port), 5)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    sock.close()
    assert "before its first byte" in watched.one_line(logging.DEBUG)


def test_http_inside_tls(watched: ReloadableFiles) -> None:
    with watched.deployment.ref_client(watched.port, until="tls") as client:
        client.send_raw(b"GET /" + MARK + b" HTTP/1.1\r\n\r\n")
        with pytest.raises(Ended):
            client.read_unverified(3)
    assert "bytes was announced" in watched.one_line() or "bytes were announced" in watched.lines()[0].getMessage()


def test_silent_after_tls(watched: ReloadableFiles) -> None:
    with watched.deployment.ref_client(watched.port, until="tls") as client, pytest.raises(Ended):
        client.read_unverified(3)
    assert "in time" in watched.one_line()


def adjusted(change: Callable[[ssl.SSLContext], object], **options: object) -> dict[str, object]:
    return {"adjust": change} | options


def _tls12(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (adjusted(_tls12), "unsupported protocol"),
        (adjusted(lambda context: context.set_alpn_protocols(["h2"])), "did not offer the protocol sealwire/1"),
        (adjusted(lambda context: context.set_alpn_protocols([])), "did not offer the protocol sealwire/1"),
        ({"cert": None, "key": None}, "peer did not return a certificate"),
        ({"role": "stranger"}, "certificate is not acceptable: (unable to get|self.signed)"),
        ({"role": "expired"}, "certificate is not acceptable: certificate has expired"),
        ({"role": "other client"}, r"\(dns:[a-z.]+.*\): refused: .*not on the peer list"),
        ({"role": "server only"}, "certificate is not acceptable: (unsuitable|unsupported) certificate purpose"),
        ({"key_id": "k9"}, "key id that is unknown"),
        ({"psk": MARK * 3}, "wrong tag"),
        ({"server_name": "localhost/other"}, "server name or service"),
        ({"codec": "pickle-5"}, "another codec than raw"),
    ],
    ids=[
        "TLS 1.2", "ALPN h2", "no ALPN", "no certificate", "other CA", "expired", "not on the list", "wrong use",
        "key id", "key", "name", "codec",
    ],
)  # fmt: skip
def test_refused(watched: ReloadableFiles, tmp_path: Path, options: dict[str, object], expected: str) -> None:
    deployment = watched.deployment
    role = options.get("role")
    if role == "stranger":
        deployment.files["stranger"] = Deployment(tmp_path).files["client"]
    elif role == "expired":
        deployment.files["expired"] = deployment.expired("expired", "client.example")
    elif role == "server only":
        deployment.files["server only"] = deployment.place.leaf("server only", "client.example", profile="server")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any: whether TLS or Sealwire says no is the server's to log
        deployment.ref_client(watched.port, **options).read_frame(3)
    assert not isinstance(caught.value, TimeoutError)
    assert re.search(expected, watched.one_line())


def test_every_refusal_is_the_same(watched: ReloadableFiles) -> None:
    """What REJECT says does not tell whether list, key, service or name was wrong; only the server's log does."""
    refusals: list[dict[str, object]] = [
        {"role": "other client"},
        {"key_id": "k9"},
        {"psk": MARK * 3},
        {"server_name": "localhost/other"},
        {"server_name": "localhost/"},
        {"role": "other client", "psk": MARK * 3, "server_name": "localhost/other"},
    ]
    answers = set()
    for options in refusals:
        with watched.deployment.ref_client(watched.port, until="hello", **options) as client:
            answers.add(client.read_unverified().raw)
    (answer,) = answers
    assert MARK not in answer


def test_many_at_once(watched: ReloadableFiles) -> None:
    """Fifty strangers, and a few lines."""
    threads = [
        threading.Thread(target=exchange, args=(watched.port, MARK * (number + 1)), kwargs={"end": True})
        for number in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: len(watched.lines()) == LINES)
    with watched.deployment.client(watched.port, raw=True) as client:
        assert client.send_request(b"honest") == b"honest"
    assert len(watched.lines()) == LINES
    assert MARK.decode() not in watched.log.text


def test_reference_client_is_no_stranger(watched: ReloadableFiles) -> None:
    """The refusals above do not hit every client."""
    client: RefClient
    with watched.deployment.ref_client(watched.port) as client:
        client.send_close()
        assert client.expect_end().code == 0
    assert watched.lines() == []
