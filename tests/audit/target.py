"""The services that are judged: real commands and real certificates, on the loopback interface."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVICE = "def echo(message):\n    return message\n"
DATAGRAMS = """\
from sealwire import Security
from sealwire.dtls import ThreadingUDPServer

with ThreadingUDPServer(("127.0.0.1", 0), lambda message: message, Security.from_toml("server.toml")) as server:
    print(f"serving on 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
"""
PKI = 'cert = "certs/{0}.pem"\nkey = "certs/{0}.key"\nca = "certs/ca.pem"\nkeyring = "certs/keyring.toml"\n'


@dataclass
class Target:
    """``sealwire serve`` on a port, a server of datagrams on another, and the files of both."""

    directory: Path
    port: int = 0
    udp_port: int = 0

    def sealwire(self, *arguments: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sealwire", *arguments],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def file(self, name: str) -> str:
        return str(self.directory / name)

    def still_answers(self) -> bool:
        """Return True if a good client gets its answer, after all that others have done."""
        done = self.sealwire("ping", f"localhost:{self.port}", "--config", "client.toml", "--count", "1")
        return done.returncode == 0


@contextmanager
def started(directory: Path, *command: str) -> Iterator[int]:
    """Start a server; give the port that it names in its first line."""
    with (
        open(directory / "log", "a") as log,
        subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("serving"), (directory / "log").read_text()
            yield int(line.rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def target() -> Iterator[Target]:
    """Make certificates and a key with Sealwire's own commands, and serve."""
    with tempfile.TemporaryDirectory(prefix="sealwire-audit-") as name:
        directory = Path(name)
        made = Target(directory)
        names = ["--server", "localhost", "--server", "127.0.0.1", "--client", "client.example"]
        for arguments in (["certs", "init", *names], ["keys", "new"]):
            done = made.sealwire(*arguments)
            assert done.returncode == 0, done.stderr
        done = made.sealwire("certs", "issue", "server", "elsewhere.example", "--as", "elsewhere")
        assert done.returncode == 0, done.stderr
        other = Target(directory / "other")
        other.directory.mkdir()
        assert other.sealwire("certs", "init", *names).returncode == 0
        (directory / "service.py").write_text(SERVICE)
        (directory / "datagrams.py").write_text(DATAGRAMS)
        (directory / "server.toml").write_text(PKI.format("server") + 'peers = ["dns:client.example"]\n')
        (directory / "client.toml").write_text(PKI.format("client"))
        serve = [sys.executable, "-m", "sealwire", "serve", "service:echo", "--config", "server.toml"]
        with (
            started(directory, *serve) as made.port,
            started(directory, sys.executable, "datagrams.py") as made.udp_port,
        ):
            yield made
