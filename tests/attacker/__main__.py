"""Attack the library in several processes, and then each of its mutants: ``make attack``.

    python -m attacker [--steps 1000000] [--processes 2]

It ends with an error if a promise is broken, if the attacker misses the flaw of a mutant, or finds one in a mutant that
counts as redundant.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from time import monotonic
from typing import NamedTuple

from attacker.machine import Attacker, attack
from attacker.mutants import LEFT_OUT, REDUNDANT, Mutant, applied
from attacker.promises import Broken

MUTANT_STEPS = 200_000
"""Steps within which the flaw of a mutant must be found; most take some hundred."""
_REDUNDANT_STEPS = 20_000
_ROUND = 20_000


class Result(NamedTuple):
    """The result of one attack; ``broken`` is the promise, and ``story`` the steps that break it."""

    steps: int
    delivered: int
    broken: str = ""
    story: str = ""


def attacked(name: str | None, steps: int) -> Result:
    """Attack, in a process of the pool, a mutant, or the library as it is: with the native core if the name is None."""
    mutant = None if name is None else (LEFT_OUT | REDUNDANT | {"": Mutant()})[name]
    story = io.StringIO()
    with applied(mutant) if mutant else contextlib.nullcontext(), contextlib.redirect_stdout(story):
        try:
            attack(steps, derandomize=False)
        except Broken as error:
            return Result(Attacker.steps, Attacker.delivered, str(error), story.getvalue())
    return Result(Attacker.steps, Attacker.delivered)


def _library(pool: ProcessPoolExecutor, steps: int) -> Iterator[Result]:
    done = 0
    while done < steps:
        # Every fourth round has the mutants' way of computing tags, which leaves nothing out and has no native core.
        rounds = -(-(steps - done) // _ROUND)
        names = ["" if number % 4 == 3 else None for number in range(rounds)]
        for result in pool.map(attacked, names, [_ROUND] * rounds):
            done += result.steps
            yield result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m attacker", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    start = monotonic()
    failures = steps = delivered = 0
    with ProcessPoolExecutor(arguments.processes) as pool:
        for result in _library(pool, arguments.steps):
            steps += result.steps
            delivered += result.delivered
            if result.broken:
                failures += 1
                print(f"BROKEN: {result.broken}\n{result.story}")
        print(f"{steps} steps in {monotonic() - start:.0f} s: {delivered} deliveries, {failures} broken promises")
        names = [*LEFT_OUT, *REDUNDANT]
        bounds = [MUTANT_STEPS if name in LEFT_OUT else _REDUNDANT_STEPS for name in names]
        for name, result in zip(names, pool.map(attacked, names, bounds), strict=True):
            expected = name in LEFT_OUT
            failures += bool(result.broken) is not expected
            found = f"found after {result.steps} steps" if result.broken else f"nothing found in {result.steps} steps"
            print(f"{'' if bool(result.broken) is expected else 'WRONG: '}without the {name}: {found}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
