"""Section 9 of the reference implementation, against the vectors and against itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reference import protocol as p
from reference.features import Account, Features, Terms, entries, parse_features, split
from reference.peer import (
    Fault,
    RefClient,
    RefServer,
    Violation,
    answer,
    close,
    credit,
    do,
    fault,
    metadata,
    nothing,
    part,
    parts,
    send,
)
from reference.rules import FromClient, FromServer, Incoming, check_welcome
from reference.test_vectors import FEATURES, HANDSHAKE, extensions, named

ALL = Features(metadata=True, cancel=True, window=1000)
SERVERS = Features(metadata=True, cancel=True, window=500, at_once=8)
CASE = next(case for case in HANDSHAKE["cases"] if case["name"] == FEATURES["handshake"])

Serve = Callable[..., RefServer]
Connect = Callable[..., RefClient]


def frames(data: str) -> list[p.Frame]:
    whole, found = bytes.fromhex(data), []
    while whole:
        size = 4 + int.from_bytes(whole[:4], "big")
        found.append(p.parse_frame(whole[:size]))
        whole = whole[size:]
    return found


def after_the_conversation(side: type[Incoming]) -> Incoming:
    """The rules for what a side sends after the frames that the vectors begin with."""
    offered = parse_features(extensions(CASE, "hello_extensions"), from_client=True)
    taken = parse_features(extensions(CASE, "welcome_extensions"), from_client=False)
    of_client = side is FromClient
    key = bytes.fromhex(FEATURES["k_c2s" if of_client else "k_s2c"])
    terms = Terms.between(taken, offered) if of_client else Terms.between(offered, taken)
    rules = side(key, 2**24, terms=terms)
    for frame in frames(FEATURES["conversation"]):
        if of_client:
            rules.check(frame, 0)
        else:
            rules.note_sent(frame)
    if of_client:
        rules.answered(7)  # the PING
    return rules


@pytest.mark.parametrize(
    ("side", "case"),
    [(FromClient, case) for case in FEATURES["refused_from_client"]]
    + [(FromServer, case) for case in FEATURES["refused_from_server"]],
    ids=lambda value: value["name"] if isinstance(value, dict) else value.__name__,
)
def test_refused(side: type[Incoming], case: dict[str, Any]) -> None:
    rules = after_the_conversation(side)
    *before, last = frames(case["frame"])
    for frame in before:
        rules.check(frame, 7)
    with pytest.raises(Violation):
        rules.check(last, 7)


@pytest.mark.parametrize(("side", "name"), [(FromClient, "client"), (FromServer, "server")])
def test_ignored(side: type[Incoming], name: str) -> None:
    rules = after_the_conversation(side)
    accounts = [{request: it.credit for request, it in held.items()} for held in (rules.into, rules.out)]
    for frame in frames(FEATURES[f"ignored_from_{name}"]):
        rules.check(frame, 7)
    assert accounts == [{request: it.credit for request, it in held.items()} for held in (rules.into, rules.out)]
    assert rules.cancelled == {5}


@named(FEATURES["refused_welcome"])
def test_refused_welcome(case: dict[str, Any]) -> None:
    with pytest.raises(Violation):
        check_welcome(
            frames(case["frame"])[0],
            psk=bytes.fromhex(CASE["psk"]),
            bound=bytes.fromhex(CASE["binding"]),
            hello_frame=bytes.fromhex(CASE["hello_frame"]),
        )


def test_features_come_back() -> None:
    for offer, from_client in ((ALL, True), (SERVERS, False), (Features(), True), (Features(cancel=True), True)):
        assert parse_features(offer.extensions(), from_client=from_client) == offer
    assert SERVERS.taken_up(Features(cancel=True)) == Features(cancel=True)
    assert SERVERS.taken_up(ALL) == SERVERS


def test_metadata_comes_back() -> None:
    values = {"b": "café", "ab": "", "a": "1"}
    made = p.parse_frame(p.frame(p.MESSAGE, metadata(values) + b"rest", 1, 0, None, flags=p.METADATA))
    assert split(made) == (values, b"rest")
    assert split(p.parse_frame(p.frame(p.MESSAGE, b"rest", 1, 0, None))) == (None, b"rest")


def test_a_grant_is_of_half_a_window_at_least() -> None:
    account = Account(101)
    account.charge(p.parse_frame(p.frame(p.PART, b"", 1, 1, None)))
    with pytest.raises(Violation, match="CREDIT 50 is under half of the window 101"):
        account.add(p.parse_frame(p.frame(p.CREDIT, p.u(50, 4), 1, 1, None)))


def test_requests_in_parts_that_do_not_end() -> None:
    terms = Terms.between(Features(window=1, at_once=0xFFFF), Features(window=1))
    rules = FromClient(bytes(32), p.MIN_MAX_FRAME, terms=terms)
    upload = [p.parse_frame(p.frame(p.MESSAGE, b"", number, 0, bytes(32), flags=p.UPLOAD)) for number in range(1026)]
    for frame in upload[1:1025]:
        rules.check(frame, 0)
        rules.answered(frame.sequence)
    with pytest.raises(Violation, match="more than 1024 requests in parts"):
        rules.check(upload[1025], 0)


# Both sides over loopback


@pytest.mark.parametrize("had", [None, Features(), SERVERS])
@pytest.mark.parametrize("offered", [Features(), ALL])
def test_a_plain_exchange(serve: Serve, connect: Connect, had: Features | None, offered: Features) -> None:
    with serve(features=had) as server, connect(server, features=offered) as client:
        assert client.request(b"x") == (p.MESSAGE, b"x", 1)
        assert client.incoming is not None
        assert (client.incoming.terms.cancel, client.incoming.terms.at_once) == (
            (True, 8) if had and had.cancel and offered.cancel else (False, 0)
        )
        assert len(bytes.fromhex(client.identity)) == 4


def test_metadata_both_ways(serve: Serve, connect: Connect) -> None:
    script = [{1: answer(metadata({"b": "2"}) + b"reply", flags=p.METADATA)}]
    with serve(features=SERVERS, script=script) as server, connect(server, features=ALL) as client:
        got = client.receive(client.send_message(b"x", 1.5, values={"a": "1"}))
        assert split(got) == ({"b": "2"}, b"reply")
        assert client.receive(client.send_message(b"y", values={})).payload == b"y"
    received = [(got.payload, got.values, got.wait) for got in server.received if got.kind == p.MESSAGE]
    assert received == [(b"x", {"a": "1"}, 150), (b"y", {}, 0)]


def test_a_cancelled_request_gets_one_answer(serve: Serve, connect: Connect) -> None:
    with serve(features=SERVERS, script=[{1: nothing}]) as server, connect(server, features=ALL) as client:
        first = client.send_message(b"x")
        client.cancel(first)
        assert client.receive(first).code == 22
        client.cancel(first)  # ignored, and so is the next one
        second = client.send_message(b"y")
        client.cancel(second)
        assert client.receive(second).payload == b"y"  # it was on its way
        client.ping()


def test_a_request_in_parts(serve: Serve, connect: Connect) -> None:
    payloads = [b"%d" % number * 100 for number in range(30)]
    with serve(features=SERVERS) as server, connect(server, features=ALL) as client:
        request = client.upload(payloads, values={"a": "b"}, wait=1)
        assert client.receive(request).payload == b"".join(payloads)
        assert client.receive(client.upload([])).payload == b""
    assert server.payloads(p.PART) == payloads


def test_a_reply_in_parts(serve: Serve, connect: Connect) -> None:
    payloads = [b"x" * size for size in (0, 100, 3000, 0, 500, 2000, 1)]
    script = [{1: do(parts(*payloads), answer(b"end"))}]
    with serve(features=SERVERS, script=script) as server, connect(server, features=ALL) as client:
        request = client.send_message(b"go", flags=p.PARTS)
        assert client.receive(request).payload == b"end"
        assert client.parts[request] == payloads
        assert client.request(b"next")[1] == b"next"
    assert any(got.kind == p.CREDIT for got in server.received)


def test_parts_both_ways(serve: Serve, connect: Connect) -> None:
    payloads = [b"x" * 300] * 10
    script = [{"end": do(parts(*payloads), answer())}]
    with serve(features=SERVERS, script=script) as server, connect(server, features=ALL) as client:
        request = client.upload(payloads, flags=p.PARTS)
        assert client.receive(request).payload == b"".join(payloads)
        assert client.parts[request] == payloads


def test_an_early_answer(serve: Serve, connect: Connect) -> None:
    with (
        serve(features=SERVERS, script=[{1: fault(21)}, {"part": answer(b"enough")}]) as server,
        connect(server, features=ALL) as client,
        connect(server, features=ALL) as other,
    ):
        for one, expected in ((client, b"\x00\x15"), (other, b"enough")):
            request = one.upload([b"x" * 400] * 50)
            assert one.receive(request).payload == expected
            assert one.request(b"next")[1] == b"next"
    assert len(server.payloads(p.PART)) <= 6  # the window, and no credit after the answer


def test_a_cancelled_reply_in_parts(serve: Serve, connect: Connect) -> None:
    endless = do(parts(*[b"x" * 400] * 1000), nothing)
    with serve(features=SERVERS, script=[{1: endless}]) as server, connect(server, features=ALL) as client:
        request = client.send_message(b"go", flags=p.PARTS)
        while request not in client.parts:
            client.read_one()
        client.cancel(request)
        assert client.receive(request).code == 22
        assert len(client.parts[request]) < 10
        assert client.request(b"next")[1] == b"next"


def test_a_reply_that_needs_parts(serve: Serve, connect: Connect) -> None:
    with serve(handler=lambda _: Fault(23)) as server, connect(server) as client:
        assert client.request(b"x")[:2] == (p.FAULT, b"\x00\x17")


def test_it_is_as_if_there_were_no_features(serve: Serve, connect: Connect) -> None:
    """Unless both sides have them."""
    for had, offered in ((None, ALL), (Features(), ALL), (SERVERS, Features())):
        for kind, payload in ((p.CANCEL, b""), (p.PART, b"x"), (p.CREDIT, b"\0\0\0\1"), (p.END, b"")):
            with serve(features=had) as server:
                with connect(server, features=offered) as client:
                    client.send(kind, payload, reply_to=1)
                    assert client.expect_end().code == 4
                assert f"{p.KINDS[kind]} from a client" in str(server.violations.pop())
        with serve(features=had, script=[{1: part()}]) as server:
            with connect(server, features=offered) as client:
                client.send_message(b"x")
                with pytest.raises(Violation, match="PART from a server"):
                    client.expect_end()
            server.wait_end()


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (do(answer(), part()), "section 9: PART for 1"),
        (do(part(bytes(1000)), part()), "section 9: PART without credit"),
        (part(reply_to=9), "section 9: PART for 9"),
        (part(flags=1), "section 2: flags 1 on PART"),
        (credit(0), "section 9: CREDIT of 0"),
        (credit(2**32 - 1), "section 9: CREDIT lifts"),
        (credit(400), "section 9: CREDIT 400 for more than was sent"),
        (credit(1, reply_to=9), "section 9: CREDIT for 9"),
        (send(p.CREDIT, b"\0\0\1", reply_to=1), "section 9: CREDIT with a payload of 3"),
        (send(p.END, reply_to=1), "section 2: END from a server"),
        (send(p.CANCEL, reply_to=1), "section 2: CANCEL from a server"),
        (answer(b"\1", flags=p.METADATA), "section 9: metadata is cut short"),
        (answer(flags=p.PARTS), "section 2: flags 2"),
        (fault(22), "section 9: FAULT 22"),
        (fault(23), "section 9: FAULT 23"),
        (close(0, last=2), "section 5: CLOSE with last 2"),
    ],
)
def test_client_catches(serve: Serve, connect: Connect, action: Any, expected: str) -> None:
    with serve(features=SERVERS, script=[{1: action}]) as server:
        with connect(server, features=ALL) as client:
            client.send_message(b"", flags=p.PARTS | p.UPLOAD)
            with pytest.raises(Violation, match=expected):
                client.expect_end()
        server.wait_end()
        server.violations.clear()


def ended(client: RefClient) -> None:
    client.end(1)
    client.send(p.PART, b"x", reply_to=1)


def cancelled(client: RefClient) -> None:
    client.cancel(1)
    client.cancel(1)


def eager(client: RefClient) -> None:
    client.send(p.PART, bytes(500), reply_to=1)
    client.send(p.PART, b"", reply_to=1)


def eight_more(client: RefClient) -> None:
    for _ in range(8):
        client.send_message(b"")


@pytest.mark.parametrize(
    ("misbehave", "expected"),
    [
        (ended, "PART for 1"),
        (cancelled, "CANCEL for 1, which was cancelled"),
        (eager, "PART without credit"),
        (eight_more, "9 requests beside parts; at_once is 8"),
        (lambda client: client.cancel(0), "CANCEL for 0"),
        (lambda client: client.cancel(2), "CANCEL for 2"),
        (lambda client: client.send(p.CREDIT, b"\0\0\0\0", reply_to=1), "CREDIT of 0"),
        (lambda client: client.send(p.CREDIT, b"\xff\xff\xff\xff", reply_to=1), "CREDIT lifts"),
        (lambda client: client.send(p.CREDIT, p.u(500, 4), reply_to=1), "for more than was sent"),
        (lambda client: client.send_message(b"x", flags=p.UPLOAD), "UPLOAD with bytes"),
        (lambda client: client.send_message(b"x", flags=8), "flags 8"),
        (lambda client: client.send(p.END, b"", reply_to=1, flags=1), "flags 1 on END"),
        (lambda client: client.send_message(entries([(b"a", b"")] * 2), flags=p.METADATA), "do not ascend"),
        (lambda client: client.send_message(entries([], count=33), flags=p.METADATA), "33 entries"),
        (lambda client: client.send_message(entries([(b"a", b"x" * 4092)]), flags=p.METADATA), "4097 bytes"),
    ],
)  # fmt: skip
def test_server_catches(serve: Serve, connect: Connect, misbehave: Any, expected: str) -> None:
    script = [{1: nothing, "message": nothing, "cancel": nothing, "end": nothing, "part": nothing}]
    with serve(features=SERVERS, script=script) as server:
        with connect(server, features=ALL) as client:
            assert client.send_message(b"", flags=p.PARTS | p.UPLOAD) == 1
            misbehave(client)
            assert client.expect_end().code == 4
        with pytest.raises(Violation, match=expected):
            raise server.violations.pop()


@pytest.mark.parametrize(
    "offer", [((16, b"x"),), ((18, bytes(6)),), ((18, bytes(5)),), ((18, b"\0\0\0\1\0\1"),)], ids=str
)
def test_server_catches_a_wrong_offer(serve: Serve, connect: Connect, offer: Any) -> None:
    with serve(features=Features()) as server:
        with connect(server, until="tls") as client:
            client.send_hello(extensions=offer)
            assert client.expect_end().frames == []
        assert "section 9" in str(server.violations.pop())
