"""A nats-server of Debian's, for all tests of a process or for one that stops and starts it."""

from __future__ import annotations

import atexit
import json
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.service import eventually


class NATS:
    """A nats-server on a free port of the loopback, or on a given one. ``url``: where."""

    def __init__(self, *arguments: str, port: int = -1) -> None:
        program = shutil.which("nats-server") or shutil.which("/usr/sbin/nats-server")
        if program is None:
            pytest.skip("there is no nats-server here: apt-get install nats-server")
        self.directory = Path(tempfile.mkdtemp(prefix="sealwire-nats-"))
        self.log = self.directory / "log"
        # It ends with this process, in whatever way that ends; and so with the thread that starts it.
        lasts = threading.current_thread() is threading.main_thread()
        tie = ["setpriv", "--pdeathsig", "KILL"] if lasts and shutil.which("setpriv") else []
        self.process = subprocess.Popen(
            [
                *tie, program, "-a", "127.0.0.1", "-p", str(port), "-l", str(self.log),
                "--ports_file_dir", str(self.directory), *arguments,
            ]
        )  # fmt: skip
        try:
            ports = eventually(self._ports, timeout=20)
        except BaseException:
            self.stop()
            raise
        self.port = int(ports["nats"][0].rpartition(":")[2])
        self.cluster_port = int(ports["cluster"][0].rpartition(":")[2]) if "cluster" in ports else 0
        self.url = f"nats://127.0.0.1:{self.port}"

    def _ports(self) -> Any:
        assert self.process.poll() is None, self.log.read_text()
        for path in self.directory.glob("*.ports"):
            text = path.read_text()
            return json.loads(text) if text.endswith("}") else None
        return None

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(20)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> NATS:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@cache
def shared_nats() -> NATS:
    """One for all tests of this process, until its end."""
    server = NATS()
    atexit.register(server.stop)
    return server


@contextmanager
def cluster(size: int) -> Iterator[list[NATS]]:
    """Servers of one cluster, each with routes to the first."""
    found: list[NATS] = []
    try:
        for _ in range(size):
            routes = ["-routes", f"nats://127.0.0.1:{found[0].cluster_port}"] if found else []
            found.append(NATS("-cluster", "nats://127.0.0.1:-1", "-cluster_name", "c", *routes))
        yield found
    finally:
        for server in found:
            server.stop()
