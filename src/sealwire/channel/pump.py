"""What the channels of both sides share: bytes in, bytes out, and the end.

One thread at a time: OpenSSL does not support reading and writing one connection concurrently. Deadlines are moments of
``time.monotonic()``. The socket does not block, and all waiting is in poll(2) with what is left until the deadline: a
time-out of the socket's own would bound one call and not a frame, however slowly its bytes drip.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections import deque
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self

from sealwire.channel.plain import PlainSocket
from sealwire.errors import ConnectionClosed, DeadlineExceeded, SealwireError
from sealwire.limits import Limits
from sealwire.tls.identity import PeerIdentity
from sealwire.wire.events import Event
from sealwire.wire.frames import CloseCode
from sealwire.wire.protocol import State
from sealwire.wire.stream import StreamProtocol

LINGER = 2.0
"""Seconds for which a side that has said its last still reads and discards (docs/protocol.md, section 5)."""

_DISCARD = 65_536


Carrier = ssl.SSLSocket | PlainSocket
"""What frames go over: TLS, or a Unix socket as it is."""


class Sealed:
    """What sealwire.send_msg and its like take: a connection on which nothing is in the clear."""


class Channel(Sealed):
    """A sealed connection. ``peer``: who is at the other end; None for a client without a certificate.

    A context manager: it is closed at the end.
    """

    def __init__(self, sock: Carrier, protocol: StreamProtocol, limits: Limits, peer: PeerIdentity | None) -> None:
        self._sock = sock
        self._protocol = protocol
        self._limits = limits
        self._closed = False
        self._filled = False
        sock.setblocking(False)
        self._input = select.poll()
        self._input.register(sock, select.POLLIN)
        self.peer = peer
        self.failure: OSError | None = None
        """What ended the stream, where it was not the peer's will."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """The socket's descriptor; -1 when closed."""
        return self._sock.fileno()

    def close(self, code: int = CloseCode.DONE, *, linger: float = LINGER) -> None:
        """Send CLOSE if nothing else ended the connection, wait at most ``linger`` seconds for the peer's end, and
        close the socket. To be called again without effect; never raises for what the network does."""
        if self._closed:
            return
        self._closed = True
        deadline = monotonic() + linger
        try:
            self._protocol.close(code)
            with suppress(SealwireError):
                self.flush(max(deadline, monotonic() + 0.01))
            # With input unread, closing would reset the connection and destroy what was just sent.
            if self.failure is None:
                discard_until_end(self._sock, deadline)
        finally:
            self._release()

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""
        return self._closed or self._protocol.state is State.ENDED or self.failure is not None

    def flush(self, deadline: float) -> None:
        """Write all that is queued. Raises DeadlineExceeded, ConnectionClosed."""
        # SSLSocket.write and read are what its send and recv_into come to, with less on the way.
        try:
            for piece in self._protocol.data_to_send():
                while piece:
                    try:
                        sent = self._sock.write(piece)
                        if sent == len(piece):
                            break
                        piece = piece[sent:]
                    except ssl.SSLWantWriteError:
                        self._wait_for_output(deadline)
                    except ssl.SSLWantReadError:
                        self._wait_for_input(deadline)
        except TimeoutError:
            self.failure = DeadlineExceeded("the peer did not take what was sent to it in time")
            raise self.failure from None
        except OSError as error:
            self.failure = error
            raise ConnectionClosed(f"the connection broke while sending: {reason(error)}") from None

    def receive(self, deadline: float, *, ready: bool = False) -> None:
        """Read once. The end of the stream is the protocol's to report. Raises DeadlineExceeded.

        ready: whether there is probably something to read, so that waiting for it first would be for nothing.
        """
        try:
            if not ready and not (self._filled and self._sock.pending()):
                seconds = deadline - monotonic()
                if seconds <= 0 or not self._input.poll(seconds * 1000):
                    raise TimeoutError  # noqa: TRY301 - told apart below from what the socket raises
            while True:
                buffer = self._protocol.get_buffer()
                size = len(buffer)
                try:
                    count: Any = self._sock.read(size, buffer)  # an int, with a buffer
                    break
                except ssl.SSLWantReadError:
                    self._wait_for_input(deadline)
                except ssl.SSLWantWriteError:
                    self._wait_for_output(deadline)
            self._filled = count == size
        except TimeoutError:
            raise DeadlineExceeded("nothing came from the peer in time") from None
        except OSError as error:
            self.failure = error
            count = 0
        if count:
            self._protocol.buffer_updated(count)
        else:
            self._protocol.eof_received()

    def converse(self, unsent: deque[memoryview], deadline: float) -> None:
        """Write of ``unsent`` what goes, and read once: whichever can go on, so that two ends which both have much to
        say do not wait for one another. Raises DeadlineExceeded; what broke the connection is in ``failure``.
        """
        moved = False
        try:
            while unsent:
                sent = self._sock.write(unsent[0])
                moved = True
                if sent == len(unsent[0]):
                    unsent.popleft()
                else:
                    unsent[0] = unsent[0][sent:]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            self.failure = error
            unsent.clear()  # what the peer said last is still there to read
        try:
            buffer = self._protocol.get_buffer()
            count: Any = self._sock.read(len(buffer), buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not moved:
                self._wait_for_either(bool(unsent), deadline)
            return
        except OSError as error:
            self.failure = error
            count = 0
        if count:
            self._protocol.buffer_updated(count)
        else:
            self._protocol.eof_received()

    def _wait_for_either(self, output: bool, deadline: float) -> None:
        both = select.poll()
        both.register(self._sock, select.POLLIN | (select.POLLOUT if output else 0))
        seconds = deadline - monotonic()
        if seconds <= 0 or not both.poll(seconds * 1000):
            raise DeadlineExceeded("nothing came from the peer in time")

    @property
    def _buffered(self) -> bool:
        """Whether TLS has something to read that poll does not see: only if the last read was not given all."""
        return self._filled and self._sock.pending() > 0

    def _wait_for_input(self, deadline: float) -> None:
        if not self._input.poll(left(deadline) * 1000):
            raise TimeoutError

    def _wait_for_output(self, deadline: float) -> None:
        output = select.poll()
        output.register(self._sock, select.POLLOUT)
        if not output.poll(left(deadline) * 1000):
            raise TimeoutError

    def next_event(self, deadline: float) -> Event | None:
        """The next event; None where our side has ended the connection.

        Raises DeadlineExceeded, RemoteProtocolError, ConnectionClosed.
        """
        while True:
            event = self._protocol.next_event()
            if event is not None or self._protocol.state is State.ENDED:
                return event
            self.receive(deadline, ready=self._protocol.inside_frame)

    def _release(self) -> None:
        self._sock.close()


def discard_until_end(sock: Carrier, deadline: float) -> None:
    """Say that we are done, then read and discard until the peer's end or the deadline. The TLS layer is gone then."""
    try:
        sock.settimeout(0)
        with suppress(OSError, ValueError):
            # close_notify; without waiting for the peer's, which comes among what is discarded.
            sock.unwrap()
        # SSLSocket.shutdown takes the TLS layer off: what is read from here on is ciphertext, thrown away.
        sock.shutdown(socket.SHUT_WR)
        scratch = bytearray(_DISCARD)
        while (seconds := deadline - monotonic()) > 0:
            sock.settimeout(seconds)
            if not sock.recv_into(scratch):
                return
    except OSError:
        pass


def left(deadline: float) -> float:
    """Seconds until the deadline. Raises TimeoutError when it is over."""
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def reason(error: OSError) -> str:
    """An error of the socket or of TLS in words, without anything that the peer chose."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS error").lower().replace("_", " ")
    return error.strerror or type(error).__name__
