"""One target under atheris: ``python -m fuzz.run TARGET [libFuzzer's options] CORPUS…``, as ``python -m fuzz`` does."""

from __future__ import annotations

import logging
import sys
import warnings

import atheris

from fuzz import TARGETS
from fuzz.harness import load


def main() -> None:
    name = sys.argv.pop(1)
    sys.argv[0] = f"{sys.executable} -m fuzz.run {name}"  # for libFuzzer, which starts itself again to merge
    warnings.simplefilter("error")
    logging.disable()
    with atheris.instrument_imports(include=list(TARGETS[name])):
        target = load(name)
    atheris.Setup(sys.argv, target.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
