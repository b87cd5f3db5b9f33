"""Tags and sequence numbers, without a protocol around them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import PayloadTooLarge
from sealwire.limits import FRAME_OVERHEAD
from sealwire.wire.frame_reader import Frame, verify
from sealwire.wire.frames import HEAD, TAG, Kind
from sealwire.wire.keys import Mac
from sealwire.wire.sealing import PIECE, Sealer

MAC = Mac(b"k" * 32)
LIMIT = 1 << 20


def sealer(**changes: Any) -> Sealer:
    return Sealer(MAC, **({"max_frame": LIMIT, "sequence": 1} | changes))


def frame(sequence: int, kind: int = Kind.MESSAGE, *, flags: int = 0, wait: int = 0, reply_to: int = 0) -> Frame:
    return Frame(kind, flags, wait, sequence, reply_to, b"", b"")


class TestSealer:
    def test_layout(self) -> None:
        (piece,) = sealer(sequence=7).seal(Kind.MESSAGE, b"payload", wait=150, reply_to=3)
        piece = bytes(piece)
        assert HEAD.unpack_from(piece) == (7 + FRAME_OVERHEAD, Kind.MESSAGE, 0, 150, 7, 3)
        assert piece[HEAD.size : -TAG] == b"payload"
        verify(piece, MAC)

    def test_counts_frames(self) -> None:
        made = sealer(sequence=5)
        for sequence in (5, 6, 7):
            assert made.sequence == sequence
            (piece,) = made.seal(Kind.PING)
            assert bytes(piece)[:-TAG] == HEAD.pack(FRAME_OVERHEAD, Kind.PING, 0, 0, sequence, 0)

    @pytest.mark.parametrize("payload", [b"x" * 101, memoryview(b"x" * 101), [b"x" * 50, bytearray(51)]])
    def test_a_payload_too_large_uses_no_sequence(self, payload: Any) -> None:
        made = sealer(max_frame=100 + FRAME_OVERHEAD)
        with pytest.raises(PayloadTooLarge, match="101 bytes; the peer accepts at most 100"):
            made.seal(Kind.MESSAGE, payload)
        assert made.sequence == 1
        made.seal(Kind.MESSAGE, b"x" * 100)
        assert made.sequence == 2

    def test_the_size_of_a_memoryview_is_in_bytes(self) -> None:
        payload = memoryview(b"x" * 104).cast("Q")
        with pytest.raises(PayloadTooLarge, match="104 bytes; at most 100"):
            sealer(max_frame=100 + FRAME_OVERHEAD, size_limit="at most {limit}").seal(Kind.MESSAGE, payload)

    @given(st.lists(st.integers(0, 3 * PIECE).map(bytes) | st.integers(0, 3 * PIECE).map(bytearray), max_size=5))
    def test_pieces_join_to_the_frame_of_the_joined_payload(self, parts: list[bytes | bytearray]) -> None:
        whole = b"".join(sealer().seal(Kind.MESSAGE, b"".join(parts)))
        assert b"".join(sealer().seal(Kind.MESSAGE, parts)) == whole
        verify(whole, MAC)

    def test_no_piece_is_much_larger_than_those_that_are_sealed_at_once(self) -> None:
        pieces = list(sealer().seal(Kind.MESSAGE, [bytes(10 * PIECE), bytes(10), bytes(3 * PIECE)]))
        assert len(pieces) >= 13
        assert max(map(len, pieces)) <= PIECE + 4096 + TAG
