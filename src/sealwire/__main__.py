"""Entry point of the command line, ``sealwire`` and ``python -m sealwire``. Requires the extra ``cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with the arguments of this process, and exit."""
    try:
        import click  # noqa: F401 - checked here, so that no other ImportError gets this message
        import rich  # noqa: F401 - checked here as well
    except ImportError:
        sys.exit(
            "sealwire: the command line needs click and rich, the extra sealwire[cli]; install them with: "
            "pip install 'click>=8.2' 'rich>=13.7'"
        )
    from sealwire.cli.app import app

    app(prog_name="sealwire")


if __name__ == "__main__":
    main()
