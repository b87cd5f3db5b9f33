"""A command of ``sealwire`` in a process of its own: ``main`` runs it in a directory as ``python -m sealwire`` does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import rich.console  # noqa: F401 - imported by most commands, and so once for all of them

import sealwire.__main__
import sealwire.aio.server
import sealwire.cli.bench
import sealwire.cli.call
import sealwire.cli.serve

TESTS = Path(__file__).parent.parent


def main(settings: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(settings["environment"])
    os.chdir(settings["directory"])
    sys.path[:] = [settings["directory"], *(entry for entry in sys.path if Path(entry) != TESTS)]
    sys.argv[1:] = settings["arguments"]
    if settings.get("closed"):
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, 1)
    sealwire.__main__.main()
