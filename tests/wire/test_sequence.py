"""Sequence numbers and headers of incoming frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import BadSequence, RemoteProtocolError
from sealwire.wire.features import NO_FEATURES, Features
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import Flag, Kind
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
            (True, Kind.MESSAGE, {"flags": 1}, "with flags 0x01, which were not agreed on"),
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


METADATA, CANCEL, PARTS = Features(metadata=True), Features(cancel=True), Features(window=1, at_once=1)
ADDED = {
    (True, Kind.CANCEL): CANCEL,
    (True, Kind.PART): PARTS,
    (True, Kind.CREDIT): PARTS,
    (True, Kind.END): PARTS,
    (False, Kind.PART): PARTS,
    (False, Kind.CREDIT): PARTS,
}
"""The feature that lets a side send a kind of frame."""
FLAGS = {
    (True, Flag.METADATA): METADATA,
    (True, Flag.PARTS): PARTS,
    (True, Flag.UPLOAD): PARTS,
    (False, Flag.METADATA): METADATA,
}


def accepts(features: Features, *, from_client: bool, **fields: int) -> bool:
    checker = HeaderChecker(from_client=from_client)
    checker.allow(features)
    try:
        checker.check(frame(0, **fields))
    except RemoteProtocolError:
        return False
    return True


class TestFeatures:
    @pytest.mark.parametrize("from_client", [True, False])
    @pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.PART, Kind.CREDIT, Kind.END, 0, 13, 255])
    def test_kinds_that_a_feature_adds(self, from_client: bool, kind: int) -> None:
        needed = ADDED.get((from_client, Kind(kind))) if kind in list(Kind) else None
        for features in (NO_FEATURES, METADATA, CANCEL, PARTS):
            # A kind that no feature adds, and that is not one of a plain exchange, is refused by number alone.
            expected = features == needed or kind == 0
            assert accepts(features, from_client=from_client, kind=kind) is expected
            assert accepts(features, from_client=from_client, kind=kind, reply_to=7) is (features == needed)

    @pytest.mark.parametrize("from_client", [True, False])
    @pytest.mark.parametrize("flags", [1, 2, 4, 8, 16, 32, 64, 128, 3, 6, 7, 9])
    def test_flags_that_a_feature_adds(self, from_client: bool, flags: int) -> None:
        for features in (NO_FEATURES, METADATA, CANCEL, PARTS, Features(True, True, 1, 1)):
            needed = [FLAGS.get((from_client, flag)) for flag in (Flag(1 << bit) for bit in range(8)) if flags & flag]
            expected = all(one is not None and features.agreed(one) == one for one in needed)
            assert accepts(features, from_client=from_client, flags=flags) is expected

    @pytest.mark.parametrize("kind", [kind for kind in Kind if kind != Kind.MESSAGE])
    @pytest.mark.parametrize("from_client", [True, False])
    def test_only_a_message_has_flags(self, kind: int, from_client: bool) -> None:
        assert not accepts(Features(True, True, 1, 1), from_client=from_client, kind=kind, flags=1)

    @pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.PART, Kind.CREDIT, Kind.END])
    def test_they_have_no_wait(self, kind: int) -> None:
        assert accepts(Features(True, True, 1, 1), from_client=True, kind=kind)
        assert not accepts(Features(True, True, 1, 1), from_client=True, kind=kind, wait=1)


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
