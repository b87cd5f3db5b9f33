"""A stream of bytes on an asyncio transport, encrypted by TLS on TCP; both ends of a connection share it.

asyncio's own TLS transport needs some 300 KiB per connection, most of it buffers that an idle connection does not use.
Here TLS works on two memory BIOs, which are empty while a connection is silent, and all connections of a thread read
into one buffer. The asyncio transport carries ciphertext.

``buffer_updated`` writes ciphertext to the incoming BIO. If the one task that takes input waits in ``_wait_for_input``,
the input is processed at once (``_process_input``), and the task is woken only if that could not be completed. If no
task waits, bytes are read until one buffer waits in the BIO, so that their arrival times are known; then reading is
paused. So a peer that sends a lot fills neither the memory nor the time of this side. Until the first frame, the buffer
is small: OpenSSL processes everything in the BIO that is not data, such as KeyUpdates, in one call.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
import threading
from contextlib import suppress
from time import monotonic
from typing import ClassVar, Final, cast

from sealwire.aio.unix_socket import PlainObject
from sealwire.fork import blank, leave_in_children
from sealwire.fork_gate import apart_from_forks
from sealwire.limits import Limits
from sealwire.session import explain
from sealwire.session.arrival_times import Arrivals
from sealwire.session.ciphertext import CiphertextBound
from sealwire.tcp_options import set_options
from sealwire.trust.stale_errors import repeat

READ: Final = 32_768
"""Bytes read at a time. Small, because a memory BIO never shrinks its buffer."""
LARGE_READ: Final = 131_072
"""The same in the middle of a large frame, which is decrypted in pieces of READ bytes as it comes."""
_FIRST_READ: Final = 4096
"""The same until the first frame."""
_HIGH: Final = 65_536
"""Bytes in the transport's buffer above which it is full."""


class _Scratch(threading.local):
    """The buffer that all connections of a thread, and so of an event loop, read into."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(LARGE_READ))
        self.first = self.view[:READ]


_scratch = _Scratch()


class ByteStream(asyncio.BufferedProtocol):
    """One end of a stream.

    It is the protocol of a transport without TLS, from a loop's create_connection or connect_accepted_socket. Deadlines
    are times of ``time.monotonic()``.

    Args:
        context: The TLS context; None for a Unix socket, which has no TLS.
        server_side: True if this is the server's end.
        host: The server's host name, for a client to verify.

    Attributes:
        lost: A future that is done when the socket is closed.
        failure: The error that ended the stream; None if the peer closed it.
    """

    _reads_while_full: ClassVar[bool]
    """True to continue reading while the transport is full.

    A client does, because the server may stop reading until its replies are taken (docs/protocol.md, section 4).
    """

    _limits: Limits
    """Set by each end before its transport connects."""

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
        self._read_size = _FIRST_READ
        self._ciphertext = CiphertextBound()
        self._arrivals: Arrivals | None = None
        self._waiting: asyncio.Future[bool] | None = None
        """The future of the task in ``_wait_for_input``."""
        self._paused = False
        """True if the transport is paused for reading."""
        self._full = False
        """True if the transport's buffer is full."""
        self._discarding = False
        """True if input is discarded and nothing more can be sent."""
        self._peer_ended = False
        self._is_parents = False
        """True in a forked child: the connection is its parent's."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.failure: OSError | None = None
        self._descriptor: tuple[int, int] | None = None
        """The socket's descriptor and its inode, which tells if the descriptor is another file's by now; None if there
        is no socket."""
        leave_in_children(self)

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None:
            self._descriptor = sock.fileno(), os.fstat(sock.fileno()).st_ino
        if self._is_parents:
            self.leave_to_parent()
        if sock is not None and sock.family != socket.AF_UNIX:
            set_options(sock, self._limits)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return the buffer to read into, for no more than the BIO may hold."""
        room = READ if self._discarding else self._read_size - self._incoming.pending
        return _scratch.first if room == READ else _scratch.view[: max(1, room)]

    def buffer_updated(self, nbytes: int) -> None:
        """Process the ciphertext that was read."""
        if self._discarding:
            return
        now = monotonic()
        try:
            taken = self._fill_frame(_scratch.view[:nbytes], now) if nbytes > READ else 0
            self._take(_scratch.view[taken:nbytes], now)
            if self._waiting is not None and not self._waiting.done() and not self._process_input(now):
                self._wake()
        except Exception as error:
            assert self._waiting is not None  # or nothing is processed
            self._waiting.set_exception(error)  # for the task that waits; a variable of it would be in the error
        except BaseException:
            self.abort()  # a signal handler raised it, and a part of the input may be lost
            raise
        if self._incoming.pending >= self._read_size:
            self._pause()

    def eof_received(self) -> bool:
        """Process the peer's end of the stream. Ours stays open, for a frame that explains the end."""
        self._peer_ended = True
        if self._discarding and self._transport is not None:
            self._transport.close()
        self._incoming.write_eof()
        self._wake()
        return True

    def pause_writing(self) -> None:
        """Stop sending: the transport is full."""
        self._full = True
        if not self._reads_while_full:
            # Any input may lead to more output, even a TLS KeyUpdate.
            self._pause()

    def resume_writing(self) -> None:
        """Continue reading: the transport has room again."""
        self._full = False
        if self._waiting is not None:
            self._resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the connection, and wake the task that waits for input."""
        if isinstance(exc, OSError) and self.failure is None:
            self.failure = explain.without_frames(exc)
        self._incoming.write_eof()
        self._wake()
        self._descriptor = None
        self.lost.set_result(None)

    # Called by the two ends

    async def secure(self, deadline: float) -> None:
        """Complete the TLS handshake. Raises ssl.SSLError, OSError, DeadlineExceeded.

        A client's last handshake message, which has its certificate, is sent with the first frame.
        """
        while True:
            try:
                try:
                    apart_from_forks(self._tls.do_handshake)
                except ssl.SSLWantReadError:
                    raise
                except ssl.SSLError as error:
                    repeat(error, self._tls.do_handshake)
            except ssl.SSLWantReadError:
                self._write_out()
                if not await self._wait_for_input(deadline):
                    raise explain.tls_too_slow() from None
            except ssl.SSLError:
                self._write_out()  # the alert
                if self.failure is not None:
                    raise explain.without_frames(self.failure) from None
                raise
            else:
                return

    def abort(self) -> None:
        """Drop the connection without sending anything."""
        self._discarding = True
        if self._transport is not None:
            self._transport.abort()

    def drop(self) -> None:
        """Drop the connection without sending anything. The loop need not run; it may be closed."""
        self._discarding = True
        if (descriptor := self._open_descriptor()) is not None:
            with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as sock:
                sock.shutdown(socket.SHUT_RDWR)
        with suppress(RuntimeError):  # the loop is closed
            self.abort()

    def leave_to_parent(self) -> None:
        """Close this process's copy of the socket, in a forked child."""
        self._is_parents = self._discarding = True
        if (descriptor := self._open_descriptor()) is not None:
            blank(descriptor)
        with suppress(RuntimeError):  # the loop is closed
            self._wake()
            self.abort()

    # For the channel

    def _take(self, ciphertext: memoryview, now: float) -> None:
        if self._arrivals is not None:
            self._arrivals.add(len(ciphertext), now, self._unread)
        self._ciphertext.surplus += len(ciphertext)
        self._incoming.write(ciphertext)

    @property
    def _is_silent(self) -> bool:
        """True as long as nothing has arrived in the TLS handshake."""
        return not self._ciphertext.surplus

    @property
    def _unread(self) -> int:
        """Bytes that have arrived and were not taken out of the stream, as far as their arrival times are kept."""
        return self._incoming.pending

    def _fill_frame(self, _ciphertext: memoryview, _now: float) -> int:
        """Process input in the middle of a large frame, for which the channel has a larger buffer; return its size."""
        return 0

    def _process_input(self, _now: float) -> bool:
        """Process input that has just come; return False to wake the task that waits for it."""
        return False

    def _open_descriptor(self) -> int | None:
        """Return the socket's descriptor; None if it is closed."""
        if self._descriptor is not None:
            number, inode = self._descriptor
            with suppress(OSError):
                if os.fstat(number).st_ino == inode:
                    return number
        return None

    async def _wait_for_input(self, deadline: float) -> bool:
        """Wait for input or a state change; return False at the deadline, whatever has arrived."""
        if monotonic() >= deadline:
            return False
        if self.lost.done():
            return True
        if self._has_input:
            await asyncio.sleep(0)  # the turn is over, its input is not
            return True
        waiting = self._waiting = self._loop.create_future()
        timer = None
        if deadline < math.inf:
            timer = self._loop.call_later(max(0.0, deadline - monotonic()), settle, waiting, False)
        if self._paused:
            self._resume()
        try:
            return bool(await waiting)
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting = None
            del waiting  # the frames of its error have this one

    @property
    def _has_input(self) -> bool:
        """True if input has arrived that was left for another turn."""
        return False

    def _wake(self) -> None:
        if self._waiting is not None:
            settle(self._waiting, True)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._full and not self._reads_while_full and not self._discarding:
            return
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _write_out(self) -> None:
        """Pass the encrypted output to the transport."""
        if self._outgoing.pending and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())


def large_buffer() -> memoryview:
    """Return the buffer of this thread for LARGE_READ bytes."""
    return _scratch.view


def settle(future: asyncio.Future[bool], result: bool) -> None:
    """Set the result of a future, unless it is done."""
    if not future.done():
        future.set_result(result)
