"""`sealwire inspect`: explains, runs nothing, and says what decode would."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pickling import shop
from pickling.assembler import call, message, name, text
from sealwire.cli.app import app
from sealwire.cli.inspect import MAX_FILE, MAX_SHOWN
from sealwire.pickling import opcodes as op
from support.commands import Run, sealwire


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch owned",)


def write(data: bytes | object, file: str = "sample.pickle") -> str:
    Path(file).write_bytes(data if type(data) is bytes else pickle.dumps(data))
    return file


def test_plain_data_is_accepted(run: Run) -> None:
    result = run("inspect", write({"a": [1, b"xyz"], "b": None}))
    assert result.stdout.splitlines() == [
        "sample.pickle: 37 bytes, protocol 4",
        "  opcodes      19",
        "  depth        2 levels",
        "  str          2, 2 characters, the longest 1",
        "  bytes        1, 3 bytes, the longest 3",
        "accepted",
    ]


def test_a_hostile_pickle_is_explained_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "hostile.pickle").write_bytes(pickle.dumps(Hostile()))
    done = sealwire(tmp_path, "inspect", "hostile.pickle", status=1)
    assert done.stderr == ""
    assert f"{os.system.__module__}.system  called  NO, DANGEROUS: runs programs" in done.stdout
    assert "refused: TypeNotAllowed: the message names a type that is not on the allowlist" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pickle"]


def test_nothing_that_a_pickle_names_is_imported(tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("open('owned', 'w')\nclass Trap: pass\n")
    (tmp_path / "a.pickle").write_bytes(message(call("trap", "Trap")))
    for command, status in ((["inspect", "a.pickle"], 1), (["allowlist", "suggest", "a.pickle"], 0)):
        sealwire(tmp_path, *command, status=status)
        assert not (tmp_path / "owned").exists()


def test_under_a_configuration(run: Run) -> None:
    Path("sealwire.toml").write_text(
        '[limits]\nmax_depth = 20\n[allowlist]\ntypes = ["pickling.shop:Money", "pickling.shop:Outer.Inner"]\n'
    )
    file = write(pickle.dumps([shop.Money(shop.Decimal(1)), shop.Outer.Inner(1)], 2))
    result = run("inspect", file, "--config", "sealwire.toml")
    assert result.stdout.endswith("accepted\n")
    assert "pickling.shop.Money        instance given state, instantiated  yes" in result.stdout
    assert "getattr        called                              yes, in a fixed phrase" in result.stdout
    assert "pickling.shop.Money        instance given state, instantiated  no" in run("inspect", file, status=1).stdout
    nested: Any = []
    for _ in range(30):
        nested = [nested]
    result = run("inspect", write(nested), "--config", "sealwire.toml", status=1)
    assert "refused: LimitExceeded: max_depth" in result.stdout


def test_the_error_is_the_one_of_decode(run: Run) -> None:
    Path("sealwire.toml").write_text('[allowlist]\ntypes = ["pickling.shop:Money"]\n')
    bad = pickle.dumps(shop.Money(shop.Decimal(1))).replace(b"EUR", b"EU\x1b")
    assert run("inspect", write(bad), "--config", "sealwire.toml").stdout.endswith("accepted\n")
    bad = pickle.dumps([shop.Money(shop.Decimal(1))]).replace(b"\x8c\x03EUR", b"\x8c\x03\xff\x1bR")
    result = run("inspect", write(bad), "--config", "sealwire.toml", status=1)
    assert "refused: MalformedPickle: a str is not UTF-8" in result.stdout
    assert "NOT READ     the rest after byte" in result.stdout


@pytest.mark.parametrize(
    ("text_", "why"),
    [
        ("[limits]\nmax_dept = 1", "sealwire.toml: unknown key 'limits.max_dept'"),
        ("limits = 1", "sealwire.toml: limits: expected a table"),
        ("[limits]\nmax_depth = 0", "sealwire.toml: limits.max_depth must be"),
        ('[allowlist]\ntypes = ["nosuch:T"]', "sealwire.toml: allowlist.types: nosuch:T: there is no module 'nosuch'"),
        ("[", "sealwire.toml: not valid TOML"),
    ],
)
def test_a_bad_configuration(run: Run, text_: str, why: str) -> None:
    Path("sealwire.toml").write_text(text_)
    result = run("inspect", write(1), "--config", "sealwire.toml", status=1)
    assert result.stderr.startswith(f"Error: {why}")
    assert (result.stderr.count("\n"), result.stdout) == (1, "")


def test_standard_input(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", "-"], input=pickle.dumps([1]))
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "standard input: 17 bytes, protocol 4")


def test_files_that_are_none(run: Run) -> None:
    assert run("inspect", "nosuch", status=1).stderr == "Error: nosuch: No such file or directory\n"
    assert "is a directory" in run("inspect", ".", status=64).stderr
    assert "more than 64 MiB" in run("inspect", "/dev/zero", status=1).stderr
    with open("long", "wb") as file:
        file.truncate(MAX_FILE + 1)
    assert "more than 64 MiB" in run("inspect", "long", status=1).stderr


def test_names_are_printed_escaped_and_bounded(run: Run) -> None:
    names = [name("\x1b[31m\n", "\u202egnp"), name("a" * 100_000, "\ud800")]
    result = run("inspect", write(message(op.EMPTY_LIST, op.MARK, *names, op.APPENDS)), status=1)
    assert r"\x1b[31m\n.\u202egnp" in result.stdout
    assert "a" * 200 + "…" in result.stdout
    assert max(map(len, result.stdout.splitlines())) < 1000
    assert all(line.isprintable() for line in result.stdout.splitlines())


def test_many_names_dangerous_ones_first(run: Run) -> None:
    names = b"".join(name("m", f"x{number}") for number in range(MAX_SHOWN + 10)) + name("os", "system")
    result = run("inspect", write(message(op.EMPTY_LIST, op.MARK, names, op.APPENDS)), status=1)
    assert result.stdout.splitlines()[6].startswith("os.system   imported  NO, DANGEROUS")
    assert "and 11 more" in result.stdout


def test_garbage(run: Run) -> None:
    for data in (b"", b"\x1b[31m", pickle.dumps(shop.order())[:-30], b"\x80\x04\x8d" + b"\xff" * 8, b"\x80"):
        result = run("inspect", write(data), status=1)
        assert "NOT READ" in result.stdout
        assert re.search(r"^refused: (MalformedPickle|LimitExceeded): ", result.stdout, re.MULTILINE)
    assert "no protocol stated (0 or 1)" in run("inspect", write(pickle.dumps([1], 0)), status=1).stdout
    assert "after its end" in run("inspect", write(pickle.dumps(text("a")) * 2), status=1).stdout
