"""The pool for threads: connections that carry one request at a time, to several servers.

A call claims a place at a server, takes an idle connection of that server or makes one, and gives both back when it has
ended (:mod:`sealwire.pool.shared_roster`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from sealwire.closing import Closing
from sealwire.errors import DeadlineExceeded, SealwireError
from sealwire.fork import this_process
from sealwire.middleware.chain import Middleware
from sealwire.pool.base import BasePool
from sealwire.pool.servers import ServerStatus
from sealwire.pool.shared_roster import Loop, SharedRoster
from sealwire.pool.trip import Trip
from sealwire.retry import Resend
from sealwire.security import Security
from sealwire.session import explain
from sealwire.session.call_metadata import CallMetadata, call_metadata_of
from sealwire.session.call_time import CallTime
from sealwire.session.client import ConnectionLost
from sealwire.sync.client import check_requests
from sealwire.sync.client_connection import ClientChannel
from sealwire.sync.keep_alive import KeepAlive
from sealwire.sync.part_stream import Own
from sealwire.sync.parts_client import PartsClient
from sealwire.sync.pipeline import Pipeline
from sealwire.wire.frames import Payload, VerifiedPayload

_T = TypeVar("_T")


class ClientPool(Closing, PartsClient, BasePool[ClientChannel]):
    """A client for several equivalent servers, for threads.

    A request goes to the server with the fewest requests in flight, in turn if there are several. A server that cannot
    be reached, refuses the connection or goes away is left out, and tried again after growing pauses; the request goes
    on to another one. The pool connects on first use, and keeps connections for later requests. As a context manager it
    closes them at the end. In a forked child it makes new connections.

    Args:
        addresses: The servers: "host:port", "[IPv6 address]:port", (host, port), or "unix:" and a path. The name of a
            host stands for all addresses that DNS has for it. Each certificate is verified for its host, unless
            ``security.peers`` names a URI or fingerprint instead.
        size: Connections to each server, at most, each for one request at a time. Default: 8.
        timeout: Seconds for connecting, shared by the servers that are tried. Default: 10.
        wait: Seconds for one request, until the reply's last byte; see :meth:`send_request`. Default: 10.
        security: The pool's security configuration.
        retry_budget: Share of the requests that may be repeated at another server although the first one may have acted
            on them or spent work on them. Some ten repetitions in ten seconds are allowed besides; with 0, none at all.
            Default: 0.2.
        lookup_interval: Seconds between two look-ups of a host's name. Default: 30.
        keepalive: Seconds without a request after which a PING is sent on a connection, so that no NAT or load balancer
            drops it; if it is not answered, the connection is closed. Default: None, no PING.
        middleware: Functions around each request, the outermost first; see :mod:`sealwire.middleware`.
            Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self,
        addresses: Iterable[str | tuple[str, int]],
        *,
        size: int = 8,
        timeout: float = 10.0,
        wait: float = 10.0,
        security: Security,
        retry_budget: float = 0.2,
        lookup_interval: float = 30.0,
        keepalive: float | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        super().__init__(
            addresses, size, timeout, wait, security,
            retry_budget=retry_budget, lookup_interval=lookup_interval, room=1, middleware=middleware,
        )  # fmt: skip
        self._set_keepalive(keepalive)
        self._keep_alive = None if self.keepalive is None else KeepAlive(self, self.keepalive)
        self._shared = self._new_shared()

    # Requests

    def send_request(
        self,
        data: Any,
        *,
        wait: float | None = None,
        idempotent: bool = False,
        metadata: Mapping[str, str] | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> Any:
        """Send a request to one of the servers and return the reply. Connects first if necessary.

        If the connection ends before the reply, the request is sent to another server if it is proved that no handler
        has seen it. If not, it is sent once more if ``idempotent`` is true and the pool's ``retry_budget`` permits.

        Args:
            data: The message, of types that the codec accepts.
            wait: Seconds for the request, until the reply's last byte. That includes the wait for a free connection,
                but not making the first one, which has ``timeout`` seconds more. Default: the pool's ``wait``.
            idempotent: True if servers may act on the request twice without harm. Default: False.
            metadata: Up to 32 entries that travel with the request, for its handler's ``context``. Default: None.
            reply_metadata: A dict to fill with the metadata that the handler sends with its reply. Default: None.

        Returns:
            The decoded reply.

        Raises:
            EncodeError: The data cannot be encoded; nothing was sent.
            PayloadTooLarge: The encoded data is over a limit; nothing was sent.
            FeatureNotSupported: There is metadata to send, and the server does not support it.
            RemoteError: The server answered with an error.
            DecodeError: The reply is not acceptable, for example of a type that is not on the allowlist.
            DeadlineExceeded: There was no reply in time. If ``sent`` is true, a server may have acted on the request.
            ConnectionClosed: The connection ended. The server may have acted on the request.
            NoServerAvailable: No server could be reached; it has the last error of each. If there is only one server,
                its error is raised instead: see :meth:`SynchronousTCPClient.connect`.
            RemoteProtocolError: The server broke the protocol.
            ConfigurationError: ``wait`` is not a number of seconds, or no certificate or key is valid now.
        """
        return self._call(data, wait, idempotent, metadata, reply_metadata)

    def _send(
        self,
        data: Any,
        seconds: float,
        idempotent: bool,
        metadata: Mapping[str, str] | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        call_metadata = call_metadata_of(metadata, reply_metadata)
        payload = self.security.codec.encode_pieces(data)
        time = CallTime(timeout=self.timeout, wait=seconds, now=monotonic())
        reply, trip = self._run(partial(_request, payload, call_metadata), time, idempotent=idempotent)
        del payload  # so that a large request is not kept in memory while a large reply is decoded
        return self._decode(reply, str(trip.server))

    def ping(self) -> float:
        """Measure a round trip to the least busy server. Connects first if necessary.

        Returns:
            Seconds until the answer.

        Raises:
            DeadlineExceeded: There was no answer within ``wait`` seconds.
            TransportError: Connecting failed, or the connection ended.
            RemoteProtocolError: The server broke the protocol.
            ConfigurationError: No certificate or key is valid now.
        """
        time = CallTime(timeout=self.timeout, wait=self.wait, now=monotonic())
        return self._run(ClientChannel.ping, time, idempotent=True)[0]

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

        The iterator has a connection to one server to itself until it is exhausted or closed. If that server goes away,
        it continues with another one. It is otherwise like :meth:`SynchronousTCPClient.send_requests`, with the
        arguments, results and errors described there. Meanwhile, other calls use other connections; a call in the body
        of the loop takes the loop's connection if ``size`` permits no other. The pool's middleware is not around these
        requests.

        Args:
            requests: The messages. They are taken from the iterable as replies come.
            wait: Seconds for each request, from its first byte to the reply's last byte. Default: the pool's ``wait``.
            window: Number of requests in flight, 1 to 1024. Default: 32.
            idempotent: True if servers may act on any of the requests twice without harm. Default: False.
            return_errors: Yield an error in place of a reply and continue. Default: False.

        Yields:
            The decoded replies.

        Raises:
            ConfigurationError: An argument cannot be used; raised at once.
            SealwireError: Any error of :meth:`send_request`, raised while iterating.
            InvalidState: The iterator belongs to the parent of this forked process.
        """
        seconds = check_requests(requests, self.wait if wait is None else wait, window)
        shared = self._here()
        loop = Pipeline(
            self.security,
            connect=lambda loop, deadline: self._connect_loop(shared, loop, deadline),
            finish=lambda loop, error: self._end_loop(shared, loop, error),
            remaining=lambda resend, lost, loop: self._remaining(shared, resend, lost, loop),
            decode=self._decode,
            wait=seconds,
            window=window,
            idempotent=idempotent,
            return_errors=return_errors,
            resends=len(self._addresses),
        )
        return loop.run(requests, self.timeout)

    def close(self) -> None:
        """Close all connections. The next request opens new ones.

        Waits for requests in progress in other threads, for ``timeout + wait`` seconds at most. Requests that wait for
        a free connection and loops over ``send_requests`` fail with ConnectionClosed, and so does a request that was
        interrupted by the signal handler that calls this.
        """
        if self._keep_alive is not None:
            self._keep_alive.stop()
        shared, self._shared = self._here(), self._new_shared()
        shared.close(self.timeout + self.wait)

    def status(self) -> list[ServerStatus]:
        """Return the state of each server, in their order."""
        with self._shared.lock:
            return super().status()

    def ping_idle(self, seconds: float) -> None:
        """Send a PING on each connection that has been idle for ``seconds``."""
        self._shared.chores.ping_idle(seconds)

    def _here(self) -> SharedRoster:
        """Return the connections of this process: a forked child starts afresh."""
        if self._shared.process is not this_process():
            self._shared = self._new_shared()
        if self._keep_alive is not None:
            self._keep_alive.start()
        return self._shared

    def _new_shared(self) -> SharedRoster:
        self._roster = self._new_roster()
        return SharedRoster(self._roster, self.security, self.timeout)

    def _run(
        self, exchange: Callable[[ClientChannel, float], _T], time: CallTime, *, idempotent: bool
    ) -> tuple[_T, Trip]:
        """Pick a connection, run an exchange on it, and judge the outcome; again elsewhere if the rules permit.

        Args:
            exchange: Called with the connection and the time until which the caller waits.
            time: The call's time.
            idempotent: True if servers may act on the exchange twice.

        Returns:
            The result of the exchange, and the call's way to the server.
        """
        shared = self._here()
        with shared.lock:
            trip = Trip(shared.roster, self.security, self._budget, time, idempotent=idempotent)
        while True:
            with shared.begin(trip) as call:
                try:
                    channel = shared.connection(call)
                except DeadlineExceeded as late:
                    late.sent = late.sent or time.sent
                    raise
                try:
                    result = exchange(channel, time.deadline)
                except SealwireError as error:
                    shared.judge(call, error)
                else:
                    shared.judge(call, None)
                    return result, trip

    # Loops over send_requests

    def _connect_loop(self, shared: SharedRoster, loop: Loop, deadline: float) -> None:
        """Give a loop a connection."""
        self._leave_place(shared, loop, None)
        if loop.closed:
            raise explain.closed_here()
        now = monotonic()
        seconds = max(0.001, deadline - now)
        with shared.lock:
            time = CallTime(timeout=seconds, wait=seconds, now=now)
            trip = Trip(shared.roster, self.security, self._budget, time, idempotent=False)
        call = shared.begin(trip)
        loop.place = call
        shared.loops.add(loop)
        loop.channel = shared.connection(call)
        call.channel = None  # it is the loop's

    def _end_loop(self, shared: SharedRoster, loop: Loop, error: BaseException | None) -> None:
        """Keep the connection of a loop if it is in order."""
        channel, loop.channel = loop.channel, None
        if loop.process is not this_process():
            return
        if channel is not None:
            shared.put_back(loop.place, channel, error, in_order=loop.in_order)
        self._leave_place(shared, loop, error)

    def _leave_place(self, shared: SharedRoster, loop: Loop, error: BaseException | None) -> None:
        shared.loops.discard(loop)
        call, loop.place = loop.place, None
        if call is not None:
            shared.end(call, error)

    def _remaining(self, shared: SharedRoster, resend: Resend, lost: ConnectionLost, loop: Loop) -> float:
        """Return the seconds for sending a lost request again. Raises if it is not."""
        if loop.closed:
            raise explain.closed_here() from None
        return shared.lost(loop.place, resend, lost)

    def _place(self) -> Own:
        return _Place(self, self._here())


class _Place:
    """A pool, for what has a connection of its own."""

    def __init__(self, pool: ClientPool, shared: SharedRoster) -> None:
        self._pool = pool
        self._shared = shared

    def _loop_channel(self, loop: Loop, deadline: float) -> None:
        self._pool._connect_loop(self._shared, loop, deadline)

    def _end_loop(self, loop: Loop, error: BaseException | None) -> None:
        self._pool._end_loop(self._shared, loop, error)

    def _remaining(self, resend: Resend, lost: ConnectionLost, call: Any) -> float:
        return self._pool._remaining(self._shared, resend, lost, call)

    def _decode(self, reply: VerifiedPayload) -> Any:
        return self._pool._decode(reply)


def _request(
    payload: Payload, call_metadata: CallMetadata | None, channel: ClientChannel, deadline: float
) -> VerifiedPayload:
    return channel.request(payload, deadline, call_metadata)
