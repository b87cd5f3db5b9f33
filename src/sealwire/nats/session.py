"""One end of a session: an asyncio transport made of messages between two inboxes.

TLS and everything above it are those of TCP: :class:`~sealwire.aio.byte_stream.ByteStream` is the protocol of this
transport as it is of a socket's. What the transport itself must do is to keep the order (NATS does, for one sender and
one subject), to notice what was lost, to send no more than the other end has room for, since nats-py drops what is over
its limits, and to notice an end that has vanished.

For the last, an end that has heard nothing for ``interval`` seconds sends PROBE with a reply subject. A NATS server
answers at once with status 503 if nothing subscribes to the other inbox: a process that was killed has lost its
connection, and so its subscriptions. An end that is there and says nothing to _PROBES of them is given up.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sealwire.nats.messages import HEADER_SIZE, Kind, pack, unpack

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from sealwire.aio.byte_stream import ByteStream
    from sealwire.nats.link import Link

FIRST: Final = 16_384
"""Bytes that OPEN may have. A ClientHello has some hundred."""
_LARGEST: Final = 65_536
"""Bytes of a message, at most, whatever the NATS server allows."""
_PROBES: Final = 2
"""Probes without an answer after which the other end is given up."""
_NO_RESPONDERS: Final = "503"


class Session(asyncio.Transport):
    """One end of a session.

    Args:
        link: The connection to NATS.
        inbox: The subject on which this end takes messages; the caller subscribes to it.
        destination: The subject to send to: the workers' for a client, at first, and the client's inbox for a worker.
        interval: Seconds without a message after which PROBE is sent.
        is_client: True if this end sends OPEN.

    Attributes:
        inbox: As given.
        destination: The subject of the other end.
        unanswered: True if no worker subscribes to the subject, for a client.
        failure: The error that ended the session; None while it lasts, and if this end has ended it.
    """

    def __init__(self, link: Link, inbox: str, destination: str, *, interval: float, is_client: bool) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._interval = interval
        self._is_client = is_client
        self._protocol: ByteStream | None = None
        self._first: Kind | None = Kind.OPEN if is_client else Kind.ACCEPT
        """The kind of this end's first message; None once it was sent."""
        self._awaited: Kind | None = Kind.ACCEPT if is_client else Kind.OPEN
        """The kind of the other end's first message; None once it has come."""
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._high, self._low = _LARGEST, _LARGEST // 4
        self._is_full = False
        self._sent = 0
        self._allowed = FIRST if is_client else 0
        """The position up to which the other end takes bytes."""
        self._received = 0
        self._delivered = 0
        self._told = link.window
        """The position up to which the other end was told that it may send."""
        self._incoming = bytearray()
        """Bytes not delivered yet; one buffer, since many small messages take much more memory."""
        self._reading = True
        self._delivery_is_due = False
        self._peer_ended = self._end_is_told = False
        self._ending = self._end_is_sent = False
        self._closing = False
        self._lost = False
        self._probes = 0
        self._tick_at = self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.inbox = inbox
        self.destination = destination
        self.unanswered = False
        self.failure: OSError | None = None

    def begin(self, protocol: ByteStream) -> None:
        """Connect a protocol, and accept the session if this is a worker's end."""
        protocol.connection_made(self)
        if self._lost:
            self._loop.call_soon(protocol.connection_lost, self.failure)
            return
        self._protocol = protocol
        self._wait(self._interval)
        if not self._is_client:
            self._send(Kind.ACCEPT, reply=self.inbox)
        self._deliver_soon()

    @property
    def _accepted(self) -> bool:
        """True if this end knows the other one's inbox."""
        return self._awaited is not Kind.ACCEPT

    @property
    def is_new(self) -> bool:
        """True if no worker has accepted the session."""
        return not self._accepted

    @property
    def other_process(self) -> str:
        """The part of the other inbox that all sessions of its process share; empty before ACCEPT."""
        return self.destination.rpartition(".")[0] if self._accepted else ""

    # Messages

    async def receive(self, received: Msg) -> None:
        """Process a message. Called by nats-py, for one message after the other."""
        if self._lost:
            return
        if not received.data and received.headers and received.headers.get("Status") == _NO_RESPONDERS:
            self._lose_process()
            return
        self._heard, self._probes = self._loop.time(), 0
        try:
            self._process(received)
        except ValueError as error:
            self.fail(ConnectionAbortedError(errno.ECONNABORTED, f"on NATS, {error}"))

    def _process(self, received: Msg) -> None:
        """Process a message of the other end. Raises ValueError if it cannot be one, or others were lost before it."""
        kind, position, limit, data = unpack(received.data)
        if kind is Kind.RESET:
            self.fail(ConnectionResetError(errno.ECONNRESET, "the other end has ended the session"), tell=False)
            return
        if kind is not self._awaited and (self._awaited is not None or kind in (Kind.OPEN, Kind.ACCEPT)):
            raise ValueError("two workers have answered, which must be in one queue group, or none has accepted")
        self._awaited = None
        if kind is Kind.ACCEPT:
            if not received.reply:
                raise ValueError("ACCEPT names no inbox")
            self.destination = received.reply
        if position != self._received or (self._peer_ended and data):
            raise ValueError("messages were lost or are out of order")
        if position + len(data) > self._told:
            raise ValueError("more has come than there is room for")
        self._allowed = max(self._allowed, limit)
        self._received += len(data)
        self._incoming += data
        self._peer_ended = self._peer_ended or kind is Kind.END
        if kind is Kind.PROBE:
            self._send(Kind.DATA)
        self._deliver_soon()
        self._flush()

    def _send(self, kind: Kind, data: bytes | memoryview = b"", *, reply: str = "") -> None:
        if self._first is not None:
            kind, reply = self._first, self.inbox
            self._first = None
        self._told = max(self._told, self._delivered + self._link.window)
        self._link.send(self.destination, pack(kind, self._sent, self._told, data), reply)
        self._sent += len(data)

    # Input

    def _deliver_soon(self) -> None:
        """Pass the bytes that have come to the protocol in a callback of the loop, as a socket's transport does.

        The protocol runs handlers in tasks of its own, which nothing can do inside nats-py's.
        """
        if not self._delivery_is_due:
            self._delivery_is_due = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Pass the bytes that have come to the protocol, as long as it reads."""
        self._delivery_is_due = False
        protocol = self._protocol
        if protocol is None or self._lost:
            return
        try:
            while self._incoming and self._reading and not self._lost:
                buffer = protocol.get_buffer(len(self._incoming))
                size = min(len(buffer), len(self._incoming))
                buffer[:size] = self._incoming[:size]
                del self._incoming[:size]
                self._delivered += size
                protocol.buffer_updated(size)
            if self._peer_ended and not (self._incoming or self._end_is_told) and self._reading and not self._lost:
                self._end_is_told = True
                if not protocol.eof_received():
                    self.close()
        except BaseException:
            self.abort()
            raise
        if self._accepted and not self._lost and self._delivered + self._link.window - self._told > self._told_step:
            self._send(Kind.DATA)

    @property
    def _told_step(self) -> int:
        """Bytes by which the limit moves, at least, before the other end is told for nothing else."""
        return self._link.window // 2

    def pause_reading(self) -> None:
        """Pass nothing more to the protocol. The other end may send until the window is full."""
        self._reading = False

    def resume_reading(self) -> None:
        """Pass data to the protocol again."""
        if not self._reading and not self._closing:
            self._reading = True
            self._deliver_soon()

    def is_reading(self) -> bool:
        """Return True unless paused or closing."""
        return self._reading

    # Output

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes when the other end has room for them."""
        if not data or self._ending or self._lost:
            return
        self._unsent.append(memoryview(bytes(data)))
        self._unsent_bytes += len(data)
        self._flush()
        if self._unsent_bytes > self._high and not self._is_full and self._protocol is not None:
            self._is_full = True
            self._protocol.pause_writing()

    def _flush(self) -> None:
        """Send as much as the other end takes, and the end if that is due."""
        most = min(_LARGEST, self._link.max_payload - HEADER_SIZE)
        while self._unsent and not self._lost and (self._accepted or self._first is not None):
            data = self._unsent[0]
            size = min(len(data), most, self._allowed - self._sent)
            if size <= 0:
                break
            if size == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = data[size:]
            self._unsent_bytes -= size
            self._send(Kind.DATA, data[:size])
        if self._is_full and self._unsent_bytes <= self._low and self._protocol is not None:
            self._is_full = False
            self._protocol.resume_writing()
        if self._ending and not self._unsent and self._accepted and not (self._end_is_sent or self._lost):
            self._end_is_sent = True
            self._send(Kind.END)
        if self._closing and not self._unsent:
            self._lose(None)

    def write_eof(self) -> None:
        """End this end's stream, after all that was written."""
        self._ending = True
        self._flush()

    def can_write_eof(self) -> bool:
        """Return True: a session can be ended in one direction."""
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the sizes of what is not sent at which the protocol is paused and resumed."""
        self._high = _LARGEST if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that are not sent."""
        return self._unsent_bytes

    # The end

    def is_closing(self) -> bool:
        """Return True if the session is closing or over."""
        return self._closing or self._lost

    def close(self) -> None:
        """Send the remaining bytes, then the end of the stream, and end the session."""
        if not self.is_closing():
            self._closing, self._reading = True, False
            self.write_eof()

    def abort(self) -> None:
        """End the session at once, and tell the other end."""
        if not self._lost:
            self._reset()
            self._lose(None)

    def shutdown(self, _: int) -> None:
        """End the session at once, as if the other end had: what a slot does with a connection that it evicts."""
        self.abort()

    def fail(self, error: OSError, *, tell: bool = True) -> None:
        """End the session because of an error."""
        if not self._lost:
            self.failure = error
            if tell:
                self._reset()
            self._lose(error)

    def _reset(self) -> None:
        # A client that was not accepted does not know its worker; the worker is told that there is no inbox any more.
        if self._accepted:
            self._link.send(self.destination, pack(Kind.RESET, self._sent, self._told))

    def _lose(self, error: OSError | None) -> None:
        self._lost = True
        self._unsent.clear()
        self._incoming.clear()
        self._unsent_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
        self._link.end(self.inbox)
        if self._protocol is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon(self._protocol.connection_lost, error)
            self._protocol = None

    def _lose_process(self) -> None:
        """End all sessions with a process that is gone, so that none of them gets what this one has lost."""
        error = ConnectionResetError(errno.ECONNRESET, "the other end has gone away, or NATS has lost it")
        process = self.other_process
        if not process:
            self.unanswered = True
            self.fail(error)
        for session in list(self._link.sessions.values()):
            if process and session.other_process == process:
                session.fail(error, tell=False)

    # Keepalive

    def _wait(self, seconds: float) -> None:
        self._tick_at = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._tick_at, self._tick)

    def _tick(self) -> None:
        """Send PROBE if nothing was heard for a while, or give the other end up."""
        now = self._loop.time()
        silent_until = self._heard + self._interval
        if now < silent_until:
            self._wait(silent_until - now)
        elif now - self._tick_at > self._interval / 2:
            self._wait(self._interval)  # this process was busy or stopped itself, and may have answers to read
        elif self._probes >= _PROBES:
            self.fail(ConnectionAbortedError(errno.ECONNABORTED, "the other end does not answer any more"))
        else:
            self._probes += 1
            if self._accepted:
                self._send(Kind.PROBE, reply=self.inbox)
            self._wait(self._interval)

    # The socket that there is not

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        """Return the default: there is no socket."""
        return default

    def getpeername(self) -> Any:
        """Raise OSError: a session comes from no address that could be trusted."""
        raise OSError(errno.ENOTCONN, "a session on NATS has no address")

    def getsockopt(self, *_: int) -> Any:
        """Raise OSError: there is no socket."""
        raise OSError(errno.ENOTSOCK, "a session on NATS has no socket")
