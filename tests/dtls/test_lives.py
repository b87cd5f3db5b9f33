"""What begins, holds and ends associations over UDP: nobody from outside, and no other request than one's own."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from sealwire import ConnectionClosed, DeadlineExceeded, Limits, RemoteError, RequestHandler, recv_msg
from sealwire.dtls import AsyncUDPClient, SynchronousUDPClient, ThreadingUDPServer, UDPServer
from sealwire.dtls.records import client_random
from sealwire.tls.issue import create_ca
from support.relay import bad_link
from support.service import Deployment, eventually
from support.sides import Side
from support.udp import ADDRESS, client, running

pytestmark = pytest.mark.usefixtures("clean")


def echo(message: Any) -> Any:
    return message


class Held:
    """A handler that holds messages which begin with "held" until ``go``."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, message: Any) -> Any:
        self.entered.release()
        if str(message).startswith("held"):
            assert self.go.wait(20)
        return message


def passed(seconds: float) -> None:
    """That much time goes by: what is tested is what it does."""
    end = monotonic() + seconds
    eventually(lambda: monotonic() > end, timeout=seconds + 5)


def test_a_client_that_asks_nothing_at_first(deployment: Deployment) -> None:
    """Once its handshake is complete the idle limit counts, as on TCP."""
    limits = {"handshake_timeout": 0.3, "idle_timeout": 30.0}
    server = UDPServer(ADDRESS, echo, deployment.server_security(limits=limits))
    with running(server) as port, client(deployment, port) as one:
        one.connect()
        passed(0.6)
        assert one.send_request(1, wait=2) == 1


def test_who_has_seen_a_cookie_ends_nobodys_association(deployment: Deployment) -> None:
    """A ClientHello with another's address and cookie makes nothing of what has proved itself before it has done so."""
    server = UDPServer(ADDRESS, echo, deployment.server_security(limits={"handshake_timeout": 1.0}))
    with (
        running(server) as port,
        bad_link(port, lose=0, repeat=0, hold=0) as link,
        client(deployment, link.port) as one,
    ):
        assert one.send_request(1) == 1
        with_cookie = [each for each in link.heard if client_random(each) is not None][-1]
        random = client_random(with_cookie)
        assert random is not None
        before = server.endpoint.peers
        for number in range(3):
            link.inject(with_cookie.replace(random, os.urandom(32)))
            assert one.send_request(number, wait=3) == number
        eventually(lambda: server.endpoint.peers == before)


def test_what_has_lapsed_takes_no_more_requests(deployment: Deployment) -> None:
    """However busy it is: one with a request in hand at every moment ends all the same."""
    addresses = set()

    class Slow(RequestHandler):
        def respond(self, message: Any) -> Any:
            addresses.add(self.client_address)
            threading.Event().wait(message)
            return message

    async def main(port: int) -> None:
        async with AsyncUDPClient("127.0.0.1", port, security=deployment.security("client")) as one:

            async def keep_asking(seconds: float) -> None:
                while len(addresses) < 3:
                    assert await one.send_request(seconds) == seconds

            async with asyncio.timeout(15), asyncio.TaskGroup() as group:
                for number in range(4):
                    group.create_task(keep_asking(0.1 + number * 0.03))

    security = deployment.server_security(limits={"max_connection_age": 0.3, "reload_interval": 0.05})
    with running(ThreadingUDPServer(ADDRESS, Slow, security)) as port:
        asyncio.run(main(port))


@pytest.mark.parametrize("server_class", [UDPServer, ThreadingUDPServer])
def test_a_key_that_is_taken_out_takes_the_reply_with_it(tmp_path: Path, server_class: type[UDPServer]) -> None:
    ca = create_ca("CA")
    sides = [Side(tmp_path / "server", "127.0.0.1"), Side(tmp_path / "client", "client.example")]
    for side in sides:
        side.leaf(ca)
        side.trust(ca)
        side.keys("k1", "k2")
    server_side, client_side = sides
    client_side.keys("k1")

    def revoking(message: Any) -> Any:
        server_side.keys("k2")
        passed(0.1)
        return message

    security = server_side.security(peers=["dns:client.example"])
    with (
        running(server_class(ADDRESS, revoking, security)) as port,
        SynchronousUDPClient("127.0.0.1", port, 5, 5, security=client_side.security()) as one,
        pytest.raises(ConnectionClosed) as ended,
    ):
        one.send_request(1)
    assert ended.value.code == 3


def test_a_handler_that_gives_no_reply(deployment: Deployment) -> None:
    class Silent(RequestHandler):
        def handle(self) -> None:
            recv_msg(self.request)

    with running(UDPServer(ADDRESS, Silent, deployment.server_security())) as port, client(deployment, port) as one:
        for _ in range(2):
            with pytest.raises(RemoteError, match="no reply") as failed:
                one.send_request(1)
            assert failed.value.code == 19


def test_shutdown_by_a_handler(deployment: Deployment) -> None:
    def respond(message: Any) -> Any:
        server.shutdown()
        return message

    server = ThreadingUDPServer(ADDRESS, respond, deployment.server_security())
    with running(server) as port, client(deployment, port) as one:
        start = monotonic()
        assert one.send_request(1) == 1
        assert monotonic() - start < 4  # less than drain_timeout


def test_another_threads_request_is_waited_for_no_longer_than_wait(deployment: Deployment) -> None:
    held = Held()
    server = ThreadingUDPServer(ADDRESS, held, deployment.server_security())
    with running(server) as port, client(deployment, port) as one:
        thread = threading.Thread(target=one.send_request, args=["held"])
        thread.start()
        assert held.entered.acquire(timeout=10)
        with pytest.raises(DeadlineExceeded, match="another thread"):
            one.send_request(2, wait=0.2)
        held.go.set()
        thread.join(10)
        assert one.send_request(3) == 3


def test_one_that_takes_too_long_leaves_the_others_alone(deployment: Deployment) -> None:
    held = Held()

    async def main(port: int) -> None:
        async with AsyncUDPClient("127.0.0.1", port, security=deployment.security("client")) as one:
            assert await one.send_request("first") == "first"
            patient = asyncio.create_task(one.send_request("held 1"))
            with pytest.raises(DeadlineExceeded):
                await one.send_request("held 2", wait=0.3)
            # Perhaps the association is dead, so that this one gets another; the patient one goes on waiting.
            assert await one.send_request("other") == "other"
            held.go.set()
            assert await patient == "held 1"

    with running(ThreadingUDPServer(ADDRESS, held, deployment.server_security())) as port:
        asyncio.run(main(port))


def test_an_association_that_is_old_is_left_and_not_cut_off(deployment: Deployment) -> None:
    """Whoever still waits for a reply when the client takes another association gets it."""
    held = Held()

    async def main(port: int) -> None:
        security = deployment.security("client", limits=Limits(max_connection_age=0.3, reload_interval=0.05))
        async with AsyncUDPClient("127.0.0.1", port, security=security) as one:
            patient = asyncio.create_task(one.send_request("held"))
            await asyncio.to_thread(held.entered.acquire, timeout=10)
            await asyncio.to_thread(passed, 0.5)
            assert await one.send_request("other") == "other"
            held.go.set()
            assert await patient == "held"

    with running(ThreadingUDPServer(ADDRESS, held, deployment.server_security())) as port:
        asyncio.run(main(port))


def forked(action: Callable[[], bool]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if action() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_fork(deployment: Deployment) -> None:
    """A child has an association of its own: two that go on with the same one would use the same nonces."""
    server = UDPServer(ADDRESS, echo, deployment.server_security())
    with running(server) as port, client(deployment, port, wait=3) as one:
        assert one.send_request("before") == "before"

        def in_child() -> bool:
            good = one.send_request("child") == "child" and server.endpoint.peers == 1
            one.close()
            return good

        assert forked(in_child) == 0
        assert one.send_request("after") == "after"
        assert forked(lambda: one.close() is None) == 0
        assert one.send_request("after") == "after"
