"""Tables that fit a terminal, and cut nothing: rows of cells, cells that wrap, or a line for each cell."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from sealwire.wire.frames import escaped

_GAP = 2


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None) -> Iterator[str]:
    """Yield the lines of a table, without blanks at their ends.

    A cell wraps between words. If the words of all columns do not fit beside each other, each row is a block with a
    line for each cell that is not empty. A word that is longer than a line stays whole, for the terminal to wrap.

    Args:
        columns: The heads of the columns.
        rows: The cells; None is empty. Control characters are escaped.
        width: Of the terminal in columns; None for no limit.
    """
    cells = [[escaped("" if cell is None else cell) for cell in row] for row in rows]
    widths = _widths([list(columns), *cells], width)
    if widths is None:
        yield from _blocks(columns, cells, width or 0)
        return
    for row in [list(columns), *cells]:
        wrapped = [wrap(cell, wide) for cell, wide in zip(row, widths, strict=True)]
        for index in range(max(map(len, wrapped))):
            line = [each[index] if index < len(each) else "" for each in wrapped]
            yield (" " * _GAP).join(_pad(cell, wide) for cell, wide in zip(line, widths, strict=True)).rstrip()


def _widths(rows: list[list[str]], width: int | None) -> list[int] | None:
    """Return the width of each column; None if the longest words of all columns do not fit."""
    columns = list(zip(*rows, strict=True))
    natural = [max(map(_length, column)) for column in columns]
    if width is None:
        return natural
    least = [max(_length(word) for cell in column for word in [*cell.split(), ""]) for column in columns]
    room = width - _GAP * (len(columns) - 1) - sum(least)
    if room < 0:
        return None
    # The narrowest wishes first: one long column does not make the others wrap.
    widths = list(least)
    order = sorted(range(len(columns)), key=lambda index: natural[index] - least[index])
    for position, index in enumerate(order):
        given = min(natural[index] - least[index], room // (len(order) - position))
        widths[index] += given
        room -= given
    return widths


def _blocks(columns: Sequence[str], rows: list[list[str]], width: int) -> Iterator[str]:
    indent = max(map(_length, columns)) + _GAP
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, cell in zip(columns, row, strict=True):
            if cell.strip():
                first, *more = wrap(cell, width - indent)
                yield f"{_pad(name, indent)}{first}".rstrip()
                yield from (" " * indent + each for each in more)


def wrap(text: str, width: int) -> list[str]:
    """Return the lines of a text, which is broken between words only."""
    if _length(text) <= width:
        return [text]
    return textwrap.wrap(text, max(1, width), break_long_words=False, break_on_hyphens=False) or [""]


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _length(text))


def _length(text: str) -> int:
    """Return the number of a terminal's columns that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
