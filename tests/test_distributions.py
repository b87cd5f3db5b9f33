"""What distributions say of themselves, and what pages tell to install. `make dist` looks into the distributions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import sealwire

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PLACES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "certs", "deploy", "docs", "examples", "src")
# `sealwire @ URL` and a path, with or without an extra, are not looked up in an index.
FROM_AN_INDEX = re.compile(
    r"\b(?:pip|pipx|uv|uvx)\b[^\n`&;|]*?\b(?:install|add|run|download|wheel)\b[^\n`&;|]*?"
    r"(?<![\w$/.~-])sealwire(?:\[[^]]*\])?(?![\w/.\[\]@-]| @)"
)


def texts() -> list[Path]:
    found = [path for place in PLACES for path in ([ROOT / place, *(ROOT / place).rglob("*")])]
    return [path for path in found if path.suffix in (".md", ".py", ".toml", ".txt", ".yaml", "") and path.is_file()]


def test_no_page_or_message_names_us_as_a_package_of_an_index() -> None:
    """There it is another project's name."""
    for path in texts():
        if b"\0" not in (content := path.read_bytes()):
            for match in FROM_AN_INDEX.finditer(content.decode()):
                pytest.fail(f"{path.relative_to(ROOT)}: {match[0]}")


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("pip install sealwire", True),
        ("pip install 'sealwire[cli]'", True),
        ("pip install -U sealwire", True),
        ("python -m pip install redis sealwire", True),
        ("pipx install sealwire", True),
        ("uv add sealwire", True),
        ('pip install "$SEALWIRE[cli]"', False),
        ("pip install .[cli]", False),
        ("pip install 'sealwire[cli] @ git+ssh://git@x.example/s@12ab'", False),
        ("/opt/sealwire/bin/pip install --no-cache-dir '.[cli,prometheus]'", False),
        ("pip install ./sealwire-0.1.0-py3-none-any.whl", False),
    ],
)
def test_what_names_an_index(command: str, wrong: bool) -> None:
    assert bool(FROM_AN_INDEX.search(command)) is wrong


def test_each_python_that_the_metadata_names_is_one_that_ci_looks_for() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    looked_for = re.search(r"for version in ([\d. ]+);", (ROOT / ".ci" / "run").read_text())
    assert looked_for is not None
    assert looked_for[1].split() == named
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert PROJECT["version"] == sealwire.__version__


def test_each_fragment_of_the_changelog_has_a_kind_and_a_text() -> None:
    """towncrier leaves out the others, without an error."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    kinds = "|".join(kind["directory"] for kind in settings["type"])
    for path in (ROOT / settings["directory"]).iterdir():
        if path.name != "README.md":
            assert re.fullmatch(rf"\+[a-z0-9-]+\.(?:{kinds})\.md", path.name), path.name
            assert path.read_text().strip(), path.name
    assert "<!-- towncrier release notes start -->" in (ROOT / settings["filename"]).read_text()


def test_the_bill_of_materials_of_a_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    hatch_build = pytest.importorskip("hatch_build", reason="hatchling is not installed")
    pure, compiled = (hatch_build.bill_of_materials("1.2", compiled=compiled) for compiled in (False, True))
    assert pure["components"] == []
    assert [each["name"] for each in compiled["components"]] == ["Cython"]
    assert compiled["metadata"]["component"]["version"] == "1.2"
