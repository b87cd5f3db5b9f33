"""`sealwire ping`: the summary, and what goes wrong on the way."""

from __future__ import annotations

import math
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwire.cli.ping import Summary
from support.commands import Command, Served, furnish, sealwire
from support.service import Deployment


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, deployment: Deployment) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("ping")
    furnish(directory, deployment)
    with Served(directory) as served:
        yield served


def test_the_figures() -> None:
    lines = list(Summary(4, [1.0, 2.0, 6.0]).lines("a:1"))
    assert lines[:2] == ["--- a:1 ping statistics ---", "4 pings sent, 3 answered, 25% lost"]
    assert lines[2] == f"min/avg/max/mdev = 1.000/3.000/6.000/{math.sqrt(14 / 3):.3f} ms"
    assert list(Summary(1).lines("a:1"))[1:] == ["1 pings sent, 0 answered, 100% lost"]


def test_several_have_a_summary(served: Served) -> None:
    place = f"localhost:{served.port}"
    done = sealwire(served.directory, "ping", place, "--count", "3", "--interval", "0.01", "--config", "client.toml")
    *times, head, counts, figures = done.stdout.splitlines()
    assert all(re.fullmatch(r"\d+\.\d{3} ms", line) for line in times)
    assert (head, counts) == (f"--- {place} ping statistics ---", "3 pings sent, 3 answered, 0% lost")
    assert re.fullmatch(r"min/avg/max/mdev = (\d+\.\d{3}/){3}\d+\.\d{3} ms", figures)


def test_sigint_ends_with_the_summary(served: Served) -> None:
    command = Command(served.directory, "ping", f"127.0.0.1:{served.port}", "-i", "3600", "--config", "client.toml")
    with command:
        assert command.stdout.readline().endswith(" ms\n")
        command.send_signal(signal.SIGINT)
        done = command.finish()
    assert "1 pings sent, 1 answered, 0% lost" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_that_comes_back_is_pinged_on(served: Served, deployment: Deployment, tmp_path: Path) -> None:
    furnish(tmp_path, deployment)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = Command(tmp_path, "ping", f"localhost:{port}", "-i", "0.05", "--config", "client.toml")
    with command, Served(tmp_path, "--port", str(port)):
        assert command.stdout.readline().endswith(" ms\n")
        command.send_signal(signal.SIGINT)
        done = command.finish()
    assert re.search(r"\n\d+ pings sent, \d+ answered, ", done.stdout)
    assert done.returncode == 0
    assert all("Connection refused" in line for line in done.stderr.splitlines())


def test_no_answer_at_all_is_an_error(served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = sealwire(served.directory, "ping", f"127.0.0.1:{port}", "--count", "2", "--config", "client.toml", status=69)
    assert "2 pings sent, 0 answered, 100% lost" in done.stdout
    assert done.stderr.count("Connection refused") == 3
