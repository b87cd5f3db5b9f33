"""Output of commands: lines and tables for people, JSON for scripts; control characters are always escaped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from sealwire.pickling import NATIVE
from sealwire.wire.frames import escaped


def print_line(text: object, *, err: bool = False) -> None:
    """Print one line, to standard error if ``err``; file names and names in certificates may hold anything."""
    click.echo(escaped(text), err=err)


def form() -> str:
    """Return what checks messages in this installation, in words."""
    return "native core" if NATIVE else "pure Python, without the native core"


def print_json(value: Any) -> None:
    """Print indented JSON, ASCII only."""
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table that fits the terminal, or if there is none, one line for each row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(force_terminal=terminal, width=None if terminal else 10_000)
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(escaped("" if cell is None else cell)) for cell in row))
    console.print(table)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, a line for each."""
    for name, value in fields:
        print_line(f"  {name:<12} {value}")
