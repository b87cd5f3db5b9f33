"""Places: who has one, who must give it up."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from sealwire import Limits, admission
from sealwire.admission import GRACE, Admission

pytestmark = pytest.mark.usefixtures("clean")


class Pairs:
    """Connected sockets; the clock of admission is ours."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.made: list[socket.socket] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        self.made += pair
        return pair


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pairs]:
    pairs = Pairs()
    monkeypatch.setattr(admission, "monotonic", lambda: pairs.now)
    yield pairs
    for sock in pairs.made:
        sock.close()


def ended(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


def test_oldest_makes_room_after_its_time(pairs: Pairs) -> None:
    places = Admission(Limits(max_handshakes=2))
    (first, first_peer), (second, second_peer) = pairs.pair(), pairs.pair()
    assert places.room(0)
    places.enter(first)
    assert places.room(0)
    pairs.now += 0.5
    places.enter(second)
    assert not places.room(0)
    assert not ended(first_peer)
    pairs.now += GRACE - 0.5
    assert not places.room(0)  # it has been told, but is not gone
    assert ended(first_peer)
    assert not ended(second_peer)
    pairs.now += 0.6
    assert not places.room(0)
    assert ended(second_peer)


def test_room_is_signalled(pairs: Pairs) -> None:
    places = Admission(Limits(max_handshakes=1))
    place = places.enter(pairs.pair()[0])
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(places.room(10)))
    thread.start()
    place.leave()
    thread.join(5)
    assert found == [True]


def test_established_places_are_never_dropped_for_others(pairs: Pairs) -> None:
    places = Admission(Limits(max_handshakes=1, max_connections=3))
    peers = []
    for _ in range(3):
        ours, theirs = pairs.pair()
        assert places.enter(ours).promote()
        peers.append(theirs)
    assert places.overloaded()
    pairs.now += 100
    pending, pending_peer = pairs.pair()
    place = places.enter(pending)
    assert not places.room(0)
    pairs.now += 100
    assert not places.room(0)
    assert ended(pending_peer)
    assert not any(map(ended, peers))
    assert not place.promote()


def test_a_place_left_is_free(pairs: Pairs) -> None:
    places = Admission(Limits(max_handshakes=1, max_connections=1))
    first = places.enter(pairs.pair()[0])
    assert first.promote()
    assert places.overloaded()
    first.leave()
    first.leave()
    assert not places.overloaded()
    assert places.places() == []


def test_a_closed_socket_is_not_touched(pairs: Pairs) -> None:
    """Its descriptor may be somebody else's by then."""
    places = Admission(Limits(max_handshakes=1))
    ours, theirs = pairs.pair()
    place = places.enter(ours)
    place.hold(None)
    pairs.now += 100
    places.drop_oldest()
    assert place.dropped
    assert not ended(theirs)


def test_drop(pairs: Pairs) -> None:
    places = Admission(Limits())
    peers = []
    for number in range(4):
        ours, theirs = pairs.pair()
        place = places.enter(ours)
        if number % 2:
            place.promote()
        peers.append(theirs)
    assert len(places.pending()) == 2
    left = places.pending()[0]
    left.leave()
    places.drop([*places.pending(), left])
    assert [ended(peer) for peer in peers] == [False, False, True, False]
    places.drop(places.places())
    assert [ended(peer) for peer in peers] == [False, True, True, True]


def test_a_child_process_is_killed(pairs: Pairs) -> None:
    """Its connection is its own: ending our copy of the socket would not end it."""
    places = Admission(Limits(max_handshakes=1))
    place = places.enter(pairs.pair()[0])
    with subprocess.Popen(["sleep", "60"]) as child:
        place.pid = child.pid
        places.drop([place])
        assert child.wait(5) == -signal.SIGKILL
    places.drop([place])  # with nobody there any more


def test_places_are_used_again(pairs: Pairs) -> None:
    places = Admission(Limits(max_handshakes=2, max_connections=1))
    for _ in range(10):
        first = places.enter(pairs.pair()[0])
        second = places.enter(pairs.pair()[0])
        assert not places.room(0)
        assert first.promote()
        assert not second.promote()
        assert places.pending() == [second]
        first.leave()
        assert second.promote()
        second.leave()
    assert places.places() == []
    assert not places.overloaded()


def test_join(pairs: Pairs) -> None:
    place = Admission(Limits()).enter(pairs.pair()[0])
    place.join(0)
    go = threading.Event()
    place.thread = threading.Thread(target=go.wait)
    place.thread.start()
    place.join(pairs.now)
    assert place.thread.is_alive()
    go.set()
    place.join(float("inf"))
    assert not place.thread.is_alive()
