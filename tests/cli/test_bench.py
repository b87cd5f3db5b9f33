"""`sealwire bench` against a real server, both as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sealwire import ConnectionClosed, HandshakeRejected, RemoteError
from sealwire.cli.app import app
from sealwire.cli.bench.results import Results, milliseconds
from support.commands import Command, Served, furnish, sealwire, write_config
from support.service import Deployment

HANDLER = """\
import asyncio

seen = []
in_hand = 0
peers = set()
together = asyncio.Event()


async def respond(message):
    global in_hand
    if message == "seen":
        return [list(map(list, sorted(set(seen)))), len(seen)]
    if message == "fail":
        raise ValueError("words of the message")
    if message == "slow":
        await asyncio.sleep(0.02)  # what is measured
    if message == "hold":
        print("in hand", flush=True)
        await asyncio.Event().wait()  # until the test ends the client or the server
    if message == "together":
        in_hand += 1
        if in_hand == 12:
            together.set()
        await together.wait()
    if isinstance(message, bytes):
        seen.append((len(message), type(message).__name__))
    return message
"""


@pytest.fixture
def place(tmp_path: Path, deployment: Deployment) -> Path:
    furnish(tmp_path, deployment)
    return tmp_path


@pytest.fixture
def served(place: Path) -> Iterator[Served]:
    (place / "measured.py").write_text(HANDLER)
    with Served(place, "--loop", "asyncio", handler="measured:respond") as served:
        yield served


def start(place: Path, port: int, *arguments: str) -> Command:
    return Command(place, "bench", f"localhost:{port}", "--config", "client.toml", *arguments)


def bench(
    served: Served, *arguments: str, status: int = 0, stderr: str | None = ""
) -> subprocess.CompletedProcess[str]:
    with start(served.directory, served.port, *arguments) as command:
        done = command.finish()
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert stderr is None or done.stderr == stderr
    return done


def measured(served: Served, *arguments: str, status: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bench(served, "--json", *arguments, status=status, stderr=None).stdout)
    return found


def test_sends_as_many_requests_of_the_size_as_told(served: Served) -> None:
    found = measured(served, "--requests", "50", "--size", "1000", "--clients", "3", "--window", "4")
    assert (found["answered"], found["connections"], found["errors"], found["missed"]) == (50, 3, [], 0)
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p90"] <= found["latency_ms"]["p99"]
    assert found["latency_ms"]["p99"] <= found["latency_ms"]["max"] <= found["seconds"] * 1000
    assert found["requests_per_second"] == pytest.approx(50 / found["seconds"])
    seen = sealwire(served.directory, "call", f"localhost:{served.port}", '"seen"', "--config", "client.toml")
    assert json.loads(seen.stdout) == [[[1000, "bytes"]], 50]


def test_has_as_many_requests_in_flight_as_told(served: Served) -> None:
    """The handler answers none until it has twelve."""
    found = measured(
        served, "--message", '"together"', "--requests", "12", "--clients", "3", "--window", "4", "--wait", "50"
    )
    assert (found["answered"], found["errors"]) == (12, [])


def test_stops_after_the_duration(served: Served) -> None:
    found = measured(served, "--duration", "0.3", "--message", '"slow"')
    assert found["seconds"] >= 0.3
    assert 1 <= found["answered"] <= 0.3 / 0.02 + 1


def test_latency_counts_from_the_time_a_request_was_due(served: Served) -> None:
    """One place, 20 ms an answer, and a request due each millisecond: the 40th waits for 39 others."""
    slow = ["--message", '"slow"', "--requests", "40"]
    found = measured(served, *slow, "--rate", "1000")
    assert found["latency_ms"]["max"] >= 40 * 20 - 39
    assert found["latency_ms"]["p50"] >= 20 * 20 - 19
    assert found["answered"] == 40


def test_a_request_is_not_sent_before_it_is_due(served: Served) -> None:
    found = measured(served, "--rate", "100", "--requests", "21", "--clients", "2")
    assert found["answered"] == 21
    assert found["seconds"] >= 0.2


def test_requests_that_were_due_and_never_sent_are_reported(served: Served) -> None:
    load = ["--rate", "10000", "--duration", "0.3", "--message", '"slow"']
    found = measured(served, *load)
    assert found["missed"] == pytest.approx(3000 - found["answered"], abs=1)
    assert "were due and never sent" in bench(served, *load, stderr=None).stderr


def test_failures_by_kind(served: Served) -> None:
    found = measured(served, "--message", '"fail"', "--requests", "7", status=1)
    assert (found["answered"], found["latency_ms"]) == (0, None)
    (error,) = found["errors"]
    assert (error["kind"], error["count"]) == ("RemoteError 19", 7)
    assert error["first"].startswith("the server answered fault 19: the handler failed (id ")
    text = bench(served, "--message", '"fail"', "--requests", "7", status=1).stdout
    assert " 7 RemoteError 19: the server answered fault 19: " in text


def test_connections_that_the_server_refuses_are_failures(served: Served) -> None:
    config = served.directory / "server.toml"
    config.write_text(config.read_text() + "[limits]\nmax_connections = 2\n")
    with Served(served.directory) as small:
        found = measured(small, "--clients", "4", "--requests", "20", "--timeout", "1", status=1)
    (error,) = found["errors"]
    assert error["kind"] == "HandshakeRejected 4"
    assert error["count"] >= 2
    assert found["answered"] + error["count"] == 20


def test_a_server_that_is_gone_is_not_asked_without_a_pause(place: Path) -> None:
    with (
        Served(place) as served,
        start(place, served.port, "--json", "--message", '"hold"', "--duration", "1.5") as command,
    ):
        assert served.printed() == "in hand"
        served.process.kill()
        done = command.finish()
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["answered"] == 0
    assert 1 <= sum(error["count"] for error in found["errors"]) <= 1.5 / 0.05 + 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_prints_what_was_measured(served: Served, number: signal.Signals) -> None:
    with start(served.directory, served.port, "--json", "--message", '"hold"', "--duration", "600") as command:
        assert served.printed() == "in hand"
        command.send_signal(number)
        done = command.finish()
    found = json.loads(done.stdout)
    assert found["interrupted"] is True
    assert found["connections"] == 1
    assert done.returncode == 1, "no request was answered"


def test_a_progress_bar_is_for_terminals(python: list[str], served: Served) -> None:
    master, slave = os.openpty()
    command = [*python, "bench", f"localhost:{served.port}", "--config", "client.toml", "--requests", "5"]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    with open(master, "rb", buffering=0) as reader:
        done = subprocess.run(
            command, cwd=served.directory, stdout=subprocess.PIPE, stderr=slave, env=environment, check=True
        )
        os.close(slave)
        assert "connections" in reader.read(1 << 16).decode()
    assert b"\x1b" not in done.stdout
    assert done.stdout.startswith(b"1 connection, 1 in flight on each, 115 bytes\n")


def test_a_plot(served: Served) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    bench(served, "--requests", "300", "--plot", "latency.svg")
    root = ElementTree.parse(served.directory / "latency.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


TYPED = """\
from dataclasses import dataclass

taken = 0


@dataclass
class Order:
    item: str


def respond(order: Order) -> str:
    return order.item


def untyped(message):
    global taken
    taken += 1
    return message["item"]
"""


@pytest.mark.parametrize("handler", ["typed:respond", "typed:untyped"])
@pytest.mark.parametrize("rate", [[], ["--rate", "1000"]])
def test_a_message_that_the_handler_does_not_take_ends_the_run(place: Path, handler: str, rate: list[str]) -> None:
    (place / "typed.py").write_text(TYPED)
    for role in ("server", "client"):
        with (place / f"{role}.toml").open("a") as file:
            file.write('[allowlist]\ntypes = ["typed:Order"]\n')
    with Served(place, handler=handler) as served:
        where = ["bench", f"localhost:{served.port}", "--config", "client.toml", "--duration", "3600", *rate]
        done = sealwire(place, *where, status=77 if handler == "typed:respond" else 70)
        assert done.stdout == ""
        assert "send what the handler takes: a --message" in done.stderr
        if handler == "typed:respond":
            order = ["--message", '{"item": "tea"}', "--requests", "3"]
            done = sealwire(place, *where, *order, "--type", "typed:Order")
            assert "3 in " in done.stdout
            sealwire(place, *where, *order, status=77)
        else:
            done = sealwire(place, *where, "--message", "{}", "--requests", "3", status=1)
            assert "RemoteError 19" in done.stdout, "a handler that fails for a message of the user's is measured"
        sealwire(place, *where, "--type", "typed:Order", status=64)


# In this process: what goes wrong before anything is sent


def failing(place: Path, *arguments: str, status: int) -> str:
    result = CliRunner().invoke(app, ["bench", "localhost:1", "--config", str(place / "client.toml"), *arguments])
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--size", "1", "--message", "1"], "leave one out"),
        (["--message", "tea"], "line 1, column 1: Expecting value"),
        (["--window", "257"], "1<=x<=256"),
        (["--clients", "0"], "--clients"),
        (["--requests", "0"], "--requests"),
        (["--duration", "0"], "--duration"),
        (["--rate", "0"], "--rate"),
    ],
)
def test_wrong_usage(place: Path, arguments: list[str], says: str) -> None:
    assert says in failing(place, *arguments, status=64)


def test_no_server_there(place: Path) -> None:
    says = "Error: cannot connect to localhost:1: Connection refused; check that the server runs and listens there\n"
    assert failing(place, status=69) == says


def test_a_message_over_a_limit_is_not_sent_at_all(place: Path) -> None:
    assert "max_frame: the message has" in failing(place, "--size", str(1 << 25), status=1)


def test_a_plot_needs_its_library(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a.png: a plot is an SVG file" in failing(place, "--plot", "a.png", status=64)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "--plot needs the extra [plot], of which is missing: matplotlib" in failing(
        place, "--plot", "a.svg", status=1
    )


def test_a_raw_codec_takes_sizes_only(place: Path, deployment: Deployment) -> None:
    cert, key = deployment.files["client"]
    write_config(place / "client.toml", deployment, cert=str(cert), key=str(key), codec="raw")
    assert "the codec 'raw' takes bytes" in failing(place, "--message", "1", status=1)
    assert "Connection refused" in failing(place, "--size", "1", status=69)


def test_percentiles_are_values_that_were_measured() -> None:
    assert milliseconds(array("d", [i / 1000 for i in range(100, 0, -1)])) == {
        "p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0,
    }  # fmt: skip
    assert milliseconds([0.5]) == {"p50": 500, "p90": 500, "p99": 500, "max": 500}
    assert milliseconds([]) is None


def test_kinds_have_the_code_of_the_protocol() -> None:
    results = Results()
    for error in (
        RemoteError(21, "a"), RemoteError(21, "b"), RemoteError(19, "c"), HandshakeRejected("d", code=4),
        ConnectionClosed("e"), ConnectionClosed("f", code=2),
    ):  # fmt: skip
        results.fail(error)
    assert {kind: failure.count for kind, failure in results.failures.items()} == {
        "RemoteError 21": 2, "RemoteError 19": 1, "HandshakeRejected 4": 1, "ConnectionClosed": 1,
        "ConnectionClosed 2": 1,
    }  # fmt: skip
    assert results.failures["RemoteError 21"].first == "the server answered fault 21: a"
