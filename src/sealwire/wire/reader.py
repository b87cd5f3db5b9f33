"""Bytes in, whole frames out, at a cost bounded by the bytes that came.

The pump reads straight into the buffer that :meth:`Reader.get_buffer` hands out (asyncio's BufferedProtocol shape). A
frame that fits the staging area is cut out of it in one piece. A larger one gets a buffer of its own, which grows as
its bytes arrive, never on the word of the length field, and its MAC is computed on the way, so that a body is neither
copied nor walked through again.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import NamedTuple

from sealwire.errors import BadTag, FrameTooLarge, InvalidState, RemoteProtocolError, TruncatedFrame
from sealwire.wire.frames import HANDSHAKE_CAP, HEAD, MIN_LENGTH, TAG, kind_name
from sealwire.wire.framing import BYTE_COUNT
from sealwire.wire.keys import Mac

STAGING = 16_384
"""Bytes read at a time: the plaintext of one TLS record (RFC 8446, section 5.1)."""
FIRST_BODY = 65_536
"""What a large frame's buffer starts with; it doubles when it is full, up to steps of GROWTH."""
GROWTH = 1 << 20


class Frame(NamedTuple):
    """One whole frame."""

    kind: int
    flags: int
    wait: int
    sequence: int
    reply_to: int
    payload: bytes | memoryview
    """Of a frame with a buffer of its own, a read-only view of that."""
    raw: bytes
    """The frame with its length and tag; empty for a frame with a buffer of its own."""

    def __str__(self) -> str:
        return f"{kind_name(self.kind)} frame"


class Reader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._staging = bytearray(STAGING)
        self._window = memoryview(self._staging)
        self._start = 0
        self._end = 0
        self._body: _Body | None = None
        self._mac: Mac | None = None
        self._cap = HANDSHAKE_CAP

    def establish(self, mac: Mac, cap: int) -> None:
        """From the next frame on, verify tags with ``mac`` and take lengths up to ``cap``."""
        self._mac = mac
        self._cap = cap

    @property
    def empty(self) -> bool:
        """Whether no byte of an unfinished or untaken frame is here."""
        return self._body is None and self._start == self._end

    def get_buffer(self) -> memoryview:
        """Where to put the bytes that come next; never empty, and valid until the next call of this object.

        Raises InvalidState while whole frames are waiting to be taken.
        """
        if self._body is not None:
            return self._body.get_buffer()
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == STAGING:
            if self._start == 0:
                raise InvalidState("take the frames that are here before reading more")
            rest = self._staging[self._start : self._end]
            self._start, self._end = 0, len(rest)
            self._window[: len(rest)] = rest
        return self._window[self._end :]

    def buffer_updated(self, count: int) -> None:
        """``count`` bytes were put at the front of what get_buffer handed out."""
        if self._body is not None:
            self._body.buffer_updated(count)
        else:
            self._end += count

    def next_frame(self) -> Frame | None:
        """The next frame, or None where its bytes are not all here.

        Raises RemoteProtocolError for a length out of bounds, BadTag where a MAC was given and the tag is wrong.
        """
        if self._body is not None:
            return self._finish_body()
        start = self._start
        here = self._end - start
        if here < HEAD.size:
            if here >= BYTE_COUNT:
                self._check(int.from_bytes(self._window[start : start + BYTE_COUNT], "big"))
            return None
        length, kind, flags, wait, sequence, reply_to = HEAD.unpack_from(self._staging, start)
        self._check(length)
        size = BYTE_COUNT + length
        if size > STAGING:
            return self._begin_body(length)
        if here < size:
            return None
        raw = self._window[start : start + size].tobytes()
        self._start = start + size
        mac = self._mac
        if mac is not None and not compare_digest(mac.tag(raw[:-TAG]), raw[-TAG:]):
            raise _bad_tag()
        return Frame(kind, flags, wait, sequence, reply_to, raw[HEAD.size : -TAG], raw)

    def _check(self, length: int) -> None:
        if length > self._cap:
            raise FrameTooLarge(f"a frame of {length} bytes was announced; the cap is {self._cap}")
        if length < MIN_LENGTH:
            raise RemoteProtocolError(f"a frame of {length} bytes was announced; the least is {MIN_LENGTH}")

    def discard(self) -> None:
        """Drop what is here; nothing will be taken any more."""
        self._start = self._end = 0
        self._body = None

    def eof(self) -> None:
        """The stream ended. Raises TruncatedFrame inside a frame."""
        if not self.empty:
            raise TruncatedFrame("the stream ended inside a frame")

    def _begin_body(self, length: int) -> Frame | None:
        assert self._mac is not None  # noqa: S101 - the cap of the handshake is below STAGING
        head = self._window[self._start : self._start + HEAD.size].tobytes()
        rest = self._window[self._start + HEAD.size : self._end]
        self._body = _Body(head, length + 4 - HEAD.size, self._mac)
        self._body.feed(rest)
        self._start = self._end = 0
        return self._finish_body()

    def _finish_body(self) -> Frame | None:
        body = self._body
        if body is None or not body.complete:
            return None
        self._body = None
        payload = body.verified()
        _, kind, flags, wait, sequence, reply_to = HEAD.unpack(body.head)
        return Frame(kind, flags, wait, sequence, reply_to, payload, b"")


def verify(frame: bytes, mac: Mac) -> None:
    """Raises BadTag unless a whole frame ends with the MAC of all before it; in constant time."""
    if not compare_digest(mac.tag(frame[:-TAG]), frame[-TAG:]):
        raise _bad_tag()


def _bad_tag() -> BadTag:
    return BadTag("a frame's tag is wrong: it was altered on the way, or made with another key")


class _Body:
    """Payload and tag of a large frame, and its MAC so far."""

    def __init__(self, head: bytes, size: int, mac: Mac) -> None:
        self.head = head
        self._size = size
        self._signed = size - TAG
        self._filled = 0
        self._buffer = bytearray(min(size, FIRST_BODY))
        self._view = memoryview(self._buffer)
        self._mac = mac
        self._running = mac.begin()
        self._running.update(head)

    @property
    def complete(self) -> bool:
        return self._filled == self._size

    def get_buffer(self) -> memoryview:
        if self._filled == len(self._buffer):
            self._view.release()
            self._buffer.extend(bytes(min(self._filled, GROWTH, self._size - self._filled)))
            self._view = memoryview(self._buffer)
        return self._view[self._filled :]

    def buffer_updated(self, count: int) -> None:
        start = self._filled
        self._filled = end = start + count
        if start < self._signed:
            self._running.update(self._view[start : min(end, self._signed)])

    def feed(self, data: memoryview) -> None:
        """The bytes that came together with the head: fewer than the first buffer holds."""
        self._view[: len(data)] = data
        self.buffer_updated(len(data))

    def verified(self) -> memoryview:
        if not compare_digest(self._mac.finish(self._running), self._view[self._signed :]):
            raise _bad_tag()
        return self._view[: self._signed].toreadonly()
