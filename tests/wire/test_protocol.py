"""Both sides together: streams of bytes that are split, altered, truncated or replayed."""

from itertools import pairwise
from random import Random

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
from sealwire.wire.events import (
    Cancelled,
    Closed,
    Credited,
    Established,
    Faulted,
    Part,
    PartsEnded,
    Pinged,
    Ponged,
    Reply,
    Request,
)
from sealwire.wire.features import Features
from sealwire.wire.frames import Close, Flag, Kind
from sealwire.wire.protocol import State
from support.wire import KEY, client, established, featured, feed, feed_to_end, frames_of, sent, server


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


def featured_requests(c):
    """Requests 1 to 4 with all that features add, and the bytes that follow them."""
    c.send_request(b"one", metadata={"request-id": "7"})
    c.send_request(b"", flags=Flag.UPLOAD | Flag.PARTS)
    c.send_part(2, b"part")
    c.send_part(2, b"x" * 100_000)
    c.send_request(b"three", metadata={"a": "ä"})
    c.cancel(5)
    c.end_parts(2)
    return sent(c)


def featured_conversation():
    """The same as above, of two sides that have agreed on all features."""
    c, s = featured()
    up = featured_requests(c)
    up_events = comparable(feed(s, up))
    s.note_processed(2, 100_000)  # its parts have ended: no credit
    s.send_reply(1, b"first", {"b": ""})
    s.send_part(2, b"y" * 70_000)
    s.send_fault(5, 22, "cancelled")
    down = sent(s)
    down_events = comparable(feed(c, down))
    c.note_processed(2, 70_000)
    credit = sent(c)
    up += credit
    up_events += feed(s, credit)
    s.send_part(2, b"")
    s.send_reply(2, b"second")
    s.close()
    rest = sent(s)
    return up, up_events, down + rest, down_events + comparable(feed(c, rest))


FEATURED_UP, FEATURED_UP_EVENTS, FEATURED_DOWN, FEATURED_DOWN_EVENTS = featured_conversation()


def test_the_featured_conversation_itself():
    assert [
        Request(1, b"one", None, 0, {"request-id": "7"}),
        Request(2, b"", None, Flag.UPLOAD | Flag.PARTS),
        Part(2, b"part"),
        Part(2, b"x" * 100_000),
        Request(5, b"three", None, 0, {"a": "ä"}),
        Cancelled(5),
        PartsEnded(2),
        Credited(2),
    ] == FEATURED_UP_EVENTS
    assert [
        Reply(1, b"first", {"b": ""}),
        Part(2, b"y" * 70_000),
        Part(2, b""),
        Reply(2, b"second"),
        Closed(0, 5),
    ] == FEATURED_DOWN_EVENTS


def expecting_client():
    c, _ = featured()
    featured_requests(c)
    c._incoming[2]._credit = 1 << 20  # as if it had granted the parts on their way
    return c


def expecting_server():
    _, s = featured()
    return s


@settings(max_examples=60)
@given(st.lists(st.integers(1, 130_000), min_size=1, max_size=30))
def test_any_split_gives_the_same_events(steps):
    for make, data, expected in (
        (lambda: established()[1], UP, UP_EVENTS),
        (listening_client, DOWN, DOWN_EVENTS),
        (expecting_server, FEATURED_UP, FEATURED_UP_EVENTS),
        (expecting_client, FEATURED_DOWN, FEATURED_DOWN_EVENTS),
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


FLIPPED = {
    "requests": (lambda: established()[1], UP, UP_EVENTS),
    "replies": (listening_client, DOWN, DOWN_EVENTS),
    "requests with features": (expecting_server, FEATURED_UP, FEATURED_UP_EVENTS),
    "replies with features": (expecting_client, FEATURED_DOWN, FEATURED_DOWN_EVENTS),
}


@settings(max_examples=200)
@pytest.mark.parametrize(("make", "data", "events"), FLIPPED.values(), ids=FLIPPED)
@given(where=st.floats(0, 1, exclude_max=True))
def test_any_flipped_bit_is_an_error_and_nothing_after_it_is_delivered(make, data, events, where):
    bit = int(where * len(data) * 8)
    altered = bytearray(data)
    altered[bit // 8] ^= 1 << bit % 8
    protocol, came = make(), []
    with pytest.raises(RemoteProtocolError):
        feed_to_end(protocol, bytes(altered), into=came)
    assert comparable(came) == events[: len(came)]
    assert protocol.state is State.ENDED


def test_every_bit_of_the_small_frames_that_features_add_is_protected():
    small = [frame for frame in frames_of(FEATURED_UP) if len(frame) < 200]
    assert {frame[4] for frame in small} == {Kind.MESSAGE, Kind.PART, Kind.CANCEL, Kind.END, Kind.CREDIT}
    for number, frame in enumerate(frames_of(FEATURED_UP)):
        if frame not in small:
            continue
        before = b"".join(frames_of(FEATURED_UP)[:number])
        for bit in range(len(frame) * 8):
            altered = bytearray(frame)
            altered[bit // 8] ^= 1 << bit % 8
            s, came = expecting_server(), []
            feed(s, before)
            with pytest.raises(RemoteProtocolError):
                feed_to_end(s, bytes(altered), into=came)
            assert came == []


def test_every_bit_of_a_message_is_protected():
    """The connection ends with the same code for each."""
    message = UP[: 4 + 52 + 3]
    for bit in range(len(message) * 8):
        altered = bytearray(message)
        altered[bit // 8] ^= 1 << bit % 8
        _, s = established()
        events = []
        with pytest.raises(RemoteProtocolError):
            feed_to_end(s, bytes(altered), into=events)
        assert events == []
        assert Close.unpack(sent(s)[24:-32])[:2] == (4, 0)


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


@pytest.mark.parametrize(
    ("frame", "receiver"),
    [(frames_of(UP)[0], lambda: established()[1]), (sent(client()), server)],
    ids=["MESSAGE", "HELLO"],
)
def test_truncation_at_every_byte_is_reported(frame, receiver):
    for cut in range(1, len(frame)):
        s = receiver()
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
    """Small pieces are not written one by one."""
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


class Peer:
    """One side of random exchanges in parts, which sends and takes as chance and its credit let it."""

    def __init__(self, protocol, chance):
        self.protocol, self.chance = protocol, chance
        self.to_send = {}
        """The sizes of the parts that each request still has to send."""
        self.held = []
        """Parts that have come and were not processed: their request and size."""
        self.taken = []
        """Parts that were processed."""

    def step(self):
        """Send a part, or process one, if there is one. Return False if there is nothing to do."""
        ready = [request for request, sizes in self.to_send.items() if sizes and self.protocol.may_send_part(request)]
        if ready and (not self.held or self.chance.random() < 0.5):
            request = self.chance.choice(ready)
            self.protocol.send_part(request, bytes(self.to_send[request].pop()))
            return True
        if self.held:
            part = self.held.pop(self.chance.randrange(len(self.held)))
            self.taken.append(part)
            self.protocol.note_processed(*part)
            return True
        return False


SIZES = st.lists(st.integers(0, 400) | st.sampled_from([0, 1000, 20_000]), max_size=20)


@settings(max_examples=150, deadline=None)
@given(
    windows=st.tuples(*[st.integers(1, 60) | st.integers(1, 5000)] * 2),
    exchanges=st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=5),
    seed=st.integers(0, 1 << 30),
)
def test_parts_both_ways_keep_the_rules_and_never_stop(windows, exchanges, seed):
    """Both ends check all the rules, and would raise."""
    chance = Random(seed)
    offered, had = Features(window=windows[0]), Features(window=windows[1], at_once=8)
    ours, theirs = (Peer(protocol, chance) for protocol in featured(client_features=offered, server_features=had))
    up, down = {}, {}
    for upload, reply in exchanges:
        request = ours.protocol.send_request(b"", flags=Flag.PARTS | Flag.UPLOAD)
        ours.to_send[request], up[request] = list(upload), sorted(upload)
        theirs.to_send[request], down[request] = list(reply), sorted(reply)
    answered, ended, on_the_way = set(), set(), {ours: b"", theirs: b""}
    while len(answered) < len(exchanges):
        moved = [peer.step() for peer in (ours, theirs) for _ in range(chance.randrange(1, 4))]
        for peer, other in ((ours, theirs), (theirs, ours)):
            on_the_way[peer] += sent(peer.protocol)
            # What is under way arrives at random, but all of it if nothing else can be done.
            size = len(on_the_way[peer]) if not any(moved) else chance.randrange(len(on_the_way[peer]) + 1)
            data, on_the_way[peer] = on_the_way[peer][:size], on_the_way[peer][size:]
            moved.append(size > 0)
            for event in feed(other.protocol, data):
                if isinstance(event, Part):
                    other.held.append((event.request, len(event.payload)))
                elif isinstance(event, PartsEnded):
                    ended.add(event.request)
                elif isinstance(event, Reply):
                    answered.add(event.request)
        for request in up:
            if not ours.to_send[request] and request in ours.protocol._outgoing:
                ours.protocol.end_parts(request)
                moved.append(True)
            is_done = request in ended and not theirs.to_send[request]
            if is_done and request in theirs.protocol._unanswered:
                theirs.protocol.send_reply(request, b"")
                moved.append(True)
        assert any(moved), "nobody can go on"
        for peer, window in zip((ours, theirs), windows, strict=True):
            for request in up:
                held = sorted(size + 52 for number, size in peer.held if number == request)
                assert sum(held[:-1]) < window or len(held) < 2
    for peer, expected in ((theirs, up), (ours, down)):
        came = peer.taken + peer.held
        assert {request: sorted(size for number, size in came if number == request) for request in up} == expected
    for protocol in (ours.protocol, theirs.protocol):
        assert (protocol._incoming, protocol._outgoing) == ({}, {})


def test_the_kind_that_the_next_frame_claims_to_have():
    c, s = featured()
    request = c.send_request(b"", flags=Flag.UPLOAD)
    feed(s, sent(c))
    c.end_parts(request)
    c.send_request(b"x" * 100_000)
    data = sent(c)
    view, kinds = s.get_buffer(), []
    view[: len(view)] = data[: len(view)]
    for end in (23, 24, len(view)):
        s.buffer_updated(end - (s.pending if kinds else 0))
        kinds.append(s.next_kind)
    assert kinds == [None, Kind.END, Kind.END]
    assert s.next_event() == PartsEnded(request)
    assert s.next_kind == Kind.MESSAGE
    assert s.next_event() is None
    assert s.missing > 0
    assert s.next_kind is None


def test_both_sides_tell_the_same_id_of_a_request():
    c, s = featured()
    plain, named = c.send_request(b""), c.send_request(b"", metadata={"request-id": "a\n" + "b" * 99})
    feed(s, sent(c))
    assert c.request_id(plain) == s.request_id(plain) == f"{c.connection_id}-{plain}"
    assert c.request_id(named) == s.request_id(named) == "a\\n" + "b" * 62
    s.send_fault(plain, 19, "")
    s.send_fault(named, 19, "")
    feed(c, sent(s))
    assert c.take_request_id(named) == "a\\n" + "b" * 62
    assert c.take_request_id(named) == s.request_id(named) == f"{c.connection_id}-{named}"


def test_before_the_handshake_nothing_is_agreed_on():
    for side in (client(features=Features(metadata=True)), server(features=Features(metadata=True))):
        assert side.features == Features()
        assert side.connection_id == ""
    assert server().rejected is None
