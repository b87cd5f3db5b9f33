"""TLS on an asyncio transport: bytes of the wire protocol in, bytes out, and the end.

asyncio's own TLS transport keeps some 300 KiB for each connection, most of it buffers that an idle one does not need.
Here TLS works on two memory BIOs that are empty while nothing is said, and all connections of a thread read into one
buffer. The transport below carries ciphertext alone.

What comes is taken when somebody asks for it, and what is sent waits until the transport has room: so that a peer which
sends much, or takes nothing, fills neither this side's memory nor another connection's time.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import ClassVar, Final, cast

from sealwire.channel.plain import PlainObject
from sealwire.channel.pump import LINGER, Sealed, reason
from sealwire.errors import ConnectionClosed, DeadlineExceeded
from sealwire.wire.events import Event
from sealwire.wire.frames import CloseCode
from sealwire.wire.protocol import State
from sealwire.wire.stream import StreamProtocol

_READ: Final = 32_768
"""Bytes read at a time. A BIO keeps the room that it once had to have, so that these are small."""
_RECORD: Final = 16_384
"""The plaintext of one TLS record (RFC 8446, section 5.1)."""
_BATCH: Final = 32_768
"""Bytes of ciphertext that are given to the transport at a time."""
_HIGH: Final = 65_536
"""Bytes that the transport holds before nothing more is sealed."""


class _Scratch(threading.local):
    """What the connections of one event loop read into, one after the other."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_READ))


_scratch = _Scratch()


class Stream(asyncio.BufferedProtocol, Sealed):
    """One connection; AsyncClientChannel and AsyncServerChannel are the two ends.

    To be made by a loop's create_connection or connect_accepted_socket, without TLS. context: of TLS here; None for a
    Unix socket, which goes without. One task takes what comes; any number of them may send. Deadlines are moments of
    ``time.monotonic()``.
    """

    _protocol: StreamProtocol
    _reads_while_full: ClassVar[bool]
    """Whether it reads on while the peer does not take what was sent to it. A client does, since a server may not
    (docs/protocol.md, section 4)."""

    def __init__(self, context: ssl.SSLContext | None, *, server_side: bool, host: str | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | PlainObject
        if context is None:
            self._tls = PlainObject(self._incoming, self._outgoing)
        else:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=host)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[bool] | None = None
        self._reading = True
        self._unsent: deque[Iterator[bytes | memoryview]] = deque()
        self._full = False
        self._flushing = False
        self._senders: list[asyncio.Future[None]] = []
        self._stuck: asyncio.TimerHandle | None = None
        self._frame_timeout = LINGER
        self._sealed = False
        self._discarding = False
        self._peer_ended = False
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is gone and its socket is closed."""
        self.failure: OSError | None = None
        """What ended the stream, where it was not the peer's will."""

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH)
        sock: socket.socket = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where to read into."""
        return _scratch.view

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        if self._discarding:
            return
        self._incoming.write(_scratch.view[:nbytes])
        if self._waiting is None:
            self._pause()
        self._wake()

    def eof_received(self) -> bool:
        """The peer's end of the stream; ours stays open for what explains it."""
        self._peer_ended = True
        if self._discarding and self._transport is not None:
            self._transport.close()
        self._incoming.write_eof()
        self._wake()
        return True

    def pause_writing(self) -> None:
        """The transport has enough."""
        self._full = True
        self._watch()
        if not self._reads_while_full:
            # Whatever comes may have an answer, if only TLS's own to a KeyUpdate.
            self._pause()

    def resume_writing(self) -> None:
        """It takes more."""
        self._full = False
        self._flush()
        if self._waiting is not None:
            self._resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if isinstance(exc, OSError) and self.failure is None:
            self.failure = exc
        self._incoming.write_eof()
        self._unsent.clear()
        self._watch()
        self._let_senders_go()
        self._wake()
        self.lost.set_result(None)

    # For the two ends

    async def secure(self, deadline: float) -> None:
        """TLS's handshake. Raises ssl.SSLError, OSError, DeadlineExceeded."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._write_out()
                if not await self._more(deadline):
                    raise DeadlineExceeded("TLS was not complete in time") from None
            except ssl.SSLError:
                self._write_out()  # the alert
                if self.failure is not None:
                    raise self.failure from None
                raise
            else:
                self._write_out()
                return

    def seal(self, protocol: StreamProtocol) -> None:
        """From now on TLS carries that."""
        self._protocol = protocol
        self._sealed = True

    async def next_event(self, deadline: float) -> Event | None:
        """The next event; None where our side has ended the connection.

        Raises DeadlineExceeded, RemoteProtocolError, ConnectionClosed.
        """
        while True:
            event = self._event()
            if event is not None or self.ended:
                return event
            if not await self._more(deadline):
                raise DeadlineExceeded("nothing came from the peer in time")

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""
        return self._protocol.state is State.ENDED or self._discarding or self.lost.done()

    def abort(self) -> None:
        """End the connection without a word."""
        self._discarding = True
        if self._transport is not None:
            self._transport.abort()

    async def close(self, code: int = CloseCode.DONE, *, linger: float = LINGER) -> None:
        """Send CLOSE if nothing else ended the connection, wait at most ``linger`` seconds for the peer's end, and
        close the socket. To be called again without effect; never raises for what the network does."""
        if self._transport is None:
            return
        if self._discarding:
            await asyncio.shield(self.lost)
            return
        try:
            if self._sealed:
                self._protocol.close(code)
                with suppress(ConnectionClosed, DeadlineExceeded):
                    await self.drained()
            if not self.lost.done():
                await self._discard_until_end(linger)
        finally:
            self.abort()
            await asyncio.shield(self.lost)

    async def drained(self) -> None:
        """All that was sent until now is the transport's. Raises ConnectionClosed, DeadlineExceeded."""
        self._flush()
        while (self._unsent or self._full) and not self.lost.done():
            sender: asyncio.Future[None] = self._loop.create_future()
            self._senders.append(sender)
            await sender
        if isinstance(self.failure, DeadlineExceeded):
            raise self.failure
        if self.lost.done() or self._discarding:
            why = reason(self.failure) if self.failure is not None else "it was closed"
            raise ConnectionClosed(f"the connection broke while sending: {why}")

    def flush_soon(self) -> None:
        """Send what is queued, together with what else is queued in this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _event(self) -> Event | None:
        """What is there already."""
        while True:
            if self._discarding:
                raise self.failure or ConnectionClosed("the connection was ended by this side")
            try:
                event = self._protocol.next_event()
            except ConnectionClosed:
                if isinstance(self.failure, DeadlineExceeded):
                    raise self.failure from None
                raise
            self.flush_soon()
            if event is not None or self.ended or not self._read():
                return event

    def _read(self) -> bool:
        """From TLS to the protocol; False where nothing is there."""
        buffer = self._protocol.get_buffer()
        try:
            count: int = self._tls.read(len(buffer), buffer)  # type: ignore[assignment]  # typeshed's is bytes
        except ssl.SSLWantReadError:
            return False
        except OSError as error:
            self.failure = self.failure or error
            count = 0
        if count:
            self._protocol.buffer_updated(count)
        else:
            self._peer_ended = True
            self._protocol.eof_received()
        return True

    async def _more(self, deadline: float) -> bool:
        """Wait until something came, or happened; False when the deadline did."""
        if self.lost.done():
            return True
        waiting = self._waiting = self._loop.create_future()
        timer = None
        if deadline < math.inf:
            timer = self._loop.call_later(max(0.0, deadline - monotonic()), _settle, waiting, False)
        self._resume()
        try:
            return bool(await waiting)
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None:
            _settle(self._waiting, True)

    def _pause(self) -> None:
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._full and not self._reads_while_full and not self._discarding:
            return
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _flush(self) -> None:
        """Seal and encrypt as much as the transport takes."""
        self._flushing = False
        if self._sealed:
            self._unsent.extend(map(iter, self._protocol.frames_to_send()))
        if self._discarding or self.lost.done():
            self._unsent.clear()
        whole = False
        try:
            while self._unsent and not self._full:
                piece = next(self._unsent[0], None)
                if piece is None:
                    self._unsent.popleft()
                    whole = True
                    continue
                view = memoryview(piece)
                for start in range(0, len(view), _RECORD):
                    self._tls.write(view[start : start + _RECORD])
                    if self._outgoing.pending >= _BATCH:
                        self._write_out()
        except OSError as error:
            self.failure = self.failure or error
            self._unsent.clear()
            self.abort()
        self._write_out()
        self._watch(anew=whole)
        if not self._unsent and not self._full:
            self._let_senders_go()

    def _write_out(self) -> None:
        if self._outgoing.pending and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    def _watch(self, *, anew: bool = False) -> None:
        """Each frame has its time to go out."""
        pending = bool(self._unsent or self._full) and not self.lost.done()
        if self._stuck is not None and (anew or not pending):
            self._stuck.cancel()
            self._stuck = None
        if pending and self._stuck is None:
            self._stuck = self._loop.call_later(self._frame_timeout, self._give_up)

    def _give_up(self) -> None:
        self.failure = DeadlineExceeded("the peer did not take what was sent to it in time")
        self.abort()

    def _let_senders_go(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            if not sender.done():
                sender.set_result(None)

    async def _discard_until_end(self, linger: float) -> None:
        """Say that we are done, then read and discard until the peer's end (see pump.discard_until_end)."""
        assert self._transport is not None  # noqa: S101 - as the caller has seen
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


def _settle(future: asyncio.Future[bool], result: bool) -> None:
    if not future.done():
        future.set_result(result)
