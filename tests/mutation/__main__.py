"""Mutate packages, and run their own tests on each mutant: ``make mutants``.

    python -m mutation [--processes 1] [--again] [PACKAGE ...]

The results go into docs/explanation/proofs.md. It ends with an error if a mutant survives that
tests/mutation/survivors does not explain, or if what is explained there does not survive any more.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version

from mutation.explained import Explained
from mutation.workplace import ROOT, Workplace, packages

_PAGE = ROOT / "docs" / "explanation" / "proofs.md"
_BEGIN, _END = "<!-- mutants: begin (kept by `make mutants`) -->\n", "<!-- mutants: end -->"
_HEAD = """\
| package | mutants | killed | by time | explained | not explained | killed or explained | run |
|---|---|---|---|---|---|---|---|
"""


def _tested(name: str, arguments: argparse.Namespace) -> tuple[str, int]:
    """Return the row of the table for a package, and the number of its problems."""
    place = Workplace(name, packages()[name], fresh=not arguments.again)
    explained = Explained(name)
    place.run(arguments.processes, explained)
    mutants = list(place.mutants())
    counts = Counter(mutant.status for mutant in mutants)
    left = [mutant for mutant in mutants if not mutant.is_killed]
    open_ = [mutant for mutant in left if mutant.change not in explained]
    stale = explained.reasons.keys() - {explained.entry(mutant.change) for mutant in left if mutant.change}
    for mutant in open_:
        print(f"{mutant.status}: {mutant.name} {list(mutant.change or ())}")
    for change in sorted(stale):
        print(f"explained, and yet killed or gone: {list(change)}")
    total, killed = len(mutants), len(mutants) - len(left)
    share = 100 * (total - len(open_)) / total
    run = f"{datetime.now(UTC):%Y-%m-%d}, mutmut {version('mutmut')}, Python {platform.python_version()}"
    row = f"| `{name}` | {total:,} | {killed:,} ({100 * killed / total:.1f} %) | {counts['timeout']} "
    row += f"| {len(left) - len(open_)} | {len(open_)} | {share:.1f} % | {run} |\n"
    return row, len(open_) + len(stale)


def _write(rows: dict[str, str]) -> None:
    """Put these rows into the table of the page; those of other packages stay."""
    before, _, rest = _PAGE.read_text().partition(_BEGIN)
    table, _, after = rest.partition(_END)
    old = {line.split("`")[1]: line for line in table.splitlines(keepends=True) if line.startswith("| `")}
    missing = "| `{}` | | | | | | | not run yet |\n"
    lines = [(old | rows).get(name, missing.format(name)) for name in packages()]
    _PAGE.write_text(before + _BEGIN + _HEAD + "".join(lines) + _END + after)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="mutants at the same time")
    parser.add_argument("--again", action="store_true", help="go on with those that are neither killed nor explained")
    parser.add_argument("packages", nargs="*", help=f"of {', '.join(packages())}; all by default")
    arguments = parser.parse_args()
    problems = 0
    for name in arguments.packages or packages():
        row, found = _tested(name, arguments)
        problems += found
        _write({name: row})
        print(f"{name}: {found} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
