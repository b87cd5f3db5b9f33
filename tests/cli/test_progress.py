"""Progress bars: on a terminal, for what takes a while, and nowhere else."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sealwire.cli.progress import progress
from support.commands import Served

SCRIPT = [sys.executable, "-P", "-m", "sealwire"]


@contextmanager
def on_a_terminal(directory: Path, *arguments: str) -> Iterator[tuple[io.FileIO, subprocess.Popen[bytes]]]:
    """A command whose standard error is a terminal, which is given as well."""
    master, slave = os.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    with open(master, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            [*SCRIPT, *arguments], cwd=directory, stdout=subprocess.PIPE, stderr=slave, env=environment
        )
        os.close(slave)
        with process:
            yield terminal, process


def wait_for(terminal: io.FileIO, text: str) -> None:
    seen = ""
    while text not in seen:
        part = terminal.read(1 << 12)
        assert part, seen
        seen += part.decode()


def test_lines_have_one(directory: Path) -> None:
    (directory / "many").write_text('1\n"hold"\n')
    with Served(directory) as served:
        place = f"localhost:{served.port}"
        command = ["call", place, "@many", "--lines", "--config", "client.toml"]
        with on_a_terminal(directory, *command) as (terminal, process):
            wait_for(terminal, "2 sent, 0 without a reply")
            served.release()
            output, _ = process.communicate()
    assert output == b'{"got": 1}\n{"got": "hold"}\n'
    assert process.returncode == 0


def test_doctor_has_one_while_a_server_is_silent(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        command = ["doctor", place, "--config", "client.toml", "--json"]
        with on_a_terminal(directory, *command) as (terminal, process):
            wait_for(terminal, f"looking, and connecting to {place}")
            process.kill()


def test_there_is_none_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("working", 2) as show:
        show(1, "half")
    assert capsys.readouterr() == ("", "")
