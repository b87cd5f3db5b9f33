"""Runs ``sealwire`` in a process of its own, makes directories for its commands, and reads the files that it writes."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

from click.testing import Result
from cryptography import x509

from sealwire.pki.authority import Issuer
from sealwire.pki.files import PRIVATE, PUBLIC, NewFile, write_files
from support.service import Deployment
from support.starter import Process

Run = Callable[..., Result]
"""The fixture ``run``."""

ORDERS = """\
import os
from sealwire import RequestHandler


def respond(message):
    if message == "hold":
        print("in hand", flush=True)
        with open("go") as fifo:
            fifo.read()
    elif message == "fail":
        raise ValueError("words of the message")
    elif message == "pid":
        return {"got": os.getpid()}
    return {"got": message}


class Orders(RequestHandler):
    def respond(self, message):
        return [self.peer.dns[0], message]


class Other:
    pass
"""


def furnish(directory: Path, deployment: Deployment) -> None:
    """Write orders.py, server.toml, client.toml, and the FIFO that ``hold`` waits for."""
    (directory / "orders.py").write_text(ORDERS)
    os.mkfifo(directory / "go")
    for role, more in (("server", {"peers": ["dns:client.example"]}), ("client", {})):
        cert, key = deployment.files[role]
        write_config(directory / f"{role}.toml", deployment, cert=str(cert), key=str(key), **more)


def write_config(path: Path, deployment: Deployment, **options: Any) -> None:
    place = deployment.place
    lines = {"ca": str(place.ca), "keyring": str(place.keyring)} | options
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))


def settings(directory: Path, *arguments: str) -> dict[str, Any]:
    """Return what support/cli.py takes."""
    return {"directory": str(directory), "arguments": arguments, "environment": dict(os.environ)}


class Command(Process):
    """``sealwire`` in a process of its own, whose standard error is kept for its end.

    ``closed``: its standard output is a pipe that nobody reads.
    """

    def __init__(self, directory: Path, *arguments: str, closed: bool = False) -> None:
        self._errors = TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        super().__init__("support.cli", settings(directory, *arguments) | {"closed": closed}, self._errors)

    def finish(self, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Give it the rest of its input, and wait for its end."""
        with suppress(BrokenPipeError), self.stdin:
            self.stdin.write(stdin)
        output = self.stdout.read()
        status = self.wait(60)
        self._errors.seek(0)
        return subprocess.CompletedProcess([], status, output, self._errors.read())

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._errors.close()


def sealwire(directory: Path, *arguments: str, stdin: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``sealwire``, which must end with ``status`` and without a traceback."""
    with Command(directory, *arguments) as command:
        done = command.finish(stdin)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


class Served:
    """``sealwire serve`` in a process of its own. ``line`` is the first that it printed; ``port`` is the first in it.

    ``script``: the beginning of a command line for a process that is not forked of one with the imports.
    """

    def __init__(
        self, directory: Path, *arguments: str, handler: str = "orders:respond", script: list[str] | None = None
    ) -> None:
        self.directory = directory
        command = ["serve", handler, "--config", "server.toml", *arguments]
        reading, writing = os.pipe()
        self.stderr = os.fdopen(reading)
        with os.fdopen(writing, "wb") as errors:
            self.process: Process | subprocess.Popen[str] = (
                Process("support.cli", settings(directory, *command), errors)
                if script is None
                else subprocess.Popen(
                    [*script, *command], cwd=directory, stdout=subprocess.PIPE, stderr=errors, text=True
                )
            )
        self.log: list[str] = []
        self.line = self.printed()
        if not self.line:
            with self:
                raise AssertionError(self.rest())
        found = re.search(r":(\d+)(?:,|$)", self.line)
        self.port = 0 if found is None else int(found[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process, self.stderr:
            pass

    def printed(self) -> str:
        """Return its next line on standard output; empty at the end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def logged(self, text: str) -> str:
        """Return the next line of its log that has ``text`` in it."""
        for line in self.stderr:
            self.log.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} is not in the log: {''.join(self.log)}")

    def rest(self) -> str:
        """Return the rest of its log, to its end."""
        return self.stderr.read()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def release(self) -> None:
        """Let the handler continue that has ``hold`` in hand."""
        (self.directory / "go").write_text("")

    def status(self) -> int:
        """Wait for its end and return the exit status."""
        return self.process.wait(20)


class Configured:
    """Good configurations of a server and of a client, in the directories ``server`` and ``client``."""

    def __init__(self, directory: Path, run: Run) -> None:
        self.directory = directory
        self.run = run
        run("certs", "init", "--dir", "authority", "--server", "localhost", "--client", "client.example")
        for role, more in (("server", 'peers = ["dns:client.example"]\n'), ("client", "")):
            home = directory / role
            home.mkdir(mode=0o700)
            for name in (f"{role}.pem", f"{role}.key"):
                os.rename(f"authority/{name}", home / name)
            (home / "ca.pem").write_bytes(Path("authority/ca.pem").read_bytes())
            run("certs", "crl", "--dir", "authority", "--days", "30")
            (home / "crl.pem").write_bytes(Path("authority/crl.pem").read_bytes())
            (home / "sealwire.toml").write_text(
                f'cert = "{role}.pem"\nkey = "{role}.key"\nca = "ca.pem"\ncrl = "crl.pem"\n'
                f'keyring = "keyring.toml"\n{more}'
            )
        ring = "server/keyring.toml"
        run("keys", "new", "--file", ring, "--id", "k1", "--days", "90", "--identity", "dns:client.example")
        write_files([NewFile(directory / "client" / "keyring.toml", Path(ring).read_bytes(), PRIVATE)])

    def config(self, role: str) -> str:
        return str(self.directory / role / "sealwire.toml")

    def replace(self, role: str, name: str, content: bytes) -> None:
        path = self.directory / role / name
        write_files([NewFile(path, content, PRIVATE if name.endswith(".key") else PUBLIC)], replace=True)

    def leaf(self, role: str, *names: str, **options: Any) -> None:
        ca = Issuer.from_pem(Path("authority/ca.pem").read_bytes(), Path("authority/ca.key").read_bytes())
        made = ca.issue(*names, **({"profile": role} | options))
        self.replace(role, f"{role}.key", made.key_pem)
        self.replace(role, f"{role}.pem", made.cert_pem)

    def findings(self, role: str, *arguments: str, status: int) -> list[str]:
        """Run doctor and return its findings, as "severity where: what"."""
        output = self.run("doctor", "--config", self.config(role), "--json", *arguments, status=status).stdout
        return [f"{each['severity']} {each['where']}: {each['what']}" for each in json.loads(output)]


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def certificate(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def uses(path: str) -> list[x509.ObjectIdentifier]:
    """Return the extended key usage of a certificate."""
    return list(certificate(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def openssl(*arguments: str, content: str = "") -> str:
    done = subprocess.run(["openssl", *arguments], input=content, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
