"""The JSON of each command has the shape that docs/reference/json.md says."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest

from sealwire.cli.app import app
from support.commands import Configured, Run, Served
from support.documents import ROOT

SHAPES = {
    name: json.loads(shape)
    for name, shape in re.findall(
        r"^## `([a-z ]+)`\n.*?^```json\n(.*?)^```$",
        (ROOT / "docs/reference/json.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
}
KINDS = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None), "any": object}


def problems(value: Any, shape: Any, place: str = "$") -> Iterator[str]:
    """Yield each difference between a value and a shape of the document."""
    if isinstance(shape, str):
        kinds = shape.partition(":")[0].split(" or ")
        if not any(isinstance(value, KINDS[kind]) and (kind != "integer" or value is not True) for kind in kinds):
            yield f"{place}: {value!r} is not {shape}"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{place}: not a list"
            return
        for index, item in enumerate(value):
            found = [list(problems(item, each, f"{place}[{index}]")) for each in shape]
            yield from min(found, key=len)
    elif not isinstance(value, dict):
        yield f"{place}: not an object"
    elif len(shape) == 1 and next(iter(shape)).startswith("<"):
        for name, item in value.items():
            yield from problems(item, next(iter(shape.values())), f"{place}.{name}")
    else:
        names = {name.removesuffix("?"): (part, name.endswith("?")) for name, part in shape.items()}
        yield from (f"{place}.{name}: only in one of the two" for name in sorted(names.keys() ^ value.keys()))
        for name in names.keys() & value.keys():
            part, nullable = names[name]
            if not nullable or value[name] is not None:
                yield from problems(value[name], part, f"{place}.{name}")


def commands(command: click.Command = app, *path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from commands(found, *path, name)
    else:
        yield " ".join(path), command


def test_every_command_with_json_is_in_the_document() -> None:
    names = {name for name, command in commands() if any("--json" in option.opts for option in command.params)}
    assert names == SHAPES.keys()


@pytest.fixture
def check(run: Run) -> Any:
    def check(name: str, *arguments: str, status: int = 0) -> Any:
        found = json.loads(run(*name.split(), *arguments, "--json", status=status).stdout)
        assert not list(problems(found, SHAPES[name])), found
        return found

    return check


def test_a_difference_is_found() -> None:
    shape = {"a": "integer or null", "b?": {"<name>": "string"}, "c": [{"d": "boolean"}]}
    assert not list(problems({"a": None, "b": None, "c": []}, shape))
    assert not list(problems({"a": 1, "b": {"x": "y"}, "c": [{"d": True}]}, shape))
    for wrong in (
        {"a": "1", "b": None, "c": []}, {"a": True, "b": None, "c": []}, {"a": 1, "b": {"x": 1}, "c": []},
        {"a": 1, "b": None, "c": [{}]}, {"a": 1, "c": []}, {"a": 1, "b": None, "c": [], "e": 1}, [],
    ):  # fmt: skip
        assert list(problems(wrong, shape)), wrong


def test_certificates_and_keys(run: Run, check: Any) -> None:
    run("certs", "init", "--server", "localhost", "--client", "client.example")
    run("certs", "crl")
    run("certs", "revoke", "client")
    run("certs", "request", "server", "localhost", "--as", "asked")
    Path("certs/bad.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert {row["kind"] for row in check("certs list")} == {"CA", "server", "client", "revocation list", ""}
    shown = [check("certs show", f"certs/{name}")[0] for name in ("ca.pem", "crl.pem", "asked.csr", "ca.key")]
    assert len({tuple(part) for part in shown}) == 4
    assert len(check("certs expiring", "--within", "3650", status=2)) == 5
    run("keys", "new", "--id", "a")
    run("keys", "new", "--id", "b", "--days", "3", "--identity", "dns:a.example")
    run("keys", "revoke", "a", "--force")
    assert len(check("keys list")) == 2
    assert len(check("keys show", "b")) == 1


def test_a_configuration(place: Configured, port: int, check: Any) -> None:
    for role in ("server", "client"):
        config = "--config", place.config(role)
        check("status", *config, f"localhost:{port}", status=0)
        check("doctor", *config)
        check("check", *config)
    client = f"localhost:{port}", "--config", place.config("client")
    assert check("check", *client)["figures"].keys() == {"days_left", "time"}
    assert check("ping", *client, "-n", "3")["answered"] == 3
    assert check("bench", *client, "-n", "5")["answered"] == 5


def test_no_answer(place: Configured, run: Run) -> None:
    done = run("ping", "localhost:1", "--config", place.config("client"), "-n", "2", "--json", status=69)
    found = json.loads(done.stdout)
    assert not list(problems(found, SHAPES["ping"]))
    assert (found["sent"], found["answered"], found["min_ms"]) == (2, 0, None)


def test_pickles_and_types(run: Run, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("good").write_bytes(pickle.dumps([Decimal(1), "a", b"b"]))
    Path("bad").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    Path("cut").write_bytes(pickle.dumps([1, 2, 3])[:-4])
    assert check("inspect", "good")["accepted"]
    assert "run" in check("inspect", "bad", status=1)["names"][0]["danger"]
    assert check("inspect", "cut", status=1)["unread"]["after"]
    Path("types_of_json.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass\nclass Order:\n    id: int\n    note: object\n\n\n"
        "class Odd:\n    pass\n\n\ndef dump(odd):\n    return 1\n\n\ndef load(value):\n    return Odd()\n"
    )
    monkeypatch.syspath_prepend(".")
    table = (
        '[allowlist]\ntypes = ["types_of_json:Order"{}]\n[[allowlist.adapters]]\ntype = "types_of_json:Odd"\n'
        'dump = "types_of_json:dump"\nload = "types_of_json:load"\n'
    )
    Path("sealwire.toml").write_text(table.format(""))
    found = check("allowlist check")
    assert [row["fields"] for row in found["types"]] == [{"id": "int", "note": "object"}, {}]
    assert found["types"][1]["adapter"] == {"dump": "types_of_json:dump", "load": "types_of_json:load"}
    Path("sealwire.toml").write_text(table.format(', "os:system"'))
    assert len(check("allowlist check", status=1)["refused"]) == 1


def test_a_running_server(directory: Path, run: Run) -> None:
    for workers in ([], ["--workers", "2"]):
        with Served(directory, "--admin", "unix:admin", *workers):
            lines = run("top", f"unix:{directory}/admin", "-n", "2", "--every", "0.1", "--json").stdout.splitlines()
        assert len(lines) == 2
        for found in map(json.loads, lines):
            assert not list(problems({"workers": []} | found, SHAPES["top"]))
