"""Output of commands: lines and tables for people, JSON for scripts; control characters are always escaped."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click

from sealwire.cli.tables import table_lines, wrap
from sealwire.errors import SealwireError
from sealwire.pickling import NATIVE
from sealwire.wire.frames import escaped

_NAME: Final = 12
"""Of the values of fields."""
_NOT_PLAIN: Final = re.compile(r"[^\n -~]")
_IN_ASCII: Final = {"…": "..."}


def adapt_streams() -> None:
    """Have the standard streams take any text, in ASCII if need be, and open those that are closed.

    A file or socket with the number of a closed one would get what is printed, here or in a child process. What is
    written to a closed standard output is an error all the same, and so is what a full disk does not take.
    """
    codecs.register_error("sealwire", _without_characters)
    for name, mode, access in (("stdin", "r", os.O_RDWR), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_RDWR)):
        if getattr(sys, name) is None:
            # Until the process ends, as the stream that it stands for.
            stand_in = open(os.open(os.devnull, access), mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - the same
            setattr(sys, name, stand_in)
        stream = getattr(sys, name)
        if mode == "w" and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="sealwire")
    plain: Any = sys.stdout
    binary = open(plain.fileno(), "wb", closefd=False)  # noqa: SIM115 - as above
    at_once = plain.line_buffering or plain.write_through
    sys.stdout = _Output(binary, plain.encoding, plain.errors, line_buffering=at_once)


class OutputError(OSError):
    """Standard output did not take what was printed."""


class _Output(io.TextIOWrapper):
    """Standard output. Its errors have its name, and nothing more is tried after one, not at the end either."""

    def write(self, text: str) -> int:
        with self._errors():
            return super().write(text)

    def flush(self) -> None:
        with self._errors():
            super().flush()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            why = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise OutputError(error.errno, why, "standard output") from None


def _without_characters(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError) and (text := _IN_ASCII.get(error.object[error.start])):
        return text, error.start + 1
    return codecs.backslashreplace_errors(error)


def print_line(text: object, *, err: bool = False) -> None:
    """Print one line, to standard error if ``err``; file names and names in certificates may hold anything."""
    # To the stream itself: click takes one for ASCII as misconfigured, and writes UTF-8.
    click.echo(escaped(text), file=sys.stderr if err else sys.stdout)


def error_line(error: SealwireError | OSError) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError) and error.strerror is not None:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        return escaped(text)
    return escaped(str(error) or type(error).__name__)


def form() -> str:
    """Return what checks messages in this installation, in words."""
    return "native core" if NATIVE else "pure Python, without the native core"


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print JSON, indented by default. What could control a terminal, or the output cannot encode, is escaped."""
    encoding = sys.stdout.encoding or "ascii"
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    click.echo(_NOT_PLAIN.sub(lambda found: _shown(found[0], encoding), text), file=sys.stdout)


def _shown(character: str, encoding: str) -> str:
    if _can_show(character, encoding):
        return character
    text = json.dumps(character)[1:-1]
    return text if text[0] == "\\" else f"\\u{ord(character):04x}"  # DEL is ASCII


def _can_show(character: str, encoding: str) -> bool:
    if not character.isprintable():
        return False
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table that fits the terminal, or if there is none, one line for each row."""
    for line in table_lines(columns, list(rows), terminal_width()):
        print_line(line)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, a line for each; on a terminal a long value goes on below its beginning."""
    width = terminal_width()
    fields = list(fields)
    column = max([_NAME, *(len(name) for name, _ in fields)])
    for name, value in fields:
        first, *more = [escaped(value)] if width is None else wrap(escaped(value), width - column - 3)
        print_line(f"  {name:<{column}} {first}")
        for line in more:
            print_line(" " * (column + 3) + line)


def terminal_width() -> int | None:
    """Return the columns of the terminal that standard output goes to; None if it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
