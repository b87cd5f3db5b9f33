"""Every command where its output cannot go: terminals for ASCII, pipes and streams that are closed, full disks, ^C."""

from __future__ import annotations

import fcntl
import os
import pickle
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from sealwire.cli.app import app
from support.commands import Command, Served, sealwire
from support.documents import free_port

# The demo takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
COMMANDS = {
    "certs init": "--dir new",
    "certs issue": "server localhost --as other",
    "certs renew": "server",
    "certs request": "client client.example --as wish",
    "certs sign": "certs/asked.new.csr --as signed",
    "certs revoke": "client",
    "certs crl": "",
    "certs bundle": "certs/ca.pem --out bundle.pem",
    "certs install": "asked",
    "certs list": "",
    "certs show": "certs/ca.pem",
    "certs expiring": "--within 300",
    "keys new": "",
    "keys list": "",
    "keys show": "",
    "keys rotate": "",
    "keys revoke": "one",
    "keys prune": "",
    "keys export": "--for dns:client.example",
    "keys import": "exported",
    "serve": "missing:handler --config server.toml",
    "call": "localhost:{port} 1 --config client.toml",
    "ping": "localhost:{port} --config client.toml",
    "bench": "localhost:{port} --config client.toml --requests 2",
    "new": "project",
    "inspect": "message",
    "allowlist check": "--config server.toml",
    "allowlist suggest": "message",
    "status": "--config server.toml",
    "check": "localhost:{port} --config client.toml",
    "top": "{admin} --times 2 --every 0.1",
    "doctor": "--config server.toml",
    "demo": "",
    "completion": "bash",
}
"""A use of each command that prints something; certificates and types have names outside ASCII."""

TYPES = """\
from dataclasses import dataclass


@dataclass
class Straße:
    name: str


def respond(message):
    return "ü"
"""


def leaves(group: click.Group, *path: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield " ".join([*path, name])


def test_no_command_is_missing_here() -> None:
    assert sorted(leaves(app)) == sorted(COMMANDS)


class Place:
    """A directory in which every command has something to print, and a server's two addresses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        for line in (
            "certs init --name Zürich --server localhost --client client.example",
            "certs request server localhost --as asked",
            "keys new --id one",
            "keys new --id two --days 3",
            "keys new --id three --identity dns:client.example",
            "keys export --for dns:client.example --out exported",
            "certs issue server localhost --as asked --force",
            "certs request server localhost --as asked",
            "certs sign certs/asked.new.csr",
        ):
            sealwire(directory, *line.split())
        (directory / "shop.py").write_text(TYPES, "utf-8")
        for role, more in (("server", 'peers = ["dns:client.example"]\n'), ("client", "")):
            files = {name: f"certs/{role}.{end}" for name, end in (("cert", "pem"), ("key", "key"))}
            files |= {"ca": "certs/ca.pem", "keyring": "certs/keyring.toml"}
            text = "".join(f'{name} = "{path}"\n' for name, path in files.items()) + more
            text += '[allowlist]\ntypes = ["shop:Straße"]\n'
            (directory / f"{role}.toml").write_text(text, "utf-8")
        (directory / "message").write_bytes(pickle.dumps("Zürich"))
        self.addresses = {"port": "", "admin": f"127.0.0.1:{free_port()}"}

    def copy(self, place: Path, name: str) -> tuple[Path, *tuple[str, ...]]:
        """Make a copy of the directory; returns it, and the arguments of a command."""
        shutil.copytree(self.directory, place)
        return place, *name.split(), *COMMANDS[name].format(**self.addresses).split()

    def run(self, place: Path, name: str, *, shell: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command in a copy of the directory; ``shell``: a script that runs it as "$@"."""
        place, *arguments = self.copy(place, name)
        script = ["sh", "-c", shell, "sh"] if shell else []
        done = subprocess.run(
            [*script, sys.executable, "-W", "error", "-m", "sealwire", *arguments],
            cwd=place, env=os.environ | variables, stdin=subprocess.DEVNULL, capture_output=True, timeout=280,
            check=False,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert b"Exception ignored" not in done.stderr, done.stderr.decode()
        return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("all") / "files")
    with Served(made.directory, "--admin", made.addresses["admin"], handler="shop:respond") as served:
        made.addresses["port"] = str(served.port)
        yield made


@pytest.mark.parametrize("name", COMMANDS)
def test_on_a_terminal_for_ascii(place: Place, tmp_path: Path, name: str) -> None:
    done = place.run(tmp_path / "copy", name, **ASCII)
    assert done.returncode == (1 if name in ("serve", "certs expiring") else 0), done.stderr.decode()
    assert (done.stdout + done.stderr).isascii()
    assert done.stdout or name == "serve"


TABLES = (
    "certs list", "certs expiring", "certs show", "keys list", "keys show", "inspect", "allowlist check", "status",
    "doctor", "check", "top",
)  # fmt: skip


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("name", TABLES)
def test_on_a_narrow_terminal(place: Place, tmp_path: Path, name: str, columns: int) -> None:
    directory, *arguments = place.copy(tmp_path / "copy", name)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {"COLUMNS": "", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", "TERM": "xterm"}
    with open(ours, "rb", buffering=0) as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "sealwire", *arguments],
            cwd=directory, env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE,
            timeout=280, check=False,
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a terminal is an error
            while part := terminal.read(1 << 16):
                shown += part
    assert done.returncode in (0, 1), done.stderr.decode()
    text = shown.decode()
    if name == "top":  # moves the cursor, as it is live
        text = re.sub(r"\x1b\[[0-9?]*[A-KlhS]", "", text)
    assert "\x1b" not in text
    if name not in ("certs show", "status"):  # which shorten fingerprints, and lists of what is revoked
        assert "…" not in text
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        assert line == line.rstrip(), "a blank at the end"
        sentence = name in ("check", "status") and not line.startswith(" ")  # which the terminal wraps
        assert len(line) <= columns or len(line.split()) <= 2 or sentence, line


@pytest.mark.parametrize("name", COMMANDS)
def test_into_a_closed_pipe(place: Place, tmp_path: Path, name: str) -> None:
    with Command(*place.copy(tmp_path / "copy", name), closed=True) as command:
        done = command.finish()
    assert done.returncode == 1
    assert done.stderr.count("\n") == (1 if name == "serve" else 0), done.stderr


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "serve"])
def test_into_a_closed_output(place: Place, tmp_path: Path, name: str) -> None:
    done = place.run(tmp_path / "copy", name, shell='exec "$@" >&-')
    assert done.returncode == (3 if name in CHECKS else 1)
    assert done.stderr == b"Error: standard output: it is closed\n"


CHECKS = ("certs expiring", "status", "check", "doctor")


@pytest.mark.parametrize("name", ["certs list", "keys new", "call", "doctor", "check"])
def test_without_streams(place: Place, tmp_path: Path, name: str) -> None:
    status = 3 if name in CHECKS else 1
    assert place.run(tmp_path / "copy", name, shell='exec "$@" <&- >&- 2>&-').returncode == status
    assert place.run(tmp_path / "without", name, shell='exec "$@" <&- 2>&-').returncode == 0
    done = place.run(tmp_path / "full", name, shell='exec "$@" >/dev/full')
    assert (done.returncode, done.stderr) == (status, b"Error: standard output: No space left on device\n")


@pytest.mark.parametrize("arguments", ["--help", "--version", "keys --help", "check --nonsense"])
def test_help_onto_a_full_disk(arguments: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sealwire", *arguments.split()],
            stdout=full, stderr=subprocess.PIPE, timeout=280, check=False,
        )  # fmt: skip
    assert done.returncode == (3 if "check" in arguments else 1)
    assert done.stderr == b"Error: standard output: No space left on device\n"


def test_nothing_printed_is_no_error(place: Place, tmp_path: Path) -> None:
    assert place.run(tmp_path / "copy", "doctor", shell='exec "$@" --quiet >&-').returncode == 0


INTERRUPTED = """\
import signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "%s":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    "module", ["sealwire", "sealwire.trust.keyring", "click", "sealwire.cli.app", "sealwire.cli.keys", "tomlkit"]
)
def test_interrupted_while_it_imports(tmp_path: Path, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED % module)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", "from sealwire_command import main; main()", "keys", "new"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, timeout=280, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
    assert not (tmp_path / "certs").exists()


@pytest.mark.parametrize("name", ["certs show -", "call localhost:{port} - --config client.toml", "inspect -"])
def test_interrupted_while_it_waits(place: Place, name: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sealwire", *name.format(**place.addresses).split()],
        cwd=place.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        process.stdin.write(b"x" * (1 << 17))  # which no pipe holds: it is being read
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        with suppress(BrokenPipeError):
            assert process.communicate(timeout=60) == (b"", b"")
        assert process.returncode == -signal.SIGINT
