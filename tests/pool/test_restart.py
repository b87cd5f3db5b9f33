"""A service on two servers, each in a process of its own, is restarted under load, one server after the other."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sealwire import AsyncClientPool, ClientPool
from support.constants import QUICK
from support.documents import free_port
from support.service import Deployment, eventually
from support.starter import Process

pytestmark = pytest.mark.usefixtures("clean")
ROUNDS = 2


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has much to do may take long to start a server, and the pool tries it meanwhile."""
    monkeypatch.setattr("sealwire.pool.servers._LONGEST_PAUSE", 1.0)


class Restarted:
    """A server that can be restarted on its port. ``seen``: the file that gets each message that its handler had."""

    def __init__(self, deployment: Deployment, directory: Path, kind: str, options: dict[str, Any]) -> None:
        cert, key = deployment.files["server"]
        self.port = free_port()
        self._settings = {
            "server": kind, "port": self.port, "cert": str(cert), "key": str(key), "ca": str(deployment.ca),
            "seen": str(directory / "seen"), "limits": QUICK | {"drain_timeout": 10.0},
        }  # fmt: skip
        self._log = directory / f"log {self.port}"
        self._process: Any = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = Process("support.child", self._settings, log)
        assert self._process.stdout.readline() == f"{self.port}\n", self._log.read_text()

    def stop(self) -> None:
        """Drain it, and wait for its end."""
        with self._process as process:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0, self._log.read_text()


@contextmanager
def two_servers(
    deployment: Deployment, directory: Path, kind: str, options: dict[str, Any]
) -> Iterator[list[Restarted]]:
    (directory / "seen").touch()
    servers = [Restarted(deployment, directory, kind, options) for _ in range(2)]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


def restart_in_turn(servers: list[Restarted], pool: Any, answered: Callable[[], int]) -> None:
    """Restart each server while the other one serves; each must have been used again before the next one goes."""

    def serves(server: Restarted) -> bool:
        return all(
            each.in_service and each.connections
            for each in pool.status()
            if each.address.endswith((f":{server.port}", f":{server.port} (127.0.0.1)"))
        )

    for server in servers * ROUNDS:
        before = answered()
        server.stop()
        server.start()
        eventually(lambda server=server: serves(server), timeout=30)
        eventually(lambda before=before: answered() > before + 100, timeout=30)


def everything_once(directory: Path, sent: int) -> None:
    seen = Counter((directory / "seen").read_bytes().split())
    assert sum(seen.values()) == len(seen) == sent


every_kind = pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ThreadingTCPServer", {}),
        ("ForkingTCPServer", {}),
        ("PreforkTCPServer", {"workers": 2}),
        ("PreforkTCPServer", {"workers": 1, "loop": "asyncio"}),
    ],
    ids=["threads", "forks", "workers", "asyncio"],
)


@every_kind
def test_threads_lose_nothing_and_see_no_error(
    deployment: Deployment, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    done, errors, ending = [0] * 6, [], threading.Event()

    def load(number: int) -> None:
        try:
            while not ending.is_set():
                message = f"{'work' if number % 2 else 'quick'}-{number}-{done[number]}".encode()
                assert pool.send_request(message) == message.upper()
                done[number] += 1
        except BaseException as error:
            errors.append(error)

    security = deployment.security("client", raw=True)
    with (
        two_servers(deployment, tmp_path, kind, options) as servers,
        ClientPool([f"127.0.0.1:{each.port}" for each in servers], size=4, security=security) as pool,
    ):
        threads = [threading.Thread(target=load, args=[number]) for number in range(len(done))]
        for thread in threads:
            thread.start()
        try:
            restart_in_turn(servers, pool, lambda: sum(done))
        finally:
            ending.set()
            for thread in threads:
                thread.join()
    assert errors == []
    everything_once(tmp_path, sum(done))


@every_kind
def test_tasks_lose_nothing_and_see_no_error(
    deployment: Deployment, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    done, errors = [0] * 20, []
    security = deployment.security("client", raw=True)

    async def load(pool: AsyncClientPool, number: int, ending: asyncio.Event) -> None:
        try:
            while not ending.is_set():
                message = f"{'work' if number % 2 else 'quick'}-{number}-{done[number]}".encode()
                assert await pool.send_request(message) == message.upper()
                done[number] += 1
        except BaseException as error:
            errors.append(error)

    async def main(servers: list[Restarted]) -> None:
        ending = asyncio.Event()
        async with AsyncClientPool([f"127.0.0.1:{each.port}" for each in servers], security=security) as pool:
            tasks = [asyncio.create_task(load(pool, number, ending)) for number in range(len(done))]
            try:
                await asyncio.to_thread(restart_in_turn, servers, pool, lambda: sum(done))
            finally:
                ending.set()
                await asyncio.wait(tasks)

    with two_servers(deployment, tmp_path, kind, options) as servers:
        asyncio.run(main(servers))
    assert errors == []
    everything_once(tmp_path, sum(done))
