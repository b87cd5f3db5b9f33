"""What ``sealwire status`` and ``doctor`` have to say, and the exit status that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import click

from sealwire.cli.console import print_json, print_table


class Severity(IntEnum):
    """As monitoring plugins have it: the worst one is the exit status, but a note is none."""

    NOTE = 0
    WARNING = 1
    CRITICAL = 2


class Finding(NamedTuple):
    """One thing that is wrong, or will be. where: a file, a key or an address. fix: what to do."""

    severity: Severity
    where: str
    what: str
    fix: str


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """For scripts."""
    return [each._asdict() | {"severity": each.severity.name.lower()} for each in findings]


def report(findings: Sequence[Finding], *, as_json_: bool = False, fine: str = "nothing is wrong") -> None:
    """Print them, the worst first, and exit with the worst one's status."""
    if as_json_:
        print_json(as_json(findings))
    elif not findings:
        click.echo(fine)
    else:
        print_table(
            ("severity", "where", "what", "what to do"),
            (
                (each.severity.name.lower(), each.where, each.what, each.fix)
                for each in sorted(findings, key=lambda each: -each.severity)
            ),
        )
    end(findings)


def end(findings: Sequence[Finding]) -> None:
    """Exit with the worst one's status, if it is not 0."""
    worst = max((each.severity for each in findings), default=Severity.NOTE)
    if worst:
        raise click.exceptions.Exit(int(worst))
