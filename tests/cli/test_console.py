from __future__ import annotations

import json

import pytest

from sealwire.cli.console import print_json, print_line, print_table


@pytest.mark.parametrize("err", [False, True])
def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str], err: bool) -> None:
    print_line("dns:a\x1b]0;title\x07\r\n\u202eb\udcff ü", err=err)
    assert capsys.readouterr()[err] == r"dns:a\x1b]0;title\x07\r\n\u202eb\udcff ü" + "\n"


def test_a_table_elsewhere_than_on_a_terminal_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "state"), [("x" * 300, "[red]as it is[/red] \x1b[31m"), (1, "")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["x" * 300, "[red]as", "it", "is[/red]", r"\x1b[31m"]


def test_json_cannot_steer_the_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"name": "ü\x1b"}])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert json.loads(out) == [{"name": "ü\x1b"}]
