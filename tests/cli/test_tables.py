from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sealwire.cli.tables import table_lines

COLUMNS = ("file", "what it is", "expires")
ROWS = (("certs/server.pem", "a certificate of a server", "2027-03-01"), ("ca.pem", None, 5))


def table(width: int | None, rows: Sequence[Sequence[object]] = ROWS) -> list[str]:
    return list(table_lines(COLUMNS, rows, width))


def test_as_wide_as_it_is() -> None:
    expected = [
        "file              what it is                 expires",
        "certs/server.pem  a certificate of a server  2027-03-01",
        "ca.pem                                       5",
    ]
    assert table(None) == table(80) == expected


def test_cells_wrap() -> None:
    assert table(43) == [
        "file              what it is     expires",
        "certs/server.pem  a certificate  2027-03-01",
        "                  of a server",
        "ca.pem                           5",
    ]


def test_a_block_for_each_row() -> None:
    assert table(30) == [
        "file        certs/server.pem",
        "what it is  a certificate of a",
        "            server",
        "expires     2027-03-01",
        "",
        "file        ca.pem",
        "expires     5",
    ]


def test_wide_characters_take_two_columns() -> None:
    _, first, second = table(None, [("倉庫.pem", "x", ""), ("a.pem", "x", "")])
    assert first == "倉庫.pem  x"
    assert second == "a.pem     x"


def test_control_characters_are_escaped() -> None:
    assert "a\\x1b[31m\\n" in table(40, [("a\x1b[31m\n", "", "")])[1]


TEXTS = st.text("ab -/…é倉", max_size=40)


@given(st.integers(1, 120), st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=4))
def test_nothing_is_lost_or_too_wide(width: int, rows: list[tuple[str, str, str]]) -> None:
    lines = table(width, rows)
    assert all(line == line.rstrip() for line in lines)
    shown = " ".join(lines).split()
    for word in " ".join(map(" ".join, rows)).split():
        assert word in shown
    for line in lines:
        parts = line.split()
        columns = len(line) + line.count("倉")
        assert columns <= width or line.startswith(COLUMNS) or len(parts) == 1, line
