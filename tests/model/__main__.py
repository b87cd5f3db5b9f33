"""Check the model of the handshake in Spin: ``make model``.

    python -m model [--processes 2] [name …]

Each variant is checked exhaustively. In those of HOLDS the intruder must break nothing, in those of BROKEN it must find
an attack; else this ends with an error.
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
from typing import NamedTuple

MODEL = Path(__file__).with_name("sealwire.pml")
SAFE_TLS = {"TLS_LEAKED": "0", "CA_ERRS": "0"}

HOLDS: dict[str, dict[str, str]] = {
    "all TLS keys leaked, and a CA that errs": {},
    "a CA that errs": {"TLS_LEAKED": "0"},
    "the secret of the shared key leaked, certificates are right": SAFE_TLS | {"LEAKED": "KS"},
    "the secret of the bound key leaked, certificates are right": SAFE_TLS | {"LEAKED": "KB"},
    "the secret of the bound key and all TLS keys leaked, but the shared key is used": {"LEAKED": "KB", "KEYS": "KS"},
    "the secret of the shared key and all TLS keys leaked, but the bound key is used": {"LEAKED": "KS", "KEYS": "KB"},
}
BROKEN: dict[str, dict[str, str]] = {
    "it can be completed": {"COMPLETES": "1"},
    "the secret of the shared key leaked, and a CA that errs": {"TLS_LEAKED": "0", "LEAKED": "KS"},
    "the secret of the bound key leaked, and a CA that errs": {"TLS_LEAKED": "0", "LEAKED": "KB"},
    "the secret of the shared key and all TLS keys leaked": {"CA_ERRS": "0", "LEAKED": "KS"},
    "the secret of the bound key and all TLS keys leaked": {"CA_ERRS": "0", "LEAKED": "KB"},
} | {
    f"without the {name}": {f"NO_{name.upper().replace(' ', '_')}": "1"}
    for name in (
        "server cert",
        "client cert",
        "secret",
        "bound",
        "client nonce",
        "server nonce",
        "key id",
        "name",
        "hello features",
        "welcome features",
        "direction",
        "sequence",
        "reply to",
        "content",
    )
}


class Result(NamedTuple):
    """The result of one check: whether there is an attack, and the number of states that were looked at."""

    attacked: bool
    states: int


def check(variant: dict[str, str]) -> Result:
    """Check a variant of the model, given by the values of its macros. Raises RuntimeError if Spin gives no answer."""
    macros = [f"-D{name}={value}" for name, value in variant.items()]
    with tempfile.TemporaryDirectory() as place:
        for command in (
            ["spin", *macros, "-a", str(MODEL)],
            ["cc", "-O1", "-w", "-DSAFETY", "-DNOREDUCE", "-DVECTORSZ=1024", "-o", "pan", "pan.c"],
        ):
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")
        # No end that blocks is an error: an end that no frame suits waits for ever.
        report = subprocess.run(
            ["./pan", "-E", "-m100000", "-w24"], cwd=place, capture_output=True, text=True, check=False
        )
    errors = re.search(r"errors: (\d+)", report.stdout)
    states = re.search(r"(\d+) states, stored", report.stdout)
    if errors is None or states is None or "max search depth too small" in report.stdout:
        raise RuntimeError(f"the search was not completed: {report.stdout[-1000:]}")
    if errors[1] != "0" and "assertion violated" not in report.stdout:
        raise RuntimeError(f"another error than a broken promise: {report.stdout[:1000]}")
    return Result(errors[1] != "0", int(states[1]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("names", nargs="*", help="variants to check, by default all")
    arguments = parser.parse_args()
    if not all(map(shutil.which, ("spin", "cc"))):
        print("make model needs spin and a C compiler: on Debian, apt-get install spin gcc libc6-dev", file=sys.stderr)
        return 1
    variants = {name: each for name, each in (HOLDS | BROKEN).items() if name in (arguments.names or HOLDS | BROKEN)}
    failures, start = 0, monotonic()
    with ThreadPoolExecutor(arguments.processes) as pool:
        for name, result in zip(variants, pool.map(check, variants.values()), strict=True):
            is_right = result.attacked is (name in BROKEN)
            failures += not is_right
            found = "attacked" if result.attacked else "holds"
            print(f"{'' if is_right else 'WRONG: '}{name}: {found} ({result.states} states)", flush=True)
    print(f"{len(variants)} variants in {monotonic() - start:.0f} s, {failures} wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
