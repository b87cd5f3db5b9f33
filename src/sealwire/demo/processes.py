"""The processes of ``sealwire demo``: the server, the good client, and others that run to their end.

Each works in the demonstration's directory, with the files there, and never outlives its block.
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
"""Seconds for one process to do its work."""
_LOG_PATIENCE = 3.0


class DemoFailed(SealwireError):
    """The demonstration cannot go on."""


class Server:
    """The server's process. Raises DemoFailed if it does not start."""

    arguments = ("serve", "orders:respond", "--config", "server.toml")

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # it was started with a pipe
        assert process.stderr is not None  # and with another
        self._process = process
        self._log = _Lines(process.stderr)
        self.pid = process.pid
        self.announced = _Lines(process.stdout).next(_PATIENCE)
        """Its first line, which ends with the port."""
        if not self.announced:
            raise DemoFailed(f"the server did not start: {self._log.next(0) or 'it printed nothing'}")
        self.port = int(self.announced.rpartition(":")[2])

    def warning(self) -> str:
        """Return the next warning in its log, without time and address; empty if none comes."""
        while line := self._log.next(_LOG_PATIENCE):
            _, warning, text = line.partition(f" WARNING sealwire.server: {HOST}:")
            if warning:
                return text.partition(": ")[2]
        return ""

    def stop(self) -> int:
        """Stop it by SIGTERM and return its exit status. Raises DemoFailed."""
        self._process.terminate()
        try:
            return self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"the server did not end within {_PATIENCE:.0f} s of SIGTERM") from None


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    """Run a server until the end of the block. Raises DemoFailed."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-m", "sealwire", *Server.arguments, "--host", HOST],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # ^C in the terminal reaches only this process, which ends the server
    )
    with process:  # reaps it and closes its pipes
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
        """Number of requests that the handler has seen, from its last reply."""

    def ask(self) -> Any:
        """Send an order and return the reply. Raises DemoFailed if there is none."""
        done = run(self._directory, "-m", "sealwire", *self.arguments)
        try:
            reply = json.loads(done.stdout)
            self.handled = reply["handled"]
        except (ValueError, KeyError, TypeError):
            reason = done.stderr.decode(errors="replace").strip()
            raise DemoFailed(f"the good client was not served: {reason}") from None
        return reply


def run(directory: Path, *arguments: str, stdin: IO[bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a Python process to its end. Raises DemoFailed if it does not end in time."""
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
    """Lines of a pipe, with a deadline for each."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._descriptor = pipe.fileno()
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._read = b""

    def next(self, seconds: float) -> str:
        """Return the next line; empty at the end, or if none comes in time."""
        deadline = monotonic() + seconds
        while b"\n" not in self._read and self._poll.poll(max(0.0, deadline - monotonic()) * 1000):
            more = os.read(self._descriptor, 65536)
            if not more:
                break
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace")
