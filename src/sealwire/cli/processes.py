"""The processes of ``sealwire demo``: the server, the good client, and whatever runs to its end.

Each works in the demonstration's directory, with what is there, and is gone when its block is left, however that
happens.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import IO, Any

from sealwire.errors import SealwireError

HOST = "127.0.0.1"
_PATIENCE = 20.0
"""Seconds for one process to do what it is there for."""
_LOG_PATIENCE = 3.0


class DemoFailed(SealwireError):
    """The demonstration cannot go on."""


class Server:
    """The server's process. ``announced``: its first line, which ends with ``port``. Raises DemoFailed."""

    arguments = ("serve", "orders:respond", "--config", "server.toml")

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - PIPE
        assert process.stderr is not None  # noqa: S101 - PIPE
        self._process = process
        self._log = _Lines(process.stderr)
        self.pid = process.pid
        self.announced = _Lines(process.stdout).next(_PATIENCE)
        if not self.announced:
            raise DemoFailed(f"the server did not start: {self._log.next(0) or 'it said nothing'}")
        self.port = int(self.announced.rpartition(":")[2])

    def warning(self) -> str:
        """The next warning in its log, without time and address; empty where none comes."""
        while line := self._log.next(_LOG_PATIENCE):
            _, warning, text = line.partition(f" WARNING sealwire.server: {HOST}:")
            if warning:
                return text.partition(": ")[2]
        return ""

    def stop(self) -> int:
        """Ask it to leave; returns its exit status. Raises DemoFailed."""
        self._process.terminate()
        try:
            return self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"the server did not end within {_PATIENCE:.0f} s of SIGTERM") from None


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    """A server, to the end of the block. Raises DemoFailed."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-m", "sealwire", *Server.arguments, "--host", HOST],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a terminal's ^C is for us, and we end it
    )
    with process:  # at its end it is reaped, and its pipes are closed
        try:
            yield Server(process)
        finally:
            process.kill()


class Client:
    """The good client: a process for each request."""

    def __init__(self, directory: Path, port: int, order: Any) -> None:
        self._directory = directory
        self.arguments = ("call", f"{HOST}:{port}", json.dumps(order), "--config", "client.toml")
        self.handled = 0
        """Requests that the handler has seen, as it said last."""

    def ask(self) -> Any:
        """The reply to an order. Raises DemoFailed where there is none."""
        done = run(self._directory, "-m", "sealwire", *self.arguments)
        try:
            reply = json.loads(done.stdout)
            self.handled = reply["handled"]
        except (ValueError, KeyError, TypeError):
            why = done.stderr.decode(errors="replace").strip()
            raise DemoFailed(f"the good client was not served: {why}") from None
        return reply


def run(directory: Path, *arguments: str, stdin: IO[bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
    """A Python process, to its end. Raises DemoFailed where it has none."""
    try:
        return subprocess.run(  # noqa: S603 - our own interpreter and arguments
            [sys.executable, *arguments],
            cwd=directory,
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"a process took more than {_PATIENCE:.0f} s: {shlex.join(arguments[:3])}") from None


class _Lines:
    """Lines of a pipe, waited for, but not for ever."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._descriptor = pipe.fileno()
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._read = b""

    def next(self, seconds: float) -> str:
        """The next line; empty at the end, or where none comes in time."""
        deadline = monotonic() + seconds
        while b"\n" not in self._read and self._poll.poll(max(0.0, deadline - monotonic()) * 1000):
            more = os.read(self._descriptor, 65536)
            if not more:
                break
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace")
