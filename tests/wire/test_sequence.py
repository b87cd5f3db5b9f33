"""Sequence numbers and headers of incoming frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import BadSequence, RemoteProtocolError
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import Kind
from sealwire.wire.sequence import WINDOW, HeaderChecker, ReplayWindow


def frame(sequence: int, kind: int = Kind.MESSAGE, *, flags: int = 0, wait: int = 0, reply_to: int = 0) -> Frame:
    return Frame(kind, flags, wait, sequence, reply_to, b"", b"")


class TestHeaderChecker:
    def test_sequences_on_a_stream(self) -> None:
        checker = HeaderChecker(from_client=True)
        for sequence in range(3):
            checker.check(frame(sequence))
        for wrong in (2, 4):
            with pytest.raises(BadSequence, match=f"MESSAGE frame with sequence {wrong}; 3 was expected"):
                checker.check(frame(wrong))
        checker.check(frame(3))

    @pytest.mark.parametrize(
        ("from_client", "kind", "fields", "says"),
        [
            (True, Kind.MESSAGE, {"flags": 1}, "with flags 0x01; version 1 defines none"),
            (True, Kind.PING, {"wait": 1}, "PING frame with a wait"),
            (False, Kind.MESSAGE, {"wait": 1}, "MESSAGE frame with a wait"),
            (True, Kind.MESSAGE, {"reply_to": 1}, "MESSAGE frame with a reply_to"),
            (False, Kind.CLOSE, {"reply_to": 1}, "CLOSE frame with a reply_to"),
        ],
    )
    def test_wrong_fields(self, from_client: bool, kind: int, fields: dict[str, int], says: str) -> None:
        with pytest.raises(RemoteProtocolError, match=says):
            HeaderChecker(from_client=from_client).check(frame(0, kind, **fields))

    def test_right_fields(self) -> None:
        HeaderChecker(from_client=True).check(frame(0, wait=1))
        for kind in (Kind.MESSAGE, Kind.FAULT, Kind.PONG):
            HeaderChecker(from_client=False).check(frame(0, kind, reply_to=1))


class TestReplayWindow:
    def test_any_order_but_once(self) -> None:
        window = ReplayWindow(from_client=True)
        for sequence in (0, 5, 3, 4, 1, 2):
            assert window.is_new(sequence)
            window.check(frame(sequence))
            assert not window.is_new(sequence)
        assert window.sequence == 6

    def test_its_edge(self) -> None:
        window = ReplayWindow(from_client=True)
        window.check(frame(100))
        assert window.is_new(101 - WINDOW)
        assert not window.is_new(100 - WINDOW)
        window.check(frame(101 - WINDOW))
        assert not window.is_new(101 - WINDOW)

    def test_a_jump_forgets_everything(self) -> None:
        window = ReplayWindow(from_client=True)
        window.check(frame(0))
        window.check(frame(1 << 40))
        assert not window.is_new(0)
        assert window.is_new((1 << 40) - WINDOW + 1)

    @given(st.lists(st.integers(0, 200), max_size=100))
    def test_against_a_set(self, sequences: list[int]) -> None:
        window, seen = ReplayWindow(from_client=True), set[int]()
        for sequence in sequences:
            expected = sequence not in seen and sequence > max(seen, default=-1) - WINDOW
            assert window.is_new(sequence) is expected
            if expected:
                window.check(frame(sequence))
                seen.add(sequence)
