"""The mutants that no test can notice, or need not, with the reasons (``survivors/*.toml``)."""

from __future__ import annotations

import tomllib
from pathlib import Path

Change = tuple[str, str, str]
"""A function, the lines that a mutant of it lacks, and those that it has instead."""


class Explained:
    """The reasons for the mutants of a package that may survive.

    Each is a function, its old lines and its new ones; a function alone stands for all its mutants, and old lines
    without new ones for all mutants of these.
    """

    def __init__(self, package: str) -> None:
        path = Path(__file__).parent / "survivors" / f"{package}.toml"
        groups = tomllib.loads(path.read_text())["explained"] if path.exists() else []
        self.reasons = {tuple(change): group["why"] for group in groups for change in group["mutants"]}

    def __contains__(self, change: object) -> bool:
        return isinstance(change, tuple) and self.entry(change) is not None

    def entry(self, change: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the entry that explains a mutant, or None."""
        return next((change[:size] for size in (3, 2, 1) if change[:size] in self.reasons), None)
