import pytest

from sealwire.errors import (
    AuthenticationError,
    BadTag,
    BadVersion,
    InvalidState,
    RemoteProtocolError,
    UnknownKey,
)
from sealwire.wire.events import Closed, Doubted, Established, Pinged, Request
from sealwire.wire.frames import HEAD, Close, Fault, Kind
from sealwire.wire.handshake import reject
from sealwire.wire.keys import Binding, Key
from sealwire.wire.protocol import State
from support.wire import BINDING, KEY, client, established, feed, sent, server


def refusal(hello, **changes):
    """The error at a server that gets ``hello``, and its answer."""
    s = server(**changes)
    with pytest.raises(RemoteProtocolError) as error:
        feed(s, hello)
    assert s.state is State.ENDED
    return error.value, sent(s)


HELLO = sent(client())


def test_last_is_the_highest_that_was_handed_over():
    """It holds also if an older request is handed over after a newer one was answered."""
    c, s = established()
    first, second = c.send_request(b"1", wait=1), c.send_request(b"2", wait=1)
    feed(s, sent(c))
    s.send_reply(second, b"")
    s.hand_over(first)
    s.close()
    assert [event.last for event in feed(c, sent(s)) if isinstance(event, Closed)] == [second]


def test_unknown_key():
    error, answer = refusal(HELLO, find_key={}.get)
    assert type(error) is UnknownKey
    assert answer == reject(3)


def test_wrong_secret():
    error, answer = refusal(sent(client(key=Key("k1", b"wrong" * 8))))
    assert type(error) is BadTag
    assert answer == reject(3)


def test_another_certificate_than_this_connections():
    for binding in (BINDING._replace(client=b"x" * 32), BINDING._replace(server=b"x" * 32), Binding()):
        error, answer = refusal(sent(client(binding=binding)))
        assert type(error) is BadTag
        assert answer == reject(3)


def test_another_name():
    error, answer = refusal(sent(client(server_name="elsewhere")))
    assert type(error) is AuthenticationError
    assert "server name" in str(error)
    assert answer == reject(3)


def test_an_identity_that_may_not_connect():
    error, answer = refusal(HELLO, peer_problem="not on the list")
    assert str(error) == "not on the list"
    assert answer == reject(3)


def test_the_work_is_the_same_whatever_fails(monkeypatch):
    """Key, tag and name fail in the same time: each does one look-up, one tag and one comparison of names."""
    from sealwire.wire import handshake

    def cost(hello, **changes):
        calls = []
        real = handshake.hello_mac
        monkeypatch.setattr(handshake, "hello_mac", lambda *a: calls.append("mac") or real(*a))
        names = changes.pop("accepts_name", lambda name: True)
        refusal(hello, accepts_name=lambda name: calls.append("name") or names(name), **changes)
        monkeypatch.undo()
        return calls

    costs = [
        cost(HELLO, find_key={}.get),
        cost(sent(client(key=Key("k1", b"wrong" * 8)))),
        cost(HELLO, accepts_name=lambda name: False),
        cost(HELLO, peer_problem="not on the list"),
    ]
    assert all(sorted(calls) == ["mac", "name"] for calls in costs)


def test_codec_comes_after_authorisation():
    _, answer = refusal(sent(client(codec="pickle-5")))
    assert answer == reject(2)
    _, answer = refusal(sent(client(codec="pickle-5", key=Key("k1", b"wrong" * 8))))
    assert answer == reject(3)


def test_version_comes_first_and_nothing_else_is_read():
    error, answer = refusal(HEAD.pack(54, Kind.HELLO, 0, 0, 0, 0) + b"\x02?" + bytes(32))
    assert type(error) is BadVersion
    assert answer == reject(1)


def test_hello_that_makes_no_sense_gets_no_answer():
    for hello in (
        HEAD.pack(52, Kind.HELLO, 0, 0, 0, 0) + bytes(32),
        HEAD.pack(53, Kind.HELLO, 0, 0, 0, 0) + b"\1" + bytes(32),
        HEAD.pack(52, Kind.MESSAGE, 0, 0, 0, 0) + bytes(32),
        b"GET / HTTP/1.1\r\n",
    ):
        _, answer = refusal(hello)
        assert answer == b""


@pytest.mark.parametrize("code", [4, 5])
def test_busy_is_asked_last(code):
    s = server(busy=lambda: code)
    assert feed(s, HELLO) == []
    assert s.rejected == code
    assert sent(s) == reject(code)
    assert s.state is State.ENDED
    _, answer = refusal(sent(client(key=Key("k1", b"wrong" * 8))), busy=lambda: code)
    assert answer == reject(3)


def test_hello_alone_proves_nothing():
    c, s = established()
    assert not s.authenticated
    c.send_ping()
    feed(s, sent(c))
    assert s.authenticated


def test_requests_carry_the_wait():
    c, s = established()
    c.send_request(b"one", wait=2.5)
    c.send_request(b"two")
    assert feed(s, sent(c)) == [Request(1, b"one", 2.5), Request(2, b"two", None)]
    assert s.oldest_unanswered == 1
    s.send_reply(1, b"")
    assert s.oldest_unanswered == 2
    s.send_fault(2, 19, "no")
    assert s.oldest_unanswered is None


def test_nothing_is_sent_unasked_or_twice():
    c, s = established()
    with pytest.raises(InvalidState, match="no unanswered request"):
        s.send_reply(1, b"")
    c.send_request(b"")
    feed(s, sent(c))
    s.send_reply(1, b"")
    for again in (lambda: s.send_reply(1, b""), lambda: s.send_fault(1, 19, "")):
        with pytest.raises(InvalidState):
            again()


def last_of(s):
    return Close.unpack(sent(s)[24:-32]).last


def test_last_is_the_highest_that_a_handler_got():
    c, s = established()
    for _ in range(3):
        c.send_request(b"")
    feed(s, sent(c))
    s.hand_over(1)
    s.hand_over(2)
    s.close(2)
    assert last_of(s) == 2
    with pytest.raises(InvalidState, match="must not be processed"):
        s.hand_over(3)


def test_last_counts_what_was_answered_without_a_handler():
    c, s = established()
    c.send_request(b"")
    feed(s, sent(c))
    s.send_fault(1, 20, "too late")
    sent(s)
    s.close(2)
    assert last_of(s) == 1


def test_the_oldest_unanswered_request():
    c, s = established()
    assert s.oldest_unanswered is None
    first, second = c.send_request(b"1"), c.send_request(b"2")
    feed(s, sent(c))
    assert (s.oldest_unanswered, s.unanswered) == (first, 2)
    s.send_reply(first, b"")
    assert (s.oldest_unanswered, s.unanswered) == (second, 1)


def test_pings_do_not_count_for_last():
    c, s = established()
    c.send_ping()
    feed(s, sent(c))
    sent(s)
    s.close()
    assert last_of(s) == 0


def test_an_answer_that_does_not_fit_leaves_the_request_unanswered():
    c, s = established(client_max_frame=1184)
    c.send_request(b"")
    feed(s, sent(c))
    with pytest.raises(Exception, match="at most 1132"):
        s.send_reply(1, b"x" * 2000)
    assert s.oldest_unanswered == 1
    s.send_fault(1, 18, "too large")
    assert Fault.unpack(sent(s)[24:-32]).code == 18


def test_the_clients_close():
    c, s = established()
    c.send_request(b"")
    c.close()
    assert feed(s, sent(c))[1:] == [Closed(0, 0)]
    assert s.state is State.ENDED


def test_a_ping_too_long_and_kinds_that_a_client_does_not_send():
    for kind, payload in ((Kind.PING, bytes(126)), (Kind.FAULT, b"\0\x10"), (Kind.PONG, b""), (Kind.WELCOME, b"")):
        c, s = established()
        c._send(kind, payload)
        with pytest.raises(RemoteProtocolError):
            feed(s, sent(c))
        assert Close.unpack(sent(s)[24:-32]).code == 4
    assert KEY.id == "k1"


@pytest.mark.parametrize("found", [True, False])
def test_an_answer_that_is_put_off_is_given_by_the_keys_in_use_then(found):
    keys = {}
    s = server(find_key=keys.get, doubt=lambda: True)
    assert feed(s, HELLO) == [Doubted()]
    assert sent(s) == b""
    if found:
        keys["k1"] = KEY
        assert s.answer_hello() == Established("k1", 1 << 20)
    else:
        with pytest.raises(UnknownKey):
            s.answer_hello()
        assert sent(s) == reject(3)


@pytest.mark.parametrize("step", [1 << 30, 1])
def test_a_ping_before_the_last_pong_was_sent_ends_the_connection(step):
    c, s = established()
    c.send_ping(b"1")
    first = sent(c)
    c._ping = None  # no client of ours breaks the rule
    c.send_ping(b"2")
    second = sent(c)
    with pytest.raises(RemoteProtocolError, match="a PING, but"):
        feed(s, first + second, step=step)


def test_a_ping_after_the_last_pong_was_sent_is_answered():
    c, s = established()
    for payload in (b"1", b"2"):
        c.send_ping(payload)
        assert [type(event) for event in feed(s, sent(c))] == [Pinged]
        feed(c, sent(s))


def test_the_memory_of_a_frame_that_is_not_complete_is_told():
    c, s = established()
    assert s.buffered == 0
    c.send_request(bytes(1 << 19))
    frame = sent(c)
    feed(s, frame[: 1 << 18])
    assert 1 << 18 <= s.buffered <= 1 << 20
    feed(s, frame[1 << 18 :])
    assert s.buffered == 0
