"""A server in a process of its own: ``main`` prints its address, serves until the end of its standard
input, drains and ends with 0.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import signal
import sys
import threading
import warnings
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import sealwire
from conformance.given import Given, endpoint, logged, shares
from conformance.handlers import HANDLERS


def main(settings: dict[str, Any]) -> None:
    # Unbuffered, since what cannot be written would be tried again at the end, and end the process with 120.
    sys.stderr = TextIOWrapper(open(2, "wb", 0, closefd=False), write_through=True)  # noqa: SIM115 - open to the end
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
    if name.startswith("Async"):
        name, _, loop = name.partition("-")
        new_loop = importlib.import_module(loop).new_event_loop if loop else None
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve_on_loop(name, given))
        return
    package = importlib.import_module("sealwire.dtls") if name.endswith("UDPServer") else sealwire
    with (
        logged(given),
        shares(given),
        getattr(package, name)(
            given.address, HANDLERS[given.handler], given.security(), **given.around, **options
        ) as server,
        endpoint(given, server),
    ):
        print(json.dumps(server.server_address), flush=True)

        def stop_at_the_end() -> None:
            sys.stdin.read()
            server.shutdown()

        threading.Thread(target=stop_at_the_end, daemon=True).start()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        server.serve_forever(0.01)


async def serve_on_loop(name: str, given: Given) -> None:
    async with getattr(sealwire, name)(
        given.address, HANDLERS[given.handler], given.security(), **given.around
    ) as server:
        print(json.dumps(server.server_address), flush=True)
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.to_thread(sys.stdin.read)
        await server.shutdown()
        await serving
