"""`sealwire call` and `sealwire ping` as processes of their own."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_network
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner

from sealwire.cli.app import app
from sealwire.cli.replies import as_json
from support.commands import Served, furnish, sealwire, write_config
from support.service import Deployment

VALUES = """\
import datetime, decimal, os, pathlib
from sealwire import Security


def respond(message):
    if message == "values":
        return {
            "when": datetime.datetime(2026, 11, 24, 8, tzinfo=datetime.timezone.utc),
            "price": decimal.Decimal("12.50"),
            "raw": b"\\x00\\xff",
            "tags": {"b", "a"},
            "pair": (1, None),
            "huge": 2 ** 14_000,
            "by number": {1: "one"},
            "not finite": float("inf"),
        }
    if message == "hold":
        with open("go") as fifo:
            fifo.read()
    if message == "die once" and not os.path.exists("died"):
        pathlib.Path("died").touch()
        os._exit(1)
    if message == "fail":
        raise ValueError
    return message


def typed(message: decimal.Decimal) -> str:
    return str(message * 2)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, deployment: Deployment) -> Path:
    directory = tmp_path_factory.mktemp("call")
    furnish(directory, deployment)
    (directory / "values.py").write_text(VALUES)
    return directory


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[Served]:
    with Served(place, "--server", "forking", handler="values:respond") as served:
        yield served


def call(served: Served, command: str, *arguments: str, status: int = 0, stdin: str = "") -> str:
    """Run a command and return its output, which is an error if that is its status."""
    place = f"localhost:{served.port}"
    done = sealwire(served.directory, command, place, *arguments, "--config", "client.toml", status=status, stdin=stdin)
    if status == 0:
        assert done.stderr == ""
        return done.stdout
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    "value", [{"item": "tea", "count": [1, -2.5e3, None, True]}, 0, "ä\u2028", {}, [], False, None]
)
def test_prints_the_reply_as_json(served: Served, value: Any) -> None:
    output = call(served, "call", json.dumps(value))
    assert json.loads(output) == value
    assert ("ä" in output) == ("ä" in json.dumps(value, ensure_ascii=False))
    assert "\u2028" not in output, "a terminal may take it for the end of the line"


def test_reads_standard_input(served: Served) -> None:
    output = call(served, "call", "-", stdin=' {"é": "\n"}'.replace("\n", "\\n"))
    assert json.loads(output) == {"é": "\n"}


def test_prints_what_json_lacks(served: Served) -> None:
    assert json.loads(call(served, "call", '"values"'), parse_int=str) == {
        "when": "2026-11-24T08:00:00+00:00",
        "price": "12.50",
        "raw": "AP8=",
        "tags": ["a", "b"],
        "pair": ["1", None],
        "huge": _digits(2**14_000),
        "by number": [["1", "one"]],
        "not finite": "inf",
    }


def _digits(number: int) -> str:
    """More than the 4,300 that str() makes."""
    high, low = divmod(number, 10**4000)
    return f"{high}{low:04000d}"


def test_plain_data_for_a_service_with_a_declared_type(place: Path) -> None:
    with Served(place, handler="values:typed") as served:
        for form in ("call", '"12.50"'), ("call", '"12.50"', "--stream"):
            assert "written with --type MODULE:CLASS" in call(served, *form, status=77)
        value = '{"$type": "decimal:Decimal", "$value": "12.50"}'
        assert (
            call(served, "call", value) == call(served, "call", '"12.50"', "--type", "decimal:Decimal") == '"25.00"\n'
        )


def test_the_servers_fault(served: Served) -> None:
    line = call(served, "call", '"fail"', status=70)
    assert line.startswith("Error: the server answered fault 19: the handler failed (id ")


def test_waits_no_longer_than_told(served: Served) -> None:
    line = call(served, "call", '"hold"', "--wait", "1", status=75)
    assert "in time" in line
    (served.directory / "go").write_text("")


def test_sends_again_only_what_is_idempotent(served: Served) -> None:
    died = served.directory / "died"
    line = call(served, "call", '"die once"', status=76)
    assert "the server may or may not have acted on it" in line
    died.unlink()
    assert json.loads(call(served, "call", '"die once"', "--idempotent")) == "die once"
    assert died.exists()


def test_connects_no_longer_than_told(served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        done = sealwire(served.directory, "ping", place, "--config", "client.toml", "--timeout", "0.3", status=69)
    assert "did not complete TLS in time" in done.stderr


@pytest.mark.parametrize("count", [1, 3])
def test_ping_prints_milliseconds(served: Served, count: int) -> None:
    lines = call(served, "ping", "--count", str(count)).splitlines()
    assert len(lines) == (count if count == 1 else count + 3), "and the summary"
    for line in lines[:count]:
        match = re.fullmatch(r"(\d+\.\d{3}) ms", line)
        assert match is not None
        assert 0 < float(match[1]) < 10_000


def test_ipv6(tmp_path: Path, deployment: Deployment) -> None:
    furnish(tmp_path, deployment)
    cert, key = deployment.place.leaf("ipv6", "::1")
    write_config(tmp_path / "server.toml", deployment, cert=str(cert), key=str(key), peers=["dns:client.example"])
    with Served(tmp_path, "--host", "::1") as served:
        for command in (["call", f"[::1]:{served.port}", "1"], ["ping", f"[::1]:{served.port}"]):
            sealwire(tmp_path, *command, "--config", "client.toml")


# In this process: what goes wrong before anything is sent


def failing(place: Path, *arguments: str, status: int, config: str = "client.toml", stdin: bytes = b"") -> str:
    result = CliRunner().invoke(app, [*arguments, "--config", str(place / config)], input=stdin)
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        ":1",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:-1",
        "::1:80",
        "[::1]",
        "[]:1",
        "a b:",
    ],
)
@pytest.mark.parametrize("command", [["call", "1"], ["ping"]])
def test_an_address_has_a_form(place: Path, command: list[str], address: str) -> None:
    line = failing(place, command[0], address, *command[1:], status=64)
    assert f"{address!r}: " in line
    assert "; expected HOST:PORT like server.example:7443 or [::1]:7443, unix:PATH, udp://HOST:PORT, " in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": }', "line 1, column 7: Expecting value"),
        ("tea", "line 1, column 1: Expecting value"),
        ("", "line 1, column 1: Expecting value"),
        ("[NaN]", "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5_000, "an integer of more than 4,300 digits"),
        ("[1e400]", "1e400 is too large for a float"),
        ('{"a": 1, "a": 2}', "a name occurs twice"),
    ],
)
def test_a_message_is_json(place: Path, text: str, says: str) -> None:
    assert says in failing(place, "call", "localhost:1", "-", status=64, stdin=text.encode())


@pytest.mark.parametrize(
    ("option", "says"),
    [("--confg", "No such option '--confg'."), ("-x", "No such option '-x'")],
)
def test_an_option_that_does_not_exist(place: Path, option: str, says: str) -> None:
    result = CliRunner().invoke(app, ["call", "localhost:1", "1", option, str(place / "client.toml")])
    assert result.exit_code == 64
    assert says in result.stderr


def test_a_value_that_does_not_fit_is_no_question_of_syntax(place: Path) -> None:
    forms = "; expected a value like"
    assert forms in failing(place, "call", "localhost:1", "tea", status=64)
    assert forms not in failing(place, "call", "localhost:1", '{"a": 1, "a": 2}', status=64)


def test_standard_input_is_text(place: Path) -> None:
    assert "not UTF-8 text" in failing(place, "call", "localhost:1", "-", status=64, stdin=b'"\xff"')


def test_the_codec_is_for_objects(place: Path, deployment: Deployment) -> None:
    cert, key = deployment.files["client"]
    write_config(place / "raw.toml", deployment, cert=str(cert), key=str(key), codec="raw")
    assert "raw.toml: the codec 'raw' takes bytes" in failing(
        place, "call", "localhost:1", "1", status=1, config="raw.toml"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["call", "localhost:1", '"\\ud800"'], "surrogate"),
    ],
)
def test_what_cannot_work_is_one_line(place: Path, arguments: list[str], says: str) -> None:
    line = failing(place, *arguments, status=1)
    assert line.startswith("Error: ")
    assert line.count("\n") == 1
    assert says in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["call", "localhost:1", "1", "--wait", "0"], "wait must be a number of seconds above 0"),
        (["call", "localhost:1", "1", "--timeout", "nan"], "timeout must be a number of seconds above 0"),
        (["ping", "localhost:1", "--timeout", "1e9"], "timeout must be a number of seconds above 0"),
    ],
)
def test_a_time_that_is_none(place: Path, arguments: list[str], says: str) -> None:
    assert says in failing(place, *arguments, status=64)


def test_no_server_there(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    line = failing(place, "ping", f"127.0.0.1:{port}", status=69)
    says = f"Error: cannot connect to 127.0.0.1:{port}: Connection refused; "
    assert line == f"{says}check that the server runs and listens there\n"


@dataclass
class Point:
    x: int
    y: Any


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1 + 2j, "(1+2j)"),
        (bytearray(b"ab"), "YWI="),
        (date(2026, 11, 24), "2026-11-24"),
        (time(8, 30), "08:30:00"),
        (datetime(2026, 11, 24, 8, 30), "2026-11-24T08:30:00"),
        (timedelta(days=1, seconds=2), "1 day, 0:00:02"),
        (UTC, "UTC"),
        (Decimal("-0.10"), "-0.10"),
        (Fraction(1, 3), "1/3"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/etc/hosts"), "/etc/hosts"),
        (ip_address("::1"), "::1"),
        (ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        ((1, (2, [3])), [1, [2, [3]]]),
        (deque([1, b"a"]), [1, "YQ=="]),
        (frozenset({"b", "a", 3}), ["a", "b", 3]),
        ({(1, 2), (0, 9)}, [[0, 9], [1, 2]]),
        ({"a": {"b": b""}}, {"a": {"b": ""}}),
        ({1: "a", "1": "b"}, [[1, "a"], ["1", "b"]]),
        ({(1, 2): {3}}, [[[1, 2], [3]]]),
        (OrderedDict(a=1), {"a": 1}),
        (Counter("aa"), {"a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Point(1, {2}), {"x": 1, "y": [2]}),
    ],
)
def test_as_json(value: Any, expected: Any) -> None:
    result = as_json(value)
    assert result == expected
    assert type(result) is type(expected)
    assert json.loads(json.dumps(result, allow_nan=False)) == expected
