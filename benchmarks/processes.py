"""Starts and ends the processes of peers. Whatever happens, none is left: each is ended by its own group's id."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
START = 30.0
"""Seconds until a server is ready, or clients are."""


class Failed(Exception):
    """A peer's process failed; the message says why."""


class Child:
    """One process of ``benchmarks.child``.

    Args:
        arguments: Its arguments.
        environment: Variables in addition to those of this process.
    """

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by end()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def tell(self, within: float, /, **command: Any) -> Any:
        """Send a command and return its result, ``within`` so many seconds. Raises Failed."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise Failed(self._last_words()) from None
        return self.result(within)

    def result(self, seconds: float) -> Any:
        """Return what it answers. Raises Failed."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise Failed(f"no answer in {seconds:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failed(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["result"]

    def _last_words(self) -> str:
        self._log.seek(0)
        return (self._log.read().strip().splitlines() or ["ended"])[-1][:200]

    @property
    def pids(self) -> list[int]:
        """The process and its descendants."""
        found = [self.process.pid]
        for pid in found:
            for task in _tasks(pid):
                with suppress(OSError):
                    found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        return found

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with self.process:
            pass
        self._log.close()


class Pair:
    """A server and its clients, started when they are needed, and again when they have failed.

    Args:
        directory: The certificates.
        server: Module and function of the server.
        client: Module and function of the clients.
        environment: Variables of both.
    """

    def __init__(
        self, directory: Path, server: tuple[str, str], client: tuple[str, str], environment: dict[str, str]
    ) -> None:
        self._directory, self._server, self._client = directory, server, client
        self._environment = environment
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Start both, unless they run. Raises Failed."""
        if self._children:
            return
        try:
            self._children.append(self._child("serve", self._server))
            port = self.server.result(START)
            self._children.append(self._child("load", self._client, str(port)))
        except BaseException:
            self.end()
            raise

    def _child(self, role: str, function: tuple[str, str], *more: str) -> Child:
        return Child(role, *function, str(self._directory), *more, environment=self._environment)

    @property
    def server(self) -> Child:
        return self._children[0]

    @property
    def clients(self) -> Child:
        return self._children[1]

    def tell(self, within: float, /, **command: Any) -> Any:
        """Have the clients do something. Raises Failed, after which both are gone."""
        self.start()
        try:
            return self.clients.tell(within, **command)
        except Failed:
            self.end()
            raise

    def pin(self, processors: Iterable[int]) -> None:
        """Bind all threads of both to processors."""
        for child in self._children:
            for pid in child.pids:
                for task in _tasks(pid):
                    with suppress(ProcessLookupError):
                        os.sched_setaffinity(task, processors)

    def end(self) -> None:
        """End both."""
        while self._children:
            self._children.pop().end()


def _tasks(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


def resident(pids: list[int]) -> int:
    """Return the resident memory of processes, together, in bytes."""
    return sum(_memory(pid, "VmRSS") for pid in pids)


def peak(pids: list[int]) -> int:
    """Return the peaks of the resident memory of processes since ``reset_peak``, together, in bytes."""
    return sum(_memory(pid, "VmHWM") for pid in pids)


def reset_peak(pids: list[int]) -> None:
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _memory(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
