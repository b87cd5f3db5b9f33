"""The asyncio client on UDP: many requests at once, and those that leave the others alone."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from sealwire import (
    DeadlineExceeded,
    Limits,
    RemoteError,
    TransportError,
)
from sealwire.dtls import AsyncUDPClient, ThreadingUDPServer
from sealwire.dtls.records import client_random
from support.relay import bad_link
from support.service import Deployment, eventually
from support.udp import ADDRESS, Counting, Held, forked, passed, running

pytestmark = pytest.mark.usefixtures("clean")


def test_many_at_once_on_a_bad_link(deployment: Deployment) -> None:
    handler = Counting()

    async def main(port: int) -> None:
        security = deployment.security("client")
        async with AsyncUDPClient("127.0.0.1", port, timeout=30, wait=60, security=security) as one:
            replies = await asyncio.gather(*(one.send_request(n, idempotent=True) for n in range(200)))
            assert replies == list(range(200))
            assert repr(one).endswith("open>")
            assert one.peer is not None
        assert one.peer is None

    with (
        running(ThreadingUDPServer(ADDRESS, handler, deployment.server_security())) as port,
        bad_link(port, lose=0.05, hold=0.04) as link,
    ):
        asyncio.run(main(link.port))
    assert set(handler.seen) == set(range(200))


def test_a_ping(deployment: Deployment) -> None:
    async def main(link: Any) -> None:
        security = deployment.security("client")
        async with AsyncUDPClient("127.0.0.1", link.port, wait=0.3, security=security) as one:
            assert all(0 < seconds < 10 for seconds in await asyncio.gather(*(one.ping() for _ in range(3))))
            peer = one.peer
            assert peer is not None
            link.passing = False
            with pytest.raises(DeadlineExceeded, match="nothing came from") as late:
                await one.ping()
            assert late.value.sent
            link.passing = True
            assert 0 < await one.ping() < 10
            assert await one.send_request(1) == 1
            assert one.peer == peer

    with (
        running(ThreadingUDPServer(ADDRESS, lambda message: message, deployment.server_security())) as port,
        bad_link(port, lose=0, hold=0) as link,
    ):
        asyncio.run(main(link))


def test_a_ping_that_is_cancelled_leaves_the_others_alone(deployment: Deployment) -> None:
    """Its answer is not taken for that to the next one, and one that is lost is not awaited for ever."""

    async def cancelled(one: AsyncUDPClient, link: Any) -> None:
        heard, lost = len(link.heard), link.lost
        task = asyncio.create_task(one.ping())
        await asyncio.sleep(0)  # the task has sent it then, and its answer is not taken before this one goes on
        task.cancel()
        await asyncio.to_thread(eventually, lambda: link.lost > lost or (link.passing and len(link.heard) > heard))
        with pytest.raises(asyncio.CancelledError):
            await task

    async def main(link: Any) -> None:
        async with AsyncUDPClient("127.0.0.1", link.port, wait=0.3, security=deployment.security("client")) as one:
            await one.connect()
            await cancelled(one, link)
            assert 0 < await one.ping() < 10
            link.passing = False
            await cancelled(one, link)
            link.passing = True
            with pytest.raises(DeadlineExceeded, match="nothing came from"):
                await one.ping()
            assert 0 < await one.ping() < 10

    with (
        running(ThreadingUDPServer(ADDRESS, lambda message: message, deployment.server_security())) as port,
        bad_link(port, lose=0, hold=0) as link,
    ):
        asyncio.run(main(link))


def test_a_ping_to_a_server_that_is_gone(deployment: Deployment) -> None:
    async def main(leave: Any) -> None:
        async with AsyncUDPClient("127.0.0.1", port, 2, 2, security=deployment.security("client")) as one:
            await one.ping()
            await asyncio.to_thread(leave)
            with pytest.raises(TransportError):
                await one.ping()

    serving = running(ThreadingUDPServer(ADDRESS, lambda message: message, deployment.server_security()))
    port = serving.__enter__()
    asyncio.run(main(lambda: serving.__exit__(None, None, None)))


def test_one_that_is_cancelled_leaves_the_others_alone(deployment: Deployment) -> None:
    go = threading.Event()

    def held(message: Any) -> Any:
        if message == "held":
            go.wait(20)
        return message

    async def main(port: int) -> None:
        async with AsyncUDPClient("127.0.0.1", port, security=deployment.security("client")) as one:
            await one.connect()
            waiting = asyncio.create_task(one.send_request("held"))
            assert await one.send_request("first") == "first"
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            go.set()
            assert await one.send_request("other") == "other"

    with running(ThreadingUDPServer(ADDRESS, held, deployment.server_security())) as port:
        asyncio.run(main(port))


def test_too_much_at_once(deployment: Deployment) -> None:
    go = threading.Event()

    def held(message: Any) -> Any:
        go.wait(20)
        return message

    async def main(port: int) -> None:
        async with AsyncUDPClient("127.0.0.1", port, security=deployment.security("client")) as one:
            await one.connect()
            first = asyncio.create_task(one.send_request(1))
            await asyncio.sleep(0)
            with pytest.raises(RemoteError) as overloaded:
                await one.send_request(2)
            assert overloaded.value.code == 21
            go.set()
            assert await first == 1

    security = deployment.server_security(limits={"max_in_flight": 1})
    with running(ThreadingUDPServer(ADDRESS, held, security)) as port:
        asyncio.run(main(port))


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
    """A task that waits for a reply when the client takes another association still gets it."""
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


def test_fork(deployment: Deployment) -> None:
    """A child makes an association of its own, and neither uses its parent's nor takes it out of the parent's loop."""

    async def main(port: int) -> None:
        async with AsyncUDPClient("127.0.0.1", port, wait=3, security=deployment.security("client")) as one:
            assert await one.send_request("before") == "before"
            pending = asyncio.create_task(one.send_request("held"))
            await asyncio.to_thread(held.entered.acquire, timeout=10)
            await asyncio.to_thread(held.entered.acquire, timeout=10)

            def in_child() -> bool:
                asyncio.events._set_running_loop(None)
                return asyncio.run(asyncio.wait_for(one.send_request("child"), 5)) == "child" and not pending.done()

            said = len(link.heard)
            assert forked(in_child) == 0
            assert any(client_random(each) is not None for each in link.heard[said:])
            held.go.set()
            assert await pending == "held"
            said = len(link.heard)
            assert await one.send_request("after") == "after"
            assert len(link.heard) == said + 1

    held = Held()
    with (
        running(ThreadingUDPServer(ADDRESS, held, deployment.server_security())) as port,
        bad_link(port, lose=0, repeat=0, hold=0) as link,
    ):
        asyncio.run(main(link.port))


def test_a_reply_counts_though_the_server_is_gone(deployment: Deployment) -> None:
    """ICMP's error for what was sent meanwhile comes before it: the kernel keeps errors and datagrams apart."""
    held = Held()
    server = ThreadingUDPServer(ADDRESS, held, deployment.server_security())
    serving = threading.Thread(target=server.serve_forever)
    serving.start()

    async def main() -> None:
        async with AsyncUDPClient("127.0.0.1", server.server_address[1], security=deployment.security("client")) as one:
            await one.connect()
            asked = asyncio.create_task(one.send_request("held"))
            await asyncio.to_thread(held.entered.acquire, timeout=10)
            held.go.set()
            server.server_close()  # which the loop waits for
            with pytest.raises(TransportError):
                await one.send_request("late", wait=1)
            assert await asked == "held"

    asyncio.run(main())
    serving.join(20)


def test_in_one_event_loop_after_the_other(deployment: Deployment) -> None:
    """Each loop that ends closes its association; the next one makes another."""
    with running(ThreadingUDPServer(ADDRESS, lambda message: message, deployment.server_security())) as port:
        one = AsyncUDPClient("127.0.0.1", port, security=deployment.security("client"))
        for number in range(3):
            assert asyncio.run(one.send_request(number)) == number
        asyncio.run(one.close())
        gc.collect()
