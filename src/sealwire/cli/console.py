"""What commands print: tables for people, JSON for scripts, and nothing that steers the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click


def printable(text: object) -> str:
    """``text`` with all but printable characters escaped: names in certificates and of files are others' words."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )


def print_json(value: Any) -> None:
    """Indented, ASCII only."""
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """As wide as the terminal; elsewhere as wide as needed, one line for each row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(force_terminal=terminal, width=None if terminal else 10_000)
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """A line for each, the values under each other."""
    for name, value in fields:
        click.echo(f"  {name:<12} {printable(value)}")
