"""Findings of ``sealwire status`` and ``sealwire doctor``, and the exit status for them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import click

from sealwire.cli.exit_statuses import ExitStatus


class Severity(IntEnum):
    """How bad a finding is, and the exit status for it; a note does not change that."""

    NOTE = ExitStatus.OK
    WARNING = ExitStatus.ERROR
    CRITICAL = ExitStatus.CRITICAL

    def __str__(self) -> str:
        return self.name.lower()


class Finding(NamedTuple):
    """A problem and its remedy."""

    severity: Severity
    location: str
    """A file, an address, or an option of the configuration."""
    problem: str
    remedy: str


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Sort findings by severity."""
    return sorted(findings, key=lambda finding: -finding.severity)


def findings_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as JSON objects."""
    return [
        {"severity": str(finding.severity), "where": finding.location, "what": finding.problem, "fix": finding.remedy}
        for finding in findings
    ]


def exit_for(severities: Sequence[Severity]) -> None:
    """Exit with the status of the worst severity, unless that is 0."""
    worst = max(severities, default=Severity.NOTE)
    if worst:
        raise click.exceptions.Exit(int(worst))
