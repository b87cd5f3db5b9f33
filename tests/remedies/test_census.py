"""Every command that the source advises has a test that follows it, so that new advice needs one."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from remedies.advised import CODE, PROGRAMS, advised, quoted, texts
from remedies.place import COVERED

UNQUOTED = re.compile(r"\b(sealwire (certs|keys|allowlist) [a-z]+|(chmod|chown) [\w+-]+ |openssl [a-z0-9]+ -)")

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


def test_commands_are_in_backquotes() -> None:
    loose = [(module, text) for module, text in texts() if UNQUOTED.search(re.sub("`[^`]*`", "", text))]
    assert loose == []
