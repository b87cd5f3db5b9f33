"""Run targets, as many at a time as there are processors: ``make fuzz``.

    python -m fuzz [--seconds 60 | --hours 8 | --quick] [--corpora .fuzz-corpus] [TARGET …]

What is found is written beside the corpus of its target, and the next run goes on from there. A quick run begins with
seeds and the corpora of the repository, from a fixed seed, and keeps nothing: what a commit has not changed does not
fail. With hours, these are for all targets together; afterwards each corpus has only what reaches something of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from fuzz import TARGETS
from fuzz.harness import CORPORA, load, seeds

MAX_LENGTH = 1000
TIMEOUT = 30
"""Seconds of one input after which it is a finding."""
FINDINGS = ("crash-", "timeout-", "oom-", "leak-", "slow-unit-")
"""The beginnings of names that libFuzzer gives to what it finds."""
_SHOWN = 4000


def fuzz(name: str, directory: Path, *, seconds: int | None) -> bool:
    """Run one target for so long, or quickly if it is None. Return True if nothing was found."""
    until = ["-seed=1", f"-runs={load(name).RUNS}"] if seconds is None else [f"-max_total_time={seconds}"]
    started = monotonic()
    run = subprocess.run(
        [
            sys.executable, "-m", "fuzz.run", name, *until, f"-max_len={MAX_LENGTH}", f"-timeout={TIMEOUT}",
            f"-artifact_prefix={directory}/", "-print_final_stats=1", directory,
            *(each for each in (CORPORA / name,) if each.is_dir()),
        ],
        capture_output=True, text=True, errors="replace", check=False, env=os.environ | {"PYTHONHASHSEED": "0"},
    )  # fmt: skip
    output = run.stdout + run.stderr
    inputs, covered = _last(r"number_of_executed_units: (\d+)", output), _last(r" cov: (\d+)", output)
    print(f"{name}: {inputs} inputs in {monotonic() - started:.0f} s, {covered} branches", flush=True)
    if run.returncode:
        lines = [line for line in output.splitlines() if not re.match(r"#\d+|INFO:|Warning:|\s+Uses:", line)]
        print("\n".join(lines)[-_SHOWN:], flush=True)
        print(f"{name}: found something; keep the input in {CORPORA / name}, mend it, and test it", flush=True)
    return run.returncode == 0


def merge(name: str, directory: Path) -> None:
    """Leave the inputs in a corpus that reach something, the smallest ones; and what was found."""
    merged = directory.with_name(f"{name}.merged")
    merged.mkdir()
    command = [sys.executable, "-m", "fuzz.run", name, "-merge=1", f"-max_len={MAX_LENGTH}", merged, directory]
    subprocess.run(command, capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": "0"})
    if not any(merged.iterdir()):
        raise RuntimeError(f"{directory} could not be merged, and is as it was")
    for finding in [each for each in directory.iterdir() if each.name.startswith(FINDINGS)]:
        finding.rename(merged / finding.name)
    shutil.rmtree(directory)
    merged.rename(directory)


def write_seeds(name: str, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(load(name))):
        (directory / f"seed-{number:03}").write_bytes(data)


def _last(pattern: str, output: str) -> str:
    return (re.findall(pattern, output) or ["?"])[-1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--hours", type=float, help="for all targets together")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--corpora", type=Path, default=Path(".fuzz-corpus"))
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    jobs = os.cpu_count() or 1
    seconds = None if options.quick else options.seconds
    if options.hours:
        seconds = int(options.hours * 3600 * min(jobs, len(options.targets)) / len(options.targets))
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(jobs) as pool:
        root = Path(scratch) if options.quick else options.corpora
        for name in options.targets:
            write_seeds(name, root / name)
        found_nothing = all(list(pool.map(lambda name: fuzz(name, root / name, seconds=seconds), options.targets)))
        if options.hours:
            list(pool.map(lambda name: merge(name, root / name), options.targets))
        return 0 if found_nothing else 1


if __name__ == "__main__":
    sys.exit(main())
