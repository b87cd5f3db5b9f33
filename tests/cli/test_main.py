"""`python -m sealwire` as a process of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sealwire.trust.credentials import Credentials


def sealwire(python: list[str], directory: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*python, *arguments], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_certificates_and_keys_from_nothing(tmp_path: Path, python: list[str]) -> None:
    for command in (
        "certs init",
        "certs issue server localhost 127.0.0.1",
        "certs issue client client.example",
        "keys new",
        "certs list",
        "keys list",
    ):
        assert sealwire(python, tmp_path, *command.split()).stderr == ""
    certs = tmp_path / "certs"
    for name in ("server", "client"):
        Credentials.from_files(cert=certs / f"{name}.pem", key=certs / f"{name}.key", ca=certs / "ca.pem")


def test_errors_are_one_line(tmp_path: Path, python: list[str]) -> None:
    done = sealwire(python, tmp_path, "certs", "issue", "server", "localhost", status=1)
    assert done.stderr == "Error: certs/ca.pem: not there; make a CA with `sealwire certs init`\n"
    (tmp_path / "certs").write_text("a file")
    assert sealwire(python, tmp_path, "keys", "new", status=1).stderr == "Error: certs: File exists\n"


def test_its_name_is_sealwire(tmp_path: Path, python: list[str]) -> None:
    assert sealwire(python, tmp_path, "--help").stdout.startswith("Usage: sealwire ")


def test_a_table_fits_its_terminal(tmp_path: Path, python: list[str]) -> None:
    sealwire(python, tmp_path, "certs", "init")
    sealwire(python, tmp_path, "certs", "issue", "server", *(f"{letter * 30}.example" for letter in "abcde"))
    master, slave = os.openpty()
    with open(master, "rb", buffering=0) as reader:
        environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb"}
        done = subprocess.run([*python, "certs", "list"], cwd=tmp_path, stdout=slave, env=environment, check=True)
        os.close(slave)
        # One read: at the end of a terminal comes not emptiness but EIO.
        lines = reader.read(1 << 16).decode().splitlines()
    assert done.returncode == 0
    assert len(lines) > 3, "folded"
    assert max(map(len, lines)) <= 100
