"""The synchronous clients.

A client has at most one idle connection, made on first use and replaced when it is no longer usable. A call takes the
connection out of the client, and puts it back when it has ended in order: what an exception leaves behind, of whatever
kind and wherever it was raised, is never used again. Calls of different threads take turns.

A loop over ``send_requests`` keeps its connection to itself, so meanwhile other calls use another one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from inspect import currentframe
from time import monotonic, sleep
from types import FrameType, TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from sealwire.client_base import BaseClient, Connection, HostClient, PathClient, check_seconds
from sealwire.errors import (
    ConfigurationError,
    DeadlineExceeded,
    HandshakeFailed,
    HandshakeRejected,
    RemoteError,
    RemoteProtocolError,
    SealwireError,
    TransportError,
)
from sealwire.fork import this_process
from sealwire.retry import ConnectRetry, Resend
from sealwire.security import Security
from sealwire.session import explain
from sealwire.session.call_time import CallTime
from sealwire.session.client import ConnectionLost
from sealwire.sync.client_connection import ClientChannel
from sealwire.sync.connecting import connect, connect_unix
from sealwire.sync.pipeline import SHORT_LINGER, Pipeline
from sealwire.sync.turns import Turn, Turns
from sealwire.trust.identity import PeerIdentity
from sealwire.wire.frames import Payload, VerifiedPayload

_PATIENCE = 1.0
"""Seconds that a call in the body of a loop waits for a connection of its own, before it borrows the loop's."""
_MAX_WINDOW = 1024
"""Limit on ``window``; a server refuses to have more requests unanswered."""
_T = TypeVar("_T")


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


class SharedClient(BaseClient, Generic[_C]):
    """The base class of all synchronous clients."""

    def __init__(self, timeout: float, wait: float, security: Security) -> None:
        super().__init__(timeout, wait, security)
        self._begin_anew()

    @abstractmethod
    def _connect(self, timeout: float) -> _C:
        """Make a connection within ``timeout`` seconds."""

    @abstractmethod
    def _request(self, call: Call[_C], payload: Payload, time: CallTime, idempotent: bool) -> VerifiedPayload:
        """Send a request and return the reply."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
            DeadlineExceeded: ``timeout`` has passed, also if other threads' requests used the connection all the time.
            ConfigurationError: No certificate or key is valid now.
            InvalidState: This thread is in the middle of another call of the client, below a signal handler.
        """
        with self._take_turn(self.timeout, currentframe()) as call:
            self._usable_channel(call, monotonic() + self.timeout)

    def send_request(self, data: Any, *, wait: float | None = None, idempotent: bool = False) -> Any:
        """Send a request and return the reply. Connects first if necessary.

        If the connection ends before the reply, the request is sent once more on a new one if it is proved that no
        handler has seen it, or if ``idempotent`` is true.

        Args:
            data: The message, of types that the codec accepts.
            wait: Seconds for the request, until the reply's last byte. The time that it waits behind other threads'
                requests counts, its first connection does not: that has ``timeout`` seconds more. Default: the client's
                ``wait``.
            idempotent: Whether the server may act on the request twice without harm. Default: False.

        Returns:
            The decoded reply.

        Raises:
            EncodeError: The data cannot be encoded; nothing was sent.
            PayloadTooLarge: The encoded data is over a limit; nothing was sent.
            RemoteError: The server answered with an error. The connection stays open.
            DecodeError: The reply is not acceptable, for example of a type that is not on the allowlist. The connection
                stays open.
            DeadlineExceeded: There was no reply in time. If ``sent`` is true, the server may have acted on the request.
            ConnectionClosed: The connection ended. The server may have acted on the request.
            TransportError: Connecting failed; see :meth:`connect`.
            RemoteProtocolError: The server broke the protocol.
            ConfigurationError: ``wait`` is not a number of seconds, or no certificate or key is valid now.
            InvalidState: This thread is in the middle of another call of the client, below a signal handler.
        """
        seconds = self.wait if wait is None else check_seconds("wait", wait)
        payload = self.security.codec.encode_pieces(data)
        time = CallTime(timeout=self.timeout, wait=seconds, now=monotonic())
        with self._take_turn(seconds, currentframe()) as call:
            try:
                reply = self._request(call, payload, time, idempotent)
            except DeadlineExceeded as late:
                late.sent = late.sent or time.sent
                raise
        del payload  # so that a large request is not kept in memory while a large reply is decoded
        return self._decode(reply)

    def close(self) -> None:
        """Close the connection, if there is one. The next request opens a new one.

        Other threads' requests are waited for, for ``timeout + wait`` seconds at most. If a signal handler calls this,
        a request that it has interrupted fails with ConnectionClosed, and so does the next step of a loop over
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
        self._follow_fork()
        call = Call(self, frame)
        if self._turns.take(call, seconds):
            return call
        if self._turns.last.is_here:
            raise explain.busy_below()
        raise DeadlineExceeded("other threads' requests used the connection all the time; use one client per thread")

    def _end(self, call: Call[_C], error: BaseException | None) -> None:
        """End a call; keep its connection if that is in order."""
        channel, call.channel = call.channel, None
        if channel is not None:
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
        """Begin anew in a forked child. The parent's connections were closed there, and its calls have no threads."""
        if self._process is not this_process():
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._process = this_process()
        self._idle: deque[_C] = deque()
        self._turns: Turns[Call[_C]] = Turns(Call(self, None))

    def _usable_channel(self, call: Call[_C], deadline: float) -> _C:
        """Return the connection, or a new one if it is no longer usable."""
        call.channel = channel = self._take_idle()
        if channel is not None and not channel.usable():
            call.discard(SHORT_LINGER)
        if call.channel is None:
            call.channel = self._open(call, deadline)
        return call.channel

    def _channel_within(self, call: Call[_C], time: CallTime) -> _C:
        """Return the connection, or a new one, within the time of a call."""
        channel = self._usable_channel(call, time.begin_connecting(monotonic()))
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


class Closable(Protocol):
    """A call, or a loop over ``send_requests``."""

    closed: bool
    """True if the client was closed meanwhile."""


class _StreamClient(SharedClient[ClientChannel]):
    """The base class of the clients on TCP and Unix sockets."""

    _only_one = False
    """True if a call in the body of a loop had no answer on a connection of its own."""

    def send_requests(
        self,
        requests: Iterable[Any],
        *,
        wait: float | None = None,
        window: int = 32,
        idempotent: bool = False,
        return_errors: bool = False,
    ) -> Iterator[Any]:
        """Send requests without waiting for each reply; yield the replies in the order of the requests.

        What the iterable has produced is sent at once, and replies that have come are yielded before the next item is
        taken. The time that the iterable or the body of the loop takes does not count. The iterator has a connection of
        its own until it is exhausted or closed, so other threads, the body of the loop and the iterable can use the
        client meanwhile. At a server that serves one connection at a time, like TCPServer, a call in the body or the
        iterable takes the loop's connection after a second, when what is in flight there is answered; a call of
        another thread waits for the end of the loop, and fails after ``timeout``.

        Args:
            requests: The messages. They are taken from the iterable as replies come.
            wait: Seconds for each request, from its first byte to the reply's last byte. Default: the client's
                ``wait``.
            window: Number of requests in flight, 1 to 1024. Default: 32.
            idempotent: Whether the server may act on any of the requests twice without harm. Default: False.
            return_errors: Whether to yield a RemoteError or DecodeError in place of a reply and continue, and also the
                error of an item that cannot be sent; an exception of the iterable is the last one. By default it is
                raised in its place, after the replies before it. After a RemoteError or DecodeError the requests in
                flight are abandoned, although the server may act on them.

        Yields:
            The decoded replies.

        Raises:
            ConfigurationError: An argument cannot be used; raised at once.
            SealwireError: Any error of :meth:`send_request`, raised while iterating. The error of an item that cannot
                be sent names its position.
            InvalidState: The iterator belongs to the parent of this forked process.
        """
        seconds = self.wait if wait is None else check_seconds("wait", wait)
        if type(window) is not int or not 1 <= window <= _MAX_WINDOW:
            raise ConfigurationError(f"window must be a whole number from 1 to {_MAX_WINDOW}")
        if not isinstance(requests, Iterable):
            raise ConfigurationError(f"requests must be an iterable of messages, not a {type(requests).__name__}")
        self._follow_fork()
        loop = Pipeline(
            self.security,
            connect=self._loop_channel,
            finish=self._end_loop,
            remaining=self._remaining,
            decode=self._decode,
            wait=seconds,
            window=window,
            idempotent=idempotent,
            return_errors=return_errors,
        )
        return loop.run(requests, self.timeout)

    def ping(self) -> float:
        """Measure a round trip to the server. Connects first if necessary.

        Returns:
            Seconds until the answer.

        Raises:
            DeadlineExceeded: There was no answer within ``wait`` seconds.
            TransportError: Connecting failed, or the connection ended.
            RemoteProtocolError: The server broke the protocol.
            ConfigurationError: No certificate or key is valid now.
            InvalidState: This thread is in the middle of another call of the client, below a signal handler.
        """
        time = CallTime(timeout=self.timeout, wait=self.wait, now=monotonic())
        with self._take_turn(self.wait, currentframe()) as call:
            return self._with_resend(call, ClientChannel.ping, time=time, idempotent=True)

    def _request(
        self, call: Call[ClientChannel], payload: Payload, time: CallTime, idempotent: bool
    ) -> VerifiedPayload:
        return self._with_resend(call, ClientChannel.request, payload, time=time, idempotent=idempotent)

    def _with_resend(
        self,
        call: Call[ClientChannel],
        exchange: Callable[..., _T],
        *payload: Payload,
        time: CallTime,
        idempotent: bool,
    ) -> _T:
        """Return the result of an exchange, repeated once on a new connection if the retry policy permits."""
        resend: Resend | None = None
        while True:
            channel = self._channel_within(call, time)
            try:
                return exchange(channel, *payload, time.deadline)
            except RemoteError:
                raise
            except ConnectionLost as lost:
                # Only our CLOSE could get lost, and the caller is waiting.
                call.discard(min(SHORT_LINGER, max(0.0, time.deadline - monotonic())))
                resend = resend or Resend(time.deadline, idempotent=idempotent)
                self._remaining(resend, lost, call)
                time.sent = not lost.unprocessed

    def _open(self, call: Closable, deadline: float) -> ClientChannel:
        """Make a connection, or borrow that of a loop which waits for the caller, if the server accepts no other one.

        A server that serves one connection at a time waits for the loop's end, and the loop for this call. Nothing on
        the new connection tells that from a slow server, but to use the loop's connection is right in either case.
        """
        loops = [loop for loop in list(self._loops.values()) if loop is not call and loop.is_paused_here]
        if loops and not self._only_one:
            try:
                return super()._open(call, min(deadline, monotonic() + _PATIENCE))
            except (TransportError, DeadlineExceeded) as failed:
                self._only_one = isinstance(failed, DeadlineExceeded)
        for loop in loops:
            channel = loop.lend(monotonic() + (deadline - monotonic()) / 2)
            if channel is not None and channel.usable():
                return channel
            if channel is not None:
                channel.close(linger=SHORT_LINGER)
        return super()._open(call, deadline)

    def _explain_late(self, late: DeadlineExceeded) -> DeadlineExceeded:
        if any(loop.channel is not None for loop in list(self._loops.values())):
            late.args = (
                f"{late}; a loop over send_requests of this client has another connection, and a server that serves one"
                " connection at a time, like TCPServer, waits for its end",
            )
        return late

    @property
    def _channel(self) -> ClientChannel | None:
        return super()._channel or next((loop.channel for loop in list(self._loops.values())), None)

    def _loop_channel(self, loop: Pipeline, deadline: float) -> None:
        """Give a loop over ``send_requests`` the idle connection, or a new one."""
        self._loops[id(loop)] = loop
        loop.channel = channel = self._take_idle()
        if channel is not None and not channel.usable():
            loop.discard(SHORT_LINGER)
        if loop.channel is None:
            loop.channel = self._open(loop, deadline)

    def _end_loop(self, loop: Pipeline, error: BaseException | None) -> None:
        """Keep the connection of a loop if it is in order."""
        self._loops.pop(id(loop), None)
        channel, loop.channel = loop.channel, None
        if channel is not None and loop.process is this_process():
            self._put_back(channel, error, in_order=loop.in_order)

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._loops: dict[int, Pipeline] = {}
        self._only_one = False

    def _close_loops(self) -> None:
        for pipeline in list(self._loops.values()):
            pipeline.close()


class SynchronousTCPClient(HostClient, _StreamClient):
    """A client for one server on TCP.

    It connects on first use, and again if the connection has ended between requests. Threads can share it; one request
    is in flight at a time. As a context manager it closes the connection at the end.

    Args:
        host: Name or IP address of the server. It is verified against the server's certificate, unless
            ``security.peers`` names a URI or fingerprint instead.
        port: TCP port of the server.
        timeout: Seconds for connecting, with TCP, TLS and Sealwire's handshake together. Default: 10.
        wait: Seconds for one request, until the reply's last byte; see :meth:`send_request`. Default: 10.
        security: The client's security configuration.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def _connect(self, timeout: float) -> ClientChannel:
        return connect(self.host, self.port, self.security, timeout=timeout)


class SynchronousUnixClient(PathClient, _StreamClient):
    """A client for one server on a Unix socket of this machine, otherwise like SynchronousTCPClient.

    ``peer`` has the uid, gid and pid of the server's process.

    Args:
        path: Path of the socket.
        timeout: Seconds for connecting. Default: 10.
        wait: Seconds for one request, until the reply's last byte; see :meth:`send_request`. Default: 10.
        security: The client's security configuration. It needs ``peers``, the users that may run the server, as in
            ``uid:1000``, and a ``service``, since there is no host name to verify.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def _connect(self, timeout: float) -> ClientChannel:
        return connect_unix(self.path, self.security, timeout=timeout)
