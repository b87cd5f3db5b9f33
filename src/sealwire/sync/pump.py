"""Moves bytes between a socket and the protocol; both ends of a connection share it.

Only one thread at a time uses a connection, because OpenSSL does not support concurrent reads and writes. The socket is
non-blocking, and all waiting is done in poll(2), for the time that remains until a deadline. A timeout of the socket
would bound each call but not a frame that comes byte by byte. Deadlines are times of ``time.monotonic()``.
"""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from time import monotonic
from typing import Final

from sealwire.closing import Closing
from sealwire.errors import SealwireError
from sealwire.session import explain
from sealwire.session.requests import LINGER, Sealed
from sealwire.sync.tls_socket import TLSSocket
from sealwire.sync.unix_socket import PlainSocket
from sealwire.trust.stale_errors import repeat
from sealwire.wire.events import Event
from sealwire.wire.frames import CloseCode
from sealwire.wire.protocol import State
from sealwire.wire.stream import StreamProtocol

_DISCARD: Final = 16_384
_LAST_WORDS: Final = 0.01
"""Seconds for sending CLOSE, at least."""
_ENDED: Final = State.ENDED
WOULD_BLOCK: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError)

Carrier = TLSSocket | PlainSocket
"""A socket that carries frames: TLS on TCP, or a plain Unix socket."""


class Channel(Closing, Sealed):
    """One end of a sealed connection. As a context manager it closes the connection.

    Args:
        sock: The connection's socket.
        protocol: The connection's protocol.

    Attributes:
        failure: The error of the socket or of TLS that ended the stream; None if the peer ended it.
    """

    _server = ""
    """The server's address at a client, for messages."""

    def __init__(self, sock: Carrier, protocol: StreamProtocol) -> None:
        self._sock = sock
        self._protocol = protocol
        self._closed = False
        sock.setblocking(False)
        self._records = sock.records()
        self._input = select.poll()
        self._input.register(sock, select.POLLIN)
        self._broken_off = False
        """True while a frame is being written, and after that was interrupted: then nothing may follow it."""
        self.failure: OSError | None = None

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 if it is closed."""
        return self._sock.fileno()

    @property
    def ended(self) -> bool:
        """True if nothing more can be sent."""
        return self._closed or self._protocol.state is _ENDED or self.failure is not None

    def close(self, code: int = CloseCode.DONE, *, linger: float = LINGER) -> None:
        """Send CLOSE if the connection is open, wait for the peer to close as well, then close the socket.

        Does nothing when called again. Network errors are ignored.

        Args:
            code: Code of CLOSE. Default: 0, done.
            linger: Seconds to wait for the peer, at most. Default: 2.
        """
        if self._closed:
            return
        self._closed = True
        deadline = monotonic() + linger
        try:
            self._protocol.close(code)
            if not self._broken_off:
                self._sock.held = True
                with suppress(SealwireError):
                    self.flush(max(deadline, monotonic() + _LAST_WORDS))
            # Closing a socket with unread input resets the connection and destroys the data just sent.
            if self.failure is None:
                discard_until_end(self._sock, deadline)
        finally:
            self._release()

    def flush(self, deadline: float) -> None:
        """Write all queued frames. Raises DeadlineExceeded, ConnectionClosed."""
        self._broken_off = True
        try:
            if self._records is not None and self._records.write(self._protocol.queued):
                self._broken_off = False
                return
            for frame in self._protocol.frames_to_send():
                for piece in frame:
                    while piece:
                        try:
                            sent = self._write(piece)
                        except WOULD_BLOCK as want:
                            self._wait_for(want, deadline)
                            continue
                        if sent == len(piece):
                            break
                        piece = piece[sent:]
            self._broken_off = False
        except TimeoutError:
            self.failure = explain.not_taken()
            raise explain.not_taken() from None
        except OSError as error:
            self.failure = explain.without_frames(error)
            raise explain.broken(explain.reason(error)) from None

    def receive(self, deadline: float, *, ready: bool = False) -> int:
        """Read once and return the number of bytes; 0 at the end of the stream, which the protocol reports.

        Args:
            deadline: Time to wait until.
            ready: True if data has probably arrived, so that reading is tried before waiting.

        Raises:
            DeadlineExceeded: Nothing came, or the deadline has passed already.
            RemoteProtocolError: The peer sends nothing but TLS records without data.
        """
        try:
            # Whatever has arrived: a peer that sends without end is late all the same.
            seconds = deadline - monotonic()
            if seconds <= 0 or (not ready and not self._sock.buffered and not self._input.poll(seconds * 1000)):
                raise TimeoutError  # handled below together with the one of _wait_for
            while True:
                try:
                    return self._read()
                except WOULD_BLOCK as want:
                    self._wait_for(want, deadline)
        except TimeoutError:
            raise explain.nothing_came(self._server) from None

    def _read(self, *, is_ahead: bool = False) -> int:
        """Read into the protocol; with ``is_ahead``, what no event is taken of soon, and so one record at most.

        Raises SSLWantReadError or SSLWantWriteError if nothing can be read now, RemoteProtocolError.
        """
        try:
            try:
                if self._records is not None and self._protocol.state is not _ENDED:
                    taken: int = self._records.read(self._protocol.reader, is_ahead)
                    if taken:
                        return taken
                count = self._read_into_buffer()
            except WOULD_BLOCK:
                raise
            except ssl.SSLError as error:
                count = repeat(error, self._read_into_buffer)
        except WOULD_BLOCK:
            if self._sock.flooded:
                self._protocol.close(CloseCode.PROTOCOL_ERROR)
                raise explain.only_ciphertext() from None
            self._protocol.buffer_updated(0)
            raise
        except OSError as error:
            self.failure = explain.without_frames(error)
            count = 0
        if count:
            self._protocol.buffer_updated(count)
        else:
            self._protocol.eof_received()
        return count

    def _read_into_buffer(self) -> int:
        buffer = self._protocol.get_buffer()
        return self._sock.read(len(buffer), buffer)

    def _write(self, data: bytes | memoryview) -> int:
        """Write as much as possible. Raises SSLWantReadError or SSLWantWriteError if nothing can be written now."""
        try:
            return self._sock.write(data)
        except WOULD_BLOCK:
            raise
        except ssl.SSLError as error:
            return repeat(error, lambda: self._sock.write(data))

    def next_event(self, deadline: float) -> Event | None:
        """Return the next event, or None if this side has ended the connection.

        Raises DeadlineExceeded, RemoteProtocolError, ConnectionClosed.
        """
        while True:
            event = self._protocol.next_event()
            if event is not None or self._protocol.state is _ENDED:
                return event
            self.receive(deadline, ready=self._protocol.inside_frame)

    def _wait_for(self, want: ssl.SSLError, deadline: float) -> None:
        """Wait until the socket is ready for TLS. Raises TimeoutError at the deadline."""
        waiting = self._input
        if isinstance(want, ssl.SSLWantWriteError):
            waiting = select.poll()
            waiting.register(self._sock, select.POLLOUT)
        if not waiting.poll(remaining(deadline) * 1000):
            raise TimeoutError

    def _release(self) -> None:
        self._sock.close()


def discard_until_end(sock: Carrier, deadline: float) -> None:
    """Close TLS and our half of the stream, then discard input until the peer closes its half or the deadline."""
    try:
        sock.settimeout(0)
        with suppress(OSError, ValueError):
            # Sends close_notify without waiting for the peer's, which is discarded with the rest of the input.
            sock.unwrap(max(deadline, monotonic() + _LAST_WORDS))
        # The input discarded here is ciphertext.
        sock.shutdown(socket.SHUT_WR)
        scratch = bytearray(_DISCARD)
        while (seconds := deadline - monotonic()) > 0:
            sock.settimeout(seconds)
            if not sock.recv_into(scratch):
                return
    except OSError:
        pass


def remaining(deadline: float) -> float:
    """Return the seconds until the deadline. Raises TimeoutError if it has passed."""
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
