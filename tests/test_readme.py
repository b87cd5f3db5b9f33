"""README.md followed word for word: in an empty directory, with real processes, and with an installation of its own.

``python tests/test_readme.py`` writes the table of limits anew.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from sealwire import Limits

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIMITS = re.compile(r"(<!-- limits: begin[^\n]*\n).*?(<!-- limits: end -->)", re.DOTALL)
DEADLINE = 60


def limits_table() -> str:
    rows = ["| option | default | what it bounds |", "|---|---|---|"]
    for spec in fields(Limits):
        default, unit = spec.default, spec.metadata["unit"]
        shown = f"{default:,}" if isinstance(default, int) else f"{default:g}"
        if unit == "bytes" and isinstance(default, int) and default % (1 << 20) == 0:
            shown, unit = str(default >> 20), "MiB"
        rows.append(f"| `{spec.name}` | {shown} {unit} | {spec.metadata['why']} |")
    return "\n".join(rows) + "\n"


def blocks() -> Iterator[tuple[str, dict[str, str], str]]:
    for language, options, text in BLOCK.findall(README.read_text()):
        yield language, dict(option.split("=", 1) for option in options.split()), text


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command, and the output that is shown for it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    pause = threading.Event()
    for _ in range(DEADLINE * 20):
        assert server.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(0.05)
    raise AssertionError("the server does not listen")


class Shell:
    """A session of a user's: what one command exports or activates, the next one has."""

    def __init__(self, directory: Path, ports: dict[str, str]) -> None:
        self.directory = directory
        self.setup: list[str] = []
        self.servers: list[subprocess.Popen[bytes]] = []
        self.ports = ports
        self.environment = {name: os.environ[name] for name in os.environ if not name.startswith(("VIRTUAL_", "COV_"))}

    def adapted(self, text: str) -> str:
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return text.replace("/path/to/this/checkout", str(ROOT)).replace("python3 -m venv", f"{sys.executable} -m venv")

    def line(self, command: str) -> str:
        return "\n".join(["set -e", *self.setup, command])

    def run(self, command: str, expected: str) -> None:
        command = self.adapted(command)
        if command.startswith(("export ", ". ")):
            self.setup.append(command)
            return
        done = subprocess.run(
            ["bash", "-c", self.line(command)],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE * 2,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        assert expected in done.stdout, f"{command}: {done.stdout}"

    def serve(self, command: str) -> None:
        command = self.adapted(command)
        server = subprocess.Popen(
            ["bash", "-c", self.line(f"exec {command}")], cwd=self.directory, env=self.environment
        )
        self.servers.append(server)
        port = re.search(r"--port (\d+)", command)
        wait_for(int(port[1]) if port else int(self.ports["7443"]), server)

    def close(self) -> None:
        for server in self.servers:
            server.terminate()
            server.wait(DEADLINE)


def test_limits_are_those_of_the_code():
    found = LIMITS.search(README.read_text())
    assert found is not None
    assert found[0] == found[1] + limits_table() + found[2], "run `python tests/test_readme.py`"


@pytest.mark.timeout(300)
def test_every_step_works(tmp_path):
    shell = Shell(tmp_path, {"7443": str(free_port()), "7444": str(free_port())})
    ran = 0
    try:
        for language, options, text in blocks():
            if "file" in options:
                (tmp_path / options["file"]).write_text(shell.adapted(text))
            elif language == "console":
                for command, output in commands(text):
                    if "terminal" in options:
                        shell.serve(command)
                    else:
                        shell.run(command, shell.adapted(output))
                    ran += 1
    finally:
        shell.close()
    assert ran >= 10
    assert {path.name for path in tmp_path.glob("*.py")} == {"server.py", "client.py"}


def test_links_lead_somewhere():
    for document in (README, ROOT / "SECURITY.md", ROOT / "certs" / "README.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


if __name__ == "__main__":
    README.write_text(LIMITS.sub(lambda found: found[1] + limits_table() + found[2], README.read_text()))
