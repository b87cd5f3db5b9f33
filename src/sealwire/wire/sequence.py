"""Checks sequence numbers and the other header fields of incoming frames (docs/protocol.md, section 2)."""

from __future__ import annotations

from typing import Final

from sealwire.errors import BadSequence, RemoteProtocolError
from sealwire.wire.features import Features
from sealwire.wire.frame_reader import Frame
from sealwire.wire.frames import Kind

WINDOW: Final = 64
"""The number of sequence numbers that a datagram may be late by."""
_WHOLE_WINDOW: Final = (1 << WINDOW) - 1

# Looking a member up in its Enum takes longer than comparing it.
_MESSAGE: Final = int(Kind.MESSAGE)
_LAST_PLAIN: Final = int(Kind.REJECT)
_REPLIES: Final = frozenset((Kind.MESSAGE, Kind.FAULT, Kind.PONG))
_OF_CLIENT: Final = {Kind.CANCEL: "cancel", Kind.PART: "parts", Kind.CREDIT: "parts", Kind.END: "parts"}
_OF_SERVER: Final = {Kind.PART: "parts", Kind.CREDIT: "parts"}
"""The kinds of frame that a feature adds, and its name in Features."""


class HeaderChecker:
    """Checks the headers of the peer's frames after their tags."""

    def __init__(self, *, from_client: bool) -> None:
        self._from_client = from_client
        self._flags = 0
        self._added: frozenset[int] = frozenset()
        self._references: frozenset[int] = frozenset() if from_client else _REPLIES
        self.sequence = 0
        """The highest sequence received plus one; on a stream, the sequence that the next frame must have."""

    def allow(self, features: Features) -> None:
        """Accept flags and kinds of frame of the features that were agreed on."""
        self._flags = features.flags(of_client=self._from_client)
        added = _OF_CLIENT if self._from_client else _OF_SERVER
        self._added = frozenset(int(kind) for kind, name in added.items() if getattr(features, name))
        self._references |= self._added

    def check(self, frame: Frame) -> None:
        """Accept a frame, or raise BadSequence, or RemoteProtocolError for a field out of range."""
        self._check_sequence(frame)
        if frame.flags and (frame.kind != _MESSAGE or frame.flags & ~self._flags):
            raise RemoteProtocolError(f"{frame} with flags {frame.flags:#04x}, which were not agreed on")
        if frame.kind > _LAST_PLAIN and frame.kind not in self._added:
            raise RemoteProtocolError(f"{frame}, which was not agreed on")
        if frame.wait and not (self._from_client and frame.kind == _MESSAGE):
            raise RemoteProtocolError(f"{frame} with a wait; only a client's MESSAGE has one")
        if frame.reply_to and frame.kind not in self._references:
            raise RemoteProtocolError(f"{frame} with a reply_to; only replies and what belongs to a request have one")

    def _check_sequence(self, frame: Frame) -> None:
        if frame.sequence != self.sequence:
            raise BadSequence(f"{frame} with sequence {frame.sequence}; {self.sequence} was expected")
        self.sequence += 1


class ReplayWindow(HeaderChecker):
    """A HeaderChecker for datagrams, which may be reordered or repeated (RFC 6347, section 4.1.2.6).

    It remembers the last WINDOW sequence numbers.
    """

    def __init__(self, *, from_client: bool) -> None:
        super().__init__(from_client=from_client)
        self._seen = 0
        """A bit for each number received; the lowest bit is the highest number."""

    def is_new(self, sequence: int) -> bool:
        """Return True if a sequence was not received before and is not too old."""
        behind = self.sequence - 1 - sequence
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def _check_sequence(self, frame: Frame) -> None:
        behind = self.sequence - 1 - frame.sequence
        if behind < 0:
            self._seen = self._seen << min(-behind, WINDOW) & _WHOLE_WINDOW
            self.sequence = frame.sequence + 1
            behind = 0
        self._seen |= 1 << behind
