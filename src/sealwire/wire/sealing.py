"""Seals outgoing frames: sequence numbers and tags (docs/protocol.md, section 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, Final

from sealwire.errors import PayloadTooLarge
from sealwire.limits import FRAME_OVERHEAD
from sealwire.native import NATIVE
from sealwire.wire.frames import HEAD, Payload, payload_size
from sealwire.wire.keys import Mac

if NATIVE:
    _frames = import_module("sealwire.native.frames")  # compiled, and so not known to the linters

PIECE = 65_536
"""Bytes of a payload above which it is sealed piece by piece while it is sent, so both ends compute the MAC at once."""

PEER_LIMIT: Final = "the peer accepts at most {limit} (max_frame in its Limits)"

_JOINED: Final = 4096
"""Bytes by which a piece may exceed PIECE if that saves a separate write."""


class Sealer:
    """Builds frames, with tags and sequence numbers."""

    def __init__(self, key: Mac, *, max_frame: int, sequence: int, size_limit: str = PEER_LIMIT) -> None:
        self._key = key
        self._size_limit = size_limit
        self._max_payload = max_frame - FRAME_OVERHEAD
        self.twin: Any = _frames.FrameSealer(*key.blocks, min(self._max_payload, PIECE)) if NATIVE else None
        """Seals small frames without flags, given their sequence; returns None if in doubt. None if there is none."""
        self.sequence = sequence
        """The sequence of the next frame."""

    def seal(
        self, kind: int, payload: Payload = b"", wait: int = 0, reply_to: int = 0, flags: int = 0
    ) -> Iterable[bytes | memoryview]:
        """Return a frame, in pieces to write in order. A small frame is one piece.

        Raises PayloadTooLarge, in which case the sequence stays unused.
        """
        size = payload_size(payload)
        if size > self._max_payload:
            raise PayloadTooLarge(f"a payload of {size} bytes; {self._size_limit.format(limit=self._max_payload)}")
        head = HEAD.pack(size + FRAME_OVERHEAD, kind, flags, wait, self.sequence, reply_to)
        pieces: Iterable[bytes | memoryview]
        if size > PIECE:
            parts = payload if isinstance(payload, list) else (payload,)
            pieces = self._pieces(head, [memoryview(part).cast("B") for part in parts])
        else:
            signed = b"".join((head, *payload)) if isinstance(payload, list) else head + payload
            pieces = (signed + self._key.tag(signed),)
        self.sequence += 1  # last, since the peer ends the connection if it misses a number
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
