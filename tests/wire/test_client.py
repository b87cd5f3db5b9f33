import pytest

from sealwire.errors import (
    BadSequence,
    BadTag,
    BadVersion,
    ConfigurationError,
    InvalidState,
    PayloadTooLarge,
    RemoteProtocolError,
)
from sealwire.metrics import CLIENT, CLIENT_RECEIVED, CLIENT_SENT
from sealwire.wire.events import (
    Cancelled,
    Closed,
    Credited,
    Faulted,
    Part,
    PartsEnded,
    Ponged,
    Rejected,
    Reply,
    Request,
)
from sealwire.wire.features import Features
from sealwire.wire.frames import HEAD, Flag, Kind
from sealwire.wire.handshake import reject
from sealwire.wire.keys import Key
from sealwire.wire.protocol import State
from support.wire import MAX_FRAME, WINDOW, client, established, featured, feed, sent, server


def wait_of(frame):
    return HEAD.unpack_from(frame)[3]


@pytest.mark.parametrize(
    ("seconds", "hundredths"),
    [(None, 0), (10, 1000), (0.001, 1), (0, 1), (1.001, 101), (655.35, 65535), (655.351, 0), (10_000, 0)],
)
def test_wait_is_in_hundredths_rounded_up(seconds, hundredths):
    c, _ = established()
    c.send_request(b"", wait=seconds)
    assert wait_of(sent(c)) == hundredths


def test_a_ping_has_no_bytes_by_default():
    c, s = established()
    c.send_ping()
    feed(s, sent(c))
    assert feed(c, sent(s)) == [Ponged(1, b"")]


def test_replies_in_any_order_go_to_their_requests():
    c, s = established()
    for payload in (b"a", b"b", b"c"):
        c.send_request(payload)
    assert c.unanswered == 3
    feed(s, sent(c))
    s.send_reply(3, b"C")
    s.send_fault(1, 19, "no")
    s.send_reply(2, b"B")
    assert feed(c, sent(s)) == [Reply(3, b"C"), Faulted(1, 19, "no"), Reply(2, b"B")]
    assert c.unanswered == 0


def test_the_reply_to_a_request_given_up_is_dropped_once():
    c, s = established()
    c.send_request(b"a")
    c.send_request(b"b")
    c.give_up(1)
    c.give_up(7)  # never sent: nothing to drop
    assert c.is_unanswered(1)
    assert not c.is_unanswered(7)
    feed(s, sent(c))
    s.send_fault(1, 19, "late")
    s.send_reply(2, b"B")
    assert feed(c, sent(s)) == [Reply(2, b"B")]
    s._unanswered[1] = None
    s.send_reply(1, b"again")
    with pytest.raises(BadSequence, match="in answer to 1, which is not an unanswered request"):
        feed(c, sent(s))


def test_an_answer_of_the_wrong_kind():
    c, s = established()
    c.send_request(b"a")
    feed(s, sent(c))
    s._send(Kind.PONG, b"", reply_to=1)
    with pytest.raises(BadSequence, match="calls for another kind"):
        feed(c, sent(s))


def test_one_ping_at_a_time():
    c, s = established()
    assert c.send_ping(b"x" * 125) == 1
    with pytest.raises(InvalidState, match="another ping is unanswered"):
        c.send_ping()
    feed(s, sent(c))
    assert feed(c, sent(s)) == [Ponged(1, b"x" * 125)]
    with pytest.raises(InvalidState, match="125"):
        c.send_ping(b"x" * 126)
    assert c.send_ping() == 2


def test_a_payload_over_the_servers_cap_uses_up_no_number():
    c, s = established(server_max_frame=1184)
    with pytest.raises(PayloadTooLarge, match="at most 1132"):
        c.send_request(b"x" * 1133)
    assert c.unanswered == 0
    assert c.send_request(b"x" * 1132) == 1
    assert len(feed(s, sent(c))) == 1


def test_nothing_is_sent_before_welcome():
    c = client()
    with pytest.raises(InvalidState, match="not established"):
        c.send_request(b"early")


@pytest.mark.parametrize("code", range(1, 6))
def test_reject(code):
    c = client()
    sent(c)
    assert feed(c, reject(code)) == [Rejected(code)]
    assert c.state is State.ENDED
    assert sent(c) == b""


def test_a_reject_with_a_tag_is_refused():
    with pytest.raises(RemoteProtocolError, match="tag that is not zero"):
        feed(client(), reject(3)[:-1] + b"\1")


def test_only_welcome_or_reject_can_come_first():
    with pytest.raises(RemoteProtocolError, match="MESSAGE frame before WELCOME"):
        feed(client(), HEAD.pack(52, Kind.MESSAGE, 0, 0, 0, 0) + bytes(32))


def welcomed(**changes):
    """Return the events of a client after a wrong WELCOME."""
    c, s = client(), server(**changes)
    feed(s, sent(c))
    feed(c, sent(s))


def test_a_server_without_the_key():
    key = Key("k1", b"other" * 8)
    c, s = client(), server(find_key={"k1": key}.get)
    with pytest.raises(BadTag):
        feed(s, sent(c))
    c, honest = client(), server()
    feed(honest, sent(c))
    forged = bytearray(sent(honest))
    forged[25:57] = b"n" * 32  # its own nonce
    with pytest.raises(BadTag):
        feed(c, bytes(forged))


def forge_welcome(monkeypatch, **changes):
    from sealwire.wire import handshake

    real = handshake.Welcome
    monkeypatch.setattr(handshake, "Welcome", lambda *fields: real(*fields)._replace(**changes))
    c, s = client(), server()
    feed(s, sent(c))
    monkeypatch.undo()
    return c, sent(s)


def test_another_version(monkeypatch):
    c, welcome = forge_welcome(monkeypatch, version=2)
    with pytest.raises(BadVersion, match="version 2"):
        feed(c, welcome)


def test_another_codec(monkeypatch):
    c, welcome = forge_welcome(monkeypatch, codec="pickle-5")
    with pytest.raises(RemoteProtocolError, match="another codec than raw"):
        feed(c, welcome)


def test_extensions_that_were_not_offered(monkeypatch):
    c, welcome = forge_welcome(monkeypatch, extensions=b"\0\1\0\0")
    with pytest.raises(RemoteProtocolError, match="extensions"):
        feed(c, welcome)
    assert sent(c) == b""


def test_a_server_sends_no_requests():
    c, s = established()
    s._send(Kind.PING, b"")
    with pytest.raises(RemoteProtocolError, match="PING frame from a server"):
        feed(c, sent(s))


def test_the_servers_last_is_reported():
    c, s = established()
    for payload in (b"a", b"b"):
        c.send_request(payload)
    feed(s, sent(c))
    s.hand_over(1)
    s.close(1)
    assert feed(c, sent(s)) == [Closed(1, 1)]


def test_max_frame_is_what_was_announced():
    c, s = established(client_max_frame=1184)
    c.send_request(b"")
    feed(s, sent(c))
    with pytest.raises(PayloadTooLarge):
        s.send_reply(1, b"x" * 1133)
    s.send_reply(1, b"x" * 1132)
    assert feed(c, sent(s)) == [Reply(1, b"x" * 1132)]
    assert MAX_FRAME > 1184


def test_asyncios_shape():
    c, _ = established()
    assert len(c.get_buffer(-1)) > 0
    assert not c.inside_frame


# Metadata


def test_metadata_goes_both_ways():
    c, s = featured()
    for payload in (b"one", [b"o", bytearray(b"ne")], bytearray(b"one"), memoryview(b"one")):
        request = c.send_request(payload, wait=1, metadata={"request-id": "7", "a": "ä"})
        assert feed(s, sent(c)) == [Request(request, b"one", 1, 0, {"a": "ä", "request-id": "7"})]
        s.send_reply(request, payload, {"b": ""})
        assert feed(c, sent(s)) == [Reply(request, b"one", {"b": ""})]


def test_empty_metadata_is_the_same_as_none():
    c, s = featured()
    c.send_request(b"one", metadata={})
    frame = sent(c)
    assert HEAD.unpack_from(frame)[2] == 0
    assert feed(s, frame) == [Request(1, b"one", None)]
    s.send_reply(1, b"", {})
    assert feed(c, sent(s)) == [Reply(1, b"")]


def test_metadata_of_no_entries_is_accepted():
    c, s = featured()
    c._send(Kind.MESSAGE, b"\0one", flags=Flag.METADATA)
    assert feed(s, sent(c)) == [Request(1, b"one", None, 0, {})]


def test_metadata_before_a_large_payload():
    c, s = featured()
    payload = b"x" * 300_000
    c.send_request(payload, metadata={"a": "b"})
    (request,) = feed(s, sent(c))
    assert (bytes(request.payload), request.metadata) == (payload, {"a": "b"})
    s.send_reply(1, payload, {"c": "d"})
    (reply,) = feed(c, sent(s))
    assert (bytes(reply.payload), reply.metadata) == (payload, {"c": "d"})


def test_metadata_counts_towards_max_frame():
    c, _ = featured(server_max_frame=1184)
    c.send_request(b"x" * (1132 - 6), metadata={"a": "b"})
    with pytest.raises(PayloadTooLarge):
        c.send_request(b"x" * (1132 - 5), metadata={"a": "b"})
    with pytest.raises(ConfigurationError):
        c.send_request(b"", metadata={"a b": ""})
    assert c.unanswered == 1


@pytest.mark.parametrize("given_up", [False, True])
def test_malformed_metadata_of_a_reply_ends_the_connection_even_if_it_is_dropped(given_up):
    c, s = featured()
    c.send_request(b"")
    if given_up:
        c.give_up(1)
    feed(s, sent(c))
    s._send(Kind.MESSAGE, b"\1", reply_to=1, flags=Flag.METADATA)
    with pytest.raises(RemoteProtocolError, match="metadata"):
        feed(c, sent(s))


def test_a_dropped_reply_with_metadata():
    c, s = featured()
    c.send_request(b"")
    c.give_up(1)
    feed(s, sent(c))
    s.send_reply(1, b"late", {"a": "b"})
    assert feed(c, sent(s)) == []


def test_what_was_not_agreed_on_is_not_sent():
    """The sequence stays unused."""
    c, s = established()
    for options in ({"metadata": {"a": "b"}}, {"flags": Flag.PARTS}, {"flags": Flag.UPLOAD}):
        with pytest.raises(InvalidState, match="the peer has not agreed to what the message needs"):
            c.send_request(b"", **options)
    with pytest.raises(InvalidState, match="not agreed"):
        featured()[0].send_request(b"", flags=8)
    assert c.unanswered == 0
    assert c.send_request(b"") == 1
    feed(s, sent(c))
    with pytest.raises(InvalidState, match="not agreed"):
        s.send_reply(1, b"", {"a": "b"})
    s.send_reply(1, b"")
    assert feed(c, sent(s)) == [Reply(1, b"")]


# Cancellation


def test_a_cancelled_request_gets_an_answer_that_is_dropped():
    c, s = featured()
    c.send_request(b"one")
    c.cancel(1)
    c.cancel(1)  # once is enough
    c.cancel(9)  # never sent
    assert feed(s, sent(c)) == [Request(1, b"one", None), Cancelled(1)]
    assert 1 in s.cancelled
    assert 2 not in s.cancelled
    s.send_fault(1, 22, "cancelled")
    assert 1 not in s.cancelled
    assert c.unanswered == 1
    assert feed(c, sent(s)) == []
    assert c.unanswered == 0


def test_a_server_that_cannot_cancel_is_not_told():
    c, s = featured(client_features=Features(window=WINDOW))
    c.send_request(b"one")
    c.send_request(b"", flags=Flag.UPLOAD)
    sent(c)
    c.cancel(1)
    assert sent(c) == b""
    c.cancel(2)  # its parts end all the same
    assert HEAD.unpack_from(sent(c))[1] == Kind.END
    assert s.unanswered == 0


def test_a_request_that_was_given_up_is_not_cancelled():
    c, _ = featured()
    c.send_request(b"one")
    c.give_up(1)
    sent(c)
    c.cancel(1)
    assert sent(c) == b""


def test_cancelling_ends_the_parts_of_a_request():
    c, s = featured()
    c.send_request(b"", flags=Flag.UPLOAD)
    c.send_part(1, b"x")
    c.cancel(1)
    c.end_parts(1)
    assert not c.may_send_part(1)
    assert feed(s, sent(c))[1:] == [Part(1, b"x"), Cancelled(1)]
    assert s._incoming == c._outgoing == {}


def test_cancelling_an_upload_that_was_answered_ends_it():
    c, s = featured()
    c.send_request(b"", flags=Flag.UPLOAD)
    feed(s, sent(c))
    s.send_reply(1, b"early")
    assert feed(c, sent(s)) == [Reply(1, b"early")]
    c.cancel(1)
    frame = sent(c)
    assert HEAD.unpack_from(frame)[1] == Kind.END
    assert feed(s, frame) == []
    assert s._incoming == c._outgoing == {}


# Parts


def test_a_request_in_parts():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.UPLOAD, metadata={"a": "b"}, wait=2)
    for payload in (b"1", [b"2", b"3"], b"", memoryview(b"4")):
        c.send_part(request, payload)
    c.end_parts(request)
    c.end_parts(request)  # once is enough
    assert feed(s, sent(c)) == [
        Request(request, b"", 2, Flag.UPLOAD, {"a": "b"}),
        *(Part(request, payload) for payload in (b"1", b"23", b"", b"4")),
        PartsEnded(request),
    ]
    s.send_reply(request, b"done")
    assert feed(c, sent(s)) == [Reply(request, b"done")]
    assert s._incoming == c._outgoing == {}


def test_a_reply_in_parts():
    c, s = featured()
    request = c.send_request(b"go", flags=Flag.PARTS)
    assert feed(s, sent(c)) == [Request(request, b"go", None, Flag.PARTS)]
    assert s.accepts_parts(request)
    for payload in (b"1", b"", b"2"):
        s.send_part(request, payload)
    s.send_reply(request, b"end")
    assert not s.accepts_parts(request)
    assert feed(c, sent(s)) == [*(Part(request, payload) for payload in (b"1", b"", b"2")), Reply(request, b"end")]
    assert s._outgoing == c._incoming == {}


def test_parts_stop_without_credit_and_go_on_with_it():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.UPLOAD | Flag.PARTS)
    feed(s, sent(c))
    for sender, receiver in ((c, s), (s, c)):
        sender.send_part(request, b"x" * (WINDOW - 53))
        assert sender.may_send_part(request)
        sender.send_part(request, b"y" * 5000)
        assert not sender.may_send_part(request)
        with pytest.raises(InvalidState, match="no credit"):
            sender.send_part(request, b"")
        feed(receiver, sent(sender))
        receiver.note_processed(request, WINDOW - 53)
        assert feed(sender, sent(receiver)) == [Credited(request)]
        assert not sender.may_send_part(request)
        receiver.note_processed(request, 5000)
        assert feed(sender, sent(receiver)) == [Credited(request)]
        assert sender.may_send_part(request)
        receiver.note_processed(request, 0)  # too little to be told
        assert sent(receiver) == b""


def test_a_part_of_wide_items_is_charged_by_bytes():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.UPLOAD)
    c.send_part(request, memoryview(bytes(400)).cast("I"))
    feed(s, sent(c))
    assert c._outgoing[request].credit == s._incoming[request]._credit == WINDOW - 452


def test_a_part_over_the_peers_cap_takes_no_credit():
    c, _ = featured(server_max_frame=1184)
    request = c.send_request(b"", flags=Flag.UPLOAD)
    with pytest.raises(PayloadTooLarge):
        c.send_part(request, b"x" * 1133)
    assert c._outgoing[request].credit == WINDOW
    c.send_part(request, b"x" * 1132)


def test_an_early_answer_ends_the_sending_of_parts():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.UPLOAD)
    feed(s, sent(c))
    c.send_part(request, b"on its way")
    s.note_processed(request, WINDOW)  # CREDIT, then the answer
    s.send_fault(request, 19, "no")
    s._send(Kind.CREDIT, (2**32 - 1).to_bytes(4, "big"), reply_to=request)  # ignored, too much as it is
    assert feed(c, sent(s)) == [Credited(request), Faulted(request, 19, "no")]
    assert not c.may_send_part(request)
    with pytest.raises(InvalidState):
        c.send_part(request, b"")
    c.end_parts(request)
    assert feed(s, sent(c)) == []
    assert s._incoming == {}


def test_a_given_up_reply_takes_no_more_than_its_credit():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.PARTS)
    feed(s, sent(c))
    s.send_part(request, b"x" * 900)
    c.cancel(request)
    assert feed(c, sent(s)) == []
    c.note_processed(request, 900)
    assert HEAD.unpack_from(sent(c))[1] == Kind.CANCEL  # and no CREDIT
    s.send_part(request, b"y" * 900)  # sent before CANCEL came
    assert feed(c, sent(s)) == []
    s._outgoing[request].credit = 1
    s.send_part(request, b"z")
    with pytest.raises(RemoteProtocolError, match="PART without credit"):
        feed(c, sent(s))


@pytest.mark.parametrize(
    ("kind", "payload", "request_of", "says"),
    [
        (Kind.PART, b"", "plain", "not an unanswered request for parts"),
        (Kind.PART, b"", "upload", "not an unanswered request for parts"),
        (Kind.PART, b"", "answered", "not an unanswered request for parts"),
        (Kind.PART, b"", "none", "not an unanswered request for parts"),
        (Kind.PART, b"", "zero", "not an unanswered request for parts"),
        (Kind.CREDIT, b"\0\0\0\0", "upload", "CREDIT of 0 bytes"),
        (Kind.CREDIT, b"\0\0\0\0", "plain", "CREDIT of 0 bytes"),
        (Kind.CREDIT, b"\0\0\1", "upload", "fewer bytes"),
        (Kind.CREDIT, b"\0\0\0\0\1", "upload", "bytes after its last field"),
        (Kind.CREDIT, b"\xff\xff\xff\xff", "upload", "CREDIT beyond"),
        (Kind.CREDIT, b"\0\0\0\1", "none", "CREDIT frame from a server"),
        (Kind.CREDIT, b"\0\0\0\1", "zero", "CREDIT frame from a server"),
        (Kind.CANCEL, b"", "plain", "CANCEL frame, which was not agreed on"),
        (Kind.END, b"", "upload", "END frame, which was not agreed on"),
    ],
)
def test_what_a_server_may_not_send(kind, payload, request_of, says):
    c, s = featured()
    named = {
        "plain": c.send_request(b""),
        "answered": c.send_request(b"", flags=Flag.PARTS),
        "upload": c.send_request(b"", flags=Flag.UPLOAD),
        "none": 99,
        "zero": 0,
    }
    feed(s, sent(c))
    s.send_reply(named["answered"], b"")
    s._send(kind, payload, reply_to=named[request_of])
    with pytest.raises(RemoteProtocolError, match=says):
        feed(c, sent(s))


def test_credit_that_nothing_needs_is_ignored():
    c, s = featured()
    plain, ping = c.send_request(b""), c.send_ping()
    ended = c.send_request(b"", flags=Flag.UPLOAD)
    c.end_parts(ended)
    given_up = c.send_request(b"", flags=Flag.UPLOAD)
    c.give_up(given_up)
    feed(s, sent(c))
    feed(c, sent(s))
    for request in (plain, ping, ended, ended + 1, given_up):
        for _ in range(2):
            s._send(Kind.CREDIT, b"\xff\xff\xff\xff", reply_to=request)
    assert feed(c, sent(s)) == []
    assert not c.may_send_part(given_up)


def test_parts_of_too_many_requests_at_a_time(monkeypatch):
    monkeypatch.setattr("sealwire.wire.client.MAX_UPLOADS", 2)
    c, _ = featured()
    first = c.send_request(b"", flags=Flag.UPLOAD)
    c.send_request(b"", flags=Flag.UPLOAD)
    with pytest.raises(InvalidState, match="2 requests in parts have not ended"):
        c.send_request(b"", flags=Flag.UPLOAD)
    c.send_request(b"", flags=Flag.PARTS)
    c.end_parts(first)
    c.send_request(b"", flags=Flag.UPLOAD)


def test_credit_after_the_end_of_the_connection():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.PARTS)
    feed(s, sent(c))
    s.send_part(request, b"x" * 900)
    feed(c, sent(s))
    c.close()
    with pytest.raises(InvalidState, match="has ended"):
        c.note_processed(request, 900)


def test_whether_only_cancelled_requests_are_unanswered():
    for offered, expected in ((Features(cancel=True), True), (Features(metadata=True), False)):
        c, _ = featured(client_features=offered)
        request, other = c.send_request(b""), c.send_request(b"")
        c.cancel(request)
        assert not c.has_only_cancelled
        c.cancel(other)
        assert c.has_only_cancelled is expected


def test_the_bytes_of_messages_and_parts_are_counted_in_both_directions():
    before = CLIENT[CLIENT_SENT], CLIENT[CLIENT_RECEIVED]
    c, s = featured()
    request = c.send_request(b"", flags=Flag.PARTS | Flag.UPLOAD)
    c.send_part(request, [b"ab", b"cd"])
    c.end_parts(request)
    c.send_request(b"efghi")
    c.send_request([b"jk", b"l"])
    feed(s, sent(c))
    s.send_part(request, b"123")
    s.send_reply(request, b"4567")
    s.send_reply(request + 3, b"8")
    assert len(feed(c, sent(s))) == 3
    assert (CLIENT[CLIENT_SENT] - before[0], CLIENT[CLIENT_RECEIVED] - before[1]) == (4 + 5 + 3, 3 + 4 + 1)


def test_a_part_needs_credit_above_0():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.UPLOAD)
    c.send_part(request, b"x" * (WINDOW - 52))
    assert not c.may_send_part(request), "nothing is left"
    assert len(feed(s, sent(c))) == 2


def test_the_id_of_a_request_is_forgotten_with_its_answer():
    c, s = featured()
    for answered in (1, 2):
        c.send_request(b"", metadata={"request-id": "mine"})
        assert c.request_id(answered) == "mine"
        if answered == 2:
            c.give_up(2)
        feed(s, sent(c))
        assert s.request_id(answered) == "mine"
        s.send_reply(answered, b"")
        feed(c, sent(s))
        assert c.request_id(answered) == s.request_id(answered) == f"{c.connection_id}-{answered}"


def test_an_answer_to_a_request_without_an_id_leaves_the_ids_of_others():
    c, s = featured()
    c.send_request(b"", metadata={"request-id": "mine"})
    c.send_request(b"")
    c.send_request(b"")
    c.give_up(3)
    feed(s, sent(c))
    s.send_reply(2, b"")
    s.send_reply(3, b"")
    assert feed(c, sent(s)) == [Reply(2, b"")]
    assert c.request_id(1) == s.request_id(1) == "mine"
