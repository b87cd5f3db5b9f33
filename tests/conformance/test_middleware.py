"""Middleware on every server: its order, its powers, and the checks that bind it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from conformance.combinations import Running
from conformance.conftest import IN_TURN, Case
from conformance.handlers import Cancel, Order, OutOfStock
from sealwire import ConfigurationError, DeadlineExceeded, EncodeError, RemoteError
from sealwire.middleware import Rule, audit, authorise, observe
from support.events import audited
from support.service import eventually

STREAMS = pytest.mark.pairs(lambda server, client: server.transport.stream and (server, client) in IN_TURN)
COROUTINES = pytest.mark.pairs(lambda server, client: server.runs_coroutines and client.several)
RULES = [
    [["builtins:list", "builtins:str"], ["dns:client.example", f"uid:{os.getuid()}"]],
    [["conformance.handlers:Order"], ["dns:other.example", "gid:4294967294"]],
]
NOT_AUTHORISED = "this client may not send messages of this type"


def fault(client: Any, message: Any) -> tuple[int, str]:
    with pytest.raises(RemoteError) as failed:
        client.request(message)
    return failed.value.code, failed.value.text


def does_it_all(case: Case, running: Running) -> None:
    client = case.client(running)
    assert client.request(["order of calls"]) == ["order of calls", "a", "b", "B", "A"]
    assert client.request("as it is") == "as it is"
    assert client.request(["own", {"a": 1}]) == {"a": 1}
    assert client.request(["change", "another"]) == "another"
    assert client.request(["twice"]) == [1, 2]
    assert fault(client, ["no", 71, "not today"]) == (71, "not today")
    for message in (["break"], ["own object"], ["another context"]):
        code, text = fault(client, message)
        assert (code, text[:18]) == (19, "the handler failed"), message
        assert "words" not in text
    for number in (1, 2):
        key_id, has_deadline, metadata, has_id, count, names = client.request(["context"])
        assert (key_id, has_deadline, metadata, has_id) == ("k1", True, {}, True)
        assert count == number
        assert names == ([os.getuid()] if case.server.transport.local else ["client.example", None])
    assert client.request("goes on") == "goes on"


@pytest.mark.parametrize("handler", ["respond", "function"])
def test_middleware(case: Case, handler: str, caplog: pytest.LogCaptureFixture) -> None:
    with case.start(handler=handler, middleware=["outer", "passes", "inner"]) as running:
        does_it_all(case, running)
    if case.server.in_this_process:
        assert "ValueError at around.py:" in caplog.text
    assert "words of the message" not in caplog.text


@COROUTINES
def test_coroutines(case: Case) -> None:
    with case.start(handler="coroutine", middleware=["passes", "outer_on_loop", "inner_on_loop"]) as running:
        does_it_all(case, running)


def is_held_to_the_declared_types(case: Case, running: Running) -> None:
    client = case.client(running, allow=[Order, Cancel])
    assert client.request(Order("apples", 3)) == 3
    assert client.request(Order("own right", 3)) == 5
    assert client.request(Order("cancel", 3)) is None
    assert client.request(Order("list", 3)) == [7]
    for item in ("own wrong", "number", "field"):
        assert fault(client, Order(item, 3))[0] == 19, item
    assert client.request([Order("apples", 3)]) == [3]
    assert client.request(Order("own right", 3)) == 5  # after a reply that was held to other types


@pytest.mark.parametrize("handler", ["declared", "declared function", "service"])
def test_the_declared_types_hold_for_middleware(case: Case, handler: str, caplog: pytest.LogCaptureFixture) -> None:
    with case.start(handler=handler, middleware=["outer", "inner"]) as running:
        is_held_to_the_declared_types(case, running)
    if case.server.in_this_process:
        assert "passed on by a middleware: " in caplog.text
        assert "reply: expected int" in caplog.text


@COROUTINES
@pytest.mark.parametrize("handler", ["declared coroutine", "service on the loop"])
def test_the_declared_types_hold_for_coroutines(case: Case, handler: str) -> None:
    with case.start(handler=handler, middleware=["outer_on_loop", "inner_on_loop"]) as running:
        is_held_to_the_declared_types(case, running)


@STREAMS
def test_parts(case: Case, way: str, tmp_path: Path) -> None:
    (notes := tmp_path / "notes").touch()
    doubled = "doubled_on_loop" if "loop" in way else "doubled"
    with case.start(handler=way, middleware=["noting", doubled]) as running:
        client = case.client(running)
        stream = client.stream(["count", 2, 0])
        assert [number for number, _ in stream] == [0, 0, 1, 1]
        assert client.send_parts([b"ab", b"cde"]) == 10
        with client.stream(["endless", str(notes)]) as endless:
            assert [next(endless) for _ in range(3)] == [0, 0, 1]
        written = eventually(lambda: len(lines := notes.read_text().splitlines()) == 2 and lines)
        assert written[0].startswith("closed ")
        assert written[1] in ("GeneratorExit", "CancelledError")


@pytest.mark.parametrize("handler", ["respond", "service"])
def test_rules(case: Case, handler: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with case.start(handler=handler, authorise=RULES, middleware=["outer", "audit"]) as running:
        client = case.client(running, allow=[Order, Cancel])
        if handler == "respond":
            assert client.request("a str") == "a str"
            assert client.request(["order"]) == Order("apples", 3)
        assert client.request([Order("a", 3)]) == ([3] if handler == "service" else [Order("a", 3)])
        for message in (Order("a", 3), Order("own right", 3), Cancel(3), 5, {"a": "dict"}):
            if handler == "respond" or isinstance(message, Order | Cancel):
                assert fault(client, message) == (17, NOT_AUTHORISED)
        assert client.request([]) == []
    if case.server.in_this_process:
        who = f"uid:{os.getuid()}" if case.server.transport.local else "dns:client.example"
        refusal = next(record.getMessage() for record in caplog.records if "no rule" in record.getMessage())
        assert who in refusal
        assert " of type conformance.handlers:Order: no rule of authorise allows it" in refusal
        ended = audited(caplog, "request.ended")
        assert len(ended) == (4 if handler == "respond" else 2)  # what the rules refuse comes no further
        assert all(
            who in each["peer"] and "builtins:" in each["type"] and each["outcome"] == "answered" for each in ended
        )


@pytest.mark.certificates
def test_rules_tell_clients_apart(case: Case) -> None:
    with case.start(authorise=RULES) as running:
        one = case.client(running, allow=[Order])
        assert fault(one, Order("a", 3))[0] == 17
        one.close()
        several = case.other_side("several", "nobody.example", "other.example", "client.example")
        both = case.client(running, side=several, allow=[Order])
        assert both.request(Order("a", 3)) == Order("a", 3)
        assert both.request(["order"]) == Order("apples", 3)


@STREAMS
def test_rules_judge_each_part(case: Case, way: str) -> None:
    with case.start(handler=way, authorise=RULES) as running:
        client = case.client(running, allow=[Order])
        assert client.send_parts(["ab", ["c"]]) == 3
        with pytest.raises(RemoteError, match=NOT_AUTHORISED) as refused:
            client.send_parts(["ab", Order("a", 3), "c"])
        assert refused.value.code == 17
        assert client.send_parts(["ab"]) == 2


def on_loop(function: Any) -> Any:
    """The same middleware as a coroutine function. What it does before and after is in a generator: it yields what it
    passes on, and is sent the reply."""

    async def around(context: Any, message: Any, call_next: Any) -> Any:
        steps = function(context, message)
        try:
            passed = next(steps)
            while True:
                passed = steps.send(await call_next(*passed))
        except StopIteration as stop:
            return stop.value

    return around


def ordinary(function: Any) -> Any:
    def around(context: Any, message: Any, call_next: Any) -> Any:
        steps = function(context, message)
        try:
            passed = next(steps)
            while True:
                passed = steps.send(call_next(*passed))
        except StopIteration as stop:
            return stop.value

    return around


def first(context: Any, message: Any) -> Any:
    match message:
        case ["own"]:
            return "an own reply"
        case ["no"]:
            raise OutOfStock("not even sent")
        case ["break"]:
            raise LookupError
        case ["another context"]:
            return (yield None, message)
        case ["too late"]:
            context.deadline = monotonic()
        case ["change"]:
            return (yield context, "changed")
        case ["twice"]:
            return [(yield context, 1), (yield context, 2)]
        case ["call"]:
            left = context.deadline - monotonic()
            return [context.address, context.idempotent, 0 < left <= 10, context.metadata, context.reply_metadata]
        case ["order of calls"]:
            return [*(yield context, [*message, "a"]), "A"]
        case ["metadata"]:
            context.metadata |= {"request-id": "r-7", "tenant": "north"}
            reply = yield context, message
            return [*reply, context.reply_metadata, context.request_id]
    return (yield context, message)


def second(context: Any, message: Any) -> Any:
    reply = yield context, [*message, "b"] if message == ["order of calls", "a"] else message
    return [*reply, "B"] if message == ["order of calls", "a"] else reply


def passes(context: Any, message: Any, call_next: Any) -> Any:
    """An ordinary function, in chains of coroutine functions as well."""
    return "no awaitable" if message == ["ordinary"] else call_next(context, message)


def around_of(case: Case) -> list[Any]:
    kind = on_loop if case.client_kind.several else ordinary
    return [kind(first), passes, kind(second)]


def test_middleware_of_clients(shared: tuple[Case, Running]) -> None:
    case, running = shared
    client = case.client(running, middleware=around_of(case))
    assert client.request("as it is") == "as it is"
    assert client.request(["order of calls"]) == ["order of calls", "a", "b", "B", "A"]
    assert client.request(["own"]) == "an own reply"
    assert client.request(["ordinary"]) == "no awaitable"
    assert client.request(["change"]) == "changed"
    assert client.request(["twice"]) == [1, 2]
    for message, error in (
        (["no"], OutOfStock),
        (["break"], LookupError),
        (["another context"], TypeError),
        (["too late"], DeadlineExceeded),
        (["refuse", 70, "no"], RemoteError),
        ([object()], EncodeError),
    ):
        with pytest.raises(error):
            client.request(message)
    address, *known = client.request(["call"], idempotent=True)
    assert known == [True, True, {}, {}]
    assert str(running.address[1] if isinstance(running.address, tuple) else running.address) in address
    assert client.request("goes on", wait=5) == "goes on"


@pytest.mark.pairs(lambda server, client: server.transport.stream and (server, client) in IN_TURN)
def test_metadata_of_a_middleware(case: Case) -> None:
    with case.start(handler="in parts") as running:
        client = case.client(running, middleware=around_of(case))
        received: dict[str, str] = {}
        sent, request_id, seen, own_id = client.request(["metadata"], metadata={"mine": "x"}, reply_metadata=received)
        assert sent == {"mine": "x", "request-id": "r-7", "tenant": "north"}
        assert seen == received == sent | {"seen": "yes"}
        assert (request_id, own_id) == ("r-7", "r-7")


class Ends:
    """Middleware of clients that notes what ends a call; it changes the request, and its metadata."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def around(self, context: Any, message: Any, call_next: Any) -> Any:
        match message:
            case ["no"]:
                raise OutOfStock("not even sent")
            case ["own"]:
                return iter([1, 2])
            case ["three"]:
                message = ["count", 3, 0]
        context.metadata |= {"request-id": "r-8"}
        return observe(context, message, call_next, lambda error: self.seen.append(type(error).__name__))


@STREAMS
def test_streams_within_middleware(case: Case) -> None:
    with case.start(handler="in parts") as running:
        ends = Ends()
        client = case.client(running, middleware=[ends.around, *around_of(case)[1:]])
        stream = client.stream(["three"])
        assert [number for number, _ in stream] == [0, 1, 2]
        assert stream.result == "counted"
        client.stream(["count", 3, 0]).close()
        with client.stream(["count", 3, 0]) as stream:
            next(stream)
        for message, error in ((["fail", 1], RemoteError), (["no"], OutOfStock), (["own"], TypeError)):
            with pytest.raises(error):
                list(client.stream(message))
        # An asynchronous stream that was closed before its first part has not begun.
        begun = ["GeneratorExit"] if case.client_kind.several else ["GeneratorExit"] * 2
        assert ends.seen == ["NoneType", *begun, "RemoteError"]
        stream = client.stream(["metadata"], metadata={"mine": "x"})
        assert list(stream) == []
        assert stream.result == [{"mine": "x", "request-id": "r-8"}, "r-8"]
        assert stream.metadata == {"mine": "x", "request-id": "r-8", "seen": "yes"}


@STREAMS
def test_requests_in_parts_within_middleware(case: Case) -> None:
    with case.start(handler="in parts") as running:
        ends = Ends()

        def doubled(context: Any, message: Any, call_next: Any) -> Any:
            return ends.around(context, (each for each in message for _ in range(2)), call_next)

        client = case.client(running, middleware=[doubled, passes])
        assert client.send_parts([b"abc", b"d"]) == 8
        with pytest.raises(EncodeError):
            client.send_parts([object()])
        assert ends.seen == ["NoneType", "EncodeError"]


@pytest.mark.pairs(lambda server, client: not client.several and (server, client) in IN_TURN)
def test_no_coroutines_around_synchronous_clients(shared: tuple[Case, Running]) -> None:
    case, running = shared
    with pytest.raises(ConfigurationError, match=r"cannot run here; use a client on asyncio"):
        case.client(running, middleware=[on_loop(first)])


@pytest.mark.parametrize("servers_own", [audit, authorise(Rule([str], ["dns:client.example"]))], ids=range(2))
def test_what_is_for_servers_alone(shared: tuple[Case, Running], servers_own: Any) -> None:
    case, running = shared
    with pytest.raises(ConfigurationError, match="audit and authorise are for servers"):
        case.client(running, middleware=[servers_own])
