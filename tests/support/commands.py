"""``sealwire serve`` and other commands as processes, in a directory with what they need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

from support.service import Deployment

ORDERS = """\
import os
from sealwire import RequestHandler


def respond(message):
    if message == "hold":
        print("in hand", flush=True)
        with open("go") as fifo:
            fifo.read()
    elif message == "fail":
        raise ValueError("words of the message")
    elif message == "pid":
        return {"got": os.getpid()}
    return {"got": message}


class Orders(RequestHandler):
    def respond(self, message):
        return [self.peer.dns[0], message]


class Other:
    pass
"""


def furnish(directory: Path, deployment: Deployment) -> None:
    """orders.py, server.toml, client.toml, and the FIFO that ``hold`` waits for."""
    (directory / "orders.py").write_text(ORDERS)
    os.mkfifo(directory / "go")
    for role, more in (("server", {"peers": ["dns:client.example"]}), ("client", {})):
        cert, key = deployment.files[role]
        write_config(directory / f"{role}.toml", deployment, cert=str(cert), key=str(key), **more)


def write_config(path: Path, deployment: Deployment, **options: Any) -> None:
    place = deployment.place
    lines = {"ca": str(place.ca), "keyring": str(place.keyring)} | options
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))


class Served:
    """``sealwire serve`` in a process of its own. ``line``: what it printed first; it ends with ``port``."""

    def __init__(self, python: list[str], directory: Path, *arguments: str, handler: str = "orders:respond") -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [*python, "serve", handler, "--config", "server.toml", *arguments],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self.line = self.printed()
        if not self.line:
            with self:
                raise AssertionError(self.rest())
        self.port = int(self.line.rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:
            pass

    def printed(self) -> str:
        """Its next line on standard output; empty at the end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def logged(self, text: str) -> str:
        """The next line of its log that has ``text`` in it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} is not in the log: {''.join(self.log)}")

    def rest(self) -> str:
        """What else is in its log, to its end."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def release(self) -> None:
        """Let the handler go on that has ``hold`` in hand."""
        (self.directory / "go").write_text("")

    def status(self) -> int:
        """Its exit status, when it has ended."""
        return self.process.wait(20)
