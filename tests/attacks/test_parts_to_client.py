"""Servers that break the rules of parts: no client hands on more than was sent in order, and every client goes on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from conformance.combinations import CLIENTS, LOOP, TCP, Caller, Client
from reference import protocol as p
from reference.features import Features
from reference.peer import answer, close, credit, do, drop, fault, grant, nothing, part, parts, raw, send
from sealwire import (
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    FeatureNotSupported,
    Limits,
    RemoteError,
    RemoteProtocolError,
    encode,
)
from sealwire.errors import BadSequence, BadTag, FrameTooLarge, LimitExceeded
from support.constants import QUICK
from support.service import Deployment, eventually

pytestmark = pytest.mark.usefixtures("clean")

LOOP.start()
FEATURES = Features(metadata=True, cancel=True, window=500, at_once=8)
ONE, TWO, END = encode(1), encode(2), answer(encode(None))
CUT = [drop("fin"), drop("reset"), drop("notify")]


@pytest.fixture(params=[each for each in CLIENTS if each.transport is TCP], ids=str)
def connect(deployment: Deployment, request: pytest.FixtureRequest) -> Iterator[Callable[..., Caller]]:
    """Each kind of client; its connections are closed at the end."""
    kind: Client = request.param
    made: list[Caller] = []

    def connect(port: int, **limits: Any) -> Caller:
        security = deployment.security("client", limits=Limits(**(QUICK | limits)))
        made.append(kind.make(("127.0.0.1", port), security, wait=10))
        return made[-1]

    yield connect
    for client in made:
        client.close()


def forged(**header: Any) -> Any:
    return part(TWO, **header)


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (forged(reply_to=0), RemoteProtocolError),
        (forged(reply_to=9), BadSequence),
        (forged(sequence=1), BadSequence),
        (forged(sequence=3), BadSequence),
        (forged(flags=1), RemoteProtocolError),
        (forged(wait=1), RemoteProtocolError),
        (forged(key=b"k" * 32), BadTag),
        (credit(0), RemoteProtocolError),
        (credit(2**32 - 1, reply_to=9), RemoteProtocolError),
        (send(p.CREDIT, b"123", reply_to=1), RemoteProtocolError),
        (send(p.END, reply_to=1), RemoteProtocolError),
        (send(p.CANCEL, reply_to=1), RemoteProtocolError),
        (send(p.PONG, reply_to=1), BadSequence),
        (send(13, reply_to=1), RemoteProtocolError),
        (raw(p.u(2**24 + 1, 4)), FrameTooLarge),
        (answer(ONE, flags=2), RemoteProtocolError),
        (answer(ONE, flags=4), RemoteProtocolError),
        (answer(b"\x01\x00", flags=1), RemoteProtocolError),
        (fault(64, "no more"), RemoteError),
        (close(2), ConnectionClosed),
        *((cut, ConnectionClosed) for cut in CUT),
        (do(part(b"nonsense"), END), DecodeError),
        (do(part(b""), END), DecodeError),
        (answer(b"nonsense"), DecodeError),
        (do(parts(*[ONE] * 6), END), LimitExceeded),
    ],
)
def test_after_a_part(
    deployment: Deployment, connect: Callable[..., Caller], action: Any, error: type[Exception]
) -> None:
    with deployment.ref_server({1: do(part(ONE), action)}, features=FEATURES) as server:
        client = connect(server.port, part_window=1024, max_parts=5)
        taken: list[Any] = []
        with pytest.raises(error):
            taken.extend(client.stream("x"))
        assert taken in ([1], [1] * 5)
        assert client.request(1) == 1
        server.violations.clear()


def test_after_the_end(deployment: Deployment, connect: Callable[..., Caller]) -> None:
    """The network decides when the client sees it."""
    script = {1: do(part(ONE), END, part(TWO)), 2: part(TWO, reply_to=1)}
    with deployment.ref_server(script, features=FEATURES) as server:
        client = connect(server.port)
        assert list(client.stream("x")) == [1]
        with suppress(RemoteProtocolError, ConnectionClosed):
            assert client.request(1) == 1
        assert client.request(1) == 1
        server.violations.clear()


def test_parts_that_were_not_asked_for(deployment: Deployment, connect: Callable[..., Caller]) -> None:
    with deployment.ref_server({1: do(part(ONE), answer())}, features=FEATURES) as server:
        client = connect(server.port)
        with pytest.raises(BadSequence):
            client.request(1)
        assert client.request(1) == 1
        server.violations.clear()


@pytest.mark.parametrize("cut", CUT)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_cut_after_any_part(deployment: Deployment, connect: Callable[..., Caller], after: int, cut: Any) -> None:
    """Sent again by itself only if no part of it can have been processed, which a cut does not tell."""
    with deployment.ref_server({1: do(parts(*[ONE] * after), cut)}, features=FEATURES) as server:
        client = connect(server.port)
        taken: list[Any] = []
        with pytest.raises(ConnectionClosed):
            taken.extend(client.stream("x"))
        # A reset may overtake what was sent before it.
        assert taken == [1] * len(taken)
        assert len(taken) <= after
        assert server.payloads() == [encode("x")]
        assert list(client.stream("y")) == []


def test_sent_again_if_the_server_did_not_begin(deployment: Deployment, connect: Callable[..., Caller]) -> None:
    script = {1: close(2, 0)}, {1: do(part(ONE), close(2, 1))}
    with deployment.ref_server(*script, features=FEATURES) as server:
        client = connect(server.port)
        stream = client.stream("x")
        assert next(stream) == 1
        with pytest.raises(ConnectionClosed):
            next(stream)
        assert server.payloads() == [encode("x")] * 2


def test_trace_context_is_for_those_that_take_it(deployment: Deployment, connect: Callable[..., Caller]) -> None:
    """Tracing does not keep a client from talking to an older server; what the handler is to see does."""
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "a=b"}
    with deployment.ref_server(features=Features(window=500, at_once=8)) as server:
        client = connect(server.port)
        assert client.request(1, metadata=trace) == 1
        assert list(client.stream(1, metadata=trace)) == []
        assert client.send_parts([1], metadata=trace) == 1
        for call in (client.request, client.send_parts, lambda *given, **more: list(client.stream(*given, **more))):
            with pytest.raises(FeatureNotSupported, match="no metadata"):
                call([1], metadata=trace | {"a": "b"})
        assert {got.flags & p.METADATA for got in server.received} == {0}


def test_silence_between_parts(deployment: Deployment, connect: Callable[..., Caller]) -> None:
    with deployment.ref_server({1: part(ONE)}, features=FEATURES) as server:
        client = connect(server.port)
        stream = client.stream("x", wait=0.2)
        assert next(stream) == 1
        with pytest.raises(DeadlineExceeded):
            next(stream)
        assert client.request(1) == 1
        eventually(lambda: server.payloads(p.CANCEL) == [b""])


def test_a_cancellation_that_is_not_answered(deployment: Deployment, connect: Callable[..., Caller]) -> None:
    """Parts go on coming, as far as there is credit: they are dropped, and the client goes on."""
    flood = do(*[part(ONE)] * 20)
    with deployment.ref_server({1: part(ONE), "cancel": flood}, features=FEATURES) as server:
        client = connect(server.port)
        stream = client.stream("x")
        assert next(stream) == 1
        stream.close()
        assert client.request(1) == 1
        assert client.request(2) == 2
        server.violations.clear()


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (nothing, DeadlineExceeded),
        (credit(2**32 - 1), RemoteProtocolError),
        (credit(300, reply_to=0), RemoteProtocolError),
        (do(grant(), credit(400, key=b"k" * 32)), BadTag),
        (part(ONE), RemoteProtocolError),
        (fault(20), RemoteError),
        *((cut, ConnectionClosed) for cut in CUT),
    ],
)
def test_while_parts_are_sent(
    deployment: Deployment, connect: Callable[..., Caller], action: Any, error: type[Exception]
) -> None:
    with deployment.ref_server({"part": action}, features=FEATURES) as server:
        client = connect(server.port)
        with pytest.raises(error):
            client.send_parts(itertools.repeat(bytes(300)), wait=0.3)
        if action is nothing:  # what was in the window
            assert len(server.payloads(p.PART)) == 2
        assert client.request(1) == 1
        server.violations.clear()
