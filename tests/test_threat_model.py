"""The threat model in SECURITY.md: every promise has a mechanism and a proof, and every proof is a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCUMENT = (TESTS.parent / "SECURITY.md").read_text()
HEAD = "| promise | mechanism | proof |"
PROOF = re.compile(r"`([\w/]+\.py)((?:::\w+)+)`")
SECTIONS = {
    part.partition("\n")[0]: part
    for part in re.split(r"^#{2,3} ", DOCUMENT, flags=re.MULTILINE)[1:]
    if HEAD in part or "**Can**" in part or "**can**" in part
}
ATTACKERS = [
    "A stranger on the network", "An attacker on the path, inside TLS", "A holder of a certificate of the CA",
    "A holder of a leaked key", "A client that is allowed in", "A server that a client connects to",
    "The author of a message", "A flood", "Another user of the machine", "A writer of the configuration",
    "Other carriers", "Envelopes", "Celery", "Proxies", "The admin endpoint", "Logs",
]  # fmt: skip


def rows(section: str) -> list[list[str]]:
    """Return the cells of the promises of a section."""
    tables = re.findall(rf"^{re.escape(HEAD)}\n\|---\|---\|---\|\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for table in tables for line in table.splitlines()]


def names(path: str) -> set[tuple[str, ...]]:
    """Return the tests of a file, and its classes that have some."""
    found: set[tuple[str, ...]] = set()

    def look(nodes: list[ast.stmt], within: tuple[str, ...]) -> bool:
        tests = False
        for node in nodes:
            name = (*within, getattr(node, "name", ""))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.add(name)
                tests = True
            elif isinstance(node, ast.ClassDef) and node.name.startswith("Test") and look(node.body, name):
                found.add(name)
        return tests

    look(ast.parse((TESTS / path).read_text()).body, ())
    return found


def test_every_attacker_has_a_section_with_promises_and_what_is_left() -> None:
    assert list(SECTIONS) == ATTACKERS
    for name, section in SECTIONS.items():
        assert re.search(r"\*\*[Cc]an\*\*", section), f"{name}: what the attacker can do"
        assert rows(section), f"{name}: the promises"
        assert section.count("**What is left") == section.count(HEAD), f"{name}: what is left"


@pytest.mark.parametrize("name", ATTACKERS)
def test_every_promise_has_a_mechanism_and_a_proof(name: str) -> None:
    for cells in rows(SECTIONS[name]):
        assert len(cells) == 3, cells
        promise, mechanism, proof = cells
        assert promise
        assert mechanism
        assert PROOF.search(proof), f"{promise}: no test"
        assert PROOF.sub("", proof).strip(", ") == "", f"{promise}: {proof}"


def test_every_proof_is_a_test_that_exists() -> None:
    found = PROOF.findall(DOCUMENT)
    assert len(found) > 100
    missing = [
        path + name
        for path, name in found
        if not (TESTS / path).is_file() or tuple(name.split("::")[1:]) not in names(path)
    ]
    assert missing == []


def test_every_attacker_at_a_glance_leads_to_a_section() -> None:
    linked = re.findall(r"^\| \[.+?\]\(#([\w-]+)\) \| .+ \|$", DOCUMENT, re.MULTILINE)
    sections = [re.sub(r"[^\w-]", "", each.lower().replace(" ", "-")) for each in ATTACKERS if each != "Celery"]
    assert linked == sections
