"""Attacks on frames on their way to a client: it never takes a reply that the server did not give to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import pytest

from conformance.combinations import LOOP
from reference import protocol as p
from reference.peer import Connection, Frame, answer, close, do, drop, nothing, pong, raw, send, welcome
from sealwire import (
    AsyncTCPClient,
    ConnectionClosed,
    HandshakeFailed,
    Limits,
    RemoteProtocolError,
    SealwireError,
    Security,
)
from sealwire.errors import BadSequence, BadTag, BadVersion, FrameTooLarge
from support.service import QUICK, Deployment

pytestmark = pytest.mark.usefixtures("clean")

LOOP.start()
REPLY = b"forged?"
STEP = 9
"""Of the bits every ninth, and with each test's own offset: all of them are in tests/wire, without sockets."""


class OnAsyncio:
    """An asyncio client with a synchronous one's methods."""

    def __init__(self, port: int, security: Security) -> None:
        async def made() -> AsyncTCPClient:
            return AsyncTCPClient("localhost", port, 5, 5, security=security)

        self._client = LOOP.run(made())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        LOOP.run(self._client.close())

    def send_request(self, data: Any, **options: Any) -> Any:
        return LOOP.run(self._client.send_request(data, **options))

    def ping(self) -> None:
        pytest.skip("it has no ping")


@pytest.fixture(params=["synchronous", "asyncio"])
def deployment(deployment: Deployment, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Each test with a client of both kinds."""
    if request.param == "asyncio":
        monkeypatch.setattr(
            deployment,
            "client",
            lambda port, **options: OnAsyncio(
                port, deployment.security("client", limits=Limits(**(QUICK | options.pop("limits", {}))), **options)
            ),
        )
    return deployment


def altered(size: int, change: Callable[[bytes], bytes]) -> Callable[[Connection, Frame], None]:
    """The reply's frame, changed, and nothing more."""

    def act(connection: Connection, frame: Frame) -> None:
        connection.hand_over(frame)
        whole = p.frame(p.MESSAGE, REPLY, connection.next_sequence, frame.sequence, connection.key_out)
        assert len(whole) == size
        connection.send_raw(change(whole))
        connection.link.close_notify()
        connection.discard = connection.ended = True

    return act


def flip(bit: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[bit // 8] ^= 0x80 >> bit % 8
        return bytes(changed)

    return change


def altered_welcome(change: Callable[[bytes], bytes]) -> Callable[[Connection, Frame], None]:
    def act(connection: Connection, frame: Frame) -> None:
        sent: list[bytes] = []
        connection.send_raw = sent.append  # to have the true frame in hand
        connection.welcome(frame)
        del connection.send_raw  # the method is there again
        connection.send_raw(change(sent[0]))
        connection.link.close_notify()
        connection.discard = connection.ended = True

    return act


def test_bits_of_a_reply(deployment: Deployment) -> None:
    size = 56 + len(REPLY)
    bits = range(0, size * 8, STEP)
    with (
        deployment.ref_server(*({1: altered(size, flip(bit))} for bit in bits)) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        for bit in bits:
            with pytest.raises((RemoteProtocolError, ConnectionClosed)):
                client.send_request(b"%d" % bit)
        assert client.send_request(b"honest") == b"honest"
        assert len(server.payloads()) == len(bits) + 1


def test_bits_of_welcome(deployment: Deployment) -> None:
    bits = range(2, (56 + 1 + 32 + 4 + 4) * 8, STEP)
    with (
        deployment.ref_server(*({"hello": altered_welcome(flip(bit))} for bit in bits)) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        for _ in bits:
            with pytest.raises(HandshakeFailed):
                client.send_request(b"secret")
        assert server.payloads() == []
        assert client.send_request(b"honest") == b"honest"


def test_reply_cut_after_every_byte(deployment: Deployment) -> None:
    size = 56 + len(REPLY)
    with (
        deployment.ref_server(*({1: altered(size, lambda data, n=n: data[:n])} for n in range(size))) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        for _ in range(size):
            with pytest.raises(ConnectionClosed):
                client.send_request(b"ask")
        assert len(server.payloads()) == size


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (answer(reply_to=0), BadSequence),
        (answer(reply_to=2), BadSequence),
        (answer(sequence=0), BadSequence),
        (answer(sequence=2), BadSequence),
        (answer(flags=1), RemoteProtocolError),
        (answer(wait=1), RemoteProtocolError),
        (answer(kind=p.PONG), BadSequence),
        (answer(kind=p.HELLO), RemoteProtocolError),
        (answer(kind=p.WELCOME), RemoteProtocolError),
        (answer(kind=p.PING), RemoteProtocolError),
        (answer(kind=77), RemoteProtocolError),
        (answer(key=b"k" * 32), BadTag),
        (answer(kind=p.FAULT, payload=b"\x00"), RemoteProtocolError),
        (answer(kind=p.FAULT, payload=p.fault_payload(19, "x" * 1025)), RemoteProtocolError),
        (answer(kind=p.FAULT, payload=p.u(19, 2) + b"\xff"), RemoteProtocolError),
        (raw(p.u(51, 4)), RemoteProtocolError),
        (raw(p.u(2**24 + 1, 4)), FrameTooLarge),
        (close(0, 99), RemoteProtocolError),
        (send(p.REJECT, p.u(4, 2), key=b"k" * 32), BadTag),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_forbidden_to_a_server(deployment: Deployment, action: object, error: type[Exception]) -> None:
    with deployment.ref_server({1: action}) as server, deployment.client(server.port, raw=True) as client:
        with pytest.raises(error) as caught:
            client.send_request(b"ask", idempotent=True)
        assert type(caught.value) is error
        # Such a server is not asked again, not even what might be asked twice.
        assert server.payloads() == [b"ask"]
        assert client.send_request(b"next") == b"next"


def test_protocol_errors_are_reported_to_the_server(deployment: Deployment) -> None:
    with deployment.ref_server({1: answer(reply_to=9)}) as server, deployment.client(server.port, raw=True) as client:
        with pytest.raises(BadSequence):
            client.send_request(b"ask")
        end = server.wait_end(0)
        assert (end.code, end.last) == (4, 1)


def test_a_reply_unasked(deployment: Deployment) -> None:
    """Between two requests: neither is answered with it. When the client sees it is the network's choice."""
    script = {1: do(answer(), answer(b"unasked"))}
    with deployment.ref_server(script) as server, deployment.client(server.port, raw=True) as client:
        assert client.send_request(b"one") == b"one"
        with suppress(BadSequence):
            assert client.send_request(b"two") == b"two"
        assert client.send_request(b"three") == b"three"


def test_a_reply_again(deployment: Deployment) -> None:
    def twice(connection: Connection, frame: Frame) -> None:
        whole = p.frame(p.MESSAGE, b"one", connection.next_sequence, frame.sequence, connection.key_out)
        connection.next_sequence += 1
        connection.hand_over(frame)
        connection.answered(frame.sequence)
        connection.send_raw(whole)
        connection.send_raw(whole)

    with deployment.ref_server({1: twice}) as server, deployment.client(server.port, raw=True) as client:
        assert client.send_request(b"one") == b"one"
        with suppress(BadSequence):  # where the second came after the client had looked
            assert client.send_request(b"two") == b"two"
        assert client.send_request(b"three") == b"three"


def test_reflected(deployment: Deployment) -> None:
    """The client's own request comes back to it as if it were the reply."""

    def reflect(connection: Connection, frame: Frame) -> None:
        connection.send_raw(frame.raw)

    with (
        deployment.ref_server({1: reflect}) as server,
        deployment.client(server.port, raw=True) as client,
        pytest.raises(BadTag),
    ):
        client.send_request(b"ask")


def test_spliced_from_another_connection(deployment: Deployment) -> None:
    recorded: list[bytes] = []

    def record(connection: Connection, frame: Frame) -> None:
        recorded.append(p.frame(p.MESSAGE, REPLY, connection.next_sequence, frame.sequence, connection.key_out))
        connection.drop("fin")

    script = {1: record}, {1: lambda connection, frame: connection.send_raw(recorded[0])}
    with deployment.ref_server(*script) as server, deployment.client(server.port, raw=True) as client:
        with pytest.raises(ConnectionClosed):
            client.send_request(b"ask")
        with pytest.raises(BadTag):
            client.send_request(b"ask")


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"tag_key": b"k" * 32}, BadTag),
        ({"version": 2}, BadVersion),
        ({"codec": b"pickle-5"}, RemoteProtocolError),
        ({"max_frame": 1183}, RemoteProtocolError),
        ({"extensions": ((1, b""),)}, RemoteProtocolError),
    ],
    ids=repr,
)
def test_wrong_welcome(deployment: Deployment, fields: dict[str, object], cause: type[Exception]) -> None:
    with (
        deployment.ref_server({"hello": welcome(**fields)}) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        with pytest.raises(HandshakeFailed, match="did not prove that it holds this client's key") as caught:
            client.send_request(b"ask")
        assert type(caught.value.__cause__) is cause
        assert server.payloads() == []


@pytest.mark.parametrize(
    ("point", "how"),
    [
        ("accept", "fin"),
        ("accept", "reset"),
        *((point, how) for point in ("tls", "hello") for how in ("fin", "notify", "reset")),
    ],
)
def test_server_goes_during_the_handshake(deployment: Deployment, point: str, how: str) -> None:
    """The client connects again, as to an overloaded server."""
    with deployment.ref_server({point: drop(how)}) as server, deployment.client(server.port, raw=True) as client:
        assert client.send_request(b"ask") == b"ask"
        assert len(server.connections) == 2


def test_application_data_before_hello(deployment: Deployment) -> None:
    """Another protocol, whose server speaks first."""
    script = {"tls": raw(b"220 mail.example ESMTP ready, and here is much more text than one would expect\r\n")}
    with deployment.ref_server(script) as server, deployment.client(server.port, raw=True) as client:
        with pytest.raises(HandshakeFailed) as caught:
            client.send_request(b"ask")
        assert "ESMTP" not in repr(caught.value) + repr(caught.value.__cause__)
        server.wait_end(0)
        server.violations.clear()


@pytest.mark.parametrize(
    "action",
    [pong(b"other"), pong(reply_to=9), pong(sequence=5), send(p.MESSAGE, b"x", reply_to=1)],
    ids=["payload", "reply_to", "sequence", "kind"],
)
def test_wrong_pong(deployment: Deployment, action: object) -> None:
    with deployment.ref_server({"ping": action}) as server, deployment.client(server.port, raw=True) as client:
        with pytest.raises(RemoteProtocolError):
            client.ping()
        assert 0 <= client.ping() < 5


def test_random_bytes_for_frames(deployment: Deployment) -> None:
    noise = [b"\x00\x00\x00\x80" + os.urandom(200) for _ in range(20)]
    with (
        deployment.ref_server(*({1: do(raw(data), drop())} for data in noise)) as server,
        deployment.client(server.port, raw=True) as client,
    ):
        for _ in noise:
            with pytest.raises(SealwireError):
                client.send_request(b"ask")


def test_silence_is_bounded(deployment: Deployment) -> None:
    with (
        deployment.ref_server({1: nothing}) as server,
        deployment.client(server.port, raw=True) as client,
        pytest.raises(TimeoutError),
    ):
        client.send_request(b"ask", wait=0.1)
