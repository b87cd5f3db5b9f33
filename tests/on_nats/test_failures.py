"""Workers, NATS servers and connections that go away: nothing is lost or done twice without its caller being told."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from conformance.handlers import note
from sealwire import ConnectionClosed, Security, TransportError
from sealwire.nats import AsyncNATSClient, SynchronousNATSClient
from sealwire.nats.link import Link
from support.aio import eventually_on_loop
from support.nats import NATS, cluster
from support.service import Deployment, eventually
from support.starter import Process

HANDLER = """
import os, time


def respond(message):
    what, notes = message
    with open(notes, "a") as file:
        print(os.getpid(), file=file, flush=True)
    if what == "fork" and os.fork() == 0:
        time.sleep(20)  # longer than the worker that it is a child of
        os._exit(0)
    while what == "hold" and not os.path.exists(notes + ".go"):
        time.sleep(0.01)  # between two looks
    return os.getpid()
"""
CONFIGURATION = """
cert = "{cert}"
key = "{key}"
ca = "{ca}"
keyring = "{keyring}"
peers = ["dns:client.example"]
"""


@pytest.fixture
def security(deployment: Deployment) -> Security:
    return deployment.security("client", peers=["dns:localhost"])


@pytest.fixture
def processes(
    deployment: Deployment, tmp_path: Path, url: str, subject: str
) -> Iterator[Callable[[int], list[Process]]]:
    """Starts workers in processes of their own, and kills them at the end."""
    (tmp_path / "held.py").write_text(HANDLER)
    keyring = tmp_path / "keyring.toml"
    keyring.write_text('[[key]]\nid = "k1"\nsecret = "dGhlIHNlY3JldCBvZiB0aGUgdGVzdHMnIG9ubHkga2V5"\n')
    keyring.chmod(0o600)
    cert, key = deployment.files["server"]
    text = CONFIGURATION.format(cert=cert, key=key, ca=deployment.ca, keyring=keyring)
    (tmp_path / "server.toml").write_text(text)
    arguments = ["serve", "held:respond", "--config", "server.toml", "--nats", url, "--subject", subject]
    settings = {"environment": dict(os.environ), "directory": str(tmp_path), "arguments": arguments}
    with ExitStack() as stack, open(tmp_path / "log", "w") as log:

        def start(number: int) -> list[Process]:
            found = []
            for _ in range(number):
                process = stack.enter_context(Process("support.cli", settings, log))
                stack.callback(process.kill)
                found.append(process)
            for process in found:
                assert process.stdout.readline().startswith("serving"), (tmp_path / "log").read_text()
            return found

        yield start


def seconds(call: Callable[[], Any]) -> float:
    begun = monotonic()
    with pytest.raises(ConnectionClosed, match="may or may not have acted"):
        call()
    return monotonic() - begun


def test_a_killed_worker(processes: Any, url: str, subject: str, security: Security, tmp_path: Path) -> None:
    """What it was doing has an unknown outcome, which the caller is told within a second or two."""
    processes(2)
    notes = tmp_path / "notes"
    with SynchronousNATSClient(url, subject, security=security, wait=60) as client, ThreadPoolExecutor() as pool:
        asking = pool.submit(client.send_request, ["hold", str(notes)])
        pid = int(eventually(lambda: notes.exists() and notes.read_text()))
        (tmp_path / "notes.go").touch()
        os.kill(pid, signal.SIGKILL)
        assert seconds(lambda: asking.result(20)) < 5
        assert notes.read_text() == f"{pid}\n"
        assert client.send_request(["", str(notes)], idempotent=True) != pid


def test_a_killed_worker_and_an_idempotent_request(
    processes: Any, url: str, subject: str, security: Security, tmp_path: Path
) -> None:
    processes(2)
    notes = tmp_path / "notes"
    with SynchronousNATSClient(url, subject, security=security) as client, ThreadPoolExecutor() as pool:
        for _ in range(8):
            client.send_request(["", str(tmp_path / "first")])
        asking = pool.submit(client.send_request, ["hold", str(notes)], idempotent=True)
        pid = int(eventually(lambda: notes.exists() and notes.read_text()))
        (tmp_path / "notes.go").touch()
        os.kill(pid, signal.SIGKILL)
        assert asking.result(20) != pid
        assert len(notes.read_text().split()) == 2


def test_a_worker_that_hangs(processes: Any, url: str, subject: str, security: Security, tmp_path: Path) -> None:
    """NATS does not notice; the keepalive does."""
    (process,) = processes(1)
    with SynchronousNATSClient(url, subject, sessions=1, security=security, keepalive=0.3, wait=60) as client:
        client.send_request(["", str(tmp_path / "notes")])
        process.send_signal(signal.SIGSTOP)
        assert seconds(lambda: client.send_request(["", str(tmp_path / "notes")])) < 10
        process.send_signal(signal.SIGCONT)
        assert client.send_request(["", str(tmp_path / "notes")]) == process.pid


def test_a_child_of_a_killed_worker(processes: Any, url: str, subject: str, security: Security, tmp_path: Path) -> None:
    """It has no copy of the connection to NATS, which would send it sessions for as long as it lives."""
    (process,) = processes(1)
    with SynchronousNATSClient(url, subject, security=security, timeout=60) as client:
        client.send_request(["fork", str(tmp_path / "notes")])
        process.kill()
        process.wait(20)

        def is_gone() -> bool:
            try:
                client.send_request(["", str(tmp_path / "notes")])
            except ConnectionClosed:
                return False
            except TransportError as error:
                return "nothing serves this subject" in str(error)
            return False

        begun = monotonic()
        eventually(is_gone, timeout=15)
        assert monotonic() - begun < 15


def test_nobody_there(url: str, subject: str, security: Security, clean: None) -> None:
    """The error comes at once, and says what to do."""
    with SynchronousNATSClient(url, subject, security=security, timeout=60) as client:
        begun = monotonic()
        with pytest.raises(TransportError, match=f"{subject}: nothing serves this subject"):
            client.send_request(1)
        assert monotonic() - begun < 30


def test_a_restart_of_the_nats_server(worker: Any, subject: str, security: Security, tmp_path: Path) -> None:
    """Requests in progress have an unknown outcome at once; then all goes on."""
    notes, go = str(tmp_path / "notes"), asyncio.Event()

    async def handle(message: Any) -> Any:
        note(notes, str(message))
        if message == "hold":
            await go.wait()
        return message

    nats = NATS()
    try:
        with (
            worker(handle, where=nats.url) as one,
            ThreadPoolExecutor() as pool,
            SynchronousNATSClient(nats.url, subject, security=security, wait=60, keepalive=60) as client,
        ):
            assert client.send_request("first") == "first"
            asking = pool.submit(client.send_request, "hold")
            eventually(lambda: "hold" in Path(notes).read_text())
            nats.stop()
            assert seconds(lambda: asking.result(20)) < 10
            with pytest.raises(TransportError):
                client.send_request("nobody")
            nats = NATS(port=nats.port)
            one.loop.call_soon_threadsafe(go.set)

            def is_back() -> bool:
                try:
                    return bool(client.send_request("after", idempotent=True) == "after")
                except TransportError:
                    return False

            eventually(is_back, timeout=20)
        assert Counter(Path(notes).read_text().split())["hold"] == 1
        assert "nobody" not in Path(notes).read_text()
    finally:
        nats.stop()


class Load:
    """Requests one after another, which are not idempotent, and what became of them."""

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()
        self.errors: dict[int, Exception] = {}
        self.answered = 0
        self._stop = asyncio.Event()

    async def handle(self, number: int) -> int:
        self.seen[number] += 1
        await asyncio.sleep(0)
        return number

    async def run(self, client: AsyncNATSClient, first: int) -> None:
        number = first
        while not self._stop.is_set():
            number += 1
            try:
                assert await client.send_request(number) == number
                self.answered += 1
            except TransportError as error:
                self.errors[number] = error
                await asyncio.sleep(0.01)  # a pause, as a caller makes it

    async def until(self, more: int) -> None:
        wanted = self.answered + more
        await eventually_on_loop(lambda: self.answered >= wanted, timeout=30)

    def stop(self) -> None:
        self._stop.set()

    def check(self) -> None:
        assert max(self.seen.values()) == 1
        unknown = {number for number, error in self.errors.items() if isinstance(error, ConnectionClosed)}
        for number in self.errors.keys() - unknown:
            assert self.seen[number] == 0
        assert sum(self.seen.values()) - self.answered <= len(unknown)


def test_a_worker_that_drains(worker: Any, url: str, subject: str, security: Security) -> None:
    """It leaves the queue group, and then its sessions: no request fails, as each comes to the other worker in time."""
    load = Load()

    async def ask(leave: Callable[[], None]) -> None:
        async with AsyncNATSClient(url, subject, security=security) as client:
            tasks = [asyncio.create_task(load.run(client, each * 1_000_000)) for each in range(8)]
            await load.until(100)
            stopping = asyncio.create_task(asyncio.to_thread(leave))
            await load.until(100)
            await stopping
            await load.until(100)
            load.stop()
            await asyncio.gather(*tasks)

    with worker(load.handle), ExitStack() as stack:
        stack.enter_context(worker(load.handle))
        asyncio.run(ask(stack.close))
    load.check()
    assert load.errors == {}


def test_a_worker_that_drains_leaves_first(worker: Any, url: str, subject: str, security: Security) -> None:
    """While it finishes a request, the subject is nobody's, instead of its own to refuse what comes."""
    going, go = threading.Event(), threading.Event()

    def hold(message: Any) -> Any:
        going.set()
        return go.wait(20) and message

    def is_left() -> bool:
        with SynchronousNATSClient(url, subject, sessions=1, security=security, timeout=0.5) as other:
            try:
                other.send_request(2)
            except (TransportError, TimeoutError) as error:
                return "nothing serves this subject" in str(error)
        return False

    with (
        SynchronousNATSClient(url, subject, sessions=1, security=security, wait=60) as client,
        ThreadPoolExecutor() as pool,
        worker(hold) as one,
    ):
        asking = pool.submit(client.send_request, 1)
        assert going.wait(20)
        one.stop()
        try:
            eventually(is_left, timeout=4)
        finally:
            go.set()
        assert asking.result(20) == 1


def test_a_cluster_of_three(worker: Any, subject: str, security: Security) -> None:
    """One is killed, which a client and a worker may use; both go on at another."""
    load = Load()
    with cluster(3) as servers:
        urls = [server.url for server in servers]

        async def ask() -> None:
            async with AsyncNATSClient(urls, subject, security=security, options={"dont_randomize": True}) as client:
                tasks = [asyncio.create_task(load.run(client, each * 1_000_000)) for each in range(8)]
                await load.until(100)
                await asyncio.to_thread(servers[0].stop)
                await load.until(100)
                load.stop()
                await asyncio.gather(*tasks)

        with worker(load.handle, where=urls), worker(load.handle, where=urls[::-1]):
            asyncio.run(ask())
    load.check()
    assert len(load.errors) < 1000


def test_a_cancellation_is_no_error_of_the_connection(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of NATS takes it for one. A server that was stopped meanwhile would go on for ever."""

    async def stop() -> None:
        begun = asyncio.Event()

        async def connect(*_: object) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionRefusedError("refused") from None

        monkeypatch.setattr(Link, "_connect", connect)
        address, security = "tls://nats.example/orders", deployment.server_security()
        opening = asyncio.create_task(Link.open([address], address, security, {}, 30))
        await begun.wait()
        opening.cancel()
        await asyncio.wait([opening], timeout=10)
        assert opening.cancelled()

    asyncio.run(stop())
