"""Private Redis and RabbitMQ servers, each in a directory of its own, and Celery workers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from support.documents import free_port

RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # the one on the path changes the user


@contextmanager
def started(command: list[str], log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, all of which is killed at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_it_accepts(address: str | tuple[str, int], process: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as attempt:
            if attempt.connect_ex(address) == 0:
                return
        pause.wait(0.05)
    raise AssertionError(f"it does not listen: {log.read_text()}")


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """Return the path of its socket; skip without Redis."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    path, log = str(directory / "redis.sock"), directory / "redis.log"
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", str(directory)]
    with started(command, log) as process:
        wait_until_it_accepts(path, process, log)
        yield path


@contextmanager
def rabbitmq_server(directory: Path) -> Iterator[str]:
    """Return its URL; skip without RabbitMQ. What it is told by is a mapper of its own, so that none is left behind."""
    if not os.access(RABBITMQ, os.X_OK) or shutil.which("epmd") is None:
        pytest.skip("rabbitmq-server is not installed")
    port, mapper, other = free_port(), free_port(), free_port()
    (directory / "conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nlog.file = false\nlog.console = true\n")
    environment = os.environ | {
        "HOME": str(directory),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"sealwire-{port}@localhost",
        "RABBITMQ_DIST_PORT": str(other),
        "RABBITMQ_CONFIG_FILE": str(directory / "conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
    }
    with started(["epmd"], directory / "epmd.log", env=environment):
        log = directory / "rabbitmq.log"
        with started([RABBITMQ], log, env=environment) as process:
            wait_until_it_accepts(("127.0.0.1", port), process, log)
            yield f"amqp://guest:guest@127.0.0.1:{port}//"


class Worker:
    """A Celery worker of the app ``support.shop`` in processes of its own."""

    def __init__(self, directory: Path, environment: dict[str, str], *arguments: str, module: str = "support.shop"):
        self.log = directory / "worker.log"
        self.log.touch()
        self._environment = os.environ | environment
        self._command = [sys.executable, "-m", "celery", "-A", module, "worker", "-l", "INFO", *arguments]
        self.start()

    def start(self) -> None:
        self._seen = len(self.log.read_text())
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                cwd=Path(__file__).parent.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.logged(" ready.")

    def logged(self, text: str) -> str:
        """Wait for the next line of the log that has ``text`` in it, and return it."""
        pause = threading.Event()
        for _ in range(1200):
            rest = self.log.read_text()[self._seen :]
            for line in rest.splitlines(keepends=True):
                if not line.endswith("\n"):
                    break
                self._seen += len(line)
                if text in line:
                    return line
            assert self.process.poll() is None, self.log.read_text()
            pause.wait(0.05)
        raise AssertionError(f"{text!r} is not in the log: {self.log.read_text()}")

    def kill(self) -> None:
        """Kill it with all its processes, as a loss of power would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
