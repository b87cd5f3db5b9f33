"""Both sides together: streams of bytes that are split, altered, truncated or replayed."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwire.errors import (
    BadSequence,
    BadTag,
    ConnectionClosed,
    InvalidState,
    RemoteProtocolError,
    TruncatedFrame,
)
from sealwire.wire.events import Closed, Established, Faulted, Pinged, Ponged, Reply, Request
from sealwire.wire.frames import Close, Kind
from sealwire.wire.protocol import State
from support.wire import KEY, client, established, feed, feed_to_end, sent, server


def comparable(events):
    return [event._replace(payload=bytes(event.payload)) if hasattr(event, "payload") else event for event in events]


def conversation():
    """The bytes of both directions after the handshake, and the events that they stand for."""
    c, s = established()
    up = b""
    for payload in (b"one", b"", b"x" * 100_000):
        c.send_request(payload, wait=1.5)
        up += sent(c)
    c.send_ping(b"hi")
    up += sent(c)
    up_events = comparable(feed(s, up))
    pong = sent(s)  # answered as it was read
    s.send_reply(1, b"first")
    down = pong + sent(s)
    s.send_fault(2, 19, "failed")
    down += sent(s)
    s.send_reply(3, b"y" * 70_000)
    s.close()
    down += sent(s)
    return up, up_events, down, comparable(feed(c, down))


UP, UP_EVENTS, DOWN, DOWN_EVENTS = conversation()


def test_the_conversation_itself():
    assert [
        Request(1, b"one", 1.5),
        Request(2, b"", 1.5),
        Request(3, b"x" * 100_000, 1.5),
        Pinged(4),
    ] == UP_EVENTS
    assert [
        Ponged(4, b"hi"),
        Reply(1, b"first"),
        Faulted(2, 19, "failed"),
        Reply(3, b"y" * 70_000),
        Closed(0, 3),
    ] == DOWN_EVENTS


def listening_client():
    c, _ = established()
    for payload in (b"one", b"", b"x" * 100_000):
        c.send_request(payload)
    c.send_ping(b"hi")
    sent(c)
    return c


@settings(max_examples=60)
@given(st.lists(st.integers(1, 130_000), min_size=1, max_size=30))
def test_any_split_gives_the_same_events(steps):
    for make, data, expected in (
        (lambda: established()[1], UP, UP_EVENTS),
        (listening_client, DOWN, DOWN_EVENTS),
    ):
        protocol, events, start, turn = make(), [], 0, 0
        while start < len(data):
            end = start + steps[turn % len(steps)]
            events += feed(protocol, data[start:end])
            start, turn = end, turn + 1
        assert comparable(events) == expected


def test_what_is_pending_of_a_stream():
    ours, theirs = established()
    room = theirs.room
    ours.send_request(b"one")
    data = sent(ours)
    view = theirs.get_buffer()
    view[: len(data) - 1] = data[:-1]
    del view
    theirs.buffer_updated(len(data) - 1)
    assert (theirs.pending, theirs.room, theirs.missing) == (len(data) - 1, room - len(data) + 1, 0)
    assert theirs.inside_frame


def test_byte_by_byte():
    _, s = established()
    small = UP[: 4 + 52 + 3 + 4 + 52]
    assert comparable(feed(s, small, step=1)) == UP_EVENTS[:2]


@settings(max_examples=300)
@given(st.integers(0, len(UP) * 8 - 1))
def test_any_flipped_bit_is_an_error_and_nothing_after_it_is_delivered(bit):
    altered = bytearray(UP)
    altered[bit // 8] ^= 1 << bit % 8
    _, s = established()
    events = []
    with pytest.raises(RemoteProtocolError):
        feed_to_end(s, bytes(altered), into=events)
    assert comparable(events) == UP_EVENTS[: len(events)]
    assert s.state is State.ENDED


def test_every_bit_of_hello_is_protected():
    hello = sent(client())
    for bit in range(len(hello) * 8):
        altered = bytearray(hello)
        altered[bit // 8] ^= 1 << bit % 8
        s = server()
        with pytest.raises(RemoteProtocolError):
            feed_to_end(s, bytes(altered))
        answer = sent(s)
        assert answer == b"" or answer[4] == Kind.REJECT


def test_every_bit_of_welcome_is_protected():
    c, s = client(), server()
    feed(s, sent(c))
    welcome = sent(s)
    for bit in range(len(welcome) * 8):
        altered = bytearray(welcome)
        altered[bit // 8] ^= 1 << bit % 8
        c = client()
        with pytest.raises(RemoteProtocolError):
            feed_to_end(c, bytes(altered))
        assert sent(c)[4] == Kind.HELLO  # and nothing else, no application byte above all


def frames_of(data):
    frames = []
    while data:
        size = 4 + int.from_bytes(data[:4], "big")
        frames.append(data[:size])
        data = data[size:]
    return frames


@pytest.mark.parametrize("order", [[0, 0], [1], [1, 0], [0, 2], [0, 1, 1], [0, 1, 0]])
def test_replayed_missing_and_reordered_frames(order):
    frames = frames_of(UP)
    _, s = established()
    with pytest.raises(BadSequence):
        feed(s, b"".join(frames[number] for number in order))
    close = Close.unpack(sent(s)[24:-32])
    assert close.code == 4


def test_reflected_and_spliced_frames():
    c, s = established()
    c.send_request(b"mine")
    with pytest.raises(BadTag):
        feed(c, sent(c))
    other, _ = established(client_nonce=b"o" * 32)
    other.send_request(b"another connection's")
    with pytest.raises(BadTag):
        feed(s, sent(other))


def test_truncation_at_every_byte_is_reported():
    frame = frames_of(UP)[0]
    for cut in range(1, len(frame)):
        _, s = established()
        assert feed(s, frame[:cut]) == []
        s.eof_received()
        with pytest.raises(TruncatedFrame):
            s.next_event()


def test_the_end_without_close_is_never_clean():
    for protocol in (*established(), client(), server()):
        protocol.eof_received()
        with pytest.raises(ConnectionClosed) as closed:
            protocol.next_event()
        assert (closed.value.code, closed.value.last) == (None, None)
        assert protocol.next_event() is None
        assert protocol.state is State.ENDED


def test_what_was_good_comes_before_the_error():
    frames = frames_of(UP)
    _, s = established()
    events = []
    with pytest.raises(BadSequence):
        feed(s, frames[0] + frames[0], into=events)
    assert comparable(events) == UP_EVENTS[:1]
    assert s.next_event() is None


def test_close_is_answered_and_is_the_last_frame():
    c, s = established()
    c.send_request(b"one")
    feed(s, sent(c))
    s.hand_over(1)
    s.close(2)
    assert feed(c, sent(s)) == [Closed(2, 1)]
    assert feed(s, sent(c)) == []  # discarded: our CLOSE was our last word
    for protocol in (c, s):
        assert protocol.state is State.ENDED
        protocol.close()
        assert sent(protocol) == b""
    with pytest.raises(InvalidState, match="has ended"):
        c.send_request(b"two")
    with pytest.raises(InvalidState, match="has ended"):
        s.send_reply(1, b"late")


def test_after_our_close_everything_is_discarded_without_growing():
    c, s = established()
    for _ in range(3):
        c.send_request(b"x" * 20_000)
    data = sent(c)
    feed(s, data[:10_000])
    s.close()
    assert feed(s, data[10_000:]) == []
    assert feed(s, b"\xff" * 100_000) == []
    assert not s.inside_frame


def test_a_last_that_was_never_sent_is_an_error():
    c, s = established()
    c.send_request(b"one")
    feed(s, sent(c))
    s._handed_over = 2
    s.close(2)
    with pytest.raises(RemoteProtocolError, match="with sequence 2, which was never sent"):
        feed(c, sent(s))


def test_closing_before_the_handshake_says_nothing():
    c = client()
    sent(c)
    c.close()
    assert sent(c) == b""
    assert c.state is State.ENDED


def test_handshake_events():
    c, s = client(), server()
    assert feed(s, sent(c)) == [Established("k1", 1 << 20)]
    assert feed(c, sent(s)) == [Established("k1", 1 << 20)]
    assert KEY.id == "k1"


def test_nonces_are_fresh():
    hellos = [frames_of(sent(client(nonce=None)))[0] for _ in range(3)]
    assert all(a != b for a, b in pairwise(hellos))


PIECES = {
    "small": [b"a", bytearray(b"b"), b""],
    "large": [b"head", b"x" * 200_000, bytearray(b"y" * 65_536), b"tail"],
    "small ones among large": [b"x" * 70_000, *[b"s" * 500] * 200, b"z" * 65_535],
    "one": [b"x" * 300_000],
    "none": [],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_a_payload_in_pieces_is_the_same_frame(pieces):
    """And small pieces are no writes of their own."""
    whole = b"".join(pieces)
    frames = []
    for payload in (pieces, whole, bytearray(whole), memoryview(whole)):
        c, s = established()
        c.send_request(payload)
        written = list(c.data_to_send())
        frames.append(b"".join(written))
        assert len(written) <= len(whole) // 60_000 + 2
        (request,) = feed(s, frames[-1])
        assert request.payload == whole
        s.send_reply(request.sequence, payload)
        (reply,) = feed(c, sent(s))
        assert reply.payload == whole
    assert len({len(frame) for frame in frames}) == 1
