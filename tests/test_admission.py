"""Slots: bounds, eviction, and release."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

import sealwire.slot
from sealwire import Limits
from sealwire.admission import GRACE, SILENCE, Admission
from sealwire.computing import computations
from sealwire.shared_bounds import SharedBounds
from sealwire.trust.identity import PeerIdentity

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
    monkeypatch.setattr(sealwire.slot, "monotonic", lambda: pairs.now)
    yield pairs
    for sock in pairs.made:
        sock.close()


def ended(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


def test_oldest_is_evicted_after_its_grace(pairs: Pairs) -> None:
    admission = Admission(Limits(max_handshakes=2))
    (first, first_peer), (second, second_peer) = pairs.pair(), pairs.pair()
    assert admission.wait_for_room(0)
    admission.acquire(first)
    assert admission.wait_for_room(0)
    pairs.now += 0.5
    admission.acquire(second)
    assert not admission.wait_for_room(0)
    assert not ended(first_peer)
    pairs.now += GRACE - 0.5
    assert not admission.wait_for_room(0)  # evicted, but not released yet
    assert ended(first_peer)
    assert not ended(second_peer)
    pairs.now += 0.6
    assert not admission.wait_for_room(0)
    assert ended(second_peer)


def test_one_that_was_welcomed_has_more_time(pairs: Pairs) -> None:
    """It may have sent a request, whose fate it could not know. Strangers are evicted before it."""
    limits = Limits(max_handshakes=2, max_handshakes_per_source=2, handshake_timeout=10)
    admission = Admission(limits)
    welcomed, stranger = (admission.acquire(From("192.0.2.1")) for _ in range(2))
    welcomed.mark_welcomed()
    pairs.now += GRACE
    assert admission.until_late() == 0
    assert not admission.acquire(From("192.0.2.1")).evicted
    assert (welcomed.evicted, stranger.evicted) == (False, True)
    pairs.now += GRACE
    assert not admission.wait_for_room(0)
    assert not welcomed.evicted
    assert admission.unauthenticated()[0] is welcomed
    pairs.now += limits.handshake_timeout - 2 * GRACE
    admission.wait_for_room(0)
    assert welcomed.evicted


def test_one_on_which_nothing_came_has_less(pairs: Pairs) -> None:
    """A part of a ClientHello is something, though nothing has read it."""
    admission = Admission(Limits(max_handshakes=2))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(2)]
        slots = [admission.acquire(listener.accept()[0]) for _ in range(2)]
    pairs.made += [*clients, *(slot._sock for slot in slots if slot._sock is not None)]
    clients[1].send(b"\x16")
    select.select([slots[1]._sock], [], [], 5)
    assert admission.until_late() == pytest.approx(SILENCE)
    pairs.now += SILENCE + 0.01
    assert not admission.wait_for_room(0)
    assert [slot.evicted for slot in slots] == [True, False]
    pairs.now += GRACE - SILENCE
    assert not admission.wait_for_room(0)
    assert slots[1].evicted


def test_room_is_signalled(pairs: Pairs) -> None:
    admission = Admission(Limits(max_handshakes=1))
    slot = admission.acquire(pairs.pair()[0])
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(admission.wait_for_room(10)))
    thread.start()
    slot.release()
    thread.join(5)
    assert found == [True]


def test_established_connections_are_never_evicted(pairs: Pairs) -> None:
    admission = Admission(Limits(max_handshakes=1, max_connections=3))
    peers = []
    for _ in range(3):
        ours, theirs = pairs.pair()
        assert admission.acquire(ours).mark_authenticated()
        peers.append(theirs)
    assert admission.overloaded()
    pairs.now += 100
    pending, pending_peer = pairs.pair()
    slot = admission.acquire(pending)
    assert not admission.wait_for_room(0)
    pairs.now += 100
    assert not admission.wait_for_room(0)
    assert ended(pending_peer)
    assert not any(map(ended, peers))
    assert not slot.mark_authenticated()


def test_a_released_slot_is_free(pairs: Pairs) -> None:
    admission = Admission(Limits(max_handshakes=1, max_connections=1))
    first = admission.acquire(pairs.pair()[0])
    assert first.mark_authenticated()
    assert admission.overloaded()
    first.release()
    first.release()
    assert not admission.overloaded()
    assert admission.slots() == []


def test_a_closed_socket_is_not_touched(pairs: Pairs) -> None:
    """Its descriptor may belong to another file by then."""
    admission = Admission(Limits(max_handshakes=1))
    ours, theirs = pairs.pair()
    slot = admission.acquire(ours)
    slot.track_socket(None)
    pairs.now += 100
    admission.wait_for_room(0)
    assert slot.evicted
    assert not ended(theirs)


def test_evict(pairs: Pairs) -> None:
    admission = Admission(Limits())
    peers = []
    for number in range(4):
        ours, theirs = pairs.pair()
        slot = admission.acquire(ours)
        if number % 2:
            slot.mark_authenticated()
        peers.append(theirs)
    assert len(admission.unauthenticated()) == 2
    left = admission.unauthenticated()[0]
    left.release()
    admission.evict([*admission.unauthenticated(), left])
    assert [ended(peer) for peer in peers] == [False, False, True, False]
    admission.evict(admission.slots())
    assert [ended(peer) for peer in peers] == [False, True, True, True]


def test_a_child_process_is_killed(pairs: Pairs) -> None:
    """The child serves the connection, so eviction ends the child."""
    admission = Admission(Limits(max_handshakes=1))
    slot = admission.acquire(pairs.pair()[0])
    with subprocess.Popen(["sleep", "60"]) as child:
        slot.pid = child.pid
        admission.evict([slot])
        assert child.wait(5) == -signal.SIGKILL
    admission.evict([slot])  # the process is gone


def test_slots_are_used_again(pairs: Pairs) -> None:
    admission = Admission(Limits(max_handshakes=2, max_connections=1))
    for _ in range(10):
        first = admission.acquire(pairs.pair()[0])
        second = admission.acquire(pairs.pair()[0])
        assert not admission.wait_for_room(0)
        assert first.mark_authenticated()
        assert not second.mark_authenticated()
        assert admission.unauthenticated() == [second]
        first.release()
        assert second.mark_authenticated()
        second.release()
    assert admission.slots() == []
    assert not admission.overloaded()


def test_join(pairs: Pairs) -> None:
    slot = Admission(Limits()).acquire(pairs.pair()[0])
    slot.join(0)
    go = threading.Event()
    slot.thread = threading.Thread(target=go.wait)
    slot.thread.start()
    slot.join(pairs.now)
    assert slot.thread.is_alive()
    go.set()
    slot.join(float("inf"))
    assert not slot.thread.is_alive()


def test_wait_until_authenticated(pairs: Pairs) -> None:
    admission = Admission(Limits())
    slots = [admission.acquire(pairs.pair()[0]) for _ in range(2)]
    admission.wait_until_authenticated(0)
    assert admission.unauthenticated() == slots
    thread = threading.Thread(target=admission.wait_until_authenticated, args=[60])
    thread.start()
    slots[0].release()
    assert slots[1].mark_authenticated()
    thread.join(5)
    assert not thread.is_alive()


class From:
    """A socket whose peer has that address."""

    def __init__(self, host: str) -> None:
        self._host = host

    def getpeername(self) -> tuple[str, int]:
        return self._host, 4711

    def getsockopt(self, *_: int) -> bytes:
        raise OSError

    def shutdown(self, _: int) -> None:
        pass


class TestSources:
    """Each address has its share of the handshakes."""

    def test_no_more_than_its_bound(self, pairs: Pairs) -> None:
        admission = Admission(Limits(max_handshakes_per_source=2))
        first, second = (admission.acquire(From("192.0.2.1")) for _ in range(2))
        assert admission.acquire(From("192.0.2.1")).evicted
        assert not admission.acquire(From("192.0.2.2")).evicted
        pairs.now += GRACE
        assert not admission.acquire(From("192.0.2.1")).evicted
        assert first.evicted
        assert not second.evicted

    def test_when_all_are_taken_the_address_with_most_gives_way(self, pairs: Pairs) -> None:
        admission = Admission(Limits(max_handshakes=4))
        flood = []
        for _ in range(4):
            assert admission.wait_for_room(0)
            flood.append(admission.acquire(From("192.0.2.1")))
        assert not admission.wait_for_room(0)  # all of one address: no other could be preferred
        flood[0].release()
        good = admission.acquire(From("192.0.2.2"))
        assert admission.wait_for_room(0)
        assert admission.acquire(From("192.0.2.1")).evicted
        other = admission.acquire(From("192.0.2.3"))
        assert [slot.evicted for slot in (*flood, good, other)] == [False, False, False, True, False, False]
        assert pairs.now

    def test_all_that_are_late_are_evicted(self, pairs: Pairs) -> None:
        admission = Admission(Limits(max_handshakes=3))
        slots = [admission.acquire(From("192.0.2.1")) for _ in range(3)]
        assert admission.until_late() == GRACE
        pairs.now += GRACE
        assert not admission.wait_for_room(0)
        assert all(slot.evicted for slot in slots)

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("fe80::1%eth0", "fe80::2", True),
            ("192.0.2.1", "192.0.2.2", False),
        ],
    )
    def test_addresses(self, one: str, other: str, same: bool) -> None:
        admission = Admission(Limits(max_handshakes_per_source=1))
        admission.acquire(From(one))
        assert admission.acquire(From(other)).evicted is same

    def test_a_loop_is_told(self, pairs: Pairs) -> None:
        admission = Admission(Limits(max_handshakes=1))
        told: list[str] = []
        admission.on_change = lambda: told.append("changed")
        slot = admission.acquire(pairs.pair()[0])
        assert told == []
        slot.mark_authenticated()
        assert told == ["changed"]
        slot.release()
        assert told == ["changed"] * 2


class TestIdentities:
    """One identity cannot have all connections."""

    def test_has_its_share(self, pairs: Pairs) -> None:
        admission = Admission(Limits(max_connections=4, max_identity_share=50))
        slots = []
        for name in ("a", "a", "a", "b"):
            slot = admission.acquire(pairs.pair()[0])
            slot.peer = PeerIdentity(dns=(name,), fingerprint=str(len(slots)))
            slots.append(slot)
        assert [slot.mark_authenticated() for slot in slots] == [True, True, False, True]
        assert [admission.overloaded(slot) for slot in slots] == [True, True, True, False]
        assert not admission.overloaded()
        slots[0].release()
        assert slots[2].mark_authenticated()

    def test_processes_of_one_user_are_one(self, pairs: Pairs) -> None:
        admission = Admission(Limits(max_connections=2, max_identity_share=50))
        slots = []
        for pid in (1, 2):
            slot = admission.acquire(pairs.pair()[0])
            slot.peer = PeerIdentity.of_process(1000, 1000, pid)
            slots.append(slot)
        assert [slot.mark_authenticated() for slot in slots] == [True, False]


def test_processes_share_bounds() -> None:
    """Each has a number that no other one has."""
    limits = Limits(max_requests_per_second=1, max_buffered=64 << 20)
    shared = SharedBounds(limits, 2)
    numbers = [shared.free_index(set()), shared.free_index({0})]
    first, second = Admission(limits), Admission(limits)
    try:
        for number, admission in zip(numbers, (first, second), strict=True):
            admission.share(shared, number)
        first.buffers.open().update(1 << 20)
        assert first.buffers.used == second.buffers.used == shared.held.total == 1 << 20
        assert first.rates is not None
        assert second.rates is not None
        assert first.rates.allow("a", 1.0)
        assert not second.rates.allow("a", 1.0)
        with computations.one("a", 1 << 20):
            assert shared.decoding.large[1] == limits.max_memory
            shared.clear_others({0})
            assert shared.decoding.large.total == 0
            shared.decoding.large[1] = limits.max_memory
    finally:
        computations.reset()


def test_children_that_were_ended_do_not_count_until_they_are_reaped(pairs: Pairs) -> None:
    mib = 1 << 20
    admission = Admission(Limits(max_buffered=4 * mib))
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(4)]
    slots = [admission.acquire(pairs.pair()[0]) for _ in processes]
    try:
        for slot, process in zip(slots, processes, strict=True):
            slot.pid = process.pid
            admission.publish_held(slot.index, 3 * mib // 2)
        for _ in range(2):
            admission.shed_children()
            assert [slot.evicted for slot in slots] == [True, True, False, False]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for slot in slots:
            slot.release()
