"""The log of `sealwire serve`: its level, its form, the access log, and a configuration of Python's logging."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.test_reload import KINDS, client
from sealwire import RemoteError
from support.commands import Served, sealwire
from support.service import eventually

AUDIT = """
[formatters.json]
"()" = "sealwire.log_format.JSONFormatter"
[handlers.audit]
class = "logging.FileHandler"
formatter = "json"
filename = "audit.jsonl"
[handlers.stderr]
class = "logging.StreamHandler"
[loggers."sealwire.audit"]
handlers = ["audit"]
level = "INFO"
propagate = false
[root]
handlers = ["stderr"]
level = "INFO"
"""


def rest(served: Served) -> list[str]:
    served.signal(signal.SIGTERM)
    assert served.status() == 0
    return served.rest().splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_json_with_an_access_log(directory: Path, kind: str) -> None:
    """Each line is JSON, and each event has one line."""
    with Served(directory, *kind.split(), "--log-format", "json", "--access-log") as served:
        with client(served) as caller:
            assert caller.send_request(1) == {"got": 1}
            with pytest.raises(RemoteError):
                caller.send_request("fail")
        found = [json.loads(line) for line in rest(served)]
    assert all({"time", "level", "logger", "message"} <= set(each) for each in found)
    ended = [each for each in found if each.get("event") == "request.ended"]
    assert [each["outcome"] for each in ended] == ["answered", "failed with ValueError"]
    assert all("dns:client.example" in each["peer"] and each["key_id"] for each in ended)
    (failed,) = (each for each in found if each.get("event") == "request.failed")
    assert failed["place"] == "ValueError at orders.py:11 in respond"
    assert failed["request_id"] == ended[1]["request_id"]
    assert [each for each in found if each["logger"] == "sealwire.audit" and each["event"] != "request.ended"] == []
    assert "words of the message" not in json.dumps(found)


def test_levels(directory: Path) -> None:
    with Served(directory, "--log-level", "error") as served:
        with client(served) as caller, pytest.raises(RemoteError):
            caller.send_request("fail")
        (line,) = rest(served)
    assert "handler failed" in line
    with Served(directory, "--log-level", "debug") as served:
        with client(served) as caller, pytest.raises(RemoteError):
            caller.send_request("fail")
        text = "\n".join(rest(served))
    assert "connected" in text
    assert "ValueError: words of the message" in text


@pytest.mark.parametrize("form", ["toml", "json"])
def test_a_configuration(directory: Path, form: str) -> None:
    """The audit log has a file of its own."""
    import tomllib

    path = directory / f"logging.{form}"
    path.write_text(AUDIT if form == "toml" else json.dumps(tomllib.loads(AUDIT)))
    with Served(directory, "--log-config", path.name) as served, client(served) as caller:
        assert caller.send_request(1) == {"got": 1}

        def records() -> list[dict[str, Any]]:
            return [json.loads(line) for line in (directory / "audit.jsonl").read_text().splitlines()]

        (opened,) = eventually(records)
        assert opened["event"] == "connection.opened"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("logging.toml", "[[[", "not valid TOML: "),
        ("logging.toml", '[root]\nhandlers = ["absent"]', "no configuration of Python's logging: "),
        ("logging.toml", '[handlers.x]\nclass = "no.such.Class"', "no configuration of Python's logging: "),
        ("logging.json", "{", "not valid JSON: "),
        ("logging.json", "[]", "expected a JSON object, not list"),
        ("absent.toml", None, "cannot be read (No such file or directory)"),
        ("absent.json", None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_configuration_that_is_none(directory: Path, name: str, text: str | None, why: str) -> None:
    if text is not None:
        (directory / name).write_text(text)
    arguments = ["serve", "orders:respond", "--config", "server.toml", "--log-config", name]
    done = sealwire(directory, *arguments, status=1)
    assert done.stderr.startswith(f"Error: {name}: {why}")
    assert "Traceback" not in done.stderr
    done = sealwire(directory, *arguments, "--log-level", "info", status=64)
    assert "leave the other options out" in done.stderr
