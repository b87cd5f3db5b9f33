"""`sealwire allowlist`: what it suggests is TOML that accepts the samples; what it lists is what a peer can do."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from pickling import shop
from pickling.assembler import call, instance, message, name
from sealwire import Allowlist, Codec
from sealwire.pickling import opcodes as op
from support.commands import Run, sealwire

CAFE = """
import dataclasses, enum, typing


class Size(enum.Enum):
    S = 1


@dataclasses.dataclass
class Cup:
    size: Size
    more: typing.Any = None
    things: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        pass

    def __del__(self):
        pass


@dataclasses.dataclass
class Tray:
    cups: list[Cup]


class Beans:
    def __init__(self, grams=1):
        self.grams = grams

    def __reduce__(self):
        return Beans, (self.grams,)


class Empty(Exception):
    pass


def dump(beans):
    return (beans.grams,)


def fill(message: Cup) -> Tray | Beans | None:
    pass


def spill(message: Tray) -> "Saucer":
    pass
"""
LIST = """
[allowlist]
types = ["cafe:Size", "cafe:Cup"]
shallow = ["cafe:Tray"]
without = ["paths", "uuid"]

[[allowlist.adapters]]
type = "cafe:Beans"
dump = "cafe:dump"
load = "cafe:Beans"
"""


@pytest.fixture
def cafe(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module in the current directory."""
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry != ""])
    Path("cafe.py").write_text(CAFE)
    importlib.invalidate_caches()
    monkeypatch.syspath_prepend(os.getcwd())
    yield importlib.import_module("cafe")
    sys.modules.pop("cafe", None)
    sys.modules.pop("fails", None)


def write(value: object, file: str = "sample.pickle", protocol: int = 5) -> str:
    Path(file).write_bytes(value if type(value) is bytes else pickle.dumps(value, protocol))
    return file


# suggest


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("imports", [[], ["--import"]])
def test_what_is_suggested_accepts_the_samples(run: Run, protocol: int, imports: list[str]) -> None:
    samples = [
        write([value for value in shop.VALUES if type(value) in shop.TYPES], "a.pickle", protocol),
        write(shop.ERRORS, "b.pickle", max(protocol, 3)),
    ]
    result = run("allowlist", "suggest", *samples, *imports)
    Path("made.toml").write_text(result.stdout)
    codec = Codec(Allowlist.from_toml("made.toml"))
    for sample in samples:
        codec.decode(Path(sample).read_bytes())
        assert (f"# {sample}: accepted" in result.stdout) is bool(imports)
    assert "# without = [" in result.stdout
    assert "builtins:ValueError" in result.stdout


def test_what_is_to_be_known(run: Run, cafe: Any) -> None:
    sample = write([cafe.Cup(cafe.Size.S), cafe.Empty(), cafe.Beans()])
    plain = run("allowlist", "suggest", sample).stdout
    assert '"cafe:Size",  # called: an enum, exception or struct; any other class needs an adapter' in plain
    assert '"cafe:Cup",\n' in plain
    imported = run("allowlist", "suggest", "--import", sample).stdout
    assert '"cafe:Size",  # enum\n' in imported
    assert (
        "# dataclass; puts any accepted value into more; runs __post_init__ on values that a peer chose; " in imported
    )
    assert "# needs an adapter: cafe:Beans: cafe.Beans cannot be allowed by itself: it declares no fields" in imported
    assert tomllib.loads(imported)["allowlist"]["types"] == ["cafe:Cup", "cafe:Empty", "cafe:Size"]
    assert "# sample.pickle: refused: TypeNotAllowed" in imported


def test_types_that_no_sample_has(run: Run, cafe: Any) -> None:
    result = run("allowlist", "suggest", "--import", write(cafe.Tray([])))
    assert "# not complete: cafe.Tray.cups: cafe.Cup is not on the allowlist; allow it as well" in result.stdout


REFUSED = {
    "a program": (call("os", "system"), "os.system: runs programs"),
    "eval": (call("builtins", "eval"), "builtins.eval: runs Python code"),
    "getattr": (call("builtins", "getattr", name("os", "x")) + b")R", "builtins.getattr: the sample calls its result"),
    "a builtin": (call("builtins", "len"), "builtins.len: a builtin that is not a type of values"),
    "a base exception": (call("builtins", "SystemExit"), "builtins.SystemExit: a builtin"),
    "a script": (instance("__main__", "Order"), "__main__.Order: its program was started as a script"),
    "a local class": (instance("a", "f.<locals>.B"), "a.f.<locals>.B: defined in a function"),
    "a function": (call("a", "make_order"), "a.make_order: called, and written like a function"),
    "a change": (name("a", "B") + b"}b", "a.B: the sample changes it for the whole process"),
    "a quote": (instance('a"]\n[x', "B"), 'a"]\\n[x.B: not the name of a class'),
    "a control": (instance("\x1b[31m", "B\u2028"), "\\x1b[31m.B\\u2028: not the name of a class"),
    "a surrogate": (instance("a", "B\ud800"), "?"),
    "a number": (b"\x82\x05", "copyreg._inverted_registry[5]: loads or rebuilds anything"),
}


@pytest.mark.parametrize(("part", "line"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("imports", [[], ["--import"]])
def test_what_is_never_suggested(run: Run, part: bytes, line: str, imports: list[str]) -> None:
    sample = write(message(op.EMPTY_LIST, op.MARK, part, instance("pickling.shop", "Nothing"), op.APPENDS))
    result = run("allowlist", "suggest", sample, *imports)
    if line != "?":
        assert f"# refused: {line}" in result.stdout
    Path("made.toml").write_text(result.stdout)
    assert [each.qualified_name for each in Allowlist.from_toml("made.toml").adapters] == ["pickling.shop.Nothing"]
    assert all(each.isprintable() for each in result.stdout.splitlines())


def test_hostile_samples_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.pickle").write_bytes(message(call("os", "system", b"\x8c\x0btouch owned")))
    for imports in ([], ["--import"]):
        done = sealwire(tmp_path, "allowlist", "suggest", "a.pickle", *imports)
        assert tomllib.loads(done.stdout) == {"allowlist": {"types": []}}
    assert [path.name for path in tmp_path.iterdir()] == ["a.pickle"]


def test_samples_that_are_none(run: Run) -> None:
    result = run("allowlist", "suggest", write(b"\x1b[31m", "a\x1b.pickle"))
    assert "# a\\x1b.pickle: not read after byte 0: no pickle (ValueError)" in result.stdout
    assert tomllib.loads(result.stdout) == {"allowlist": {"types": []}}
    assert "# sample.pickle: of protocol 0 or 1, which" in run("allowlist", "suggest", write([1], protocol=0)).stdout
    assert run("allowlist", "suggest", "nosuch", status=1).stderr == "Error: nosuch: No such file or directory\n"
    assert "Usage" in run("allowlist", "suggest", status=64).stderr


def test_many_names(run: Run) -> None:
    names = b"".join(instance("m", f"X{number}") + instance("os", f"x{number}") for number in range(3000))
    result = run("allowlist", "suggest", write(message(op.EMPTY_LIST, op.MARK, names, op.APPENDS)))
    assert len(tomllib.loads(result.stdout)["allowlist"]["types"]) == 1000
    assert "# and more" in result.stdout


# check


def check(run: Run, text: str, status: int = 0) -> Result:
    Path("sealwire.toml").write_text(text)
    return run("allowlist", "check", "--config", "sealwire.toml", status=status)


def test_lists_every_type(run: Run, cafe: Any) -> None:
    lines = [re.sub(" {2,}", "  ", line).strip() for line in check(run, LIST).stdout.splitlines()]
    assert lines == [
        "type  kind  fields  what a peer can do",
        "cafe.Size  enum",
        "cafe.Cup  dataclass  size: cafe.Size, more: Any, things: list[str]  puts any accepted value into more; "
        "runs __post_init__ on values that a peer chose; runs __del__ when an instance is deleted",
        "cafe.Tray  dataclass  cups: list[cafe.Cup]  puts anything into the containers of its fields (shallow)",
        "cafe.Beans  adapter  by cafe:dump and cafe:Beans  runs load on values that a peer chose",
        "standard  datetime, numbers, ipaddress, collections",
        "without  uuid, paths",
    ]


def test_types_of_handlers_and_where_they_were_found(run: Run, cafe: Any) -> None:
    text = LIST.replace('types = ["cafe:Size", "cafe:Cup"]', 'types = ["cafe:Size"]\nhandlers = ["cafe:fill"]')
    lines = [re.sub(" {2,}", "  ", line).strip() for line in check(run, text).stdout.splitlines()]
    assert [line.split("  ")[:3] for line in lines[:-2]] == [
        ["type", "found in", "kind"],
        ["cafe.Size", "the configuration", "enum"],
        ["cafe.Tray", "the configuration", "dataclass"],
        ["cafe.Beans", "the configuration", "adapter"],
        ["cafe.Cup", "parameter message of cafe.fill", "dataclass"],
    ]
    text = '[allowlist]\nhandlers = ["cafe:fill", "cafe:spill", "cafe:nosuch"]\n'
    result = check(run, text, status=1)
    refused = [line.strip() for line in result.stdout.splitlines() if "REFUSED" in line]
    assert len(refused) == 3
    for part in (
        "allowlist.handlers: the reply of cafe.fill: cafe.Beans cannot be allowed by itself",
        "allowlist.handlers: the reply of cafe.spill: the annotation 'Saucer' cannot be resolved",
        "allowlist.handlers: cafe:nosuch: cafe has no nosuch",
    ):
        assert any(part in line for line in refused), part


def test_what_each_kind_runs(run: Run) -> None:
    types = ["OutOfStock", "Money", "Sealed"]
    result = check(run, f"[allowlist]\ntypes = {[f'pickling.shop:{each}' for each in types] + ['builtins:ValueError']}")
    assert re.search(r"OutOfStock .*runs __init__ on values", result.stdout)
    assert re.search(r"Money .*runs __post_init__", result.stdout)
    assert re.search(r"Sealed .*runs validators and converters", result.stdout)
    assert re.search(r"ValueError .*puts any accepted values into its arguments", result.stdout)


def test_every_reason_is_listed(run: Run, cafe: Any) -> None:
    result = check(
        run,
        '[allowlist]\ntypes = ["cafe:Cup", "cafe:Beans", "os:system", "cafe:Nosuch", "cafe:Tray"]\n'
        '[[allowlist.adapters]]\ntype = "cafe:Beans"\ndump = "cafe:Nosuch"\nload = "cafe:Beans"\n',
        status=1,
    )
    refused = [line.strip() for line in result.stdout.splitlines() if "REFUSED" in line]
    assert len(refused) == 5
    for part in (
        "cafe.Beans cannot be allowed by itself",
        "a function (system): a message that names one could call it",
        "allowlist.types: cafe:Nosuch: cafe has no Nosuch; it has ",
        "allowlist.adapters: cafe:Nosuch: cafe has no Nosuch",
        "cafe.Cup.size: cafe.Size is not on the allowlist; allow it as well",
    ):
        assert any(part in line for line in refused), part
    assert result.stderr == "Error: sealwire.toml: not every type can be allowed; see the lines REFUSED\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("allowlist = 1", "allowlist: expected a table"),
        ("[allowlist]\ntpes = []", "unknown key 'allowlist.tpes'"),
        ('[allowlist]\ntypes = "a:B"', "allowlist.types: expected a list of strings"),
        ('[allowlist]\nwithout = ["dates"]', "allowlist.without: there is no group 'dates'"),
        ("[limits]\nx = 1", "unknown key 'limits.x'"),
        ("[", "not valid TOML"),
    ],
)
def test_a_bad_table(run: Run, text: str, why: str) -> None:
    result = check(run, text, status=1)
    assert result.stderr.startswith(f"Error: sealwire.toml: {why}")
    assert result.stderr.count("\n") == 1


def test_no_table(run: Run) -> None:
    assert "standard     datetime" in check(run, 'service = "x"').stdout
    assert (
        run("allowlist", "check", "--config", "x", status=1).stderr
        == "Error: x: cannot be read (No such file or directory)\n"
    )


@pytest.mark.parametrize("body", ["import sys; sys.exit(3)", "1 / 0"])
def test_a_module_that_fails(run: Run, cafe: Any, body: str) -> None:
    Path("fails.py").write_text(body)
    importlib.invalidate_caches()
    result = check(run, '[allowlist]\ntypes = ["fails:Order"]', status=1)
    assert re.search("REFUSED .*fails:Order: fails (ended the program|cannot be imported: ZeroDivision)", result.stdout)


def test_modules_are_found_here_by_the_installed_command(tmp_path: Path) -> None:
    (tmp_path / "cafe.py").write_text(CAFE)
    (tmp_path / "sealwire.toml").write_text(LIST)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sealwire", "allowlist", "check", "--config", "sealwire.toml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
