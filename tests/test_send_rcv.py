"""The article's functions, on sealed channels and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reference import protocol as p
from reference.peer import Connection, Frame, answer, answer_partly, close, do, drop
from sealwire import (
    BYTE_COUNT,
    ConnectionClosed,
    RequestHandler,
    ThreadingTCPServer,
    add_msg_header,
    len_frombytes,
    len_inbytes,
    recv_msg,
    recvall,
    send_msg,
)
from sealwire.errors import InvalidState, PayloadTooLarge, RemoteError, TruncatedFrame
from sealwire.sync import connect
from support.service import Deployment, running

pytestmark = pytest.mark.usefixtures("clean")


@contextmanager
def handled(deployment: Deployment, handle: Callable[[Any], None]) -> Iterator[tuple[int, list[Any]]]:
    """A server whose handle() is that; what it returns or raises is collected."""
    outcomes: list[Any] = []
    done = threading.Event()

    class Handler(RequestHandler):
        def handle(self) -> None:
            try:
                outcomes.append(handle(self.request))
            except Exception as error:
                outcomes.append(error)
                raise
            finally:
                done.set()

    with running(ThreadingTCPServer(("127.0.0.1", 0), Handler, deployment.server_security(raw=True))) as port:
        yield port, outcomes
        assert done.wait(10)


def test_framing() -> None:
    assert BYTE_COUNT == 4
    assert len_inbytes(b"abc") == b"\x00\x00\x00\x03"
    assert len_frombytes(b"\x00\x00\x01\x00") == 256
    assert add_msg_header(b"abc") == b"\x00\x00\x00\x03abc"


@pytest.mark.parametrize("size", [0, 1, 5, 100_000])
def test_recvall(size: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=theirs.sendall, args=[b"x" * size + b"rest"])
        thread.start()
        assert recvall(ours, size) == b"x" * size
        assert recvall(ours, 4) == b"rest"
        thread.join()


def test_recvall_at_the_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"abc")
        theirs.close()
        with pytest.raises(TruncatedFrame, match="3 of 2147483648 bytes"):
            recvall(ours, 2**31)
        with pytest.raises(ConnectionClosed):
            recvall(ours, 1)


@pytest.mark.parametrize("other", ["plain", None, 5])
def test_plain_sockets_are_refused(other: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sock = ours if other == "plain" else other
        with pytest.raises(InvalidState, match=r"send_msg needs a sealed channel.*nothing was sent"):
            send_msg(sock, b"secret")
        with pytest.raises(InvalidState, match="recv_msg needs a sealed channel"):
            recv_msg(sock)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


# A server's end


def test_none_at_the_clean_end(deployment: Deployment) -> None:
    with handled(deployment, recv_msg) as (port, outcomes), deployment.ref_client(port) as client:
        client.send_close()
        client.expect_end()
    assert outcomes == [None]


@pytest.mark.parametrize("how", ["fin", "notify", "reset"])
def test_no_clean_end(deployment: Deployment, how: str) -> None:
    with handled(deployment, recv_msg) as (port, outcomes), deployment.ref_client(port) as client:
        if how == "notify":
            client.link.close_notify()
        client.link.abort(reset=how == "reset")
    assert [type(outcome) for outcome in outcomes] == [ConnectionClosed]
    assert outcomes[0].code is None


@pytest.mark.parametrize("size", [1, 3, 4, 24, 60])
def test_truncated(deployment: Deployment, size: int) -> None:
    with handled(deployment, recv_msg) as (port, outcomes), deployment.ref_client(port) as client:
        client.send_raw(p.frame(p.MESSAGE, b"12345", 1, 0, client.key_out)[:size])
        client.link.close_notify()
        client.expect_end()
    assert [type(outcome) for outcome in outcomes] == [TruncatedFrame]


def test_nothing_to_answer(deployment: Deployment) -> None:
    def handle(channel: Any) -> None:
        with pytest.raises(InvalidState, match="no unanswered request"):
            send_msg(channel, b"unasked")
        assert recv_msg(channel) == b"ask"
        send_msg(channel, b"reply")
        with pytest.raises(InvalidState, match="no unanswered request"):
            send_msg(channel, b"again")

    with handled(deployment, handle) as (port, outcomes), deployment.ref_client(port) as client:
        assert client.request(b"ask")[1] == b"reply"
        assert [frame.kind for frame in client.expect_end().frames] == [p.CLOSE]
    assert outcomes == [None]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_buffers(deployment: Deployment, kind: Any) -> None:
    def handle(channel: Any) -> None:
        while (message := recv_msg(channel)) is not None:
            assert type(message) is bytes
            send_msg(channel, kind(message))

    with handled(deployment, handle) as (port, outcomes), deployment.ref_client(port) as client:
        for size in (0, 10, 70_000):
            assert client.request(b"x" * size)[1] == b"x" * size
        client.send_close()
        client.expect_end()
    assert outcomes == [None]


def test_reply_too_large(deployment: Deployment) -> None:
    def handle(channel: Any) -> None:
        recv_msg(channel)
        with pytest.raises(PayloadTooLarge):
            send_msg(channel, bytes(5000))

    with handled(deployment, handle) as (port, outcomes), deployment.ref_client(port, max_frame=2000) as client:
        kind, payload, _ = client.request(b"ask")
        assert (kind, payload[:2]) == (p.FAULT, p.u(18, 2))
        assert client.expect_end().code == 0
    assert outcomes == [None]


# A client's end


def test_client(deployment: Deployment) -> None:
    with deployment.ref_server() as server:
        with connect("localhost", server.port, deployment.security("client", raw=True)) as channel:
            for size in (0, 10, 70_000):
                send_msg(channel, b"x" * size)
                assert recv_msg(channel) == b"x" * size
            assert channel.fileno() > 0
        assert channel.fileno() == -1
        with pytest.raises(InvalidState):
            send_msg(channel, b"x")


def test_client_pipelines(deployment: Deployment) -> None:
    with (
        deployment.ref_server() as server,
        connect("localhost", server.port, deployment.security("client", raw=True)) as channel,
    ):
        for number in range(50):
            send_msg(channel, b"%d" % number)
        assert [recv_msg(channel) for _ in range(50)] == [b"%d" % number for number in range(50)]
        with pytest.raises(InvalidState, match="send_msg first"):
            recv_msg(channel)


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (close(2, 0), None),
        (drop("fin"), ConnectionClosed),
        (drop("notify"), ConnectionClosed),
        (drop("reset"), ConnectionClosed),
        (do(answer_partly(30), drop("fin")), TruncatedFrame),
        (answer(kind=p.FAULT, payload=p.fault_payload(19, "no")), RemoteError),
    ],
    ids=["CLOSE", "FIN", "close_notify", "RST", "partly", "FAULT"],
)
def test_client_ends(deployment: Deployment, action: Any, outcome: Any) -> None:
    with (
        deployment.ref_server({1: action}) as server,
        connect("localhost", server.port, deployment.security("client", raw=True)) as channel,
    ):
        send_msg(channel, b"ask")
        if outcome is None:
            assert recv_msg(channel) is None
        else:
            with pytest.raises(outcome) as caught:
                recv_msg(channel)
            assert type(caught.value) is outcome


def test_waiting_close_is_seen_before_the_reply_of_a_broken_send(deployment: Deployment) -> None:
    """The server says CLOSE, and the client writes without having looked: the CLOSE is what it is told."""
    said = threading.Event()

    def bye(connection: Connection, frame: Frame) -> None:
        close(2, 0)(connection, frame)
        said.set()

    with (
        deployment.ref_server({"welcomed": bye}) as server,
        connect("localhost", server.port, deployment.security("client", raw=True)) as channel,
    ):
        assert said.wait(5)
        send_msg(channel, b"ask")
        assert recv_msg(channel) is None
