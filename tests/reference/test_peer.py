"""The reference implementation against itself, and each of its checks against what it must catch."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reference import client as client_module
from reference import protocol as p
from reference import transport, vectors
from reference.peer import (
    Closed,
    Ended,
    Fault,
    RefClient,
    RefServer,
    Rejected,
    Violation,
    answer,
    answer_partly,
    close,
    do,
    drop,
    hold,
    nothing,
    parse_frame,
    pong,
    raw,
    reject,
    send,
    silent,
    welcome,
)
from reference.rules import FromClient, FromServer, check_hello, check_length, check_welcome
from reference.test_vectors import FRAMES, HANDSHAKE, named

PSK = b"k" * 32

Serve = Callable[..., RefServer]
Connect = Callable[..., RefClient]


# The rules, against the vectors that they must refuse


def received(case: dict[str, Any], cap: int) -> p.Frame:
    """As a receiver takes it: the length is judged before anything after it."""
    data = bytes.fromhex(case["frame"])
    check_length(int.from_bytes(data[:4], "big"), cap)
    return parse_frame(data)


@named(HANDSHAKE["refused_hello"])
def test_refused_hello(case: dict[str, Any]) -> None:
    first = HANDSHAKE["cases"][0]
    error = Rejected if case["outcome"].startswith("reject") else Violation

    def receive() -> None:
        check_hello(
            received(case, p.HANDSHAKE_CAP),
            keys={first["key_id"].encode(): bytes.fromhex(first["psk"])},
            server_der=vectors.SERVER_DER,
            client_der=vectors.CLIENT_DER,
            server_names={first["server_name"].encode()},
            codecs={b"pickle-5", b"raw"},
        )

    with pytest.raises(error) as caught:
        receive()
    if isinstance(caught.value, Rejected):
        assert case["outcome"] == f"reject {caught.value.code}"


@named(HANDSHAKE["refused_welcome"])
def test_refused_welcome(case: dict[str, Any]) -> None:
    first = HANDSHAKE["cases"][0]
    with pytest.raises(Violation):
        check_welcome(
            received(case, p.HANDSHAKE_CAP),
            psk=bytes.fromhex(first["psk"]),
            bound=bytes.fromhex(first["binding"]),
            hello_frame=bytes.fromhex(first["hello_frame"]),
        )


@named(HANDSHAKE["cases"])
def test_welcome_yields_the_keys(case: dict[str, Any]) -> None:
    session = check_welcome(
        parse_frame(bytes.fromhex(case["welcome_frame"])),
        psk=bytes.fromhex(case["psk"]),
        bound=bytes.fromhex(case["binding"]),
        hello_frame=bytes.fromhex(case["hello_frame"]),
    )
    assert (session.k_c2s.hex(), session.k_s2c.hex()) == (case["k_c2s"], case["k_s2c"])
    assert session.peer_max_frame == case["server_max_frame"]


@named(FRAMES["refused_from_client"])
def test_refused_from_client(case: dict[str, Any]) -> None:
    rules = FromClient(bytes.fromhex(FRAMES["k_c2s"]), p.MIN_MAX_FRAME)
    with pytest.raises(Violation):
        rules.check(received(case, p.MIN_MAX_FRAME), 0)


@named(FRAMES["refused_from_server"])
def test_refused_from_server(case: dict[str, Any]) -> None:
    rules = FromServer(bytes.fromhex(FRAMES["k_s2c"]), p.MIN_MAX_FRAME, requests={1})
    rules.unanswered = {1: (p.MESSAGE, b""), 2: (p.PING, b"ping")}
    with pytest.raises(Violation):
        rules.check(received(case, p.MIN_MAX_FRAME), 2)


def test_frames_of_the_vectors_pass() -> None:
    """The refusals above are not refusals of everything: the valid frames pass in a state that fits each."""
    for case in FRAMES["frames"]:
        got = parse_frame(bytes.fromhex(case["frame"]))
        key = bytes.fromhex(FRAMES[case["key"]])
        rules = (FromClient if case["key"] == "k_c2s" else FromServer)(key, p.MIN_MAX_FRAME, expected=got.sequence)
        asked = (p.PING if got.kind == p.PONG else p.MESSAGE, got.payload)
        rules.unanswered = {got.reply_to: asked} if got.reply_to else {}
        if isinstance(rules, FromServer):
            rules.requests = {got.last}
        rules.check(got, 2**64 - 1)


@pytest.mark.parametrize("data", [b"\0\0\0\x33" + bytes(51), b"\0\0\0\x34" + bytes(51), b"\0\0\0\x34" + bytes(53)])
def test_parse_frame_wants_one_whole_frame(data: bytes) -> None:
    with pytest.raises(Violation, match="section 2: length"):
        parse_frame(data)


def test_parse_hello_wants_version_1() -> None:
    with pytest.raises(Violation, match="version 2"):
        p.parse_hello(b"\x02" + bytes.fromhex(HANDSHAKE["cases"][0]["hello_payload"])[1:])


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (p.FAULT, p.fault_payload(15)),
        (p.FAULT, p.fault_payload(24)),
        (p.FAULT, b"\x00\x13\xff"),
        (p.CLOSE, p.close_payload(5, 0)),
        (p.REJECT, b"\x00\x00"),
        (p.REJECT, b"\x00\x06"),
    ],
)
def test_a_sender_keeps_to_the_codes_and_to_utf_8(kind: int, payload: bytes) -> None:
    with pytest.raises(Violation):
        p.check_payload(parse_frame(p.frame(kind, payload, 1, 1, PSK)))


def test_nothing_follows_close() -> None:
    rules = FromClient(PSK, p.MIN_MAX_FRAME)
    rules.check(parse_frame(p.frame(p.CLOSE, p.close_payload(0, 0), 1, 0, PSK)), 0)
    with pytest.raises(Violation, match="MESSAGE after CLOSE"):
        rules.check(parse_frame(p.frame(p.MESSAGE, b"", 2, 0, PSK)), 0)


def test_last_of_a_server_is_a_message() -> None:
    rules = FromServer(PSK, p.MIN_MAX_FRAME, requests={1})
    with pytest.raises(Violation, match="last 2 was no MESSAGE"):
        rules.check(parse_frame(p.frame(p.CLOSE, p.close_payload(0, 2), 1, 0, PSK)), 2)


# Both sides over loopback


def test_exchange(serve: Serve, connect: Connect) -> None:
    def handler(payload: bytes) -> bytes | Fault:
        return Fault(19, "no") if payload == b"fail" else payload.upper()

    with serve(handler=handler) as server, connect(server) as client:
        assert client.request(b"one") == (p.MESSAGE, b"ONE", 1)
        assert client.request(b"fail", wait=0.015) == (p.FAULT, b"\x00\x13no", 2)
        client.ping(b"x" * 125)
        assert client.request(b"") == (p.MESSAGE, b"", 4)
        client.send_close()
        end = client.expect_end()
        assert (end.code, end.last, end.close_notify, end.how, end.truncated) == (0, 4, True, "fin", False)
        at_server = server.wait_end()
        assert (at_server.code, at_server.last, at_server.close_notify, at_server.how) == (0, 4, True, "fin")
    kinds = [(got.connection, got.kind, got.sequence, got.wait) for got in server.received]
    assert kinds == [(0, 1, 0, 0), (0, 3, 1, 0), (0, 3, 2, 2), (0, 5, 3, 0), (0, 3, 4, 0), (0, 7, 5, 0)]
    assert server.payloads() == [b"one", b"fail", b""]


def test_pipelined_replies_in_any_order(serve: Serve, connect: Connect) -> None:
    script = [{1: nothing, 2: do(answer(), answer(b"late", reply_to=1))}]
    with serve(script=script) as server, connect(server) as client:
        first, second = client.send_message(b"1"), client.send_message(b"2")
        assert client.receive(first).payload == b"late"
        assert client.receive(second).payload == b"2"


def test_without_client_certificate(serve: Serve, connect: Connect) -> None:
    with serve(client_certificate=False) as server, connect(server, cert=None, key=None) as client:
        assert client.request(b"x")[1] == b"x"


def test_client_certificate_required(serve: Serve, connect: Connect) -> None:
    with serve() as server:
        with connect(server, cert=None, key=None, until="tls") as client:
            end = client.expect_end()
            assert end.alert is not None
            assert "CERTIFICATE_REQUIRED" in end.alert
        assert not server.received


@pytest.mark.parametrize("name", ["localhost/service", "127.0.0.1", "/service", ""])
def test_names(serve: Serve, connect: Connect, name: str) -> None:
    with serve(names=[name]) as server, connect(server, server_name=name) as client:
        assert client.request(b"x")[1] == b"x"


def test_reply_over_the_clients_cap(serve: Serve, connect: Connect) -> None:
    with serve() as server, connect(server, max_frame=1184) as client:
        assert client.request(bytes(1132))[0] == p.MESSAGE
        kind, payload, _ = client.request(bytes(1133))
        assert (kind, payload[:2]) == (p.FAULT, b"\x00\x12")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"psk": b"e" * 32}, 3),
        ({"key_id": "else"}, 3),
        ({"server_name": "localhost/else"}, 3),
        ({"codec": "else"}, 2),
    ],
)
def test_rejected(serve: Serve, connect: Connect, options: dict[str, Any], code: int) -> None:
    with serve() as server:
        with connect(server, until="hello", **options) as client:
            end = client.expect_end()
        assert (end.reject, end.close_notify, end.how) == (code, True, "fin")
        assert len(server.rejected) == 1


def test_stages(serve: Serve, connect: Connect) -> None:
    with serve() as server:
        for stage in ("tcp", "tls", "hello"):
            with connect(server, until=stage) as client:
                if stage != "hello":
                    client.silent(0.05)
        with connect(server, until="tcp") as client:
            client.start_tls()
            client.send_hello(codec=b"pickle-5")
            client.read_welcome()
            assert client.request(b"by hand")[1] == b"by hand"


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (answer(reply_to=9), "section 4: MESSAGE answers 9"),
        (do(answer(), answer()), "section 4: MESSAGE answers 1"),
        (answer(sequence=7), "section 2: MESSAGE has sequence 7"),
        (answer(key=bytes(32)), "section 2: wrong tag"),
        (answer(flags=1), "section 2: flags 1"),
        (answer(wait=1), "section 2: wait 1"),
        (answer(kind=p.PING), "section 2: PING from a server"),
        (raw(b"\xff\xff\xff\xff"), "section 2: length 4294967295"),
        (raw(bytes(4)), "section 2: length 0"),
        (do(close(0), send(p.MESSAGE, reply_to=1)), None),
        (close(0, last=2), "section 5: CLOSE with last 2"),
        (do(answer(), close(0, last=0)), "section 5: last 0, but 1 was answered"),
    ],
)  # fmt: skip
def test_client_catches(serve: Serve, connect: Connect, action: Any, expected: str | None) -> None:
    with serve(script=[{1: action}]) as server:
        with connect(server) as client:
            client.send_message(b"x")
            if expected is None:  # TLS itself refuses to send after close_notify
                assert client.expect_end().code == 0
            else:
                with pytest.raises(Violation, match=expected):
                    client.expect_end()
        server.wait_end()


@pytest.mark.parametrize(
    "fields",
    [{"codec": b"raw2"}, {"version": 2}, {"max_frame": 1183}, {"extensions": ((1, b""),)}, {"tag_key": bytes(32)}],
    ids=lambda fields: next(iter(fields)),
)
def test_client_catches_welcome(serve: Serve, connect: Connect, fields: dict[str, Any]) -> None:
    with serve(script=[{"hello": welcome(**fields)}]) as server:
        with pytest.raises(Violation):
            connect(server)
        server.wait_end()


def test_client_catches_its_own_nonce(serve: Serve, connect: Connect) -> None:
    with serve(
        script=[{"hello": lambda connection, frame: connection.welcome(frame, nonce=connection.hello.nonce)}]
    ) as server:
        with pytest.raises(Violation, match="nonce"):
            connect(server)
        server.wait_end()


def test_client_catches_a_server_that_speaks_first(serve: Serve, connect: Connect) -> None:
    script = [{"tls": raw(p.frame(p.REJECT, b"\0\x04", 0, 0, None))}, {"tls": raw(b"early")}]
    with serve(script=script) as server:
        with connect(server, until="tls") as client, pytest.raises(Violation, match="spoke before HELLO"):
            client.read_frame()
        with connect(server, until="tls") as client, pytest.raises(Violation, match="silent"):
            client.silent(1)


def test_client_catches_bytes_after_close_notify(serve: Serve, connect: Connect) -> None:
    def trailing(connection: Any, frame: Any) -> None:
        connection.send_close(0)
        connection.link.sock.sendall(b"more")

    with serve(script=[{1: trailing}]) as server:
        with connect(server) as client:
            client.send_message(b"x")
            with pytest.raises(Violation, match="after close_notify"):
                client.expect_end()
        server.wait_end()


def no_alpn(context: ssl.SSLContext) -> None:
    context.set_alpn_protocols([])


def old_tls(context: ssl.SSLContext) -> None:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2


def permissive(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2


def tickets(context: ssl.SSLContext) -> None:
    context.num_tickets = 1


def test_client_catches_wrong_tls(serve: Serve, connect: Connect) -> None:
    with serve(adjust=no_alpn) as server, pytest.raises(Violation, match="section 1: ALPN"):
        connect(server)
    with serve(adjust=tickets) as server, pytest.raises(Violation, match="section 1: the server sent a session ticket"):
        connect(server)
    with serve(adjust=old_tls) as server, pytest.raises(ssl.SSLError):
        connect(server)


def test_server_catches_wrong_tls(serve: Serve, connect: Connect) -> None:
    with serve() as server:
        with connect(server, adjust=no_alpn, until="tls") as client:
            assert client.expect_end().frames == []
        assert "section 1: ALPN" in str(server.violations.pop())
        with pytest.raises(ssl.SSLError):
            connect(server, adjust=old_tls)


def test_tls_version_is_looked_at(serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a context to let TLS 1.2 through, the check after the TLS handshake would not."""
    strict = transport.tls_context

    def lax(server_side: bool, cert: str, key: str, ca: str, *_: Any) -> ssl.SSLContext:
        context = strict(server_side, cert, key, ca)
        permissive(context)
        return context

    with serve(adjust=old_tls) as server:
        monkeypatch.setattr(client_module, "shared_context", lax)
        with pytest.raises(Violation, match=r"section 1: TLS is TLSv1\.2"):
            connect(server)


def test_server_catches_what_version_1_never_sends(serve: Serve, connect: Connect) -> None:
    with serve() as server:
        good = {"nonce": bytes(32)}
        for fields in (good, {"nonce": bytes(32)}):
            with connect(server, until="tls") as client:
                client.send_hello(**fields)
                frames = client.expect_end().frames if fields is not good else [client.read_welcome()]
                assert [frame.kind for frame in frames] == ([p.WELCOME] if fields is good else [])
        messages = [str(violation) for violation in server.violations]
        server.violations.clear()
        assert messages == ["section 3: a client's nonce came twice"]


def test_extensions_are_ignored(serve: Serve, connect: Connect) -> None:
    """Also those of section 9, whatever they say, by a server that has not heard of it."""
    with serve() as server:
        for extensions in (((1, b""),), ((16, b"x"), (17, b""), (18, b"odd")), ((0xFFFF, b"x" * 300),)):
            with connect(server, until="tls") as client:
                client.send_hello(extensions=extensions)
                client.read_welcome()
                assert client.request(b"x")[1] == b"x"


def test_client_catches_wrong_pong(serve: Serve, connect: Connect) -> None:
    script = [{"ping": pong(b"gnip")}, {"ping": pong(reply_to=1)}]
    with serve(script=script) as server:
        with connect(server) as client, pytest.raises(Violation, match="not the ping's bytes"):
            client.ping()
        with connect(server) as client:
            client.request(b"x")
            with pytest.raises(Violation, match="PONG answers 1"):
                client.ping()


@pytest.mark.parametrize("code", range(1, 6))
def test_scripted_reject(serve: Serve, connect: Connect, code: int) -> None:
    with serve(script=[{"hello": reject(code)}]) as server, pytest.raises(Rejected) as caught:
        connect(server)
    assert caught.value.code == code


def test_scripted_close(serve: Serve, connect: Connect) -> None:
    with serve(script=[{2: do(answer(), close(2))}]) as server, connect(server) as client:
        client.request(b"1")
        client.request(b"2")
        with pytest.raises(Closed) as caught:
            client.request(b"3")
        assert (caught.value.frame.code, caught.value.frame.last) == (2, 2)
        client.send_close()
        assert client.expect_end().how == "fin"
        end = server.wait_end()
        assert (end.code, end.close_notify) == (0, True)
    assert server.payloads() == [b"1", b"2", b"3"]  # recorded, but not handed over


def test_scripts_are_for_one_connection_each(serve: Serve, connect: Connect) -> None:
    with serve(script=[{"accept": drop("reset")}, {"tls": drop("notify")}, {1: drop()}]) as server:
        with pytest.raises((Ended, OSError)):
            connect(server)
        with pytest.raises((Ended, OSError)):
            connect(server)
        with connect(server) as client:
            client.send_message(b"lost")
            end = client.expect_end(answer=False)
            assert (end.code, end.close_notify, end.how) == (None, False, "fin")
        with connect(server) as client:
            assert client.request(b"again")[1] == b"again"
    assert [(got.connection, got.payload) for got in server.received if got.kind == p.MESSAGE] == [
        (2, b"lost"),
        (3, b"again"),
    ]


@pytest.mark.parametrize(
    ("how", "notify", "tcp"), [("fin", False, "fin"), ("reset", False, "reset"), ("notify", True, "fin")]
)
def test_ends_are_told_apart(serve: Serve, connect: Connect, how: str, notify: bool, tcp: str) -> None:
    with serve(script=[{1: do(answer_partly(30), drop(how))}]) as server, connect(server) as client:
        client.send_message(b"x" * 100)
        end = client.expect_end(answer=False)  # answering a peer that is gone makes a reset of its own
        assert (end.close_notify, end.how) == (notify, tcp)
        assert end.truncated or tcp == "reset"


def test_close_without_close_notify_is_caught(serve: Serve, connect: Connect) -> None:
    def cut(connection: Any, frame: Any) -> None:
        connection.send(p.CLOSE, p.close_payload(0, 0))
        connection.drop("fin")

    with serve(script=[{1: cut}]) as server, connect(server) as client:
        client.send_message(b"x")
        with pytest.raises(Violation, match="not followed by close_notify"):
            client.expect_end()


@pytest.mark.parametrize(
    ("misbehave", "expected"),
    [
        (lambda client: client.send(p.MESSAGE, sequence=5), "sequence 5, not 1"),
        (lambda client: client.send(p.MESSAGE, reply_to=1), "reply_to 1"),
        (lambda client: client.send(p.MESSAGE, key=bytes(32)), "wrong tag"),
        (lambda client: client.send(p.PING, wait=1), "wait 1"),
        (lambda client: client.send(p.FAULT, b"\x00\x13"), "FAULT from a client"),
        (lambda client: client.send(p.CLOSE, p.close_payload(0, 9)), "last 9"),
        (lambda client: client.send_raw(b"\x00\x20\x00\x00"), "over the cap"),
        (lambda client: client.send_hello(), "has sequence 0|wrong tag"),
    ],
)
def test_server_catches(serve: Serve, connect: Connect, misbehave: Any, expected: str) -> None:
    with serve() as server:
        with connect(server) as client:
            misbehave(client)
            end = client.expect_end()
            assert (end.code, end.last, end.close_notify, end.how) == (4, 0, True, "fin")
        with pytest.raises(Violation, match=expected):
            raise server.violations.pop()


def test_server_catches_two_pings(serve: Serve, connect: Connect) -> None:
    with serve(script=[{"ping": nothing}]) as server:
        with connect(server) as client:
            client.send(p.PING)
            client.send(p.PING)
            assert client.expect_end().code == 4
        assert "second PING" in str(server.violations.pop())


def test_server_catches_early_bytes(serve: Serve, connect: Connect) -> None:
    with serve(script=[{"hello": do(silent(0.5), welcome())}]) as server:
        with connect(server, until="hello") as client:
            client.send_raw(b"early")
            end = client.expect_end()
            assert (end.frames, end.how) == ([], "fin")
        assert "had to be silent" in str(server.violations.pop())


def test_server_catches_malformed_hello(serve: Serve, connect: Connect) -> None:
    with serve() as server:
        with connect(server, until="tls") as client:
            client.send_hello(max_frame=1183)
            end = client.expect_end()
            assert (end.frames, end.how) == ([], "fin")
        assert "max_frame" in str(server.violations.pop())


def test_server_catches_wrong_sni(serve: Serve, connect: Connect) -> None:
    with serve(names=["else.example"]) as server:
        with connect(server, until="tls") as client:
            client.send_hello(server_name=b"else.example")
            assert client.expect_end().frames == []
        assert "SNI" in str(server.violations.pop())


def test_leaving_the_block_raises_the_violation(serve: Serve, connect: Connect) -> None:
    with pytest.raises(Violation, match="wrong tag"), serve() as server:  # noqa: PT012 the block's end is meant
        with connect(server) as client:
            client.send(p.MESSAGE, key=bytes(32))
            client.expect_end()
        server.wait_end()


def test_an_open_connection_is_a_timeout(serve: Serve, connect: Connect) -> None:
    with serve() as server, connect(server) as client:
        end = client.expect_end(0.05)
        assert (end.how, end.close_notify) == ("timeout", False)
        assert end.seconds >= 0.05


def test_welcome_may_be_awaited_with_the_end(serve: Serve, connect: Connect) -> None:
    """As for a client that sends HELLO and then nothing, until the server has had enough."""
    with serve(script=[{"welcomed": close(1)}]) as server, connect(server, until="hello") as client:
        end = client.expect_end()
        assert ([frame.kind for frame in end.frames], end.code, end.how) == ([p.WELCOME, p.CLOSE], 1, "fin")


def test_hold(serve: Serve, connect: Connect) -> None:
    go = threading.Event()
    with serve(script=[{1: do(hold(go), answer())}]) as server, connect(server) as client:
        sequence = client.send_message(b"x")
        server.wait_for(lambda: server.payloads())
        client.silent(0.05)
        go.set()
        assert client.receive(sequence).payload == b"x"


def test_closing_the_server_ends_everything(serve: Serve, connect: Connect) -> None:
    before = threading.active_count()
    with serve() as server:
        client = connect(server)
        with socket.create_connection(("127.0.0.1", server.port)):
            server.wait_for(lambda: len(server.connections) == 2)
            server.close()
    assert threading.active_count() == before
    with client:
        assert client.expect_end().how in ("fin", "reset")
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_independence() -> None:
    """Nothing here may import the implementation that it checks."""
    for path in Path(__file__).parent.glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if line.lstrip().startswith(("import sealwire", "from sealwire"))], path
