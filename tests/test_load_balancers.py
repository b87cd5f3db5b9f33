"""Real proxies, with the configurations of the guide, in front of a server that knows its clients' addresses."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from sealwire import RequestHandler, SealwireError, ThreadingTCPServer
from support.documents import ROOT, STREAM_MODULE, blocks, free_port, wait_for
from support.service import Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clean")

GUIDE = ROOT / "docs/how-to/behind-a-load-balancer.md"
AT = "127.0.0.9"
"""The proxies' own address."""
SENDS = "send-proxy-v2 proxy-v2-options crc32c"
EVERYTHING = f"{SENDS},unique-id,authority,ssl,cert-cn,ssl-cipher,cert-sig,cert-key"
ASKS = (
    "option httpchk",
    "http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost",
    " port 9091",
    " port 9092",
)
"""The lines of the guide's HAProxy for the admin endpoint; here it checks the service itself."""


class Address(RequestHandler):
    def respond(self, message: object) -> object:
        return list(self.client_address)


def configuration(name: str, ports: dict[str, int], *changes: tuple[str, str]) -> str:
    """That of the guide, with these ports, and changes that do change it."""
    text = next(text for _, options, text in blocks(GUIDE) if options.get("file") == name)
    for old, new in [*((f"127.0.0.1:{old}", f"127.0.0.1:{new}") for old, new in ports.items()), *changes]:
        assert old in text
        text = text.replace(old, new)
    return text


@contextmanager
def process(port: int, *command: str, directory: Path) -> Iterator[None]:
    """A proxy that listens on this port, to the end of the block."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    with open(directory / "log", "wb") as log, subprocess.Popen(command, cwd=directory, stderr=log) as proxy:
        try:
            wait_for(str(port), proxy)
            yield
        finally:
            proxy.terminate()
            proxy.wait(20)


@contextmanager
def haproxy(server: int, directory: Path, *changes: tuple[str, str]) -> Iterator[int]:
    front = free_port()
    ports = {"7443": front, "7444": server, "7445": server}
    own = [("default-server check", f"default-server source {AT} check"), *((line, "") for line in ASKS)]
    (directory / "haproxy.cfg").write_text(configuration("haproxy.cfg", ports, *own, *changes))
    with process(front, "haproxy", "-f", "haproxy.cfg", directory=directory):
        yield front


@contextmanager
def nginx(server: int, directory: Path) -> Iterator[int]:
    if not STREAM_MODULE.exists():
        pytest.skip(f"nginx has no stream module: there is no {STREAM_MODULE}")
    front = free_port()
    ports = {"7442": front, "7444": server, "7445": server}
    own = ("proxy_protocol on;", f"proxy_protocol on; proxy_bind {AT};")
    (directory / "nginx.conf").write_text(configuration("nginx.conf", ports, own))
    with process(front, "nginx", "-p", ".", "-c", "nginx.conf", "-e", "stderr", directory=directory):
        yield front


WAYS: dict[str, Callable[[int, Path], AbstractContextManager[int]]] = {
    "haproxy": haproxy,
    "haproxy, version 1": lambda server, directory: haproxy(server, directory, (SENDS, "send-proxy")),
    "haproxy, all fields": lambda server, directory: haproxy(
        server, directory, (SENDS, EVERYTHING), ("mode tcp", "mode tcp\n    unique-id-format %[uuid()]")
    ),
    "nginx": nginx,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_address(way: str, deployment: Deployment, tmp_path: Path) -> None:
    """It is the client's, also of a client that connects to the server itself."""
    security = deployment.server_security(proxy_protocol=[AT])
    with (
        running(ThreadingTCPServer(("127.0.0.1", 0), Address, security)) as server,
        WAYS[way](server, tmp_path) as front,
    ):
        for port in (front, server):
            with deployment.client(port) as client:
                assert client.send_request("x")[0] == "127.0.0.1"


def test_another_list(deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A proxy that is not listed is refused, and the log has its address."""
    security = deployment.server_security(proxy_protocol=["192.0.2.1"])
    with (
        running(ThreadingTCPServer(("127.0.0.1", 0), Address, security)) as server,
        haproxy(server, tmp_path) as front,
        deployment.client(front, wait=0.5, timeout=0.5) as client,
    ):
        with pytest.raises(SealwireError):
            client.send_request("x")
        eventually(lambda: f"{AT}:" in caplog.text and "not listed in proxy_protocol" in caplog.text)


def test_checks(deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """HAProxy's own connections begin with LOCAL, and end; the server stays in service."""
    caplog.set_level("DEBUG")
    security = deployment.server_security(proxy_protocol=[AT])
    with (
        running(ThreadingTCPServer(("127.0.0.1", 0), Address, security)) as server,
        haproxy(server, tmp_path, ("inter 1s fall 2", "inter 100 fall 1")) as front,
    ):
        eventually(lambda: caplog.text.count(f"{AT}:") >= 6, timeout=20)
        with deployment.client(front) as client:
            assert client.send_request("x")[0] == "127.0.0.1"
        assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []
    assert b"DOWN" not in (tmp_path / "log").read_bytes()
