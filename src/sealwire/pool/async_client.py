"""The pool for asyncio: connections that carry many requests at a time, to several servers.

A request takes the connection with the fewest requests in flight of the least busy server
(:mod:`sealwire.pool.loop_roster`).
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar

from sealwire.aio.client_connection import AsyncClientChannel
from sealwire.aio.in_order import in_order
from sealwire.aio.part_stream import Lender
from sealwire.aio.parts_client import AsyncPartsClient
from sealwire.aio.threads import MAX_DECODED_ON_LOOP, is_large
from sealwire.errors import DeadlineExceeded, SealwireError
from sealwire.middleware.chain import Middleware
from sealwire.pool.async_place import AsyncPlace
from sealwire.pool.base import BasePool
from sealwire.pool.loop_roster import MAX_IN_FLIGHT, AsyncCall, Line, LoopRoster
from sealwire.pool.trip import Trip
from sealwire.security import Security
from sealwire.session.call_time import CallTime
from sealwire.wire.frames import Payload, VerifiedPayload
from sealwire.wire.metadata import Metadata, checked

_T = TypeVar("_T")


class AsyncClientPool(AsyncPartsClient, BasePool[Line]):
    """A client for several equivalent servers, for asyncio.

    It chooses servers like ClientPool. Up to 256 requests are in flight on one connection; another one is opened if all
    have a request in flight and ``size`` permits. As an asynchronous context manager it closes them at the end. In
    another event loop, when the first one no longer runs, and in a forked child it makes new connections.

    Args:
        addresses: The servers: "host:port", "[IPv6 address]:port", (host, port), or "unix:" and a path. The name of a
            host stands for all addresses that DNS has for it. Each certificate is verified for its host, unless
            ``security.peers`` names a URI or fingerprint instead.
        size: Connections to each server, at most. Default: 2.
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
            They may be coroutine functions. Default: none.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    _runs_coroutines = True

    def __init__(
        self,
        addresses: Iterable[str | tuple[str, int]],
        *,
        size: int = 2,
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
            retry_budget=retry_budget, lookup_interval=lookup_interval, room=MAX_IN_FLIGHT, middleware=middleware,
        )  # fmt: skip
        self._set_keepalive(keepalive)
        self._shared: LoopRoster | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send_request(
        self,
        data: Any,
        *,
        wait: float | None = None,
        idempotent: bool = False,
        metadata: Metadata | None = None,
        reply_metadata: dict[str, str] | None = None,
    ) -> Any:
        """Send a request to one of the servers and return the reply. Connects first if necessary.

        Any number of tasks may call this at once. If the connection ends before the reply, the request is sent to
        another server if it is proved that no handler has seen it. If not, it is sent once more if ``idempotent`` is
        true and the pool's ``retry_budget`` permits.

        Args:
            data: The message, of types that the codec accepts.
            wait: Seconds for the request, until the reply's last byte. That includes the wait behind other requests,
                but not the first connection, which has ``timeout`` seconds more. Default: the pool's ``wait``.
            idempotent: True if servers may act on the request twice without harm. Default: False.
            metadata: Up to 32 entries that travel with the request, for its handler's ``context``. Default: None.
            reply_metadata: A dict to fill with the metadata that the handler sends with its reply. Default: None.

        Returns:
            The decoded reply.

        Raises:
            SealwireError: Any error of :meth:`.ClientPool.send_request`.
            InvalidState: Another event loop uses the pool.
        """
        return await self._call(data, wait, idempotent, metadata, reply_metadata)

    async def _send(
        self,
        data: Any,
        seconds: float,
        idempotent: bool,
        metadata: Metadata | None,
        reply_metadata: dict[str, str] | None,
    ) -> Any:
        time = CallTime(timeout=self.timeout, wait=seconds, now=monotonic())
        shared = self._here()
        encode = self.security.codec.encode_pieces
        payload = await shared.encode(encode, data, time.deadline) if is_large(data) else encode(data)
        sent = None if metadata is None else checked(metadata)
        request = partial(_request, payload, idempotent, sent, reply_metadata)
        reply, trip = await self._run(request, time, idempotent=idempotent)
        del payload  # so that a large request is not kept in memory while a large reply is decoded
        decode = partial(self._decode, address=str(trip.server))
        return decode(reply) if len(reply) <= MAX_DECODED_ON_LOOP else await shared.decode(decode, reply)

    def send_requests(
        self,
        requests: Iterable[Any],
        *,
        wait: float | None = None,
        window: int = 32,
        idempotent: bool = False,
        return_errors: bool = False,
    ) -> AsyncIterator[Any]:
        """Send requests without waiting for each reply; yield the replies in the order of the requests.

        Each request goes to the least busy server. The iterable is read as replies come.

        Args:
            requests: The messages.
            wait: Seconds for each request; see :meth:`send_request`.
            window: Number of requests in flight, 1 to 1024. Default: 32.
            idempotent: True if servers may act on any of the requests twice without harm. Default: False.
            return_errors: Yield a SealwireError in place of a reply and continue. By default it is raised in its place,
                after the replies before it, and the requests in flight are cancelled. Default: False.

        Yields:
            The decoded replies.

        Raises:
            ConfigurationError: An argument cannot be used; raised at once.
            SealwireError: Any error of :meth:`send_request`, raised while iterating.
        """
        send = partial(self.send_request, wait=wait, idempotent=idempotent)
        return in_order(send, requests, wait=wait, window=window, return_errors=return_errors)

    def _lender(self, *, idempotent: bool) -> Lender:
        return AsyncPlace(self, self._here(), idempotent=idempotent)

    async def ping(self) -> float:
        """Measure a round trip to the least busy server. Connects first if necessary.

        Returns:
            Seconds until the answer.

        Raises:
            SealwireError: Any error of :meth:`.ClientPool.ping`.
            InvalidState: Another event loop uses the pool.
        """
        time = CallTime(timeout=self.timeout, wait=self.wait, now=monotonic())
        return (await self._run(AsyncClientChannel.ping, time, idempotent=True))[0]

    async def close(self) -> None:
        """Close all connections; pending calls raise ConnectionClosed.

        This takes about two seconds at most, whatever the servers do, and also works in another event loop than that of
        the requests. The next request opens new connections.
        """
        shared, self._shared, self._roster = self._shared, None, None
        if shared is not None:
            await shared.close()

    def __del__(self) -> None:
        shared = getattr(self, "_shared", None)
        if shared is not None:
            text = f"{self!r} was not closed; use `async with` or `await pool.close()`"
            if shared.drop_soon():
                warnings.warn(text, ResourceWarning, stacklevel=1, source=self)

    def _here(self) -> LoopRoster:
        """Return the servers in the running event loop. Raises InvalidState."""
        if self._shared is None or not self._shared.is_here:
            if self._shared is not None:
                self._shared.leave()
            self._shared = self._new_shared()
            self._roster = self._shared.roster
        return self._shared

    def _new_shared(self) -> LoopRoster:
        return LoopRoster(self._new_roster(), self.security, self.size, self.timeout, self.keepalive)

    def _trip(self, shared: LoopRoster, time: CallTime, *, idempotent: bool) -> Trip:
        return Trip(shared.roster, self.security, self._budget, time, idempotent=idempotent)

    async def _run(
        self, exchange: Callable[[AsyncClientChannel, float], Awaitable[_T]], time: CallTime, *, idempotent: bool
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
        trip = self._trip(shared, time, idempotent=idempotent)
        while True:
            call = AsyncCall(trip)
            try:
                try:
                    channel = await shared.connection(call)
                except DeadlineExceeded as late:
                    late.sent = late.sent or time.sent
                    raise
                try:
                    result = await exchange(channel, time.deadline)
                except SealwireError as error:
                    await shared.judge(call, error)
                else:
                    await shared.judge(call, None)
                    return result, trip
            finally:
                shared.end(call)


async def _request(
    payload: Payload,
    idempotent: bool,
    metadata: Metadata | None,
    reply_metadata: dict[str, str] | None,
    channel: AsyncClientChannel,
    deadline: float,
) -> VerifiedPayload:
    return await channel.request(
        payload, deadline, idempotent=idempotent, metadata=metadata, reply_metadata=reply_metadata
    )
