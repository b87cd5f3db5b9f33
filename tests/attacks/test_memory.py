"""Many peers that each keep to the limits of one connection: the sum is bounded, and the others are served."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from reference import protocol as p
from reference.peer import RefClient
from sealwire import ForkingTCPServer, Security
from sealwire.computing import AT_ONCE
from sealwire.session.buffers import STEP
from support.aio import served_by
from support.service import ChildServer, Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clean")

MIB = 1 << 20
KINDS = ["threads", "asyncio"]


def begin_frame(client: RefClient, size: int, sent: int) -> None:
    """Send the beginning of a MESSAGE."""
    client.link.timeout = 0.2
    whole = p.frame(p.MESSAGE, bytes(size), client.next_sequence, 0, client.key_out)
    with suppress(OSError):
        client.send_raw(whole[:sent])


def ended(client: RefClient) -> bool:
    """Look whether the server has ended the connection."""
    try:
        return not client.link.fill(0.0)
    except TimeoutError:
        return False
    except OSError:
        return True


@contextmanager
def echoing(kind: str, security: Security) -> Iterator[int]:
    def echo(message: bytes) -> bytes:
        return message

    if kind == "forks":
        with running(ForkingTCPServer(("127.0.0.1", 0), echo, security)) as port:
            yield port
    else:
        with served_by(kind, echo, security) as port:
            yield port


@pytest.mark.parametrize("kind", [*KINDS, "forks"])
def test_frames_that_are_never_finished(deployment: Deployment, kind: str) -> None:
    """max_buffered: without it each may hold a frame, here twelve times three quarters of a MiB."""
    limits = {"max_buffered": 4 * MIB, "frame_timeout": 60.0, "idle_timeout": 60.0, "drain_timeout": 0.2}
    with echoing(kind, deployment.server_security(raw=True, limits=limits)) as port, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(port)) for _ in range(12)]
        for client in clients:
            assert client.request(b"mine")[1] == b"mine"
            begin_frame(client, MIB, 3 * MIB // 4)
        eventually(lambda: sum(map(ended, clients)) >= 4)
        with deployment.ref_client(port) as good:
            assert good.request(b"good")[1] == b"good"
            payload = bytes(STEP // 2)
            assert good.request(payload)[1] == payload


def test_children_share_the_memory_for_what_they_decode(deployment: Deployment) -> None:
    """Here the test has it all, as if it were another child."""
    security = deployment.server_security(raw=True, limits={"drain_timeout": 0.2})
    server = ForkingTCPServer(("127.0.0.1", 0), lambda message: message[:1], security)
    cells = server._admission._table.decoding.large
    with running(server) as port, deployment.ref_client(port) as client:
        assert client.request(b"small")[1] == b"s"
        cells[len(cells) - 1] = security.limits.max_memory * AT_ONCE
        number = client.send_message(b"l" * MIB)
        client.link.timeout = 0.2
        with pytest.raises(TimeoutError):
            client.receive(number)
        client.link.timeout = 10
        cells[len(cells) - 1] = 0
        assert client.receive(number).payload == b"l"
        eventually(lambda: cells.total == 0)


@pytest.mark.parametrize("loop", KINDS)
def test_workers_share_the_bound(deployment: Deployment, tmp_path: Path, loop: str) -> None:
    """Of twelve frames, each of two workers would keep four on its own."""
    limits = {"max_buffered": 4 * MIB, "frame_timeout": 60.0, "idle_timeout": 60.0, "drain_timeout": 0.2}
    options = {"server": "PreforkTCPServer", "options": {"workers": 2, "loop": loop}}
    with ChildServer(deployment, tmp_path, limits=limits, **options) as server, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(server.port)) for _ in range(12)]
        for client in clients:
            assert client.request(b"mine")[1] == b"MINE"
            begin_frame(client, MIB, 3 * MIB // 4)
        eventually(lambda: sum(map(ended, clients)) >= 7, 20)
        with deployment.ref_client(server.port) as good:
            assert good.request(b"good")[1] == b"GOOD"


@pytest.mark.parametrize("kind", KINDS)
def test_replies_that_are_not_taken(deployment: Deployment, kind: str) -> None:
    limits = {"max_buffered": 4 * MIB, "frame_timeout": 60.0, "idle_timeout": 60.0, "drain_timeout": 0.2}
    security = deployment.server_security(raw=True, limits=limits)
    with served_by(kind, lambda message: bytes(int(message)), security) as port, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(port, max_frame=16 * MIB)) for _ in range(3)]
        for client in clients:
            client.send_message(b"%d" % (8 * MIB))
        # The kernel takes a part, the server may hold the rest of none.
        eventually(lambda: all(map(drained, clients)))
        with deployment.ref_client(port) as good:
            assert good.request(b"5")[1] == bytes(5)


def drained(client: RefClient) -> bool:
    """Read what the kernel has; look whether the server has ended the connection."""
    with suppress(TimeoutError):
        try:
            while client.link.fill(0.0):
                pass
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
        return True
    return False


def test_requests_in_progress(deployment: Deployment) -> None:
    """On asyncio a connection may have many requests in progress: it is not read while it holds most."""
    go, inside = threading.Event(), threading.Semaphore(0)

    def held(message: bytes) -> bytes:
        if len(message) > 1:
            inside.release()
            assert go.wait(20)
        return b"done"

    limits = {"max_buffered": 4 * MIB}
    security = deployment.server_security(raw=True, limits=limits)
    with served_by("asyncio", held, security) as port, ExitStack() as stack:
        first, second = (stack.enter_context(deployment.ref_client(port)) for _ in range(2))
        numbers = [second.send_message(bytes(MIB // 2))]
        assert inside.acquire(timeout=10)
        answers: list[Any] = []

        def ask() -> None:
            sent = [first.send_message(bytes(MIB // 4)) for _ in range(16)]
            answers.extend(first.receive(number) for number in sent)

        asking = threading.Thread(target=ask)
        asking.start()
        for _ in range(6):
            assert inside.acquire(timeout=10)
        assert not inside.acquire(timeout=0.2)  # not read any more
        with deployment.ref_client(port) as good:
            assert good.request(b"1")[1] == b"done"
        go.set()
        asking.join(20)
        assert second.receive(numbers[0]).payload == b"done"
        assert len(answers) == 16


def test_a_client_that_takes_no_replies_holds_no_place(deployment: Deployment) -> None:
    """max_in_flight_total counts requests that handlers work on, not replies that wait for their clients."""
    limits = {"max_in_flight_total": 1, "frame_timeout": 60.0, "drain_timeout": 0.2}
    security = deployment.server_security(raw=True, limits=limits)
    with served_by("asyncio", lambda message: bytes(int(message)), security) as port, ExitStack() as stack:
        client = stack.enter_context(deployment.ref_client(port, max_frame=64 * MIB))
        client.send_message(b"%d" % (40 * MIB))  # more than the kernel takes
        client.link.need(1, 10)
        for _ in range(3):
            client.send_message(b"5")
        with deployment.ref_client(port) as good:
            assert good.request(b"5")[1] == bytes(5)
