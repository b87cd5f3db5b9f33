"""However a stream is cut and consumed, each byte arrived with its own chunk."""

from __future__ import annotations

import pickle
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwire.session.arrival_times import Arrivals
from sealwire.wire.events import Request
from support.wire import established, sent


@given(
    st.integers(0, 50), st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(1, 60), max_size=4)), max_size=20)
)
def test_any_chunks_and_any_consumption(first: int, steps: list[tuple[int, list[int]]]) -> None:
    """``steps``: the size of a chunk, and how much is consumed, bit by bit, before the next one arrives."""
    arrivals = Arrivals(first, -1.0)
    moments = [-1.0] * first
    consumed = 0
    for now, (size, bites) in enumerate(steps):
        arrivals.add(size, float(now), len(moments) - consumed)
        moments += [float(now)] * size
        for bite in bites:
            consumed = min(len(moments), consumed + bite)
            if consumed:
                assert arrivals.at(len(moments) - consumed) == moments[consumed - 1]


def test_what_was_there_already() -> None:
    arrivals = Arrivals(10, 5.0)
    assert arrivals.at(4) == 5.0
    arrivals.add(10, 6.0, 4)
    assert [arrivals.at(pending) for pending in (14, 10, 9, 0)] == [5.0, 5.0, 6.0, 6.0]


@pytest.mark.parametrize(("later", "shared"), [(0.009, True), (0.01, False), (0.011, False)])
def test_what_comes_at_nearly_the_same_moment(later: float, shared: bool) -> None:
    arrivals = Arrivals(10, 0.0)
    arrivals.add(5, later, 10)
    assert [arrivals.at(5), arrivals.at(0)] == [later if shared else 0.0, later]


def test_what_was_taken_out_and_not_looked_at() -> None:
    """A record of TLS is decrypted as a whole: its second request arrived with the first, whatever came since."""
    arrivals = Arrivals()
    arrivals.add(100, 1.0, 0)
    assert arrivals.at(0) == 1.0
    arrivals.add(50, 2.0, 0)
    assert arrivals.at(50) == 1.0
    arrivals.add(50, 3.0, 50)
    assert [arrivals.at(pending) for pending in (100, 50, 0)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("behind", [0, 5])
def test_remembers_no_more_than_it_must(behind: int, asked: bool) -> None:
    """A connection that goes on for ever needs no more memory for that, even if it has no requests."""
    arrivals = Arrivals(behind, 0.0)
    sizes = set()
    for number in range(1, 1000):
        arrivals.add(5, float(number), behind)
        if asked:
            assert arrivals.at(behind) == number - behind // 5
        sizes.add(len(pickle.dumps(arrivals)))
    assert max(sizes) < 300


def test_single_bytes_take_little_memory() -> None:
    """A peer may send them one by one while nothing is consumed. They count as a little younger, never as older."""
    arrivals = Arrivals()
    moments = [number / 10_000 for number in range(1, 10_001)]
    for number, moment in enumerate(moments):
        arrivals.add(1, moment, number)
    assert len(pickle.dumps(arrivals)) < 5000
    for consumed, moment in enumerate(moments, 1):
        assert 0 <= arrivals.at(len(moments) - consumed) - moment <= 0.01


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([0, 1, 100, 5000, 16_329, 70_000]), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(1, 20_000), st.booleans()), min_size=1, max_size=8),
)
def test_requests_arrive_with_their_last_byte(payloads: list[int], pieces: list[tuple[int, bool]]) -> None:
    """As pumps use it. ``pieces``: their sizes, and whether events are taken before the next one arrives."""
    client, server = established()
    frames = []
    for size in payloads:
        client.send_request(bytes(size))
        frames.append(sent(client))
    data = memoryview(b"".join(frames))
    ends = list(accumulate(map(len, frames)))
    arrivals, starts, found, now = Arrivals(), [0], [], 0
    while starts[-1] < len(data):
        size, taken = pieces[now % len(pieces)]
        buffer = server.get_buffer()
        size = min(size, len(buffer), len(data) - starts[-1])
        buffer[:size] = data[starts[-1] : starts[-1] + size]
        del buffer
        pending = server.pending
        server.buffer_updated(size)
        arrivals.add(size, float(now), pending)
        starts.append(starts[-1] + size)
        now += 1
        if taken or not server.room or starts[-1] == len(data):
            while (event := server.next_event()) is not None:
                assert isinstance(event, Request)
                found.append(arrivals.at(server.pending))
    chunks = list(pairwise(starts))
    assert found == [next(number for number, (start, end) in enumerate(chunks) if start < at <= end) for at in ends]
