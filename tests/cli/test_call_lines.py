"""`sealwire call` with lines, parts, files and allowed types, as processes of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.commands import Command, Served, furnish, sealwire
from support.service import Deployment

SHOP = """\
import dataclasses, datetime, decimal, os
from sealwire import Refuse


@dataclasses.dataclass
class Order:
    id: int
    price: decimal.Decimal
    due: datetime.date | None = None


class Full(Refuse):
    code = 64


def respond(message):
    if message == "parts":
        return parts()
    if message == "hold":
        with open("go") as fifo:
            fifo.read()
    if message == "die":
        os._exit(1)
    if message == "full":
        raise Full("no room")
    if isinstance(message, Order):
        return dataclasses.replace(message, price=2 * message.price)
    return message


def parts():
    yield {"ä": 1}
    yield 2 ** 14_000
    with open("go") as fifo:
        fifo.read()
    return "done"
"""
ORDER = {"id": 1, "price": "12.50", "due": "2026-12-24"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, deployment: Deployment) -> Path:
    directory = tmp_path_factory.mktemp("lines")
    furnish(directory, deployment)
    (directory / "shop.py").write_text(SHOP)
    for name in ("server", "client"):
        with (directory / f"{name}.toml").open("a") as file:
            file.write('[allowlist]\ntypes = ["shop:Order"]\n')
    return directory


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[Served]:
    with Served(place, "--server", "forking", handler="shop:respond") as served:
        yield served


def options(served: Served, *arguments: str) -> list[str]:
    return ["call", f"localhost:{served.port}", *arguments, "--config", "client.toml"]


def replies(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def test_an_order_by_its_fields(served: Served) -> None:
    said = json.dumps(ORDER | {"$type": "shop:Order"})
    done = sealwire(served.directory, *options(served, said))
    assert json.loads(done.stdout) == ORDER | {"price": "25.00"}


def test_an_order_in_a_file_by_its_fields(served: Served) -> None:
    (served.directory / "order.json").write_text(json.dumps(ORDER))
    done = sealwire(served.directory, *options(served, "@order.json", "--type", "shop:Order"))
    assert json.loads(done.stdout) == ORDER | {"price": "25.00"}


def test_lines_have_their_replies_and_errors_in_order(served: Served) -> None:
    lines = ["1", "", '{"ä": ', '"full"', json.dumps(ORDER), '{"$type": "shop:Order"}', '"\\ud800"', '{"ä": 2}', "x"]
    done = sealwire(served.directory, *options(served, "--lines"), stdin="\n".join(lines), status=1)
    found = replies(done.stdout)
    assert found[0] == 1
    assert found[1] == {"$error": "line 3: line 1, column 7: Expecting value"}
    assert found[2] == {"$error": "the server answered fault 64: no room", "code": 64}
    assert found[3] == ORDER
    assert found[4] == {"$error": "line 6: shop.Order lacks id, price"}
    assert "surrogate" in found[5]["$error"]
    assert found[6] == {"ä": 2}
    assert found[7] == {"$error": "line 9: line 1, column 1: Expecting value"}
    assert len(found) == 8
    assert done.stderr == "Error: 5 of 8 requests have no reply; see $error in the output\n"


def test_lines_of_a_file(served: Served) -> None:
    (served.directory / "many").write_text("".join(f"{number}\n" for number in range(3000)))
    done = sealwire(served.directory, *options(served, "@many", "--lines"))
    assert replies(done.stdout) == list(range(3000))


def test_a_program_can_write_a_line_and_read_its_reply(served: Served) -> None:
    with Command(served.directory, *options(served, "--lines")) as command:
        for line in ("1", "nothing", '"two"'):
            command.stdin.write(f"{line}\n")
            command.stdin.flush()
            assert json.loads(command.stdout.readline()) == (
                {"$error": "line 2: line 1, column 1: Expecting value"} if line == "nothing" else json.loads(line)
            )
        assert command.finish().returncode == 1


def test_lines_after_a_connection_that_broke_are_sent(served: Served) -> None:
    done = sealwire(served.directory, *options(served, "--lines"), stdin='1\n"die"\n2\n', status=1)
    first, died, last = replies(done.stdout)
    assert first == 1
    assert "the server may or may not have acted on it" in died["$error"]
    assert last == 2 or "$error" in last, "it may have been sent before"


def test_lines_without_a_server(served: Served) -> None:
    done = sealwire(
        served.directory, "call", "unix:none", "--lines", "--config", "client.toml", stdin="1\n2\n", status=1
    )
    assert "a Unix socket has no host name" in done.stderr


def test_parts_are_printed_when_they_come(served: Served) -> None:
    with Command(served.directory, *options(served, '"parts"', "--stream")) as command:
        assert command.stdout.readline() == '{"ä": 1}\n'
        assert len(command.stdout.readline()) > 4000
        served.release()
        assert command.stdout.readline() == '"done"\n'
        assert command.finish().returncode == 0


def test_a_deadline_in_a_line(served: Served) -> None:
    done = sealwire(served.directory, *options(served, "--lines", "--wait", "0.5"), stdin='"hold"\n', status=1)
    assert "in time" in replies(done.stdout)[0]["$error"]
    served.release()


def test_ascii_output_is_still_json(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    script = ["-c", "from sealwire.__main__ import main; main()"]
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, *script, *options(served, '{"ä": "€😀"}')],
        cwd=served.directory, capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.decode("ascii")) == {"ä": "€😀"}
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lines", "--stream"], "--lines and --stream do not go together"),
        (["--lines", "1"], "--lines reads requests from a file: give @FILE"),
        ([], "there is no message: give JSON, @FILE or -"),
        (
            ["1", "--type", "os:system"],
            "os:system is not a type of the configuration's allowlist, which has shop:Order",
        ),
        (['{"$type": "shop:Order", "id": "x"}'], "$.id: expected a whole number, got a string"),
    ],
)
def test_usage(place: Path, arguments: list[str], says: str) -> None:
    done = sealwire(place, "call", "localhost:1", *arguments, "--config", "client.toml", status=64)
    assert says in " ".join(done.stderr.split())


def test_a_file_that_is_not_there(place: Path) -> None:
    done = sealwire(place, "call", "localhost:1", "@nothing", "--config", "client.toml", status=1)
    assert done.stderr == "Error: nothing: No such file or directory\n"
    assert not os.path.exists(place / "nothing")
