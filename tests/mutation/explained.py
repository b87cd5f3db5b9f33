"""The mutants that no test can notice, or need not, and the reasons (``survivors/*.toml``)."""

from __future__ import annotations

import tomllib
from pathlib import Path

Change = tuple[str, str, str]
"""A function, the lines that a mutant of it lacks, and those that it has instead."""


def explained(package: str) -> dict[Change, str]:
    """The reason for each mutant of a package that may survive, by its function, old lines and new lines."""
    path = Path(__file__).parent / "survivors" / f"{package}.toml"
    groups = tomllib.loads(path.read_text())["explained"] if path.exists() else []
    return {tuple(change): group["why"] for group in groups for change in group["mutants"]}
