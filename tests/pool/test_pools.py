"""Both pools: which server gets a request, and what happens if it fails."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from conformance.combinations import LOOP
from pool.ways import Gate, Tasks, Threads, Way
from reference.peer import close, drop
from sealwire import (
    AsyncClientPool,
    ClientPool,
    ConfigurationError,
    ConnectionClosed,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    Key,
    Keyring,
    NoServerAvailable,
    ThreadingTCPServer,
    TransportError,
)
from support.documents import free_port
from support.interruption import interrupted
from support.service import Deployment, eventually, running

pytestmark = pytest.mark.usefixtures("clients_loop", "clean")
Make = Callable[..., Any]
Serve = Callable[..., int]


@pytest.fixture(scope="session")
def clients_loop() -> None:
    LOOP.start()


@pytest.fixture
def serve(deployment: Deployment, clean: None) -> Iterator[Serve]:
    """Starts a server that answers its name; returns its port."""
    with ExitStack() as stack:

        def started(name: bytes, handler: Any = None, *, host: str = "127.0.0.1", port: int = 0, **options: Any) -> int:
            security = deployment.server_security(raw=True, **options)
            server = ThreadingTCPServer((host, port), handler or (lambda _: name), security)
            return stack.enter_context(running(server))

        yield started


@pytest.fixture(params=[Threads, Tasks], ids=["threads", "tasks"])
def make(request: pytest.FixtureRequest, deployment: Deployment, serve: Serve) -> Iterator[Make]:
    """Makes a pool of servers at ports of 127.0.0.1, or at addresses. It is closed before its servers."""
    way: Way = request.param
    with ExitStack() as stack:

        def made(*servers: Any, **options: Any) -> Any:
            addresses = [f"127.0.0.1:{each}" if isinstance(each, int) else each for each in servers]
            security = deployment.security("client", raw=True)
            pool = way(addresses, **({"timeout": 10, "wait": 10} | options), security=security)
            stack.callback(pool.close)
            return pool

        yield made


@pytest.fixture
def two(serve: Serve) -> tuple[int, int]:
    return serve(b"a"), serve(b"b")


ANOTHER_KEY = Keyring([Key("another", bytes(range(40)))])
NAMES = ("localhost", "127.0.0.1")


class TestChoice:
    def test_equals_in_turn(self, make: Make, two: tuple[int, int]) -> None:
        pool = make(*two)
        assert [pool.request(b"") for _ in range(6)] == [b"a", b"b"] * 3

    def test_the_least_busy_one(self, make: Make, serve: Serve) -> None:
        gate = Gate(b"a")
        pool = make(serve(b"a", gate), serve(b"b"))
        with ThreadPoolExecutor() as executor:
            held = executor.submit(pool.request, b"hold")
            assert gate.entered.acquire(timeout=10)
            try:
                assert [pool.request(b"") for _ in range(5)] == [b"b"] * 5
            finally:
                gate.opened.set()
            assert held.result(10) == b"a"

    def test_requests_are_under_way_at_a_time(self, make: Make, serve: Serve) -> None:
        """No lock is held around a request: each one waits for the others."""
        barrier = threading.Barrier(6)

        def meet(_: bytes) -> bytes:
            barrier.wait(10)
            return b"met"

        pool = make(serve(b"", meet), serve(b"", meet), size=3)
        with ThreadPoolExecutor() as executor:
            assert list(executor.map(pool.request, [b""] * 6)) == [b"met"] * 6

    def test_no_more_connections_than_its_size(self, make: Make, serve: Serve) -> None:
        pool = make(serve(b"a"), size=3)
        with ThreadPoolExecutor(12) as executor:
            assert set(executor.map(pool.request, [b""] * 300)) == {b"a"}
            assert 1 <= pool.pool.status()[0].connections <= 3

    def test_many_in_order(self, make: Make, serve: Serve) -> None:
        pool = make(*(serve(b"", lambda message: message) for _ in range(2)))
        messages = [str(number).encode() for number in range(100)]
        assert pool.requests(messages) == messages

    def test_ping(self, make: Make, two: tuple[int, int]) -> None:
        assert 0 < make(*two).ping() < 10

    def test_status(self, make: Make, two: tuple[int, int]) -> None:
        pool = make(*two)
        assert "not connected" in repr(pool.pool)
        pool.request(b"")
        first, second = pool.pool.status()
        assert first.address == f"127.0.0.1:{two[0]}"
        assert (first.in_service, first.requests, first.connections, first.failure) == (True, 0, 1, None)
        assert first.peer.dns == ("localhost",)
        assert (second.connections, second.peer) == (0, None)
        assert "open" in repr(pool.pool)


class TestOnToTheNext:
    def test_refused(self, make: Make, two: tuple[int, int]) -> None:
        gone = free_port()
        pool = make(gone, *two)
        assert [pool.request(b"") for _ in range(4)] == [b"a", b"b"] * 2
        status = pool.pool.status()[0]
        assert not status.in_service
        assert "Connection refused" in str(status.failure)

    def test_overloaded(self, make: Make, serve: Serve, deployment: Deployment, two: tuple[int, int]) -> None:
        full = serve(b"full", limits={"max_connections": 1})
        with deployment.client(full, raw=True) as other:
            assert other.send_request(b"") == b"full"
            pool = make(full, two[0])
            assert [pool.request(b"") for _ in range(3)] == [b"a"] * 3
            failure = pool.pool.status()[0].failure
        assert isinstance(failure, HandshakeRejected)
        assert failure.code == 4

    def test_a_full_server_keeps_the_connections_that_it_has(self, make: Make, serve: Serve) -> None:
        gate = Gate(b"full")
        pool = make(serve(b"full", gate, limits={"max_connections": 1}), serve(b"b"), size=3)
        with ThreadPoolExecutor() as executor:
            held = executor.submit(pool.request, b"hold")
            assert gate.entered.acquire(timeout=10)
            assert [executor.submit(pool.request, b"").result(10) for _ in range(2)] == [b"b"] * 2
            busy = [executor.submit(pool.request, b"hold") for _ in range(2)]
            assert {each.result(10) for each in busy} == {b"b"}
            gate.opened.set()
            assert held.result(10) == b"full"
            assert b"full" in [pool.request(b"") for _ in range(2)]

    def test_not_authorised(self, make: Make, serve: Serve, two: tuple[int, int]) -> None:
        """The refusal of one server says nothing about the next, which may be rotated already."""
        pool = make(serve(b"", keys=ANOTHER_KEY), *two)
        assert {pool.request(b"") for _ in range(4)} == {b"a", b"b"}
        failure = pool.pool.status()[0].failure
        assert isinstance(failure, HandshakeRejected)
        assert failure.code == 3

    def test_a_certificate_is_judged_for_its_host(self, make: Make, serve: Serve, two: tuple[int, int]) -> None:
        """127.0.0.2 is not in the certificate."""
        pool = make(("127.0.0.2", serve(b"other", host="127.0.0.2")), two[0])
        assert [pool.request(b"") for _ in range(3)] == [b"a"] * 3
        assert isinstance(pool.pool.status()[0].failure, HandshakeFailed)

    @pytest.mark.parametrize(
        ("end", "idempotent", "again"),
        [(close(2, 0), False, True), (close(2, 1), False, False), (close(2, 1), True, True), (drop(), False, False),
         (drop(), True, True), (close(4, 0), True, False)],
    )  # fmt: skip
    def test_a_lost_request(
        self, make: Make, deployment: Deployment, two: tuple[int, int], end: Any, idempotent: bool, again: bool
    ) -> None:
        with deployment.ref_server({1: end}, names=NAMES) as lossy:
            pool = make(lossy.port, two[0])
            if again:
                assert pool.request(b"", idempotent=idempotent) == b"a"
            else:
                with pytest.raises(ConnectionClosed):
                    pool.request(b"", idempotent=idempotent)
            assert pool.request(b"") == b"a"

    def test_one_that_goes_away_is_left_alone(self, make: Make, deployment: Deployment, two: tuple[int, int]) -> None:
        with deployment.ref_server({1: close(2, 0)}, names=NAMES) as leaving:
            pool = make(leaving.port, two[0])
            assert [pool.request(b"") for _ in range(3)] == [b"a"] * 3
            status = pool.pool.status()[0]
        assert not status.in_service
        assert isinstance(status.failure, ConnectionClosed)
        assert status.failure.code == 2

    def test_one_that_flaps(self, make: Make, deployment: Deployment, two: tuple[int, int]) -> None:
        """It accepts connections and goes away at once: pauses grow, and no request notices."""
        with deployment.ref_server(*[{1: close(2, 0)}] * 1000, names=NAMES) as flapping:
            pool = make(flapping.port, two[0])
            end = monotonic() + 1
            while monotonic() < end:
                assert pool.request(b"") == b"a"
            assert len(flapping.connections) <= 5
            pool.close()

    def test_one_that_never_answers(self, make: Make, two: tuple[int, int]) -> None:
        """It costs the first request its share of the time, and leaves the rest to the others."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            pool = make(silent.getsockname()[1], *two, timeout=5)
            assert [pool.request(b"") for _ in range(5)] == [b"a", b"b", b"a", b"b", b"a"]
            assert isinstance(pool.pool.status()[0].failure, DeadlineExceeded)

    def test_one_that_takes_requests_and_never_replies(self, make: Make, serve: Serve) -> None:
        """After three in a row it is left out for a moment."""
        gate = Gate(b"")
        stuck = serve(b"", gate)
        pool = make(stuck, serve(b"b"))
        late = 0
        for _ in range(50):
            if late == 3:
                break
            try:
                assert pool.request(b"hold", wait=0.2) == b"b"
            except DeadlineExceeded as error:
                late += error.sent
        gate.opened.set()
        assert not pool.pool.status()[0].in_service


class TestNone:
    def test_the_error_names_each_and_its_failure(self, make: Make, serve: Serve) -> None:
        gone, other = free_port(), serve(b"", keys=ANOTHER_KEY)
        with pytest.raises(NoServerAvailable) as failed:
            make(gone, other, "nowhere.invalid:7443").request(b"")
        failures = failed.value.failures
        assert set(failures) == {f"127.0.0.1:{gone}", f"127.0.0.1:{other}", "nowhere.invalid:7443"}
        assert "refused" in str(failures[f"127.0.0.1:{gone}"])
        assert all(str(failure) in str(failed.value) for failure in failures.values())
        assert isinstance(failures[f"127.0.0.1:{other}"], HandshakeRejected)

    def test_the_only_ones_own_error(self, make: Make, serve: Serve) -> None:
        with pytest.raises(HandshakeRejected):
            make(serve(b"", keys=ANOTHER_KEY)).request(b"")
        with pytest.raises(TransportError, match=r"nowhere\.invalid:7443: the host's address cannot be found"):
            make("nowhere.invalid:7443").request(b"")

    def test_one_is_tried_all_the_same(self, make: Make, serve: Serve) -> None:
        port = free_port()
        pool = make(port)
        for _ in range(5):
            with pytest.raises(TransportError, match="refused"):
                pool.request(b"")
        serve(b"back", port=port)
        assert pool.request(b"") == b"back"

    def test_it_comes_back_beside_the_requests(self, make: Make, serve: Serve, two: tuple[int, int]) -> None:
        port = free_port()
        pool = make(port, two[0])
        assert pool.request(b"") == b"a"
        assert not pool.pool.status()[0].in_service
        serve(b"back", port=port)
        eventually(lambda: pool.request(b"") == b"back", timeout=20)
        assert pool.pool.status()[0].in_service

    def test_an_outage_is_not_multiplied(self, make: Make, deployment: Deployment) -> None:
        """Requests that kill the connection are repeated within the budget only."""
        script = [{1: drop()}] * 400
        with deployment.ref_server(*script, names=NAMES) as a, deployment.ref_server(*script, names=NAMES) as b:
            pool = make(a.port, b.port, retry_budget=0.2)
            for _ in range(100):
                with pytest.raises(ConnectionClosed):
                    pool.request(b"", idempotent=True)
            handled = sum(len(each.payloads()) for each in (a, b))
        assert 100 < handled <= 100 + 20 + 30

    def test_no_free_connection_in_time(self, serve: Serve, deployment: Deployment) -> None:
        gate = Gate(b"")
        pool = Threads([f"127.0.0.1:{serve(b'', gate)}"], size=1, security=deployment.security("client", raw=True))
        with ThreadPoolExecutor() as executor:
            held = executor.submit(pool.request, b"hold")
            assert gate.entered.acquire(timeout=10)
            with pytest.raises(DeadlineExceeded, match="all connections of the pool were in use") as late:
                pool.request(b"", wait=0.1)
            assert not late.value.sent
            gate.opened.set()
            held.result(10)
        pool.close()


def test_connections_that_the_server_has_ended_are_not_kept(
    serve: Serve, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although others are used more recently, and these never again."""
    monkeypatch.setattr("sealwire.pool.shared_roster._STALE", 0.0)
    barrier = threading.Barrier(4)

    def meet(message: bytes) -> bytes:
        if message == b"meet":
            barrier.wait(10)
        return message

    port = serve(b"", meet, limits={"idle_timeout": 0.3})
    with (
        ClientPool([f"127.0.0.1:{port}"], security=deployment.security("client", raw=True)) as pool,
        ThreadPoolExecutor(4) as executor,
    ):
        list(executor.map(pool.send_request, [b"meet"] * 4))
        assert pool.status()[0].connections == 4
        eventually(lambda: pool.send_request(b"") == b"" and pool.status()[0].connections == 1, timeout=10)


class TestNames:
    @pytest.fixture
    def dns(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
        """Return a table of names that takes the place of DNS; for others DNS is asked."""
        records: dict[str, list[str]] = {}
        ask = socket.getaddrinfo

        def answer(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            if host not in records or options.get("flags", 0) & socket.AI_NUMERICHOST:
                return ask(host, port, *args, **options)
            if not records[host]:
                raise socket.gaierror(socket.EAI_NONAME, "unknown")
            return [found for each in records[host] for found in ask(each, port, *args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", answer)
        return records

    def test_a_burst_at_the_start(self, make: Make, two: tuple[int, int], dns: dict[str, list[str]]) -> None:
        """It does not go to the one whose name was found first."""
        dns["localhost"] = ["127.0.0.1"]
        with ThreadPoolExecutor(16) as executor:
            found = Counter(executor.map(make(*(f"localhost:{port}" for port in two)).request, [b""] * 16))
        assert found.keys() == {b"a", b"b"}

    def test_all_records_are_servers(self, make: Make, serve: Serve, dns: dict[str, list[str]]) -> None:
        port = serve(b"first")
        serve(b"second", host="127.0.0.2", port=port)
        dns["localhost"] = ["127.0.0.1", "127.0.0.2"]
        pool = make(f"localhost:{port}", lookup_interval=0.05)
        assert Counter(pool.request(b"") for _ in range(10)) == {b"first": 5, b"second": 5}
        dns["localhost"] = ["127.0.0.2"]
        eventually(lambda: {pool.request(b"") for _ in range(4)} == {b"second"}, timeout=10)
        assert [each.address for each in pool.pool.status()] == [f"localhost:{port} (127.0.0.2)"]
        dns["localhost"] = []
        assert {pool.request(b"") for _ in range(50)} == {b"second"}, "the last that was known"
        dns["localhost"] = ["127.0.0.1"]
        eventually(lambda: {pool.request(b"") for _ in range(4)} == {b"first"}, timeout=10)

    def test_a_failure_brings_the_next_look_forward(
        self, make: Make, serve: Serve, two: tuple[int, int], dns: dict[str, list[str]]
    ) -> None:
        dns["localhost"] = ["127.0.0.2"]  # nothing listens there
        pool = make(f"localhost:{two[0]}", two[1], lookup_interval=3600)
        assert pool.request(b"") == b"b"
        dns["localhost"] = ["127.0.0.1"]
        eventually(lambda: pool.request(b"") == b"a", timeout=10)

    def test_a_host_that_comes_into_being(self, make: Make, two: tuple[int, int], dns: dict[str, list[str]]) -> None:
        dns["localhost"] = []
        pool = make(f"localhost:{two[0]}")
        with pytest.raises(TransportError, match="cannot be found"):
            pool.request(b"")
        dns["localhost"] = ["127.0.0.1"]

        def asks() -> bytes | None:
            try:
                return pool.request(b"")
            except TransportError:
                return None

        assert eventually(asks, timeout=10) == b"a"

    def test_the_certificate_is_that_of_the_name(
        self, make: Make, two: tuple[int, int], dns: dict[str, list[str]]
    ) -> None:
        """It proves the name, whatever address DNS gives for it."""
        dns["elsewhere.example"] = ["127.0.0.1"]
        with pytest.raises(HandshakeFailed, match=r"the certificate of elsewhere\.example"):
            make(f"elsewhere.example:{two[0]}").request(b"")
        dns["localhost"] = ["127.0.0.2", "127.0.0.1"]
        assert make(f"localhost:{two[0]}").request(b"") == b"a"


@pytest.mark.parametrize("options", [{"size": 0}, {"size": True}, {"retry_budget": 2}, {"lookup_interval": 0}])
def test_arguments_that_cannot_be_used(make: Make, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        make(7443, **options)


class TestClose:
    def test_requests_under_way(self, make: Make, serve: Serve) -> None:
        """Threads get their replies, tasks an error; those that wait for a connection get one in either case."""
        gate = Gate(b"a")
        pool = make(serve(b"a", gate), size=1)
        with ThreadPoolExecutor() as executor:
            held = executor.submit(pool.request, b"hold")
            assert gate.entered.acquire(timeout=10)
            waiting = executor.submit(pool.request, b"hold") if isinstance(pool, Threads) else None
            if waiting is not None:
                eventually(lambda: pool.pool._roster._queue)
            closing = executor.submit(pool.close)
            if waiting is None:
                with pytest.raises(ConnectionClosed):
                    held.result(10)
            else:
                with pytest.raises(ConnectionClosed):
                    waiting.result(10)
                gate.opened.set()
                assert held.result(10) == b"a"
            gate.opened.set()
            closing.result(10)
        assert pool.request(b"") == b"a", "it opens new connections"


def test_a_forked_child_makes_new_connections(serve: Serve, deployment: Deployment) -> None:
    port = serve(b"", lambda message: message)
    with ClientPool([f"127.0.0.1:{port}"], security=deployment.security("client", raw=True)) as pool:
        assert pool.send_request(b"parent") == b"parent"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the test's servers are threads
            child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if pool.send_request(b"child") == b"child" and not pool.close() else 1
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        before = pool.status()[0].connections
        assert pool.send_request(b"parent again") == b"parent again"
        assert pool.status()[0].connections == before == 1


def test_a_forked_child_of_a_loop(serve: Serve, deployment: Deployment) -> None:
    port = serve(b"", lambda message: message)
    parent = Tasks([f"127.0.0.1:{port}"], security=deployment.security("client", raw=True))
    assert parent.request(b"parent") == b"parent"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test's servers are threads
        child = os.fork()
    if child == 0:
        status = 1
        try:

            async def main() -> bytes:
                async with parent.pool as pool:
                    reply: bytes = await pool.send_request(b"child")
                    return reply

            status = 0 if asyncio.run(main()) == b"child" else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert parent.request(b"parent again") == b"parent again"
    assert parent.pool.status()[0].connections == 1
    parent.close()


def test_a_cancelled_request_gives_its_place_back(serve: Serve, deployment: Deployment) -> None:
    gate = Gate(b"a")
    port = serve(b"", gate)

    async def main() -> None:
        async with AsyncClientPool(
            [f"127.0.0.1:{port}"], size=1, security=deployment.security("client", raw=True)
        ) as pool:
            requests = [asyncio.create_task(pool.send_request(b"hold")) for _ in range(2 * 256)]
            assert await asyncio.to_thread(gate.entered.acquire, timeout=10)
            assert pool.status()[0].requests == 256
            for request in requests:
                request.cancel()
            await asyncio.wait(requests)
            assert pool.status()[0].requests == 0
            gate.opened.set()
            assert await pool.send_request(b"") == b"a"

    asyncio.run(main())


def test_another_event_loop(serve: Serve, deployment: Deployment) -> None:
    pool = AsyncClientPool([f"127.0.0.1:{serve(b'a')}"], security=deployment.security("client", raw=True))

    async def ask() -> Any:
        return await pool.send_request(b"")

    assert [asyncio.run(ask()) for _ in range(2)] == [b"a", b"a"]
    asyncio.run(pool.close())


def test_a_place_is_not_lost_with_an_interrupted_call(serve: Serve, deployment: Deployment) -> None:
    """Wherever a signal handler raises, the next call finds a place and a connection in order."""
    with ClientPool(
        [f"127.0.0.1:{serve(b'a')}"], size=1, security=deployment.security("client", raw=True), timeout=20, wait=20
    ) as pool:
        assert pool.send_request(b"") == b"a"
        number = 1
        while interrupted(number, lambda: pool.send_request(b"")):
            begun = monotonic()
            assert pool.send_request(b"") == b"a"
            assert monotonic() - begun < 10
            number += 1
        assert number > 50
