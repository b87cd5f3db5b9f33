"""Tags and sequence numbers, one object for each direction (docs/protocol.md, section 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sealwire.errors import BadSequence, PayloadTooLarge, RemoteProtocolError
from sealwire.limits import FRAME_OVERHEAD
from sealwire.wire.frames import HEAD, Kind, Payload
from sealwire.wire.keys import Mac
from sealwire.wire.reader import Frame

PIECE = 65_536
"""A payload over this is sealed piece by piece while it is sent, so that both ends compute its MAC at the same time."""

PEER_TAKES: Final = "the peer takes {most} at most (max_frame in its Limits)"

_JOINED: Final = 4096
"""Bytes that a piece of that size may still take in, rather than be a write of their own."""

WINDOW: Final = 64
"""How many numbers back a datagram may come late."""
_WHOLE_WINDOW: Final = (1 << WINDOW) - 1

# Looking a member up in its Enum takes longer than comparing it.
_MESSAGE: Final = Kind.MESSAGE
_REPLIES: Final = frozenset((Kind.MESSAGE, Kind.FAULT, Kind.PONG))


class Sealer:
    """Makes our frames."""

    def __init__(self, key: Mac, *, max_frame: int, sequence: int, taken: str = PEER_TAKES) -> None:
        self._key = key
        self._taken = taken
        self._max_payload = max_frame - FRAME_OVERHEAD
        self.sequence = sequence
        """The number of the next frame."""

    def seal(
        self, kind: int, payload: Payload = b"", *, wait: int = 0, reply_to: int = 0
    ) -> Iterable[bytes | memoryview]:
        """The frame, in pieces to be written in order; a small one is one piece.

        Raises PayloadTooLarge before a number is used up.
        """
        if isinstance(payload, list):
            size = sum(map(len, payload))
        else:
            size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        if size > self._max_payload:
            raise PayloadTooLarge(f"a payload of {size} bytes; {self._taken.format(most=self._max_payload)}")
        head = HEAD.pack(size + FRAME_OVERHEAD, kind, 0, wait, self.sequence, reply_to)
        pieces: Iterable[bytes | memoryview]
        if size > PIECE:
            parts = payload if isinstance(payload, list) else (payload,)
            pieces = self._pieces(head, [memoryview(part).cast("B") for part in parts])
        else:
            signed = b"".join((head, *payload)) if isinstance(payload, list) else head + payload
            pieces = (signed + self._key.tag(signed),)
        self.sequence += 1  # only now: a number that no frame has used would end the connection
        return pieces

    def _pieces(self, head: bytes, views: list[memoryview]) -> Iterator[bytes | memoryview]:
        running = self._key.begin()
        running.update(head)
        held: bytes | memoryview = head
        for view in views:
            for start in range(0, len(view), PIECE):
                piece = view[start : start + PIECE]
                running.update(piece)
                if len(held) + len(piece) <= PIECE + _JOINED:
                    held = b"".join((held, piece))
                else:
                    yield held
                    held = piece
        yield b"".join((held, self._key.finish(running)))


class Opener:
    """Judges the headers of the peer's frames, whose tags are right."""

    def __init__(self, *, from_client: bool) -> None:
        self._from_client = from_client
        self.sequence = 0
        """The number after the highest that came: on a stream, the one that the next frame must have."""

    def check(self, frame: Frame) -> None:
        """Raises BadSequence, or RemoteProtocolError for a header field out of range."""
        self._count(frame)
        if frame.flags:
            raise RemoteProtocolError(f"{frame} with flags {frame.flags:#04x}; version 1 has none")
        if frame.wait and not (self._from_client and frame.kind == _MESSAGE):
            raise RemoteProtocolError(f"{frame} with a wait; only a client's MESSAGE has one")
        if frame.reply_to and (self._from_client or frame.kind not in _REPLIES):
            raise RemoteProtocolError(f"{frame} with a reply_to; only a server's replies have one")

    def _count(self, frame: Frame) -> None:
        if frame.sequence != self.sequence:
            raise BadSequence(f"{frame} with number {frame.sequence}; {self.sequence} was due")
        self.sequence += 1


class Window(Opener):
    """The same for datagrams, which come in any order, or twice (RFC 6347, section 4.1.2.6).

    Numbers are remembered as far back as WINDOW.
    """

    def __init__(self, *, from_client: bool) -> None:
        super().__init__(from_client=from_client)
        self._seen = 0
        """A bit for each number, that of the highest first."""

    def is_new(self, sequence: int) -> bool:
        """Whether that number is within the window or above it, and has not come."""
        behind = self.sequence - 1 - sequence
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def _count(self, frame: Frame) -> None:
        behind = self.sequence - 1 - frame.sequence
        if behind < 0:
            self._seen = self._seen << min(-behind, WINDOW) & _WHOLE_WINDOW
            self.sequence = frame.sequence + 1
            behind = 0
        self._seen |= 1 << behind
