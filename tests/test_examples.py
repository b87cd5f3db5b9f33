"""Each example runs, says what its docstring promises, and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


def promised(source: str) -> str:
    text = ast.get_docstring(ast.parse(source)) or ""
    return textwrap.dedent(text.partition("Prints::\n\n")[2]).strip() + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_example(name: str) -> None:
    path = EXAMPLES / name
    done = subprocess.run(
        [sys.executable, "-W", "error", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr  # a server's log may say which client it has refused
    assert done.stdout == promised(path.read_text())


def test_all_of_them_are_in_the_list() -> None:
    table = (EXAMPLES / "README.md").read_text()
    assert len(NAMES) >= 6
    assert [name for name in NAMES if f"[{name}]({name})" not in table] == []
