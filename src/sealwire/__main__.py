"""Entry point of the command line, ``sealwire`` and ``python -m sealwire``. Requires the extra ``cli``."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from typing import Any

from sealwire import extras


def main() -> None:
    """Run the command line with the arguments of this process, and exit."""
    # While modules are imported nothing is to be tidied up, and a traceback would tell nothing.
    _on_interrupt(signal.SIG_DFL)
    # A source tree has no record of an installation, and so extras.lacking finds nothing in it.
    if not all(map(find_spec, ("click", "rich", "tomlkit"))) or extras.lacking("cli"):
        sys.exit(f"sealwire: {extras.missing('cli', 'the command line')}")
    from sealwire.cli.app import app
    from sealwire.cli.console import adapt_streams

    adapt_streams()
    _on_interrupt(signal.default_int_handler)
    try:
        app(prog_name="sealwire")
    finally:
        _on_interrupt(signal.SIG_DFL)


def _on_interrupt(handler: Any) -> None:
    # A shell has what it starts in the background ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


if __name__ == "__main__":
    main()
