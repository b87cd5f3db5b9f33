"""Cuts a stream of bytes into frames, at a cost bounded by the number of bytes received.

The pump reads directly into the buffer that :meth:`Reader.get_buffer` returns, as with asyncio's BufferedProtocol. A
frame that fits into the staging area is cut out of it in one piece. A reader has such an area only while bytes are in
it, so that a silent connection needs none. The area has zeros wherever no bytes of its reader are. A larger frame gets
a buffer of its own. That buffer grows as bytes arrive, because a length field alone must never make the receiver
allocate memory. The MAC is computed meanwhile, so the body is neither copied nor read a second time.
"""

from __future__ import annotations

from hmac import compare_digest
from importlib import import_module
from typing import Any, NamedTuple

from sealwire.errors import BadTag, FrameTooLarge, InvalidState, RemoteProtocolError, TruncatedFrame
from sealwire.native import NATIVE
from sealwire.wire.frames import HANDSHAKE_CAP, HEAD, MIN_LENGTH, TAG, kind_name
from sealwire.wire.keys import Mac
from sealwire.wire.length_prefix import BYTE_COUNT

if NATIVE:
    _frames = import_module("sealwire.native.frames")  # compiled, and so not known to the linters

STAGING = 16_384
"""Bytes read at a time: the plaintext of one TLS record (RFC 8446, section 5.1)."""
FIRST_BODY = 65_536
"""The initial size of a large frame's buffer. A full buffer doubles, but grows by GROWTH at most."""
GROWTH = 1 << 20
_ZEROS = memoryview(bytes(GROWTH))
_NOTHING = memoryview(bytearray())
_SPARES = 8
_spares: list[memoryview] = []
"""Staging areas that readers have given back, cleared."""


class Frame(NamedTuple):
    """A complete frame."""

    kind: int
    flags: int
    wait: int
    sequence: int
    reply_to: int
    payload: bytes | memoryview
    """For a large frame, a read-only view of its buffer."""
    raw: bytes
    """The whole frame with length and tag; empty for a large frame."""

    def __str__(self) -> str:
        return f"{kind_name(self.kind)} frame"


class Reader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._staging = _NOTHING
        """A view of the whole staging area."""
        self._start = 0
        self._end = 0
        self._body: _Body | None = None
        self._mac: Mac | None = None
        self.opener: Any = None
        """The twin that opens small frames; None without the native core, and before :meth:`establish`."""
        self._cap = HANDSHAKE_CAP
        self.reads = 0
        """The number of times that bytes came."""

    def establish(self, mac: Mac, cap: int, *, from_client: bool) -> None:
        """Verify tags with ``mac`` and accept lengths up to ``cap`` from the next frame on."""
        self.opener = _frames.FrameOpener(*mac.blocks, Frame, cap, from_client) if NATIVE else None
        self._mac = mac
        self._cap = cap

    @property
    def empty(self) -> bool:
        """True if no bytes of an unread frame are buffered."""
        return self._start == self._end and self._body is None and (self.opener is None or not self.opener.pending)

    @property
    def pending(self) -> int:
        """Bytes that are here and belong to no frame taken or begun."""
        return self._end - self._start + (self.opener.pending if self.opener else 0)

    @property
    def has_body(self) -> bool:
        """True in the middle of a large frame."""
        return self._body is not None

    @property
    def buffered(self) -> int:
        """Bytes of memory that an incomplete large frame has."""
        return 0 if self._body is None else self._body.size_in_memory

    @property
    def missing(self) -> int:
        """Bytes that an incomplete large frame lacks; 0 if there is none."""
        return 0 if self._body is None else self._body.missing

    @property
    def room(self) -> int:
        """Bytes that may be read before frames must be taken."""
        return STAGING - self.pending if self._body is None else 0

    def _take_over(self) -> None:
        """Take bytes over that the twin has, and is in doubt about."""
        if self.opener is not None and self.opener.pending:
            rest = self.opener.rest()
            if len(rest) > STAGING:  # a frame, as far as it was in two records
                self._staging = memoryview(bytearray(rest))
                self._start = 0
            else:
                self._begin_staging()
                self._staging[: len(rest)] = rest
            self._end = len(rest)

    def get_buffer(self) -> memoryview:
        """Return the buffer for the next bytes; it is not empty, and valid until the next call of this object.

        Raises InvalidState if the buffer is full of frames that next_frame has not returned.
        """
        self._take_over()
        if self._body is not None:
            return self._body.get_buffer()
        if self._start == self._end:
            self._begin_staging()
        elif self._end >= STAGING:
            if self._start == 0:
                raise InvalidState("call next_frame until it returns None before reading more")
            rest = bytes(self._staging[self._start :])
            self._start, self._end = 0, len(rest)
            self._staging[:] = rest + _ZEROS[: STAGING - len(rest)]
        return self._staging[self._end :]

    def _begin_staging(self) -> None:
        self._start = self._end = 0
        if self._staging is _NOTHING:
            try:
                self._staging = _spares.pop()
            except IndexError:
                self._staging = memoryview(bytearray(STAGING))

    def buffer_updated(self, count: int) -> None:
        """Note that ``count`` bytes were written to the start of the buffer from get_buffer; 0 if none came."""
        if not count:
            self._give_back()
            return
        self.reads += 1
        if self._body is not None:
            self._body.buffer_updated(count)
        else:
            self._end += count

    @property
    def next_kind(self) -> int | None:
        """The kind in the header of the next small frame, not verified; None until the header is here."""
        self._take_over()
        has_header = self._body is None and self._end - self._start >= HEAD.size
        return self._staging[self._start + BYTE_COUNT] if has_header else None

    def next_message(self, sequence: int) -> Frame | None:
        """Return the next frame if it is surely a small MESSAGE with this sequence number and no field out of place.

        Otherwise, and always without the native core, return None: :meth:`next_frame` and a HeaderChecker have the last
        word.
        """
        if self.opener is None or self._body is not None:
            return None
        self._take_over()
        frame: Frame | None = self.opener.open(self._staging, self._start, self._end, sequence)
        if frame is not None:
            self._start += HEAD.size + len(frame.payload) + TAG
            self._give_back()
        return frame

    def next_frame(self) -> Frame | None:
        """Return the next frame, or None if it is incomplete.

        Raises RemoteProtocolError for a length out of bounds, and BadTag for a wrong tag once :meth:`establish` was
        called.
        """
        self._take_over()
        if self._body is not None:
            return self._finish_body()
        start = self._start
        buffered = self._end - start
        if buffered < HEAD.size:
            if buffered >= BYTE_COUNT:
                self._check(int.from_bytes(self._staging[start : start + BYTE_COUNT], "big"))
            return None
        length, kind, flags, wait, sequence, reply_to = HEAD.unpack_from(self._staging, start)
        self._check(length)
        size = BYTE_COUNT + length
        if size > STAGING:
            return self._begin_body(length)
        if buffered < size:
            return None
        raw = self._staging[start : start + size].tobytes()
        self._start = start + size
        self._give_back()
        mac = self._mac
        if mac is not None and not compare_digest(mac.tag(raw[:-TAG]), raw[-TAG:]):
            raise _bad_tag()
        return Frame(kind, flags, wait, sequence, reply_to, raw[HEAD.size : -TAG], raw)

    def _check(self, length: int) -> None:
        if length > self._cap:
            raise FrameTooLarge(f"a frame of {length} bytes was announced; the maximum is {self._cap}")
        if length < MIN_LENGTH:
            raise RemoteProtocolError(f"a frame of {length} bytes was announced; the minimum is {MIN_LENGTH}")

    def discard(self) -> None:
        """Drop all buffered bytes; next_frame is not called any more."""
        if self.opener is not None:
            self.opener.rest()
        self._start = self._end
        self._body = None
        self._give_back()

    def eof(self) -> None:
        """Note the end of the stream. Raises TruncatedFrame inside a frame."""
        if not self.empty:
            raise TruncatedFrame("the stream ended inside a frame")

    def _give_back(self) -> None:
        """Give the staging area back if no bytes are left in it."""
        if self._start == self._end and self._staging is not _NOTHING:
            # An exception, as from a signal handler, may come anywhere: it is not this reader's before it is another's.
            staging, self._staging = self._staging, _NOTHING
            staging[: self._end] = _ZEROS[: self._end]
            if len(_spares) < _SPARES and len(staging) == STAGING:
                _spares.append(staging)

    def _begin_body(self, length: int) -> Frame | None:
        assert self._mac is not None  # the cap of the handshake is below STAGING
        head = self._staging[self._start : self._start + HEAD.size].tobytes()
        rest = self._staging[self._start + HEAD.size : self._end]
        self._body = _Body(head, length + 4 - HEAD.size, self._mac)
        self._body.feed(rest)
        self._start = self._end
        self._give_back()
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
    """Raise BadTag unless a frame ends with the MAC of the bytes before; compares in constant time."""
    if not compare_digest(mac.tag(frame[:-TAG]), frame[-TAG:]):
        raise _bad_tag()


def _bad_tag() -> BadTag:
    return BadTag("a frame has a wrong tag: it was altered in transit, or made with another key")


class _Body:
    """The payload and tag of a large frame, with its MAC so far."""

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

    @property
    def missing(self) -> int:
        return self._size - self._filled

    @property
    def size_in_memory(self) -> int:
        return len(self._buffer)

    def get_buffer(self) -> memoryview:
        if self._filled == len(self._buffer):
            self._view.release()
            self._buffer.extend(_ZEROS[: min(self._filled, GROWTH, self._size - self._filled)])
            self._view = memoryview(self._buffer)
        return self._view[self._filled :]

    def buffer_updated(self, count: int) -> None:
        start = self._filled
        self._filled = end = start + count
        if start < self._signed:
            self._running.update(self._view[start : min(end, self._signed)])

    def feed(self, data: memoryview) -> None:
        """Add the bytes that arrived together with the header, fewer than FIRST_BODY."""
        self._view[: len(data)] = data
        self.buffer_updated(len(data))

    def verified(self) -> memoryview:
        if not compare_digest(self._mac.finish(self._running), self._view[self._signed :]):
            raise _bad_tag()
        return self._view[: self._signed].toreadonly()
