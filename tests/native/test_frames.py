"""The native core seals frames like the reference, and opens no frame that the reference opens differently."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwire.errors import RemoteProtocolError
from sealwire.limits import FRAME_OVERHEAD
from sealwire.native import NATIVE
from sealwire.wire.frame_reader import STAGING, Frame, Reader
from sealwire.wire.frames import HEAD, Kind
from sealwire.wire.keys import Mac
from sealwire.wire.sealing import PIECE, Sealer
from sealwire.wire.sequence import HeaderChecker

if not NATIVE:
    pytest.skip("the native core is not there", allow_module_level=True)

from sealwire.native.frames import FrameOpener, FrameSealer

MAC = Mac(b"k" * 32)
CAP = 1 << 20
LARGEST = STAGING - HEAD.size - 32
NUMBERS = st.sampled_from([0, 1, 2, 255, 256, 2**32, 2**63, 2**64 - 1])
PAYLOADS = st.binary(max_size=200) | st.sampled_from([b"x" * size for size in (LARGEST - 1, LARGEST)])


def reference_seal(kind: int, payload: Any, wait: int, sequence: int, reply_to: int) -> bytes:
    sealer = Sealer(MAC, max_frame=CAP, sequence=sequence)
    return b"".join(sealer.seal(kind, payload, wait=wait, reply_to=reply_to))


def reference_open(data: bytes, sequence: int, *, from_client: bool) -> Frame | None:
    """The frame, if the reference and the header checker accept it."""
    reader = Reader()
    reader.establish(MAC, CAP, from_client=from_client)
    reader.get_buffer()[: len(data)] = data
    reader.buffer_updated(len(data))
    checker = HeaderChecker(from_client=from_client)
    checker.sequence = sequence
    try:
        frame = reader.next_frame()
        if frame is not None:
            checker.check(frame)
    except RemoteProtocolError:
        return None
    return frame


def native_open(data: bytes, sequence: int, *, from_client: bool, cap: int = CAP) -> Frame | None:
    """The frame that is opened from a buffer, and the same from bytes as they came."""
    opener = FrameOpener(*MAC.blocks, Frame, cap, from_client)
    buffer = bytearray(STAGING)
    buffer[: len(data)] = data
    frame: Frame | None = opener.open(memoryview(buffer), 0, len(data), sequence)
    opener.feed(data)
    assert opener.next(sequence) == frame
    size = 0 if frame is None else HEAD.size + len(frame.payload) + 32
    assert opener.pending == len(data) - size
    assert opener.rest() == data[size:]
    assert opener.pending == 0
    return frame


@given(kind=st.sampled_from(list(Kind)), payload=PAYLOADS, wait=st.integers(0, 65_535), sequence=NUMBERS, reply=NUMBERS)
def test_it_seals_the_same(kind: int, payload: bytes, wait: int, sequence: int, reply: int) -> None:
    frame = FrameSealer(*MAC.blocks, PIECE).seal(kind, payload, wait, sequence, reply)
    assert frame == reference_seal(kind, payload, wait, sequence, reply)
    pieces = [payload[:7], bytearray(payload[7:9]), payload[9:]]
    assert FrameSealer(*MAC.blocks, PIECE).seal(kind, pieces, wait, sequence, reply) == frame


@pytest.mark.parametrize(
    "payload", [bytearray(b"x"), memoryview(b"x"), [memoryview(b"x")], "x", None, ("x",), b"x" * 101, [b"x" * 51] * 2]
)
def test_it_is_in_doubt_about_other_payloads(payload: Any) -> None:
    assert FrameSealer(*MAC.blocks, 100).seal(Kind.MESSAGE, payload, 0, 1, 0) is None


@pytest.mark.parametrize("number", [-1, 2**64])
def test_numbers_that_do_not_fit_are_refused(number: int) -> None:
    with pytest.raises(OverflowError):
        FrameSealer(*MAC.blocks, 100).seal(Kind.MESSAGE, b"", 0, number, 0)


@given(payload=PAYLOADS, number=st.integers(0, 65_535), sequence=NUMBERS, from_client=st.booleans(), more=st.binary())
def test_it_opens_messages(payload: bytes, number: int, sequence: int, from_client: bool, more: bytes) -> None:
    wait, reply_to = (number, 0) if from_client else (0, number)
    frame = reference_seal(Kind.MESSAGE, payload, wait, sequence, reply_to)
    data = (frame + more)[:STAGING]
    opened = native_open(data, sequence, from_client=from_client)
    assert opened == (Kind.MESSAGE, 0, wait, sequence, reply_to, payload, b"")
    reference = reference_open(data, sequence, from_client=from_client)
    assert reference is not None
    assert reference[:-1] == opened[:-1]
    assert native_open(frame[:-1], sequence, from_client=from_client) is None
    assert native_open(data, sequence, from_client=from_client, cap=len(frame) - 5) is None


@settings(max_examples=400)
@given(
    kind=st.sampled_from([*Kind, 0, 255]),
    payload=st.binary(max_size=60),
    wait=st.sampled_from([0, 1, 65_535]),
    sequence=st.integers(0, 3),
    reply_to=st.integers(0, 2),
    from_client=st.booleans(),
    expected=st.integers(0, 3),
    changes=st.lists(st.tuples(st.integers(0, 150), st.integers(1, 255)), max_size=2),
    cut=st.integers(0, 3),
)
def test_it_opens_nothing_that_the_reference_refuses(
    kind: int, payload: bytes, wait: int, sequence: int, reply_to: int, from_client: bool, expected: int,
    changes: list[tuple[int, int]], cut: int,
) -> None:  # fmt: skip
    data = bytearray(reference_seal(kind, payload, wait, sequence, reply_to))
    for place, change in changes:
        data[place % len(data)] ^= change
    del data[len(data) - cut :]
    opened = native_open(bytes(data), expected, from_client=from_client)
    reference = reference_open(bytes(data), expected, from_client=from_client)
    if opened is not None:
        assert reference is not None
        assert opened[:-1] == reference[:-1]
    elif reference is not None:
        assert reference.kind != Kind.MESSAGE


def test_each_bit_of_a_frame_counts() -> None:
    frame = reference_seal(Kind.MESSAGE, b"payload", 5, 9, 0)
    assert native_open(frame, 9, from_client=True) is not None
    for bit in range(len(frame) * 8):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        assert native_open(bytes(changed), 9, from_client=True) is None, bit


@pytest.mark.parametrize(
    ("start", "end"),
    [(-1, 100), (-(2**40), 2**40), (0, STAGING + 1), (50, 40), (STAGING, STAGING), (STAGING - 40, STAGING)],
)
def test_no_place_outside_of_the_buffer_is_read(start: int, end: int) -> None:
    frame = reference_seal(Kind.MESSAGE, b"", 0, 1, 0)
    buffer = bytearray(STAGING)
    buffer[-40:] = frame[:40]
    opener = FrameOpener(*MAC.blocks, Frame, CAP, True)
    assert opener.open(memoryview(buffer), start, end, 1) is None


def test_the_smallest_length_is_that_of_a_frame_without_payload() -> None:
    frame = bytearray(reference_seal(Kind.MESSAGE, b"", 0, 1, 0))
    for length in (0, 1, FRAME_OVERHEAD - 1, 2**32 - 1):
        frame[:4] = length.to_bytes(4, "big")
        assert native_open(bytes(frame), 1, from_client=True, cap=2**32) is None


@pytest.mark.parametrize("made", [FrameSealer(*MAC.blocks, 9), FrameOpener(*MAC.blocks, Frame, CAP, True)])
def test_it_cannot_be_pickled(made: object) -> None:
    with pytest.raises(TypeError, match="holds a secret"):
        pickle.dumps(made)
