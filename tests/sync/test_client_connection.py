"""The client's end of a channel."""

from __future__ import annotations

import select
import threading
from time import monotonic

import pytest

from reference import protocol as p
from reference.peer import answer, close, do, drop, hold, raw, reject
from sealwire.errors import DeadlineExceeded, HandshakeRejected
from sealwire.session.client import ConnectionLost
from sealwire.sync import connect
from sealwire.sync.client_connection import ClientChannel
from support.service import Deployment, eventually

pytestmark = pytest.mark.usefixtures("clean")


def soon() -> float:
    return monotonic() + 5


def arrived(channel: ClientChannel) -> bool:
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    return bool(waiting.poll(10_000))


@pytest.mark.parametrize("ready", [True, False])
def test_what_has_arrived_after_the_deadline_is_late(deployment: Deployment, ready: bool) -> None:
    security = deployment.security("client", raw=True)
    with deployment.ref_server() as server, connect("localhost", server.port, security) as channel:
        channel.send_msg(b"x")
        assert arrived(channel)
        with pytest.raises(DeadlineExceeded):
            channel.receive(monotonic() - 1, ready=ready)
        assert bytes(channel.receive_reply(soon())) == b"x"


def test_what_arrives_while_the_deadline_passes_is_late(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is looked at again before more is read."""
    go = threading.Event()
    security = deployment.security("client", raw=True)
    with (
        deployment.ref_server({1: do(hold(go), answer())}) as server,
        connect("localhost", server.port, security) as channel,
    ):
        channel.send_msg(b"x")
        start = monotonic()
        times = iter([start])

        def clock() -> float:
            now = next(times, start + 100)
            if now > start:
                go.set()
                assert arrived(channel)
            return now

        with monkeypatch.context() as patched:
            patched.setattr("sealwire.sync.pump.monotonic", clock)
            with pytest.raises(DeadlineExceeded):
                channel.receive(start + 10, ready=True)
        assert bytes(channel.receive_reply(soon())) == b"x"


def test_usable(deployment: Deployment) -> None:
    go = threading.Event()
    security = deployment.security("client", raw=True)
    with (
        deployment.ref_server({1: do(answer(), hold(go), close(2))}) as server,
        connect("localhost", server.port, security) as channel,
    ):
        assert channel.usable()
        channel.send_msg(b"x")
        assert not channel.idle
        assert bytes(channel.receive_reply(soon())) == b"x"
        assert channel.idle
        assert channel.usable()
        go.set()
        eventually(lambda: server.connections[0].ended)
        assert not channel.usable()


@pytest.mark.parametrize("how", ["fin", "notify", "reset"])
def test_not_usable_after_the_end(deployment: Deployment, how: str) -> None:
    security = deployment.security("client", raw=True)
    with (
        deployment.ref_server({"welcomed": drop(how)}) as server,
        connect("localhost", server.port, security) as channel,
    ):
        server.wait_end(0)
        assert not channel.usable()
        channel.close()
        assert channel.ended


def test_half_a_frame_says_nothing_and_takes_no_time(deployment: Deployment) -> None:
    security = deployment.security("client", raw=True)
    go = threading.Event()
    script = {1: do(answer(), raw(p.u(60, 4) + b"\x03"), hold(go))}
    with deployment.ref_server(script) as server, connect("localhost", server.port, security) as channel:
        assert bytes(channel.request(b"x", soon())) == b"x"
        start = monotonic()
        channel.usable()
        assert monotonic() - start < 4
        go.set()


def test_abandon_says_nothing(deployment: Deployment) -> None:
    security = deployment.security("client", raw=True)
    with deployment.ref_server() as server:
        channel = connect("localhost", server.port, security)
        channel.abandon()
        channel.close()
        end = server.wait_end(0)
        assert (end.close_notify, end.code) == (False, None)


def test_rejected_leaves_nothing(deployment: Deployment) -> None:
    with deployment.ref_server({"hello": reject(3)}) as server:
        with pytest.raises(HandshakeRejected) as caught:
            connect("localhost", server.port, deployment.security("client", raw=True))
        assert caught.value.code == 3
        server.wait_end(0)


def test_timeout(deployment: Deployment) -> None:
    go = threading.Event()
    with deployment.ref_server({"accept": hold(go)}) as server:
        with pytest.raises(DeadlineExceeded):
            connect("localhost", server.port, deployment.security("client", raw=True), timeout=0.1)
        go.set()


def test_server_name_and_sni(deployment: Deployment) -> None:
    """The reference server checks SNI itself; here is what HELLO says."""
    names = []
    with deployment.ref_server(names=["localhost", "127.0.0.1", "localhost/billing"]) as server:
        for host, service in (("localhost", ""), ("LOCALHOST", ""), ("127.0.0.1", ""), ("localhost", "billing")):
            connect(host, server.port, deployment.security("client", raw=True, service=service)).close()
        for connection in server.connections:
            server.wait_end(connection.index)
            assert connection.hello is not None
            names.append((connection.hello.server_name, connection.sni))
    assert names == [
        (b"localhost", "localhost"),
        (b"localhost", "localhost"),
        (b"127.0.0.1", None),
        (b"localhost/billing", "localhost"),
    ]


def test_a_request_on_a_broken_connection(deployment: Deployment) -> None:
    security = deployment.security("client", raw=True)
    with (
        deployment.ref_server({"welcomed": drop("reset")}) as server,
        connect("localhost", server.port, security) as channel,
    ):
        server.wait_end(0)
        with pytest.raises(ConnectionLost) as lost:
            channel.request(b"x", soon())
        assert lost.value.unprocessed
