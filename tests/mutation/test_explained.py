"""The list of mutants that may survive keeps up with the source; that they do survive is seen by ``make mutants``."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutation.explained import Explained
from mutation.workplace import ROOT, packages


@pytest.mark.parametrize("package", packages())
def test_each_explained_mutant_changes_a_line_that_the_source_still_has(package: str) -> None:
    sources = {
        ".".join((*path.relative_to(ROOT / "src" / "sealwire").with_suffix("").parts, "")): " ".join(
            path.read_text().split()
        )
        for pattern in packages()[package]["mutate"]
        for path in ROOT.glob(pattern)
    }
    for (function, *lines), why in Explained(package).reasons.items():
        assert why.strip(), function
        old = lines[0] if lines else f"def {function.rpartition('.')[2]}("
        assert any(function.startswith(module) and " ".join(old.split()) in text for module, text in sources.items()), (
            f"{function} has no line {old!r} any more; run `make mutants MODULES={package}`"
        )


@pytest.mark.parametrize("package", packages())
def test_what_is_mutated_and_what_tests_it_is_there(package: str) -> None:
    options = packages()[package]
    assert all(list(ROOT.glob(pattern)) for pattern in options["mutate"])
    assert all((ROOT / path).exists() for path in options["tests"])


def test_no_explanation_is_of_a_package_that_is_not_mutated() -> None:
    assert {path.stem for path in (Path(__file__).parent / "survivors").glob("*.toml")} <= packages().keys()
