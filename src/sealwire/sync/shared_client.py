"""The base class of the synchronous clients: the life of their connections, calls and turns.

A client has at most one idle connection, made on first use and replaced when it is no longer usable. A call takes the
connection out of the client, and puts it back when it has ended in order: a connection that an exception leaves behind,
whatever it is and wherever it was raised, is never used again. Calls of different threads take turns.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from inspect import currentframe
from sys import _getframe
from time import monotonic, sleep
from types import FrameType, TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from sealwire.client_base import BaseClient, Connection, check_seconds
from sealwire.closing import Closing
from sealwire.errors import (
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    RemoteProtocolError,
    SealwireError,
)
from sealwire.fork import this_process
from sealwire.middleware.chain import Middleware
from sealwire.retry import ConnectRetry, Resend
from sealwire.security import Security
from sealwire.session import explain, misuse
from sealwire.session.call_metadata import CallMetadata
from sealwire.session.call_time import CallTime
from sealwire.session.client import ConnectionLost
from sealwire.sync.call_turns import Turn, Turns
from sealwire.sync.pipeline import SHORT_LINGER
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.frames import Payload, VerifiedPayload


class BlockingConnection(Connection, Protocol):
    """The methods of a connection of a synchronous client."""

    @property
    def idle(self) -> bool:
        """True if the connection is open and no request is unanswered."""

    def close(self, *, linger: float = ...) -> None:
        """Close the connection, and wait for the server for ``linger`` seconds at most."""

    def interrupt(self) -> None:
        """End the connection under a call that uses it, in whatever thread."""

    def abandon(self) -> None:
        """Close the socket without sending anything."""


_C = TypeVar("_C", bound=BlockingConnection)


class Closable(Protocol):
    """A call, or a loop over ``send_requests``."""

    closed: bool
    """True if the client was closed meanwhile."""


class Call(Turn, Generic[_C]):
    """A call of a client, which has its turn. As a context manager it ends.

    Args:
        client: The client.
        frame: The frame of the call.

    Attributes:
        channel: The connection that it uses; None if it has none.
        closed: True if the client was closed meanwhile.
    """

    __slots__ = ("_client", "channel", "closed")

    def __init__(self, client: SharedClient[_C], frame: FrameType | None) -> None:
        super().__init__(frame)
        self._client = client
        self.channel: _C | None = None
        self.closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client._end(self, error)

    def discard(self, linger: float) -> None:
        """Close the connection, which must not be used any more."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close(linger=linger)

    def interrupt(self) -> None:
        """Make the call fail, since the client is closed."""
        self.closed = True
        if self.channel is not None:
            self.channel.interrupt()


class SharedClient(Closing, BaseClient, Generic[_C]):
    """The base class of all synchronous clients."""

    def __init__(self, timeout: float, wait: float, security: Security, middleware: Sequence[Middleware] = ()) -> None:
        super().__init__(timeout, wait, security, middleware)
        self._begin_anew()

    @abstractmethod
    def _connect(self, timeout: float) -> _C:
        """Make a connection within ``timeout`` seconds."""

    @abstractmethod
    def _request(
        self, call: Call[_C], payload: Payload, time: CallTime, idempotent: bool, call_metadata: CallMetadata | None
    ) -> VerifiedPayload:
        """Send a request and return the reply."""

    @property
    def _channel(self) -> _C | None:
        """The connection of the present call, or the idle one."""
        if self._process is not this_process():
            return None
        return self._turns.last.channel or next(iter(self._idle), None)

    @property
    def _is_open(self) -> bool:
        return self._channel is not None

    @property
    def peer(self) -> PeerIdentity | None:
        """The server's verified identity; None without a connection."""
        channel = self._channel
        return None if channel is None else channel.peer

    def connect(self) -> None:
        """Connect now, unless there is a usable connection. Requests do this themselves.

        Raises:
            TransportError: The connection failed. Its subclasses say more: HandshakeFailed, HandshakeRejected,
                PeerNotAllowed.
            DeadlineExceeded: ``timeout`` has passed, possibly while requests of other threads used the connection.
            ConfigurationError: No certificate or key is valid now.
            InvalidState: Called in a signal handler that has interrupted another call of the client.
        """
        with self._take_turn(self.timeout, currentframe()) as call:
            if not self._take_usable(call):
                call.channel = self._open(call, monotonic() + self.timeout)

    def send_request(
        self,
        data: Any,
        *,
        wait: float | None = None,
        idempotent: bool = False,
        metadata: Mapping[str, str] | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> Any:
        """Send a request and return the reply. Connects first if necessary.

        If the connection ends before the reply, the request is sent once more on a new one if it is proved that no
        handler has seen it, or if ``idempotent`` is true.

        Args:
            data: The message, of types that the codec accepts.
            wait: Seconds for the request, until the reply's last byte. That includes the wait behind other threads'
                requests, but not its first connection, which has ``timeout`` seconds more. Default: the client's
                ``wait``.
            idempotent: True if the server may act on the request twice without harm. Default: False.
            metadata: Up to 32 entries that travel with the request, for its handler's ``context``. Default: None.
            reply_metadata: A dict to fill with the metadata that the handler sends with its reply. Default: None.

        Returns:
            The decoded reply.

        Raises:
            EncodeError: The data cannot be encoded; nothing was sent.
            PayloadTooLarge: The encoded data is over a limit; nothing was sent.
            FeatureNotSupported: There is metadata to send, and the server does not support it.
            RemoteError: The server answered with an error. The connection stays open.
            DecodeError: The reply is not acceptable, for example of a type that is not on the allowlist. The connection
                stays open.
            DeadlineExceeded: There was no reply in time. If ``sent`` is true, the server may have acted on the request.
            ConnectionClosed: The connection ended. The server may have acted on the request.
            TransportError: Connecting failed; see :meth:`connect`.
            RemoteProtocolError: The server broke the protocol.
            ConfigurationError: ``wait`` is not a number of seconds, or no certificate or key is valid now.
            InvalidState: Called in a signal handler that has interrupted another call of the client.
        """
        if self._middleware:
            return self._call(data, wait, idempotent, metadata, reply_metadata)
        seconds = self.wait if wait is None else check_seconds("wait", wait)
        return self._send(data, seconds, idempotent, metadata, reply_metadata)

    def _send(
        self,
        data: Any,
        seconds: float,
        idempotent: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        call_metadata = None if metadata is None and reply_metadata is None else CallMetadata(metadata, reply_metadata)
        payload = self.security.codec.encode_pieces(data)
        time = CallTime(self.timeout, seconds, monotonic())
        call = self._take_turn(seconds, _getframe())
        try:
            reply = self._request(call, payload, time, idempotent, call_metadata)
        except BaseException as error:
            if isinstance(error, DeadlineExceeded):
                error.sent = error.sent or time.sent
            self._end(call, error)
            raise
        self._end(call, None)
        del payload  # so that a large request is not kept in memory while a large reply is decoded
        return self._decode(reply)

    def close(self) -> None:
        """Close the connection, if there is one. The next request opens a new one.

        Waits for requests of other threads, for ``timeout + wait`` seconds at most. If a signal handler calls this, the
        request that it has interrupted fails with ConnectionClosed, and so does the next step of a loop over
        ``send_requests``.
        """
        self._follow_fork()
        call = Call(self, currentframe())
        has_turn = self._turns.take(call, self.timeout + self.wait)
        if not has_turn:
            self._turns.last.interrupt()
        with call:
            self._close_loops()
            while (channel := self._take_idle()) is not None:
                call.channel = channel
                channel.close()

    def _close_loops(self) -> None:
        """End everything that uses a connection of its own."""

    def _take_turn(self, seconds: float, frame: FrameType | None) -> Call[_C]:
        """Wait for the turn of a call with this frame. Raises DeadlineExceeded, InvalidState."""
        if self._process is not this_process():
            self._begin_anew()
        call = Call(self, frame)
        if self._turns.take(call, seconds):
            return call
        if self._turns.last.is_here:
            raise misuse.busy_below()
        raise DeadlineExceeded("other threads' requests used the connection all the time; use one client per thread")

    def _end(self, call: Call[_C], error: BaseException | None) -> None:
        """End a call; keep its connection if that is in order."""
        channel, call.channel = call.channel, None
        if error is None and channel is not None and channel.idle and not (call.closed or self._idle):
            self._idle.append(channel)
        elif channel is not None:
            # Other exceptions may have interrupted a step that left things half done.
            self._put_back(
                channel, error, in_order=not call.closed and (error is None or isinstance(error, SealwireError))
            )
        self._turns.end(call)

    def _put_back(self, channel: _C, error: BaseException | None, *, in_order: bool) -> None:
        """Keep a connection for the next call, or close it if it is not idle.

        A reply may still come, after its handler at the latest, and would hold up the next request.
        """
        if not in_order:
            channel.abandon()
        elif channel.idle and not self._idle:
            self._idle.append(channel)
        else:
            # No lingering unless the end carries an explanation: the caller's time is over.
            channel.close(linger=SHORT_LINGER if isinstance(error, RemoteProtocolError) else 0.0)

    def _take_idle(self) -> _C | None:
        """Take the idle connection out of the client."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _follow_fork(self) -> None:
        """Start afresh in a forked child. The parent's connections were closed there, and its calls have no threads."""
        if self._process is not this_process():
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._process = this_process()
        self._idle: deque[_C] = deque()
        self._turns: Turns[Call[_C]] = Turns(Call(self, None))

    def _take_usable(self, call: Call[_C]) -> _C | None:
        """Give a call the idle connection, and return it. Close it instead if it is no longer usable."""
        call.channel = channel = self._take_idle()
        if channel is None or channel.usable():
            return channel
        call.discard(SHORT_LINGER)
        return None

    def _channel_within(self, call: Call[_C], time: CallTime) -> _C:
        """Return the connection, or a new one, within the time of a call."""
        try:
            call.channel = channel = self._idle.pop()
        except IndexError:
            pass
        else:
            if channel.usable():
                time.connected = True
                return channel
            call.discard(SHORT_LINGER)
        call.channel = channel = self._open(call, time.begin_connecting(monotonic()))
        time.end_connecting(monotonic())
        return channel

    def _open(self, call: Closable, deadline: float) -> _C:
        retry = ConnectRetry(self.security, deadline)
        while True:
            if call.closed:
                raise explain.closed_here()
            try:
                channel = self._connect(max(0.001, deadline - monotonic()))
            except DeadlineExceeded as late:
                raise retry.refused or self._explain_late(late) from None
            except (HandshakeFailed, HandshakeRejected) as failed:
                if retry.wants_look(failed):
                    self.security.look(deadline)
                sleep(retry.delay(failed))
            else:
                if not call.closed:
                    return channel
                channel.close(linger=0.0)

    def _explain_late(self, late: DeadlineExceeded) -> DeadlineExceeded:
        """Return the error for a connection that was not complete in time."""
        return late

    def _remaining(self, resend: Resend, lost: ConnectionLost, call: Closable) -> float:
        """Return the seconds for sending a lost request again. Raises if it is not."""
        if call.closed:
            raise explain.closed_here() from None
        if resend.wants_look(lost):
            self.security.look(resend.deadline)
        return resend.after(lost)
