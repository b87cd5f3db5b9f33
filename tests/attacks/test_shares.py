"""Connections of one peer are no more to the others than a single one."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

import sealwire.aio.handler_calls
import sealwire.computing
import sealwire.contention
import sealwire.paces
import sealwire.session.round_robin
import sealwire.session.shares
from reference import protocol as p
from sealwire.aio.handler_calls import HandlerCalls
from sealwire.computing import computations
from sealwire.contention import activity, peer_turns, precedence, shares
from sealwire.native import NATIVE
from support.aio import LOOPS, served_by
from support.service import Deployment, eventually

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
def contended(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Peers count as active for long, however slow this machine is."""
    monkeypatch.setattr(sealwire.contention, "CONTENDED", 1000.0)
    monkeypatch.setattr(sealwire.session.round_robin, "CONTENDED", 1000.0)
    activity.until = monotonic() + 1000.0
    yield
    activity.calm(float("inf"))
    activity.reset()
    shares.reset()
    precedence.reset()


@pytest.mark.usefixtures("contended")
@pytest.mark.parametrize("waiting", [1, 50])
def test_threads_of_one_peer_work_one_after_the_other(deployment: Deployment, waiting: int) -> None:
    """Here one of them works for as long as the test wants. The other peer's do not wait for it."""
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"])
    seen = []

    def respond(message: bytes) -> bytes:
        seen.append(message)
        return message

    with served_by("threads", respond, security) as port, ExitStack() as stack:
        flood = [stack.enter_context(deployment.ref_client(port)) for _ in range(2)]
        good = stack.enter_context(deployment.ref_client(port, role="other client"))
        for client in (*flood, good):
            assert client.request(b"here")[1] == b"here"
        account = flood_account(deployment)
        turn = threading.Lock()
        peer_turns.take(account, turn)
        numbers = [[client.send_message(b"flood") for _ in range(waiting)] for client in flood]
        eventually(lambda: len(peer_turns._turns[account]) == 1 + len(flood))
        for _ in range(20):
            assert good.request(b"good")[1] == b"good"
        assert b"flood" not in seen
        peer_turns.give(account, turn)
        for client, sent in zip(flood, numbers, strict=True):
            for number in sent:
                assert client.receive(number).payload == b"flood"
        eventually(lambda: not peer_turns._turns)  # given back just after the last reply


@pytest.mark.usefixtures("contended")
def test_a_peer_that_takes_no_replies_does_not_keep_its_turn(deployment: Deployment) -> None:
    """A peer with a handler at work does not, either: nothing is held while anything is awaited."""
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"])
    go = threading.Event()

    def respond(message: bytes) -> bytes:
        if message == b"hold":
            assert go.wait(20)
        return bytes(32 << 20 if message == b"large" else 1)

    with served_by("threads", respond, security) as port, ExitStack() as stack:
        first, second, third = (stack.enter_context(deployment.ref_client(port, max_frame=64 << 20)) for _ in range(3))
        other = stack.enter_context(deployment.ref_client(port, role="other client"))
        for client in (first, second, third, other):
            assert client.request(b"here")[1] == b"\0"
        first.send_message(b"large")
        first.link.need(20_000, 10)  # and takes no more of it
        held = second.send_message(b"hold")
        assert third.request(b"another connection of theirs")[1] == b"\0"
        go.set()
        assert second.receive(held).payload == b"\0"


def test_the_handshake_of_a_newcomer_counts(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a peer is identified, the threads of its many connections begin to take turns."""
    monkeypatch.setattr(sealwire.contention, "_NEWCOMER", 1000.0)
    activity.reset()
    security = deployment.server_security(raw=True, limits={"drain_timeout": 0.2})
    try:
        with served_by("threads", lambda message: message, security) as port:
            assert activity.until == 0.0
            with deployment.ref_client(port, until="tls"):
                assert activity.until > monotonic() + 500
    finally:
        activity.calm(float("inf"))
        activity.reset()


@pytest.mark.parametrize("kind", LOOPS)
def test_connections_on_a_loop_take_turns_by_peer(deployment: Deployment, kind: str) -> None:
    """Requests that lie there already, of many connections of one peer and of one connection of another."""
    go, inside, seen = threading.Event(), threading.Event(), []

    async def respond(message: bytes) -> bytes:
        if message == b"block the loop":
            inside.set()
            assert go.wait(20)
        seen.append(message)
        return message

    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"])
    with served_by(kind, respond, security) as port, ExitStack() as stack:
        flood = [stack.enter_context(deployment.ref_client(port)) for _ in range(8)]
        good = stack.enter_context(deployment.ref_client(port, role="other client"))
        for client in (*flood, good):
            assert client.request(b"here")[1] == b"here"
        good.send_message(b"block the loop")
        assert inside.wait(20)
        numbers = [[client.send_message(b"flood") for _ in range(40)] for client in flood]
        mine = [good.send_message(b"good") for _ in range(10)]
        go.set()
        for number in mine:
            assert good.receive(number).payload == b"good"
        for client, sent in zip(flood, numbers, strict=True):
            assert client.receive(sent[-1]).payload == b"flood"
    last = max(position for position, message in enumerate(seen) if message == b"good")
    assert seen[:last].count(b"flood") < 100  # of 320: some while they were alone, then one for each of the other's


@pytest.mark.usefixtures("contended")
def test_replies_and_requests_that_are_there_already_need_a_turn(deployment: Deployment) -> None:
    """Of a connection that is never waited for, because its client sends ahead."""
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"])
    go, inside = threading.Semaphore(0), threading.Semaphore(0)

    def respond(message: bytes) -> bytes:
        if message == b"hold":
            inside.release()
            assert go.acquire(timeout=20)
        return message

    def waiting() -> int:
        return max(0, len(peer_turns._turns.get(account, ())) - 1)

    with served_by("threads", respond, security) as port, ExitStack() as stack:
        flood = stack.enter_context(deployment.ref_client(port))
        good = stack.enter_context(deployment.ref_client(port, role="other client"))
        for client in (flood, good):
            assert client.request(b"here")[1] == b"here"
        account = flood_account(deployment)
        send_at_once(flood, b"hold", 2)
        assert inside.acquire(timeout=20)
        turn, next_turn = threading.Lock(), threading.Lock()
        peer_turns.take(account, turn)
        go.release()
        eventually(lambda: waiting() == 1)  # with its reply
        second = threading.Thread(target=peer_turns.take, args=[account, next_turn])
        second.start()
        eventually(lambda: waiting() == 2)
        peer_turns.give(account, turn)
        second.join(20)
        eventually(lambda: waiting() == 1)  # for the second request
        assert not inside.acquire(blocking=False)
        peer_turns.give(account, next_turn)
        go.release()
        assert inside.acquire(timeout=20)


def test_an_identity_does_not_have_all_places_for_requests(deployment: Deployment) -> None:
    """Of max_in_flight_total, on asyncio, however long its handlers take."""
    limits = {"max_in_flight_total": 4, "max_identity_share": 50, "drain_timeout": 0.2}
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"], limits=limits)
    go, inside = threading.Event(), threading.Semaphore(0)

    def respond(message: bytes) -> bytes:
        if message == b"hold":
            inside.release()
            assert go.wait(20)
        return message

    with served_by("asyncio", respond, security) as port, ExitStack() as stack:
        flood = [stack.enter_context(deployment.ref_client(port)) for _ in range(2)]
        numbers = [[client.send_message(b"hold") for _ in range(3)] for client in flood]
        for _ in range(2):
            assert inside.acquire(timeout=10)
        with deployment.ref_client(port, role="other client") as good:
            assert good.request(b"good")[1] == b"good"
        assert not inside.acquire(blocking=False)
        go.set()
        for client, sent in zip(flood, numbers, strict=True):
            assert [client.receive(number).payload for number in sent] == [b"hold"] * 3


@pytest.fixture
def over_its_share(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, contended: None) -> None:
    """The client has used the processor beside others, for so long that its pause does not end by itself."""
    monkeypatch.setattr(sealwire.session.shares, "LONGEST", 1000.0)
    monkeypatch.setattr(sealwire.session.shares, "PAUSE", 1e9)
    monkeypatch.setattr(sealwire.session.shares, "WINDOW", 1000.0)
    now = monotonic()
    shares.use("another peer", 0.001, now)
    shares.use(flood_account(deployment), 500.0, now)


@pytest.mark.usefixtures("over_its_share")
@pytest.mark.parametrize("connections", [1, 20])
def test_threads_of_a_peer_over_its_share_pause(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, connections: int
) -> None:
    """If more of it waits than one can do; nobody else pauses, and afterwards everything is answered."""
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"])
    pausing, over, pauses = threading.Event(), threading.Event(), []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        pausing.set()
        assert over.wait(20)

    monkeypatch.setattr(sealwire.contention, "sleep", pause)
    seen = []

    def respond(message: bytes) -> bytes:
        seen.append(message)
        return message

    with served_by("threads", respond, security) as port, ExitStack() as stack:
        good = stack.enter_context(deployment.ref_client(port, role="other client"))
        assert good.request(b"here")[1] == b"here"
        flood = [stack.enter_context(deployment.ref_client(port)) for _ in range(connections)]
        account = flood_account(deployment)
        turn = threading.Lock()
        peer_turns.take(account, turn)  # as another connection of it that is at work
        numbers = [client.send_message(b"flood") for client in flood]
        eventually(lambda: len(peer_turns._turns[account]) == 1 + connections)
        peer_turns.give(account, turn)
        assert pausing.wait(20)
        for _ in range(10):
            assert good.request(b"good")[1] == b"good"
        assert b"flood" not in seen
        assert len(pauses) == 1  # the threads of all connections together
        assert pauses[0] > 900
        shares.reset()
        over.set()
        for client, number in zip(flood, numbers, strict=True):
            assert client.receive(number).payload == b"flood"


@pytest.mark.usefixtures("over_its_share")
def test_a_pause_that_is_interrupted_keeps_no_turn(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the pause before the second request, which has arrived with the first one."""
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"])
    calls = []

    def pause(_: float) -> None:
        calls.append(len(calls))
        if calls == [0]:
            raise ValueError("of a signal handler")

    monkeypatch.setattr(sealwire.contention, "sleep", pause)
    with served_by("threads", lambda message: message, security) as port:
        with deployment.ref_client(port, role="other client") as client:
            assert client.request(b"here")[1] == b"here"
        with deployment.ref_client(port) as client:
            send_at_once(client, b"x", 2)
            eventually(lambda: calls)
        with deployment.ref_client(port) as client:
            assert client.request(b"goes on")[1] == b"goes on"
    assert not peer_turns._turns


@pytest.mark.usefixtures("over_its_share")
@pytest.mark.parametrize("kind", LOOPS)
def test_connections_on_a_loop_of_a_peer_over_its_share_pause(deployment: Deployment, kind: str) -> None:
    """If they bring more than a turn takes. Nobody else does, and a server that ends does not wait for their pause."""
    limits = {"drain_timeout": 0.2}
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"], limits=limits)
    seen = []

    async def respond(message: bytes) -> bytes:
        seen.append(message)
        return message

    with served_by(kind, respond, security) as port, ExitStack() as stack:
        good = stack.enter_context(deployment.ref_client(port, role="other client"))
        assert good.request(b"here")[1] == b"here"
        flood = [stack.enter_context(deployment.ref_client(port)) for _ in range(20)]
        for client in flood:
            send_at_once(client, b"flood", 5)
        for _ in range(50):
            assert good.request(b"good")[1] == b"good"
        assert seen.count(b"flood") <= 1  # of the first connection's


@pytest.mark.usefixtures("contended")
@pytest.mark.parametrize("kind", LOOPS)
def test_handlers_in_threads_beside_a_loop_keep_to_a_part_of_the_time(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Those of one peer that compute: the next ones wait, here for longer than the test. Those of the others do not."""
    monkeypatch.setattr(sealwire.paces, "_LONGEST_PAUSE", 1000.0)
    used = threading.local()  # a clock for each thread
    monkeypatch.setattr(sealwire.aio.handler_calls, "thread_time", lambda: getattr(used, "seconds", 0.0))
    seen = []

    def respond(message: bytes) -> bytes:
        if message == b"flood":
            used.seconds = getattr(used, "seconds", 0.0) + 500.0
        seen.append(message)
        return message

    security = deployment.server_security(
        raw=True, peers=["dns:client.example", "dns:other.example"], limits={"drain_timeout": 0.2}
    )
    with served_by(kind, respond, security) as port, ExitStack() as stack:
        flood = [stack.enter_context(deployment.ref_client(port)) for _ in range(3)]
        good = stack.enter_context(deployment.ref_client(port, role="other client"))
        assert flood[0].request(b"flood")[1] == b"flood"
        for client in flood:
            send_at_once(client, b"flood", 5)
        for _ in range(20):
            assert good.request(b"good")[1] == b"good"
        assert seen.count(b"flood") == 1


@pytest.mark.parametrize("kind", ["threads", *LOOPS])
def test_threads_switch_quickly_while_several_peers_are_active(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """And as the program has set it before and after that."""
    monkeypatch.setattr(sealwire.session.round_robin, "CONTENDED", 1000.0)
    monkeypatch.setattr(sealwire.contention, "CONTENDED", 1000.0)
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"])
    interval = sys.getswitchinterval()
    activity.reset()
    with served_by(kind, lambda message: message, security) as port, ExitStack() as stack:
        client = stack.enter_context(deployment.ref_client(port))
        other = stack.enter_context(deployment.ref_client(port, role="other client"))
        for _ in range(2):
            assert client.request(b"one")[1] == b"one"
            assert other.request(b"other")[1] == b"other"
        assert sys.getswitchinterval() < interval / 10
    assert sys.getswitchinterval() == interval
    activity.reset()
    shares.reset()


@pytest.mark.usefixtures("over_its_share")
def test_a_peer_with_one_request_at_a_time_does_not_pause(deployment: Deployment) -> None:
    """However much of the time it has used: it leaves the processor to others while its client does its part."""
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"])
    with served_by("threads", lambda message: message, security) as port, ExitStack() as stack:
        other = stack.enter_context(deployment.ref_client(port, role="other client"))
        client = stack.enter_context(deployment.ref_client(port))
        for _ in range(10):
            assert other.request(b"other")[1] == b"other"
            assert client.request(b"one")[1] == b"one"


@pytest.mark.usefixtures("contended")
@pytest.mark.parametrize("kind", ["threads", *LOOPS])
def test_after_a_pause_connections_go_on(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Each request is followed by a pause here, whatever it took. None is lost, and the replies are in order."""
    monkeypatch.setattr(sealwire.session.shares, "PAUSE", 1e6)
    security = deployment.server_security(raw=True, peers=["dns:client.example", "dns:other.example"])

    async def respond_on_loop(message: bytes) -> bytes:
        return message

    respond: Any = (lambda message: message) if kind == "threads" else respond_on_loop
    with served_by(kind, respond, security) as port, ExitStack() as stack:
        clients = [stack.enter_context(deployment.ref_client(port)) for _ in range(12)]
        good = stack.enter_context(deployment.ref_client(port, role="other client"))
        numbers = [[client.send_message(b"flood") for _ in range(5)] for client in clients]
        assert good.request(b"good")[1] == b"good"
        for client, sent in zip(clients, numbers, strict=True):
            for number in sent:
                assert client.receive(number).payload == b"flood"


def send_at_once(client: Any, payload: bytes, count: int) -> None:
    """Send requests in one record."""
    numbers = range(client.next_sequence, client.next_sequence + count)
    client.send_raw(b"".join(p.frame(p.MESSAGE, payload, number, 0, client.key_out) for number in numbers))
    client.next_sequence += count


def flood_account(deployment: Deployment) -> Any:
    return deployment.security("client").credentials.identity.account


@pytest.mark.skipif(not NATIVE, reason="without the native core, no long message is decoded on a loop")
@pytest.mark.parametrize("kind", LOOPS)
def test_a_peer_whose_messages_take_long_keeps_no_loop(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its first message is decoded there, and the others in threads."""
    sizes: list[int] = []
    compute = HandlerCalls._compute

    async def counted(self: HandlerCalls, function: Any, key: Any, size: int = 0) -> Any:
        sizes.append(size)
        return await compute(self, function, key, size)

    async def respond(message: Any) -> int:
        return len(message)

    monkeypatch.setattr(HandlerCalls, "_compute", counted)
    monkeypatch.setattr(sealwire.computing, "_BRIEF_TIME", 0.0)
    activity.reset()
    computations.reset()
    security = deployment.server_security(peers=["dns:client.example"])
    with served_by(kind, respond, security) as port, deployment.client(port) as client:
        assert not activity.until
        for _ in range(3):
            assert client.send_request(list(range(3000))) == 3000
    assert len(sizes) == 2
    computations.reset()
