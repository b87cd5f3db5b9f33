"""`sealwire check`: the line and the status of a monitoring plugin."""

from __future__ import annotations

import json
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.commands import Configured, Run, Served

FORM = re.compile(r"SEALWIRE (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+(?: \| (?P<figures>.*))?\n")
FIGURE = re.compile(r"(\w+)=([\d.e+-]+)([sc%]?)((?:;[\d.e+:-]*){0,4})")
"""As the guidelines of monitoring plugins have it: name, value, unit; then warning, critical, minimum, maximum."""


def line(place: Configured, *arguments: str, status: int) -> tuple[str, dict[str, str]]:
    """Return the line, and the value of each figure with what follows it."""
    output = place.run("check", *arguments, status=status).stdout
    match = FORM.fullmatch(output)
    assert match is not None, output
    assert match[1] == ("OK", "WARNING", "CRITICAL", "UNKNOWN")[status]
    figures = {}
    for text in (match["figures"] or "").split():
        figure = FIGURE.fullmatch(text)
        assert figure is not None, text
        figures[figure[1]] = figure[2] + figure[3] + figure[4]
    return output, figures


def test_all_is_well(place: Configured, port: int) -> None:
    output, figures = line(place, f"localhost:{port}", "-C", place.config("client"), status=0)
    assert re.search(rf"OK - localhost:{port} answered in \d+ ms; \S+ ends first, in 29 days ", output)
    assert figures["days_left"] == "29;;0:"
    assert re.fullmatch(r"0\.\d+s;;;0", figures["time"])


def test_thresholds(place: Configured, port: int) -> None:
    config = "-C", place.config("server")
    assert line(place, *config, "-w", "30", "-c", "7", status=1)[1] == {"days_left": "29;30:;7:"}
    assert line(place, *config, "-w", "90", "-c", "30", status=2)[1] == {"days_left": "29;90:;30:"}
    client = "-C", place.config("client"), f"localhost:{port}"
    output, figures = line(place, *client, "--slow-warning", "1e-9", "--slow-critical", "100", status=1)
    assert "answered only after" in output
    assert figures["time"].endswith("s;1e-09;100;0")
    line(place, *client, "--slow-critical", "1e-9", status=2)


def test_what_has_ended_or_cannot_be_loaded(place: Configured) -> None:
    place.leaf("server", "localhost", days=1, not_before=datetime.now(UTC) - timedelta(days=3))
    assert "expired at" in line(place, "-C", place.config("server"), status=2)[0]


def test_a_server_that_does_not_answer(place: Configured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        output, _ = line(place, address, "-C", place.config("client"), "-t", "0.2", status=2)
        assert "in time" in output
    assert "Connection refused" in line(place, address, "-C", place.config("client"), status=2)[0]


def test_an_address_is_named_once(place: Configured) -> None:
    line = place.run("check", "localhost:1", "-C", place.config("client"), status=2).stdout
    assert "- cannot connect to localhost:1: Connection refused" in line


def test_a_running_server(directory: Path, run: Run) -> None:
    with Served(directory, "--admin", "unix:admin") as served:
        output = run("check", "--admin", f"unix:{directory}/admin").stdout
        assert (
            f"OK - process {served.process.pid} is serving, with 0 connections | connections=0;;;0 requests=0c"
            in output
        )
    assert "unix:" in run("check", "--admin", f"unix:{directory}/admin", status=2).stdout


def test_further_lines(place: Configured) -> None:
    config = "-C", place.config("server")
    first, *more = place.run("check", *config, "-c", "3650", "-v", status=2).stdout.splitlines()
    assert first.endswith("and 1 more | days_left=29;;3650:")
    assert len(more) == 4
    assert any("`sealwire certs request server " in each for each in more)
    found = json.loads(place.run("check", *config, "-c", "3650", "--json", status=2).stdout)
    assert (found["status"], len(found["findings"])) == ("CRITICAL", 4)
    assert found["figures"] == {"days_left": 29}


def test_quiet(place: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.run("check", "-q", "-C", place.config("server"), "-w", "30", status=1).output == ""
    for command in ("status", "doctor"):
        assert place.run(command, "--quiet", "--config", place.config("server"), status=0).output == ""
    assert place.run("certs", "expiring", "-q", "-d", "authority", "--within", "3650", status=1).output == ""
    monkeypatch.chdir(place.directory / "server")
    assert place.run("status", "-q").output == ""
    assert place.run("status").stderr == "configuration: sealwire.toml, found here\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nonsense"], "No such option"),
        (["-w", "x"], "'x' is not a valid integer range"),
        (["-C", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["--context", "nowhere"], "there is no such context"),
        (["--admin", "nonsense"], "nonsense"),
        ([], "no configuration"),
        (["-C", "a|b\n.toml"], "a/b"),
    ],
)
def test_what_cannot_be_checked_is_unknown(place: Configured, arguments: list[str], says: str) -> None:
    output, figures = line(place, *arguments, status=3)
    assert says in output
    assert not figures
