import pytest

from sealwire.errors import (
    AuthenticationError,
    BadSequence,
    BadTag,
    BadVersion,
    InvalidState,
    RemoteProtocolError,
    UnknownKey,
)
from sealwire.wire.events import (
    Cancelled,
    Closed,
    Credited,
    Doubted,
    Established,
    Faulted,
    Part,
    PartsEnded,
    Pinged,
    Request,
)
from sealwire.wire.frames import HEAD, Close, Fault, Flag, Kind
from sealwire.wire.handshake import reject
from sealwire.wire.keys import Binding, Key
from sealwire.wire.protocol import State
from support.wire import BINDING, KEY, WINDOW, client, established, featured, feed, sent, server


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
    for reason in ("peer_not_listed", "certificate"):
        error, answer = refusal(HELLO, peer_problem="not on the list", peer_reason=reason)
        assert (str(error), error.reason) == ("not on the list", reason)
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
    error, answer = refusal(sent(client(codec="pickle-5")))
    assert answer == reject(2)
    assert error.reason == "codec"
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


def test_a_ping_that_was_read_with_the_last_one_ends_the_connection_even_if_that_ones_pong_was_sent():
    c, s = established()
    c.send_ping(b"1")
    c._ping = None  # no client of ours breaks the rule
    c.send_ping(b"2")
    both = sent(c)
    s.get_buffer()[: len(both)] = both
    s.buffer_updated(len(both))
    assert isinstance(s.next_event(), Pinged)
    assert sent(s)
    with pytest.raises(RemoteProtocolError, match="a PING, but"):
        s.next_event()


def test_a_client_that_only_ends_the_connection_has_authenticated_too():
    c, s = established()
    assert s.authenticated is False
    c.close()
    feed(s, sent(c))
    assert s.authenticated is True


def test_a_ping_after_the_last_pong_was_sent_is_answered():
    c, s = established()
    for payload in (b"1", b"2"):
        sequence = c.send_ping(payload)
        assert feed(s, sent(c)) == [Pinged(sequence)]
        feed(c, sent(s))


def test_the_memory_of_a_frame_that_is_not_complete_is_counted():
    c, s = established()
    assert s.buffered == 0
    c.send_request(bytes(1 << 19))
    frame = sent(c)
    feed(s, frame[: 1 << 18])
    assert 1 << 18 <= s.buffered <= 1 << 20
    feed(s, frame[1 << 18 :])
    assert s.buffered == 0


# What features add


@pytest.mark.parametrize(
    ("kind", "payload", "request_of", "error", "says"),
    [
        (Kind.CANCEL, b"", "zero", RemoteProtocolError, "CANCEL frame from a client"),
        (Kind.CANCEL, b"", "itself", RemoteProtocolError, "CANCEL frame from a client"),
        (Kind.CANCEL, b"", "later", RemoteProtocolError, "CANCEL frame from a client"),
        (Kind.CANCEL, b"x", "plain", RemoteProtocolError, "CANCEL frame with a payload"),
        (Kind.CANCEL, b"x", "answered", RemoteProtocolError, "CANCEL frame with a payload"),
        (Kind.CANCEL, b"", "cancelled", RemoteProtocolError, "a request that was cancelled before"),
        (Kind.PART, b"", "zero", BadSequence, "not an incomplete request in parts"),
        (Kind.PART, b"", "plain", BadSequence, "not an incomplete request in parts"),
        (Kind.PART, b"", "for parts", BadSequence, "not an incomplete request in parts"),
        (Kind.PART, b"", "ended", BadSequence, "not an incomplete request in parts"),
        (Kind.PART, b"", "cancelled", BadSequence, "not an incomplete request in parts"),
        (Kind.PART, b"", "later", BadSequence, "not an incomplete request in parts"),
        (Kind.PART, b"", "exhausted", RemoteProtocolError, "PART without credit"),
        (Kind.PART, b"", "exhausted and answered", RemoteProtocolError, "PART without credit"),
        (Kind.END, b"", "zero", BadSequence, "not an incomplete request in parts"),
        (Kind.END, b"", "plain", BadSequence, "not an incomplete request in parts"),
        (Kind.END, b"", "ended", BadSequence, "not an incomplete request in parts"),
        (Kind.END, b"", "cancelled", BadSequence, "not an incomplete request in parts"),
        (Kind.END, b"x", "upload", RemoteProtocolError, "END frame with a payload"),
        (Kind.CREDIT, b"\0\0\0\0", "for parts", RemoteProtocolError, "CREDIT of 0 bytes"),
        (Kind.CREDIT, b"\0\0\0\0", "answered", RemoteProtocolError, "CREDIT of 0 bytes"),
        (Kind.CREDIT, b"\0\0\1", "for parts", RemoteProtocolError, "fewer bytes"),
        (Kind.CREDIT, b"\0\0\0\1\0", "for parts", RemoteProtocolError, "bytes after its last field"),
        (Kind.CREDIT, b"\xff\xff\xff\xff", "for parts", RemoteProtocolError, "CREDIT beyond"),
        (Kind.CREDIT, b"\0\0\0\1", "zero", RemoteProtocolError, "CREDIT frame from a client"),
        (Kind.CREDIT, b"\0\0\0\1", "itself", RemoteProtocolError, "CREDIT frame from a client"),
        (Kind.CREDIT, b"\0\0\0\1", "later", RemoteProtocolError, "CREDIT frame from a client"),
    ],
)
def test_what_a_client_may_not_send(kind, payload, request_of, error, says):
    c, s = featured()
    uploads = ("upload", "ended", "cancelled", "exhausted", "exhausted and answered")
    named = {name: c.send_request(b"", flags=Flag.UPLOAD) for name in uploads}
    named |= {"plain": c.send_request(b""), "answered": c.send_request(b"", flags=Flag.PARTS)}
    named["for parts"] = c.send_request(b"", flags=Flag.PARTS)
    c.end_parts(named["ended"])
    c.cancel(named["cancelled"])
    c.send_part(named["exhausted"], b"x" * WINDOW)
    c.send_part(named["exhausted and answered"], b"x" * WINDOW)
    feed(s, sent(c))
    s.send_reply(named["answered"], b"")
    s.send_reply(named["exhausted and answered"], b"")
    s.note_processed(named["exhausted and answered"], WINDOW)  # grants nothing any more
    named |= {"zero": 0, "itself": c._sealer.sequence, "later": c._sealer.sequence + 1}
    c._send(kind, payload, reply_to=named[request_of])
    with pytest.raises(error, match=says):
        feed(s, sent(c))
    assert s.state is State.ENDED


def test_what_names_no_request_with_parts_is_ignored():
    c, s = featured()
    plain, ping, answered = c.send_request(b""), c.send_ping(), c.send_request(b"", flags=Flag.PARTS)
    cancelled = c.send_request(b"", flags=Flag.PARTS)
    c.cancel(cancelled)
    feed(s, sent(c))
    s.send_reply(answered, b"")
    for request in (plain, ping, answered, cancelled, cancelled + 1):
        for _ in range(2):
            c._send(Kind.CREDIT, b"\xff\xff\xff\xff", reply_to=request)
    for request in (ping, answered, cancelled + 1):
        for _ in range(2):
            c._send(Kind.CANCEL, b"", reply_to=request)
    assert feed(s, sent(c)) == []


def test_a_cancelled_reply_gets_no_more_parts():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.PARTS | Flag.UPLOAD)
    c.send_part(request, b"x")
    c.cancel(request)
    assert feed(s, sent(c))[1:] == [Part(request, b"x"), Cancelled(request)]
    assert s.accepts_parts(request)
    assert not s.may_send_part(request)
    with pytest.raises(InvalidState, match="does not want any"):
        s.send_part(request, b"")
    s.note_processed(request, WINDOW)
    assert sent(s) == b""
    s.send_reply(request, b"whatever was done")
    assert feed(c, sent(s)) == []


def test_an_answered_request_may_be_cancelled_again_and_again():
    """Its client cannot know, and it is remembered nowhere."""
    c, s = featured()
    request = c.send_request(b"")
    c.cancel(request)
    feed(s, sent(c))
    s.send_fault(request, 22, "cancelled")
    for _ in range(3):
        c._send(Kind.CANCEL, b"", reply_to=request)
    assert feed(s, sent(c)) == []
    assert s.cancelled == set()


def test_an_early_answer_drops_the_parts_that_still_come():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.UPLOAD)
    for payload in (b"1", b"2"):
        c.send_part(request, payload)
    frames = sent(c)
    feed(s, frames[:-54])
    s.send_reply(request, b"enough")
    c.end_parts(request)
    assert feed(s, frames[-54:] + sent(c)) == []
    assert s._incoming == {}


def test_a_payload_beside_parts():
    c, s = featured()
    c.send_request(b"x", flags=Flag.UPLOAD)
    with pytest.raises(RemoteProtocolError, match="a payload of its own, and parts"):
        feed(s, sent(c))
    c, s = featured()
    c.send_request(b"x", flags=Flag.UPLOAD, metadata={"a": "b"})
    with pytest.raises(RemoteProtocolError, match="a payload of its own, and parts"):
        feed(s, sent(c))


def test_malformed_metadata_ends_the_connection():
    c, s = featured()
    c._send(Kind.MESSAGE, b"\1", flags=Flag.METADATA)
    with pytest.raises(RemoteProtocolError, match="metadata"):
        feed(s, sent(c))
    assert Close.unpack(sent(s)[24:-32])[:2] == (4, 0)


@pytest.mark.parametrize("answered", [False, True])
def test_a_flood_of_requests_in_parts_that_do_not_end(answered, monkeypatch):
    c, s = featured()
    monkeypatch.setattr("sealwire.wire.client.MAX_UPLOADS", 1 << 20)
    for _ in range(1024):
        request = c.send_request(b"", flags=Flag.UPLOAD)
        feed(s, sent(c))
        if answered:
            s.send_fault(request, 21, "")
    assert len(s._incoming) == 1024
    c.send_request(b"", flags=Flag.UPLOAD)
    with pytest.raises(RemoteProtocolError, match="more than 1024 requests in parts"):
        feed(s, sent(c))


def test_nothing_of_a_request_is_kept_after_it():
    """That holds whatever a client does, as long as it is answered."""
    c, s = featured()
    for turn in range(200):
        request = c.send_request(b"", flags=Flag.UPLOAD | Flag.PARTS, metadata={"a": "b"})
        c.send_part(request, b"x")
        if turn % 2:
            c.cancel(request)
        feed(s, sent(c))
        s.send_fault(request, 22, "")
        feed(c, sent(s))
        c.end_parts(request)
        feed(s, sent(c))
    for protocol in (c, s):
        assert (protocol._incoming, protocol._outgoing, protocol.unanswered) == ({}, {}, 0)
    assert s.cancelled == set()


def test_events_of_parts_in_order():
    c, s = featured()
    first, second = (c.send_request(b"", flags=Flag.UPLOAD | Flag.PARTS) for _ in range(2))
    c.send_part(second, b"2")
    c.send_part(first, b"1")
    c.end_parts(second)
    c.end_parts(first)
    assert feed(s, sent(c)) == [
        Request(first, b"", None, Flag.PARTS | Flag.UPLOAD),
        Request(second, b"", None, Flag.PARTS | Flag.UPLOAD),
        Part(second, b"2"),
        Part(first, b"1"),
        PartsEnded(second),
        PartsEnded(first),
    ]
    s.send_part(second, b"x" * 900)
    s.send_fault(first, 19, "no")
    assert feed(c, sent(s)) == [Part(second, b"x" * 900), Faulted(first, 19, "no")]
    c.note_processed(second, 900)
    c.note_processed(first, 900)
    assert feed(s, sent(c)) == [Credited(second)]


def test_a_request_is_unanswered_until_its_answer_is_queued():
    c, s = established()
    request = c.send_request(b"")
    feed(s, sent(c))
    assert s.is_unanswered(request)
    s.send_reply(request, b"")
    assert not s.is_unanswered(request)


def test_a_large_request_has_its_wait():
    c, s = established()
    c.send_request(bytes(100_000), wait=1.5)
    assert feed(s, sent(c)) == [Request(1, bytes(100_000), 1.5)]


@pytest.mark.parametrize("kind", [2, 3, 7, 9, 10, 11, 12, 13, 255])
def test_before_hello_no_other_kind_is_accepted(kind):
    s = server()
    with pytest.raises(RemoteProtocolError):
        feed(s, HEAD.pack(52, kind, 0, 0, 0, 0) + bytes(32))
    assert s.state is State.ENDED
    assert sent(s) == b""
