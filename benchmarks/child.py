"""A process with one peer's server, or with its clients.

    python -m benchmarks.child serve MODULE FUNCTION DIRECTORY
    python -m benchmarks.child load MODULE FUNCTION DIRECTORY PORT

A server prints its port when it is ready. Clients read commands from standard input, one JSON object a line, and answer
each with one. Both end when the process that started them does.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import inspect
import json
import logging
import resource
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def serve(function: Any, directory: Path) -> None:
    function(directory, lambda port: answer({"result": port}))


def load(function: Any, name: str, directory: Path, port: int) -> None:
    from benchmarks.loads import Asynchronous, Blocking

    connect = partial(function, directory, port)
    if not inspect.iscoroutinefunction(function):
        obey(Blocking(connect))
        return
    factory = asyncio.new_event_loop
    if name.endswith("uvloop"):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        obey(Asynchronous(connect, runner.run))


def obey(clients: Any) -> None:
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer({"result": getattr(clients, command.pop("do"))(**command)})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"[:200]})


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.disable()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    role, module, name, directory, *port = sys.argv[1:]
    function = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)
    if role == "serve":
        serve(function, Path(directory))
    else:
        load(function, name, Path(directory), int(port[0]))


if __name__ == "__main__":
    main()
