"""Moves frames between a stream of bytes and the protocol; both ends of a connection share it.

Input. See :mod:`sealwire.aio.frame_input`.

Output. Frames are queued in the protocol. ``flush_soon`` schedules one ``_flush`` for all frames of this iteration of
the loop, which seals and encrypts as much as the transport accepts. When the transport is full (``pause_writing``), the
rest stays unsealed in ``_unsent``, a server stops reading, and ``drained`` waits. A timer aborts the connection if the
peer accepts nothing for frame_timeout.

The end. A connection passes through these states in order, and may skip some:

    open         frames flow both ways
    ended        a state of the protocol: our last frame is queued, and ``close`` sends it
    discarding   TLS and our half of the stream are closed; input is discarded, for ``linger`` seconds at most
    lost         the transport has closed the socket; the future ``lost`` is done

``failure`` is the error that ended the stream, or None if the peer closed it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Final

from sealwire.aio.frame_input import FrameInput
from sealwire.errors import ConnectionClosed, DeadlineExceeded
from sealwire.session import explain
from sealwire.session.requests import LINGER, Sealed
from sealwire.trust.stale_errors import repeat
from sealwire.wire.events import Event
from sealwire.wire.frames import CloseCode

_JOINED: Final = 8_192
"""Bytes of small frames that share a record, about."""
_TURN: Final = 262_144
"""Bytes of plaintext that are sealed and encrypted in one turn, about."""
_BATCH: Final = 32_768
"""Bytes of ciphertext that are passed to the transport at a time."""


class AsyncChannel(FrameInput, Sealed):
    """One end of a sealed connection. One task takes events; any number of tasks may send.

    Args:
        context: The TLS context; None for a Unix socket, which has no TLS.
        server_side: True if this is the server's end.
        host: The server's host name, for a client to verify.
    """

    def __init__(self, context: ssl.SSLContext | None, *, server_side: bool, host: str | None = None) -> None:
        super().__init__(context, server_side=server_side, host=host)
        self._unsent: deque[Iterable[bytes | memoryview]] = deque()
        """Frames, in pieces, that wait until the transport is not full. One in a tuple is small and has one piece."""
        self._unsent_bytes = 0
        """Bytes of payloads that are queued and not encrypted yet, as far as the end that sends them counts."""
        self._frames_sent = 0
        """The number of frames that were passed to TLS whole; it is above the sequence of each of them."""
        self._flush_scheduled = False
        self._drainers: list[asyncio.Future[None]] = []
        """The futures of the tasks in ``drained``."""
        self._write_timer: asyncio.TimerHandle | None = None
        self._frame_timeout = LINGER
        self._held = False
        """True to keep ciphertext for close_notify, which goes in the same packet as CLOSE."""

    # Called by the transport

    def pause_writing(self) -> None:
        """Stop sealing frames: the transport is full."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """Continue sending: the transport has room again."""
        self._full = False
        self._flush()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the connection, and wake every task that waits for it."""
        super().connection_lost(exc)
        self._unsent.clear()
        self._watch_writing()
        self._release_drainers()

    # Called by the two ends

    async def next_event(self, deadline: float) -> Event | None:
        """Return the next event, or None if this side has ended the connection.

        Raises DeadlineExceeded, RemoteProtocolError, ConnectionClosed.
        """
        while True:
            event = self._poll_event()
            if event is not None or self.ended:
                return event
            if not await self._wait_for_input(deadline):
                raise explain.nothing_came()

    async def close(self, code: int = CloseCode.DONE, *, linger: float = LINGER) -> None:
        """Send CLOSE if the connection is open, wait for the peer to close as well, then close the socket.

        A second call waits for the first. Network errors are ignored.

        Args:
            code: Code of CLOSE. Default: 0, done.
            linger: Seconds to wait for the peer, at most. Default: 2.
        """
        if self._transport is None:
            return
        if self._discarding:
            await asyncio.shield(self.lost)
            return
        try:
            if self._sealed:
                self._protocol.close(code)
                self._held = True
                self._flush()
                with suppress(ConnectionClosed, DeadlineExceeded):
                    await self.drained()
            if not self.lost.done():
                await self._discard_until_end(linger)
        finally:
            self.abort()
            await asyncio.shield(self.lost)

    async def drained(self) -> None:
        """Wait until all queued frames were passed to the transport. Raises ConnectionClosed, DeadlineExceeded."""
        while (self._unsent or self._full) and not self.lost.done():
            drainer: asyncio.Future[None] = self._loop.create_future()
            self._drainers.append(drainer)
            await drainer
        if self._discarding or self.lost.done():
            raise self._end_reason()

    def flush_soon(self) -> None:
        """Send the queued frames, together with others queued in this iteration of the loop."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    # Output

    def _flush(self) -> None:
        """Seal and encrypt as much as the transport accepts."""
        self._flush_scheduled = False
        frames_sent, room = self._frames_sent, _TURN
        try:
            if self._sealed and self._protocol.queued and not self._encrypt_all():
                self._unsent.extend(self._protocol.frames_to_send())
            if self._discarding or self.lost.done():
                self._unsent.clear()
            while self._unsent and not self._full and room > 0:
                room -= self._encrypt_next()
            if self._unsent:
                self._count_whole()
        except OSError as error:
            self.failure = self.failure or explain.without_frames(error)
            self._unsent.clear()
            self.abort()
        except BaseException:
            self.abort()  # interrupted by a signal handler: how much of a frame was sent is not known
            raise
        if not self._held:
            self._write_out()
        if self._unsent or self._full or self._write_timer is not None:
            if self._unsent and not self._full:
                self.flush_soon()  # other connections come between
            self._watch_writing(progress=self._frames_sent > frames_sent)
        if not self._unsent:
            if self._unsent_bytes:
                self._unsent_bytes = 0
                self._all_sent()
            if self._drainers and not self._full:
                self._release_drainers()

    def _encrypt_all(self) -> bool:
        """Encrypt all queued frames in one record if they are small, and nothing is before them."""
        if self._records is None or self._unsent or self._full or self._discarding or self.lost.done():
            return False
        frames, size = len(self._protocol.queued), self._records.encrypt(self._protocol.queued)
        if not size:
            return False
        self._unsent_bytes -= size
        self._frames_sent += frames
        return True

    def _encrypt_next(self) -> int:
        """Encrypt the next piece, together with others if they are small; return their size."""
        frame = self._unsent[0]
        if type(frame) is tuple and len(self._unsent) == 1:
            self._unsent.clear()
            data, whole = frame[0], 1
        else:
            data, whole = self._join_next()
        size = len(data)
        self._unsent_bytes -= size
        if size > _BATCH:
            view = memoryview(data)
            for start in range(0, size, _BATCH):
                self._encrypt(view[start : start + _BATCH])
        elif size:
            self._encrypt(data)
        self._frames_sent += whole
        return size

    def _join_next(self) -> tuple[bytes | memoryview, int]:
        """Take pieces from ``_unsent``, one or several small ones; return them and the number of frames they end."""
        unsent, pieces = self._unsent, list[bytes | memoryview]()
        size = whole = 0
        while unsent and size < _JOINED:
            frame = unsent[0]
            if type(frame) is tuple:
                piece = frame[0]
            else:
                unsent[0] = pieces_left = iter(frame)
                piece = next(pieces_left, None)
            if piece is not None:
                pieces.append(piece)
                size += len(piece)
            if piece is None or type(frame) is tuple:
                unsent.popleft()
                whole += 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), whole

    def _encrypt(self, record: bytes | memoryview) -> None:
        try:
            self._tls.write(record)
        except ssl.SSLError as error:
            repeat(error, partial(self._tls.write, record))
        if self._outgoing.pending >= _BATCH:
            self._write_out()

    def _count_whole(self) -> None:
        """Count the frame at which sending stopped, if its last piece was the one that filled the transport."""
        frame = iter(self._unsent[0])
        piece = next(frame, None)
        if piece is None:
            self._unsent.popleft()
            self._frames_sent += 1
        elif type(self._unsent[0]) is not tuple:
            self._unsent[0] = chain((piece,), frame)

    def _all_sent(self) -> None:
        """Note that nothing is unsent any more. A server counts what its connections hold."""

    def _watch_writing(self, *, progress: bool = False) -> None:
        """Abort the connection if no frame is written within frame_timeout. ``progress`` tells that one was."""
        pending = bool(self._unsent or self._full) and not self.lost.done()
        if self._write_timer is not None and (progress or not pending):
            self._write_timer.cancel()
            self._write_timer = None
        if pending and self._write_timer is None:
            self._write_timer = self._loop.call_later(self._frame_timeout, self._give_up_writing)

    def _give_up_writing(self) -> None:
        self.failure = explain.not_taken()
        self.abort()

    def _release_drainers(self) -> None:
        drainers, self._drainers = self._drainers, []
        for drainer in drainers:
            if not drainer.done():
                drainer.set_result(None)

    # The end

    async def _discard_until_end(self, linger: float) -> None:
        """Close TLS and our half of the stream, then discard input until the peer closes its half.

        Closing a socket with unread input would reset the connection and destroy the data just sent.
        """
        assert self._transport is not None  # checked by the caller
        with suppress(OSError, ValueError):
            self._tls.unwrap()
        self._write_out()
        self._discarding = True
        if not linger or self._peer_ended:
            self._transport.close()
        else:
            with suppress(OSError):  # not connected any more
                self._transport.write_eof()
            self._resume()
        await asyncio.wait([self.lost], timeout=linger)
