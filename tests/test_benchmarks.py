"""The benchmarks run: two peers, for a moment, and no figure is judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.documents import ROOT
from support.service import eventually

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start the benchmarks; their temporary files, and so the arguments of all their processes, are in ``tmp_path``."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks", "--quick", *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def processes(directory: Path) -> list[str]:
    """Return the command lines of processes that have the directory among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f" {directory}/" in line:
            found.append(line)
    return found


def test_two_peers(start: Start, tmp_path: Path) -> None:
    peers, file = "sealwire-threads-pure,sealwire-asyncio-pure", tmp_path / "found"
    with start("--peers", peers, "--workloads", "A1,F,G,H", "--json", str(file)) as run:
        table, log = run.communicate(timeout=100)
    assert run.returncode == 0, log
    found = json.loads(file.read_text())
    for letter, workload in found["workloads"].items():
        assert set(workload["medians"]) == {"bare-tls", "sealwire-threads-pure", "sealwire-asyncio-pure"}, letter
        assert workload["ratios"]["bare-tls"] == 1
        assert all(value > 0 for value in workload["medians"].values()) or letter == "G"
    assert "sealwire-threads-pure" in table
    assert eventually(lambda: not processes(tmp_path), 30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    with start("--peers", "sealwire-prefork-pure", "--workloads", "H") as run:
        # Two servers, one of them with two workers, and the clients of one.
        assert eventually(lambda: len(processes(tmp_path)) >= 5, 60)
        run.send_signal(number)
        run.communicate(timeout=60)
    assert run.returncode != 0
    assert eventually(lambda: not processes(tmp_path), 30)
