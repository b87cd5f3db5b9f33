"""Every command that the source advises has a test that follows it, so that new advice needs one."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

import sealwire.cli.app
from remedies.advised import CODE, PROGRAMS, advised, quoted, texts
from remedies.place import COVERED

UNQUOTED = re.compile(r"\b(sealwire (certs|keys|allowlist) [a-z]+|(chmod|chown) [\w+-]+ |openssl [a-z0-9]+ -)")

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md"), ROOT / "certs/README.md"]
)
app = sealwire.cli.app.app

for module in Path(__file__).parent.glob("test_*.py"):
    if module.stem != "test_census":
        importlib.import_module(f"remedies.{module.stem}")


@pytest.mark.parametrize("advice", sorted({*advised()}), ids=lambda advice: f"{advice.module}: {advice.template}")
def test_advice_is_followed(advice: object) -> None:
    assert advice in COVERED


def test_no_test_follows_what_is_not_advised() -> None:
    assert not {*COVERED} - {*advised()}


def test_what_is_in_backquotes_is_a_command_or_python() -> None:
    """A new program, or a new word of Python, belongs into the lists in advised.py."""
    unknown = [
        (module, each) for module, text in texts() for each in quoted(text)
        if each.split()[0] not in PROGRAMS and not CODE.fullmatch(each)
    ]  # fmt: skip
    assert unknown == []


def unknown_parts(command: str) -> list[str]:
    """Return the commands and options of a command line that there are not."""
    group: click.Command = app
    context = click.Context(app)
    words = shlex.split(command, comments=True)[1:]
    while words and isinstance(group, click.Group):
        if words[0].startswith("-") or re.fullmatch("[A-Z…]+|{}", words[0]):
            break
        found = group.get_command(context, words[0])
        if found is None:
            return [words[0]]
        group, words = found, words[1:]
    known = {name for each in group.params for name in (*each.opts, *each.secondary_opts)} | {"--help", "--version"}
    return [word for word in words if re.match("--[a-z]", word) and word.partition("=")[0] not in known]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_prose_are_there(document: Path) -> None:
    """Those in blocks are followed word for word by the tests of guides."""
    prose = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    advised = [each.replace("\n", " ") for each in re.findall(r"`(sealwire [a-z][^`|]*)`", prose)]
    assert [(each, unknown) for each in advised if (unknown := unknown_parts(each))] == []


def test_commands_are_in_backquotes() -> None:
    loose = [(module, text) for module, text in texts() if UNQUOTED.search(re.sub("`[^`]*`", "", text))]
    assert loose == []
