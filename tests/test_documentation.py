"""The reference has everything that it promises. `make docs` checks the finished site in addition."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import sealwire
from sealwire import Limits, SealwireError, dtls, envelope, errors, middleware, nats, testing
from sealwire.wire.frames import CloseCode, FaultCode, RejectCode
from support.documents import ROOT

REFERENCE = ROOT / "docs" / "reference"
API = "".join(path.read_text() for path in sorted(REFERENCE.glob("api/*.md")))
ERRORS = (REFERENCE / "errors.md").read_text()


def section(title: str) -> str:
    return ERRORS.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("module", [sealwire, dtls, nats], ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(module) -> None:
    named = set(
        re.findall(rf"^\.\. auto(?:class|function|data):: {re.escape(module.__name__)}\.(\w+)$", API, re.MULTILINE)
    )
    assert named == set(module.__all__)


@pytest.mark.parametrize("module", [envelope, middleware, testing], ids=lambda module: module.__name__)
def test_every_public_module_is_in_the_reference(module) -> None:
    assert f".. automodule:: {module.__name__}\n   :members:" in API


@pytest.mark.parametrize(
    "name", [name for name, value in vars(errors).items() if inspect.isclass(value) and name[0] != "_"]
)
def test_every_error_has_its_cause_and_remedy(name: str) -> None:
    if issubclass(getattr(errors, name), SealwireError):
        assert f"`{name}`" in ERRORS


@pytest.mark.parametrize("codes", [FaultCode, RejectCode, CloseCode], ids=lambda codes: codes.__name__)
def test_every_code_has_its_row(codes: type[FaultCode | RejectCode | CloseCode]) -> None:
    rows = section(codes.__name__.removesuffix("Code").upper())
    assert {int(code) for code in re.findall(r"^\| (\d+) \| [a-z ]+ \| \S", rows, re.MULTILINE)} == {
        int(code) for code in codes
    }


def test_every_limit_has_its_row() -> None:
    rows = (REFERENCE / "configuration.md").read_text().splitlines()
    for limit in fields(Limits):
        about = limit.metadata
        cells = (
            limit.name,
            about["unit"],
            about.get("shown") or limit.default,
            about["minimum"],
            about["maximum"],
            about["why"],
        )
        assert "| `{}` | {} | {} | {} | {} | {} |".format(*cells) in rows


def test_every_page_is_in_the_site() -> None:
    contents = (ROOT / "docs" / "_toc.yml").read_text()
    listed = set(re.findall(r"(?:file|root): (\S+)", contents))
    pages = {str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.glob("docs/**/*.md")}
    assert pages <= listed
    assert all(Path(ROOT / f"{page}.md").is_file() for page in listed)
