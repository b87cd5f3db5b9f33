import pytest

from sealwire.errors import (
    BadSequence,
    BadTag,
    BadVersion,
    InvalidState,
    PayloadTooLarge,
    RemoteProtocolError,
)
from sealwire.wire.events import Closed, Faulted, Ponged, Rejected, Reply
from sealwire.wire.frames import HEAD, Kind
from sealwire.wire.handshake import reject
from sealwire.wire.keys import Key
from sealwire.wire.protocol import State
from support.wire import MAX_FRAME, client, established, feed, sent, server


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


def test_the_servers_last_is_told():
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
