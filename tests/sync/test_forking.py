"""Children of the forking server: shared and inherited state, and how they end. See also test_server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from reference.peer import Closed
from sealwire import RemoteError
from sealwire.wire.frames import FaultCode
from support.service import ChildServer, Deployment, children, eventually, sockets, zombies

pytestmark = pytest.mark.usefixtures("clean")

Start = Callable[..., ChildServer]


@pytest.fixture
def start(deployment: Deployment, tmp_path: Path) -> Start:
    return lambda **options: ChildServer(deployment, tmp_path, **options)


def test_what_a_child_holds(deployment: Deployment, start: Start) -> None:
    """Its own connection and the receiving end of the drain signal, but no listening socket and no other connection."""
    with start() as server, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(server.port)) for _ in range(4)]
        of_children = [sockets(int(client.request(b"pid")[1])) for client in clients]
        of_parent = sockets(server.pid)
        assert len(of_parent) == 3
        assert [len(each & of_parent) for each in of_children] == [1] * 4
        assert [len(each - of_parent) for each in of_children] == [1] * 4
        assert len(set[str]().union(*of_children)) == 4 + 1


def test_nonces_differ(deployment: Deployment, start: Start) -> None:
    """Children start with the same memory, and still send different WELCOMEs."""
    with start() as server, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(server.port, until="hello")) for _ in range(6)]
        assert len({client.read_welcome().payload[1:33] for client in clients}) == 6


def test_no_zombies_after_a_burst(deployment: Deployment, start: Start) -> None:
    with start() as server:
        with ExitStack() as stack:
            clients = [stack.enter_context(deployment.ref_client(server.port)) for _ in range(20)]
            assert len({client.request(b"pid")[1] for client in clients}) == 20
        eventually(lambda: not children(server.pid))
        assert zombies(server.pid) == []


def test_without_its_parent(deployment: Deployment, start: Start) -> None:
    """A child finishes the requests in hand, and exits."""
    with start() as server, ExitStack() as stack:
        busy, idle = (stack.enter_context(deployment.ref_client(server.port)) for _ in range(2))
        idle.request(b"x")
        number = busy.send_message(b"hold")
        eventually(lambda: "hold" in server.seen())
        pids = children(server.pid)
        server.kill()
        assert idle.expect_end().code == 2
        server.release()
        assert busy.receive(number).payload == b"HOLD"
        with pytest.raises(Closed) as closed:
            busy.receive(number + 1)
        assert (closed.value.frame.code, closed.value.frame.last) == (2, number)
        stack.close()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_child_cannot_stop_the_server(deployment: Deployment, start: Start) -> None:
    """It gets an error instead of waiting for ever for the loop of its parent."""
    with start() as server:
        with deployment.client(server.port, raw=True) as client, pytest.raises(RemoteError) as fault:
            client.send_request(b"stop")
        assert fault.value.code == FaultCode.HANDLER_FAILED
        with deployment.client(server.port, raw=True) as client:
            assert client.send_request(b"x") == b"X"
        assert "InvalidState" in server.log.read_text()


def test_what_a_handler_prints(deployment: Deployment, start: Start) -> None:
    """Buffered output is written once, when the child exits."""
    with start() as server:
        for _ in range(2):
            with deployment.client(server.port, raw=True) as client:
                assert client.send_request(b"print") == b"PRINT"
        eventually(lambda: not children(server.pid))
        server.interrupt()
        assert server.process.wait(20) == 0
        assert server.process.stdout.read() == "printed\n" * 2


def test_interrupted_while_it_forks(deployment: Deployment, start: Start) -> None:
    """The child that was just forked is not forgotten, and does not run its parent's signal handler."""
    with start(interrupted_at_fork=True) as server, deployment.ref_client(server.port, until="tls") as client:
        client.send_hello()
        server.process.wait(20)


def test_forks_beside_a_busy_thread(deployment: Deployment, start: Start) -> None:
    """The thread holds a lock during the fork, and does not exist in the child to release it."""
    with start(mode="thread", contended=True) as server:
        for _ in range(12):
            with deployment.client(server.port, raw=True) as client:
                assert client.send_request(b"x") == b"X"
