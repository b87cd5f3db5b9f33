"""A server in a process of its own: ``python -m conformance.child JSON`` prints its address, serves until the end of
its standard input, drains and ends with 0.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import sealwire
from conformance.combinations import Given
from conformance.handlers import HANDLERS


def main(settings: dict[str, Any]) -> None:
    name, options = settings.pop("server"), settings.pop("options")
    address = settings["address"]
    given = Given(
        **settings
        | {
            "directory": Path(settings["directory"]),
            "address": tuple(address) if isinstance(address, list) else address,
        }
    )
    # The thread below only waits, and what forks is the main thread.
    warnings.simplefilter("ignore", DeprecationWarning)
    with getattr(sealwire, name)(given.address, HANDLERS[given.handler], given.security(), **options) as server:
        print(json.dumps(server.server_address), flush=True)

        def stop_at_the_end() -> None:
            sys.stdin.read()
            server.shutdown()

        threading.Thread(target=stop_at_the_end, daemon=True).start()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        server.serve_forever(0.01)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
