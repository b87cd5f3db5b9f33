"""The server of several processes: supervision, replacement, draining, and killed processes."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from reference.client import STAGES
from reference.peer import Closed
from sealwire import ConfigurationError, ConnectionClosed, PreforkTCPServer, TransportError
from support.service import ChildServer, Deployment, children, eventually, sockets

pytestmark = pytest.mark.usefixtures("clean")

Start = Callable[..., ChildServer]
LOOPS = ["threads", "asyncio"]
SETTINGS = ("limits", "coroutines", "descriptors", "interrupted_at_fork")
"""The rest are options of the server."""


@pytest.fixture
def start(deployment: Deployment, tmp_path: Path) -> Start:
    def start(**options: object) -> ChildServer:
        settings = {name: options.pop(name) for name in SETTINGS if name in options}
        return ChildServer(
            deployment, tmp_path, server="PreforkTCPServer", options={"workers": 2} | options, **settings
        )

    return start


def pids(deployment: Deployment, server: ChildServer, most: int = 40) -> set[int]:
    """Return the process ids of the workers that serve a number of connections."""
    found = set()
    with ExitStack() as stack:
        for _ in range(most):
            client = stack.enter_context(deployment.ref_client(server.port))
            found.add(int(client.request(b"pid")[1]))
    return found


@pytest.mark.parametrize("loop", LOOPS)
def test_all_workers_serve(deployment: Deployment, start: Start, loop: str) -> None:
    with start(loop=loop) as server:
        eventually(lambda: len(children(server.pid)) == 2)
        workers = set(children(server.pid))
        assert eventually(lambda: pids(deployment, server) == workers)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_that_dies_is_replaced(deployment: Deployment, start: Start, loop: str) -> None:
    with start(loop=loop, workers=2) as server, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(server.port)) for _ in range(12)]
        owners = {client: int(client.request(b"pid")[1]) for client in clients}
        victim = owners[clients[0]]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in children(server.pid) and len(children(server.pid)) == 2)
        # The connections of the other workers go on, and new ones are served.
        for client, owner in owners.items():
            if owner != victim:
                assert int(client.request(b"pid")[1]) == owner
        assert victim not in pids(deployment, server, 5)
        stack.close()
    assert "exited (signal SIGKILL)" in server.log.read_text()


def test_a_crash_loop_is_slowed_down(deployment: Deployment, start: Start) -> None:
    with start(workers=1) as server:
        for _ in range(3):
            with pytest.raises(ConnectionClosed), deployment.client(server.port, raw=True) as client:
                client.send_request(b"die")
        with deployment.client(server.port, raw=True) as client:
            assert client.send_request(b"x") == b"X"


@pytest.mark.parametrize("loop", LOOPS)
def test_drain(deployment: Deployment, start: Start, loop: str) -> None:
    with start(loop=loop) as server, deployment.ref_client(server.port) as client:
        number = client.send_message(b"hold", wait=10)
        eventually(server.seen)
        server.interrupt()
        server.release()
        assert client.receive(number).payload == b"HOLD"
        client.send_close()
        client.expect_end()


def test_a_worker_that_does_not_end_is_killed(deployment: Deployment, start: Start) -> None:
    with start(limits={"drain_timeout": 0.1}) as server, deployment.ref_client(server.port) as client:
        client.send_message(b"hold", wait=10)
        eventually(server.seen)
        server.interrupt()


@pytest.mark.parametrize("loop", LOOPS)
def test_terminated_worker_drains_and_is_replaced(deployment: Deployment, start: Start, loop: str) -> None:
    with start(loop=loop, workers=1) as server, deployment.ref_client(server.port) as client:
        worker = int(client.request(b"pid")[1])
        number = client.send_message(b"hold", wait=10)
        eventually(lambda: "hold" in server.seen())
        os.kill(worker, signal.SIGTERM)
        server.release()
        assert client.receive(number).payload == b"HOLD"
        with pytest.raises(Closed) as closed:
            client.receive(number + 1)
        assert (closed.value.frame.code, closed.value.frame.last) == (2, number)
        eventually(lambda: children(server.pid) and children(server.pid) != [worker])
        with deployment.ref_client(server.port) as other:
            assert other.request(b"x")[1] == b"X"


@pytest.mark.parametrize("loop", LOOPS)
def test_replacement_refuses_no_client(deployment: Deployment, start: Start, loop: str) -> None:
    """Clients that are connecting are served once by the outgoing worker, then told to reconnect."""
    with start(loop=loop, workers=1) as server, ExitStack() as stack:
        worker = eventually(lambda: children(server.pid))[0]
        slow = [stack.enter_context(deployment.ref_client(server.port, until=stage)) for stage in STAGES]
        os.kill(worker, signal.SIGTERM)
        eventually(lambda: worker not in pids(deployment, server, 1))
        for stage, client in zip(STAGES, slow, strict=True):
            for step in (client.start_tls, client.send_hello, client.read_welcome)[STAGES.index(stage) :]:
                step()
            assert client.request(b"pid")[1] == b"%d" % worker
        for client in slow:
            end = client.expect_end()
            assert (end.code, end.last) == (2, 1)
        eventually(lambda: len(children(server.pid)) == 1 and worker not in children(server.pid))


def test_replacement_has_a_bound(deployment: Deployment, start: Start) -> None:
    """While as many workers drain as serve, an outgoing one serves on, however fast it reached its limit."""
    with start(workers=1, max_requests=1) as server, deployment.ref_client(server.port) as busy:
        (first,) = eventually(lambda: children(server.pid))
        number = busy.send_message(b"hold", wait=30)
        eventually(lambda: len(children(server.pid)) == 2, timeout=20)
        serving = set(children(server.pid)) - {first}
        # The first worker accepts until the second one serves.
        eventually(lambda: pids(deployment, server, 1) == serving, timeout=20)
        for _ in range(5):
            assert pids(deployment, server, 1) == serving
            assert len(children(server.pid)) == 2
        server.release()
        assert busy.receive(number).payload == b"HOLD"
        busy.expect_end()
        eventually(lambda: not serving & set(children(server.pid)))


@pytest.mark.parametrize("loop", LOOPS)
def test_replacement_under_load(deployment: Deployment, start: Start, loop: str) -> None:
    """Workers come and go, and no request is lost or refused."""
    with start(loop=loop, workers=2, max_requests=60) as server:
        failures: list[Exception] = []
        done = [0] * 4
        over = threading.Event()

        def work(number: int) -> None:
            try:
                with deployment.client(server.port, raw=True, wait=20, timeout=20) as client:
                    while not over.is_set():
                        assert client.send_request(b"x") == b"X"
                        done[number] += 1
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: server.log.read_text().count("asked to be replaced") >= 6, timeout=30)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert len(server.seen()) == sum(done) >= 6 * 54


def test_real_time_signal(deployment: Deployment, start: Start) -> None:
    """Real-time signals have no names."""
    with start(workers=1) as server:
        pid = int(*pids(deployment, server, 1))
        os.kill(pid, signal.SIGRTMIN + 1)
        assert pids(deployment, server, 1) != {pid}
        assert f"exited (signal {signal.SIGRTMIN + 1})" in server.log.read_text()


def test_no_process_can_be_made(deployment: Deployment, start: Start) -> None:
    """The workers that run serve on, the parent tries again, and the server drains."""
    with start(workers=8, descriptors=12, loop="threads") as server:
        eventually(lambda: server.log.read_text().count("cannot start a worker: Too many open files") >= 2)
        workers = set(children(server.pid))
        assert 2 <= len(workers) < 8
        os.kill(min(workers), signal.SIGKILL)
        eventually(lambda: set(children(server.pid)) - workers)


def test_interrupted_while_it_forks(start: Start) -> None:
    """The child that was just forked is drained with the others."""
    with start(interrupted_at_fork=True) as server:
        server.process.wait(20)


@pytest.mark.parametrize("loop", LOOPS)
def test_parent_killed_with_unread_messages(deployment: Deployment, start: Start, loop: str) -> None:
    with start(loop=loop, workers=1, max_requests=1) as server:
        with deployment.ref_client(server.port) as client:
            os.kill(server.pid, signal.SIGSTOP)
            worker = int(client.request(b"pid")[1])
        server.kill()
        eventually(lambda: not Path(f"/proc/{worker}").exists())


def test_worker_that_hangs(deployment: Deployment, start: Start) -> None:
    """A coroutine blocks the loop of its worker. The worker is replaced and killed after SIGTERM, and ends by itself
    after its parent was killed."""
    with (
        start(loop="asyncio", coroutines=True, limits={"drain_timeout": 0.1}) as server,
        ExitStack() as stack,
    ):
        stuck: set[int] = set()
        while len(stuck) < 2:
            client = stack.enter_context(deployment.ref_client(server.port))
            stuck.add(int(client.request(b"pid")[1]))
            client.send_message(b"hold")
            eventually(lambda: server.seen().count("hold") == len(stuck))
        retired = min(stuck)
        os.kill(retired, signal.SIGTERM)
        assert eventually(lambda: set(children(server.pid)) - stuck) == pids(deployment, server, 3)
        workers = children(server.pid)
        assert retired in workers
        server.kill()
        stack.close()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), timeout=15)


@pytest.mark.parametrize("retired", [True, False])
def test_worker_that_is_stopped(deployment: Deployment, start: Start, retired: bool) -> None:
    """A stopped worker is killed at its deadline, after REPLACED and after DRAIN."""
    with start(workers=1, limits={"drain_timeout": 0.1}) as server:
        worker = int(*pids(deployment, server, 1))
        if retired:
            os.kill(worker, signal.SIGTERM)
            eventually(lambda: f"worker {worker} asked to be replaced" in server.log.read_text())
        os.kill(worker, signal.SIGSTOP)
        if retired:
            eventually(lambda: worker not in children(server.pid), timeout=10)
            assert worker not in pids(deployment, server, 1)
        server.interrupt()
        server.process.wait(20)
    assert f"worker {worker} did not exit in time; killing it" in server.log.read_text()


def test_memory(deployment: Deployment, start: Start) -> None:
    with start(workers=1, max_memory=1) as server:
        first = eventually(lambda: children(server.pid))
        eventually(lambda: first[0] not in children(server.pid), timeout=10)
        with deployment.client(server.port, raw=True) as client:
            assert client.send_request(b"x") == b"X"


@pytest.mark.parametrize("loop", LOOPS)
def test_without_its_parent(deployment: Deployment, start: Start, loop: str) -> None:
    with ExitStack() as stack:
        server = start(loop=loop)
        client = stack.enter_context(deployment.ref_client(server.port))
        number = client.send_message(b"hold", wait=10)
        eventually(server.seen)
        workers = children(server.pid)
        server.kill()
        server.release()
        assert client.receive(number).payload == b"HOLD"
        with pytest.raises(Closed) as closed:
            client.receive(number + 1)
        assert (closed.value.frame.code, closed.value.frame.last) == (2, number)
        stack.close()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), timeout=10)


def test_descriptors_of_a_worker(deployment: Deployment, start: Start) -> None:
    """The listening socket, the link to the parent, and its own connections, but nothing of another worker."""
    with start(workers=3) as server:
        workers = eventually(lambda: len(children(server.pid)) == 3 and children(server.pid))

        def nothing_is_shared() -> bool:
            """Becomes true when all serve; a process that was just forked still has everything of its parent."""
            parents = sockets(server.pid)
            held = [sockets(pid) for pid in workers]
            listener = set.intersection(*held)
            own = [each - listener for each in held]
            return len(listener) == 1 and sum(map(len, own)) == len(set[str]().union(*own) - parents)

        eventually(nothing_is_shared)


def test_nonces_differ(deployment: Deployment, start: Start) -> None:
    """Two workers that were just forked send different WELCOMEs."""
    with start(workers=2) as server, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(server.port, until="hello")) for _ in range(8)]
        nonces = {client.read_welcome().payload[1:33] for client in clients}
        assert len(nonces) == 8
        stack.close()


def test_wrong_arguments(deployment: Deployment) -> None:
    security = deployment.server_security()

    async def coroutine(message: object) -> object:
        return message

    for options, text in (
        ({"workers": 0}, "workers must be"),
        ({"workers": 2**70}, "workers must be a whole number from 1 to 4096"),
        ({"max_requests": True}, "max_requests must be"),
        ({"max_memory": 1.5}, "max_memory must be"),
        ({"loop": "trio"}, "loop must be"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            PreforkTCPServer(("127.0.0.1", 0), coroutine, security, **({"loop": "asyncio"} | options))
    with pytest.raises(ConfigurationError, match="runs no coroutines"):
        PreforkTCPServer(("127.0.0.1", 0), coroutine, security)
    with pytest.raises(ConfigurationError, match="needs a Security"):
        PreforkTCPServer(("127.0.0.1", 0), coroutine, None)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TransportError, match="cannot listen"):
        PreforkTCPServer(taken.getsockname(), len, security)
    with PreforkTCPServer(("127.0.0.1", 0), coroutine, security, loop="asyncio") as unused:
        assert unused.active_children == set()
        unused.shutdown()
