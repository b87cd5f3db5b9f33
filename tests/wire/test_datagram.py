"""The protocol on datagrams: lost, repeated, out of order, forged (docs/protocol.md, section 6)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import BadTag, PayloadTooLarge, RemoteProtocolError, UnknownKey
from sealwire.limits import FRAME_OVERHEAD
from sealwire.wire.datagram import MAX_FRAME as MAX_DATAGRAM_FRAME
from sealwire.wire.datagram import ClientDatagrams, DatagramProtocol, ServerDatagrams
from sealwire.wire.events import Cancelled, Closed, Doubted, Established, Event, Pinged, Rejected, Reply, Request
from sealwire.wire.features import Features
from sealwire.wire.keys import Key
from sealwire.wire.length_prefix import BYTE_COUNT
from sealwire.wire.server import ServerParameters
from support.wire import BINDING, KEY, MAX_FRAME

MAX_PAYLOAD = MAX_DATAGRAM_FRAME - FRAME_OVERHEAD


def client(now: float = 0.0, **changes: Any) -> ClientDatagrams:
    offer: Any = {
        "key": KEY, "binding": BINDING, "codec": "raw", "server_name": "localhost", "max_frame": MAX_FRAME,
        "nonce": b"c" * 32,
    } | changes  # fmt: skip
    return ClientDatagrams(now, **offer)


def server(**changes: Any) -> ServerDatagrams:
    terms: Any = {
        "find_key": {"k1": KEY}.get, "accepts_name": lambda name: name == "localhost", "binding": BINDING,
        "codec": "raw", "max_frame": MAX_FRAME, "nonce": b"s" * 32,
    } | changes  # fmt: skip
    return ServerDatagrams(ServerParameters(**terms))


def sent(protocol: DatagramProtocol) -> list[bytes]:
    return [b"".join(frame) for frame in protocol.frames_to_send()]


def one(protocol: DatagramProtocol) -> bytes:
    (datagram,) = sent(protocol)
    return datagram


def established(features: Features | None = None) -> tuple[ClientDatagrams, ServerDatagrams]:
    changes = {} if features is None else {"features": features}
    c, s = client(**changes), server(**changes)
    assert isinstance(s.datagram_received(one(c)), Established)
    assert isinstance(c.datagram_received(one(s)), Established)
    return c, s


def requests(c: ClientDatagrams, count: int) -> list[bytes]:
    for number in range(count):
        c.send_request(b"%d" % number)
    return sent(c)


def test_request_and_reply() -> None:
    c, s = established()
    number = c.send_request(b"x" * MAX_PAYLOAD, wait=5)
    datagram = one(c)
    assert len(datagram) == BYTE_COUNT + MAX_DATAGRAM_FRAME
    event = s.datagram_received(datagram)
    assert event == Request(number, b"x" * MAX_PAYLOAD, 5.0)
    s.hand_over(number)
    s.send_reply(number, b"y")
    assert c.datagram_received(one(s)) == Reply(number, b"y")
    c.send_ping(b"p")
    assert isinstance(s.datagram_received(one(c)), Pinged)
    with pytest.raises(PayloadTooLarge, match="send it in parts, or over TCP"):
        c.send_request(b"x" * (MAX_PAYLOAD + 1))


@given(st.permutations(range(20)), st.sets(st.integers(0, 19)))
def test_any_order_each_once(order: list[int], lost: set[int]) -> None:
    c, s = established()
    datagrams = requests(c, 20)
    got: list[Event | None] = []
    for index in order:
        if index not in lost:
            got.append(s.datagram_received(datagrams[index]))
            assert s.datagram_received(datagrams[index]) is None
    assert [each.sequence for each in got if isinstance(each, Request)] == [i + 1 for i in order if i not in lost]


def test_the_window() -> None:
    c, s = established()
    datagrams = requests(c, 70)
    assert s.datagram_received(datagrams[69]) is not None
    # Of the 64 below the highest only those that are 63 behind at most.
    for index in range(69):
        assert (s.datagram_received(datagrams[index]) is not None) is (69 - index < 64)
    c, s = established()
    datagrams = requests(c, 200)
    assert s.datagram_received(datagrams[0]) is not None
    assert s.datagram_received(datagrams[199]) is not None
    assert s.datagram_received(datagrams[0]) is None


def test_what_nobody_vouches_for_moves_nothing() -> None:
    c, s = established()
    first, second = requests(c, 2)
    far = bytearray(second)
    far[8:16] = (10_000).to_bytes(8, "big")
    for forged in (bytes(far), second[:-1] + bytes([second[-1] ^ 1]), second[:-1], second + b"x", b"", b"x" * 2000):
        assert s.datagram_received(forged) is None
    assert s.datagram_received(second) is not None
    assert s.datagram_received(first) is not None


@given(st.integers(0, 56 * 8 + 7))
def test_every_bit(bit: int) -> None:
    c, s = established()
    datagram = bytearray(requests(c, 1)[0])
    datagram[bit // 8] ^= 0x80 >> bit % 8
    assert s.datagram_received(bytes(datagram)) is None


def test_hello_again() -> None:
    c, s = client(10.0), server()
    hello = one(c)
    welcome_event = s.datagram_received(hello)
    assert isinstance(welcome_event, Established)
    welcome = one(s)
    due = [10.25, 10.75, 11.75, 13.75, 17.75]
    for moment in due:
        assert c.timeout == moment
        c.handle_timeout(moment - 0.01)
        assert sent(c) == []
        c.handle_timeout(moment)
        assert one(c) == hello
        assert s.datagram_received(hello) is None
        assert one(s) == welcome
    assert c.timeout == math.inf
    c.handle_timeout(1000.0)
    assert sent(c) == []
    assert isinstance(c.datagram_received(welcome), Established)
    assert c.timeout == math.inf
    c.handle_timeout(1000.0)
    assert c.datagram_received(welcome) is None
    # Once the client has shown that it has WELCOME, its HELLO is dropped.
    assert s.datagram_received(requests(c, 1)[0]) is not None
    assert s.datagram_received(hello) is None
    assert sent(s) == []


def test_another_hello_is_dropped() -> None:
    s = server()
    s.datagram_received(one(client()))
    sent(s)
    assert s.datagram_received(one(client(nonce=b"d" * 32))) is None
    assert sent(s) == []


def test_what_comes_before_the_handshake() -> None:
    c, s = established()
    message = requests(c, 1)[0]
    s.hand_over(1) if s.datagram_received(message) else None
    s.send_reply(1, b"y")
    reply = one(s)
    assert server().datagram_received(message) is None
    assert client().datagram_received(reply) is None


def test_rejected_as_often_as_it_asks() -> None:
    c, s = client(key=Key("k9", b"x" * 32)), server()
    hello = one(c)
    with pytest.raises(RemoteProtocolError):
        s.datagram_received(hello)
    rejected = one(s)
    assert s.datagram_received(hello) is None
    assert one(s) == rejected
    assert c.datagram_received(rejected) == Rejected(3)
    assert c.datagram_received(rejected) is None


def test_nonsense_for_hello() -> None:
    s = server()
    hello = bytearray(one(client()))
    hello[24] = 9
    with pytest.raises(RemoteProtocolError, match="version 9"):
        s.datagram_received(bytes(hello))
    s = server()
    hello = bytearray(one(client()))
    hello[5] = 1  # flags
    with pytest.raises(RemoteProtocolError):
        s.datagram_received(bytes(hello))
    assert sent(s) == []


def test_the_wrong_welcome() -> None:
    c, s = client(), server()
    s.datagram_received(one(c))
    welcome = bytearray(one(s))
    welcome[-1] ^= 1
    with pytest.raises(BadTag):
        c.datagram_received(bytes(welcome))


def test_close() -> None:
    c, s = established()
    datagram = requests(c, 1)[0]
    s.datagram_received(datagram)
    s.close(2)
    assert c.datagram_received(one(s)) == Closed(2, 0)
    assert s.datagram_received(one(c)) is None
    assert s.datagram_received(datagram) is None


def test_what_the_peer_did_wrong_ends_it() -> None:
    c, s = established()
    number = c.send_request(b"x")
    s.datagram_received(one(c))
    s.send_reply(number, b"y")
    reply = one(s)
    s._unanswered[number] = None  # as a server would that answers twice
    s.send_reply(number, b"z")
    assert c.datagram_received(reply) == Reply(number, b"y")
    with pytest.raises(RemoteProtocolError):
        c.datagram_received(one(s))
    closed = s.datagram_received(one(c))
    assert isinstance(closed, Closed)
    assert closed.code == 4


def test_parts_are_for_streams() -> None:
    """No client offers them on datagrams, and no server takes them up from one that does."""
    c, s = established(Features(metadata=True, cancel=True, window=1000))
    assert c.features == s.features == Features(metadata=True, cancel=True)
    assert one(client(features=Features(cancel=True, window=1000))) == one(client(features=Features(cancel=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Features, "without_parts", property(lambda self: self))
        offering = client(features=Features(cancel=True, window=1000))
    s = server(features=Features(cancel=True, window=1000, at_once=1))
    s.datagram_received(one(offering))
    offering.datagram_received(one(s))
    assert offering.features == s.features == Features(cancel=True)


@given(st.permutations(range(4)))
def test_metadata_and_cancellation_in_any_order(order: list[int]) -> None:
    c, s = established(Features(metadata=True, cancel=True))
    for number in range(2):
        c.cancel(c.send_request(b"x", metadata={"n": str(number)}))
    frames, came = sent(c), list[Event]()
    for number in order:
        event = s.datagram_received(frames[number])
        came += [] if event is None else [event]
    for number in range(2):
        request = Request(2 * number + 1, b"x", None, 0, {"n": str(number)})
        expected = [request]
        if order.index(2 * number) < order.index(2 * number + 1):
            expected.append(Cancelled(request.sequence))
        assert [event for event in came if request.sequence in event[:1]] == expected
        s.send_reply(request.sequence, b"late", {"a": "b"})
    assert [c.datagram_received(frame) for frame in sent(s)] == [None, None]


@pytest.mark.parametrize("found", [True, False])
def test_an_answer_that_was_put_off_comes_again_like_any_other(found: bool) -> None:
    keys: dict[str, Key] = {}
    c, s = client(), server(find_key=keys.get, doubt=lambda: True)
    hello = one(c)
    assert s.datagram_received(hello) == Doubted()
    assert sent(s) == []
    if found:
        keys["k1"] = KEY
        s.answer_hello()
    else:
        with pytest.raises(UnknownKey):
            s.answer_hello()
    answer = one(s)
    assert s.datagram_received(hello) is None
    assert one(s) == answer


class Padded(Features):
    """No features, in extensions of so many bytes that mean nothing to a server."""

    padding = 0

    def pack(self) -> bytes:
        return b"\xff\xff" + (self.padding - 4).to_bytes(2, "big") + bytes(self.padding - 4)


def test_a_hello_has_at_most_1024_bytes_after_its_length() -> None:
    class OfTheLargest(Padded):
        padding = 1024 + BYTE_COUNT - len(one(client()))

    class OneTooLong(Padded):
        padding = OfTheLargest.padding + 1

    s = server()
    assert s.datagram_received(one(client(features=OneTooLong()))) is None
    assert sent(s) == []
    assert isinstance(s.datagram_received(one(client(features=OfTheLargest()))), Established)


def test_before_hello_anything_else_is_dropped_and_a_hello_with_a_late_number() -> None:
    c, s = client(), server()
    hello = one(c)
    for place, byte in ((4, 3), (4, 5), (4, 2), (15, 1), (8, 1)):  # of the kind, and in the sequence
        other = bytearray(hello)
        other[place] = byte
        assert s.datagram_received(bytes(other)) is None
        assert sent(s) == []
    assert isinstance(s.datagram_received(hello), Established)


def test_both_sides_announce_what_a_datagram_holds() -> None:
    c, s = client(max_frame=MAX_FRAME), server(max_frame=MAX_FRAME)
    assert s.datagram_received(one(c)) == Established("k1", MAX_DATAGRAM_FRAME)
    assert c.datagram_received(one(s)) == Established("k1", MAX_DATAGRAM_FRAME)
