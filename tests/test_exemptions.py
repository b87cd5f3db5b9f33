"""Wherever a check is switched off, its reason stands beside it, on the same line or in a comment just above.

Only `fmt: skip` needs none: it is always for the same reason, a table or a list that is easier to read as it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.documents import ROOT

DIRECTORIES = ("src", "tests", "benchmarks", "examples", "docs")
FILES = [ROOT / "hatch_build.py", *sorted(path for each in DIRECTORIES for path in (ROOT / each).rglob("*.py"))]
OFF = re.compile(
    r"noqa\b(:[ A-Z0-9,]+)?|type: ?ignore\b(\[[\w, -]+\])?|(py\w+|mypy): ?(ignore|disable)\S*|pragma: ?no \w+"
    r"|nosec\b[ B0-9,]*|nosemgrep\b(: ?[\w.-]+)?"
)
WARNINGS = {"filterwarnings", "simplefilter"}
SKIPS = {"skip", "skipif", "xfail", "importorskip"}
BARE = {"pytest.mark.skip", "pytest.mark.xfail"}
SWITCHES = re.compile(r"^ *assert\b|(filterwarnings|simplefilter|skip|skipif|xfail|importorskip|sleep)\b", re.MULTILINE)
SLEEPS = {"time.sleep", "asyncio.sleep", "sleep"}


def exemptions(source: str, path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each place where a check is switched off without a reason."""
    lines = ["", *source.splitlines()]

    def is_explained(first: int, last: int) -> bool:
        above = lines[first - 1] if lines[first - 1].lstrip().startswith("#") else ""
        comments = [line.partition("#")[2] for line in (above, *lines[first : last + 1])]
        return any(re.search(r"[a-z]{2}", OFF.sub("", each).replace("fmt: skip", "")) for each in comments)

    for number, line in enumerate(lines):
        if (found := OFF.search(line.partition("#")[2])) and not is_explained(number, number):
            yield number, found[0]
    if not SWITCHES.search(source):
        return
    for node in ast.walk(ast.parse(source)):
        if what := switched_off(node, path):
            first, last = node.lineno, node.end_lineno
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = last = node.decorator_list[0].lineno
            if not is_explained(first, last):
                yield first, what


def dotted(node: ast.expr) -> str:
    """Return a name with dots; empty for another expression."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def switched_off(node: ast.AST, path: Path) -> str | None:
    """Return what an assertion, decorator or call switches off, if it gives no reason itself."""
    if isinstance(node, ast.Assert) and path.is_relative_to(ROOT / "src"):
        return "assert"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return next((name for each in node.decorator_list if (name := dotted(each)) in BARE), None)
    if not isinstance(node, ast.Call):
        return None
    called = dotted(node.func)
    name = called.rpartition(".")[2]
    first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    if called in SLEEPS and path.is_relative_to(ROOT / "tests"):
        return None if first == 0 else called  # a turn of the loop, which takes no time
    if name in WARNINGS:
        return name if str(first).startswith("ignore") else None
    if name in SKIPS and called.startswith("pytest."):
        has_reason = any(each.arg == "reason" for each in node.keywords) or (name == "skip" and node.args)
        return None if has_reason else called
    return None


def test_a_check_that_is_switched_off_has_its_reason_beside_it() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in FILES
        for line, what in exemptions(path.read_text(), path)
    ]
    assert not found, "\n".join(["a reason is missing, on the line or in a comment just above it:", *found])


@pytest.mark.parametrize(
    "line",
    [
        "x = y  % noqa: F821",
        "x: int = ''  % type: ignore[assignment]  % noqa: F821",
        "y()  % pragma: no cover",
        "y()  % nosec B101",
        "pytest.importorskip('numpy')",
        "@pytest.mark.skipif(True)\ndef f(): ...",
        "@pytest.mark.xfail\ndef f(): ...",
        "@pytest.mark.filterwarnings('ignore::ResourceWarning')\ndef f(): ...",
        "time.sleep(1)",
        "assert x is not None",
    ],
)
def test_one_without_a_reason_is_found(line: str) -> None:
    line = line.replace("%", "#")
    for place in ("src", "tests"):
        path = ROOT / place / "some.py"
        matters = place == "src" if line.startswith("assert") else place == "tests" or not line.startswith("time")
        assert bool(list(exemptions(f"\n{line}\n", path))) is matters
        assert not list(exemptions(f"# CPython has no other way\n{line}\n", path))
