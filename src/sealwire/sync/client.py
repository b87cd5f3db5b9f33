"""The synchronous clients on TCP and Unix sockets.

A loop over ``send_requests`` keeps its connection to itself, so meanwhile other calls use another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from inspect import currentframe
from time import monotonic
from typing import Any, TypeVar

from sealwire.client_base import PathClient, TCPHostClient, check_seconds
from sealwire.errors import ConfigurationError, DeadlineExceeded, RemoteError, SealwireError, TransportError
from sealwire.fork import this_process
from sealwire.retry import Resend
from sealwire.session.call_metadata import CallMetadata
from sealwire.session.call_time import CallTime
from sealwire.session.client import ConnectionLost
from sealwire.sync.client_connection import ClientChannel
from sealwire.sync.connecting import connect, connect_unix
from sealwire.sync.keep_alive import PATIENCE, KeepAlive
from sealwire.sync.loops import Loops
from sealwire.sync.part_stream import Exchange, Own
from sealwire.sync.parts_client import PartsClient
from sealwire.sync.pipeline import SHORT_LINGER, Pipeline
from sealwire.sync.shared_client import Call, Closable, SharedClient
from sealwire.wire.frames import Payload, VerifiedPayload

_PATIENCE = 1.0
"""Seconds that a call in the body of a loop waits for a connection of its own, before it borrows the loop's."""
_MAX_WINDOW = 1024
"""Limit on ``window``; a server refuses to have more requests unanswered."""
_T = TypeVar("_T")


class _StreamClient(PartsClient, SharedClient[ClientChannel]):
    """The base class of the clients on TCP and Unix sockets."""

    _keep_alive: KeepAlive | None = None
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
        iterable takes the loop's connection after a second, when what is in flight there is answered; a call from
        another thread waits for the end of the loop, and fails after ``timeout``. The client's middleware is not around
        these requests: it would have to wait for each reply.

        Args:
            requests: The messages. They are taken from the iterable as replies come.
            wait: Seconds for each request, from its first byte to the reply's last byte. Default: the client's
                ``wait``.
            window: Number of requests in flight, 1 to 1024. Default: 32.
            idempotent: True if the server may act on any of the requests twice without harm. Default: False.
            return_errors: Yield a RemoteError or DecodeError in place of a reply and continue, and likewise the error
                of an item that cannot be sent; an exception of the iterable is the last one. By default the error is
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
        seconds = check_requests(requests, self.wait if wait is None else wait, window)
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
            InvalidState: Called in a signal handler that has interrupted another call of the client.
        """
        time = CallTime(timeout=self.timeout, wait=self.wait, now=monotonic())
        with self._take_turn(self.wait, currentframe()) as call:
            return self._with_resend(call, time, True, ClientChannel.ping)

    def _request(
        self,
        call: Call[ClientChannel],
        payload: Payload,
        time: CallTime,
        idempotent: bool,
        call_metadata: CallMetadata | None,
    ) -> VerifiedPayload:
        exchange = (
            ClientChannel.request
            if call_metadata is None
            else partial(ClientChannel.request, call_metadata=call_metadata)
        )
        return self._with_resend(call, time, idempotent, exchange, payload)

    def _with_resend(
        self,
        call: Call[ClientChannel],
        time: CallTime,
        idempotent: bool,
        exchange: Callable[..., _T],
        *payload: Payload,
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
        """Make a connection. If the server accepts no more, borrow the one of a loop that waits for the caller.

        A server that serves one connection at a time waits for the loop's end, and the loop for this call. Nothing on
        the new connection tells that from a slow server, but to use the loop's connection is right in either case.
        """
        loops = [
            loop for loop in self._loops if isinstance(loop, Pipeline) and loop is not call and loop.is_paused_here
        ]
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
        if any(loop.channel is not None for loop in self._loops):
            late.args = (
                f"{late}; a loop over send_requests of this client, or a stream, has another connection, and a server"
                " that serves one connection at a time, like TCPServer, waits for its end",
            )
        return late

    @property
    def _channel(self) -> ClientChannel | None:
        return super()._channel or next((loop.channel for loop in self._loops), None)

    def _place(self) -> Own:
        self._follow_fork()
        return self

    def _loop_channel(self, loop: Pipeline | Exchange, deadline: float) -> None:
        """Give a loop over ``send_requests`` the idle connection, or a new one."""
        self._loops.add(loop)
        loop.channel = channel = self._take_idle()
        if channel is not None and not channel.usable():
            loop.discard(SHORT_LINGER)
        if loop.channel is None:
            loop.channel = self._open(loop, deadline)

    def _end_loop(self, loop: Pipeline | Exchange, error: BaseException | None) -> None:
        """Keep the connection of a loop if it is in order."""
        self._loops.discard(loop)
        channel, loop.channel = loop.channel, None
        if channel is not None and loop.process is this_process():
            self._put_back(channel, error, in_order=loop.in_order)
            if self._keep_alive is not None:
                self._was_used(self._keep_alive)

    def _set_keepalive(self, seconds: float | None) -> None:
        super()._set_keepalive(seconds)
        self._keep_alive = None if self.keepalive is None else KeepAlive(self, self.keepalive)

    def _end(self, call: Call[ClientChannel], error: BaseException | None) -> None:
        super()._end(call, error)
        if self._keep_alive is not None:
            self._was_used(self._keep_alive)

    def _was_used(self, keep_alive: KeepAlive) -> None:
        for channel in list(self._idle):
            channel.idle_since = monotonic()
            keep_alive.start()

    def ping_idle(self, seconds: float) -> None:
        """Send a PING if the connection has been idle for ``seconds``.

        It takes a turn like a request, so a request may have to wait for its answer.
        """
        channel = next(iter(list(self._idle)), None)
        if self._process is not this_process() or channel is None or monotonic() - channel.idle_since < seconds:
            return
        call = Call(self, currentframe())
        if self._turns.take(call, 0.0):
            with call:
                if self._take_usable(call) is not None and call.channel is not None:
                    try:
                        call.channel.ping(monotonic() + PATIENCE)
                    except SealwireError:
                        call.discard(0.0)

    def close(self) -> None:
        """Close the connection, if there is one. The next request opens a new one.

        Waits for requests of other threads, for ``timeout + wait`` seconds at most. If a signal handler calls this, the
        request that it has interrupted fails with ConnectionClosed, and so does the next step of a loop over
        ``send_requests``.
        """
        if self._keep_alive is not None:
            self._keep_alive.stop()
        super().close()

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._loops: Loops[Pipeline | Exchange] = Loops()
        self._only_one = False

    def _close_loops(self) -> None:
        for loop in self._loops:
            loop.interrupt()


class SynchronousTCPClient(TCPHostClient, _StreamClient):
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
        keepalive: Seconds without a request after which a PING is sent, so that no NAT or load balancer drops the
            connection. If it is not answered, the connection is replaced. Default: None, no PING.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`.
            Default: none.

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
        keepalive: Seconds without a request after which a PING is sent, so that no NAT or load balancer drops the
            connection. If it is not answered, the connection is replaced. Default: None, no PING.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`.
            Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def _connect(self, timeout: float) -> ClientChannel:
        return connect_unix(self.path, self.security, timeout=timeout)


def check_requests(requests: object, wait: float, window: object) -> float:
    """Check the arguments of ``send_requests``, and return ``wait``. Raises ConfigurationError."""
    if type(window) is not int or not 1 <= window <= _MAX_WINDOW:
        raise ConfigurationError(f"window must be a whole number from 1 to {_MAX_WINDOW}")
    if not isinstance(requests, Iterable):
        raise ConfigurationError(f"requests must be an iterable of messages, not a {type(requests).__name__}")
    return check_seconds("wait", wait)
